# Exercise 05, contrastive distillation (InfoNCE, memory queue, false negatives): being written.
