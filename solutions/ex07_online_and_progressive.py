# Exercise 07, online and progressive distillation (mutual learning, schedules, curricula): being written.
