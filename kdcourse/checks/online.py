"""Checks of exercise 07 (mutual learning, schedules, curricula): being written."""
