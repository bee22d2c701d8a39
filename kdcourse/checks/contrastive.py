"""Checks of exercise 05 (contrastive distillation): being written."""
