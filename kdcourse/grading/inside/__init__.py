"""All that runs in the process beside a learner's code.

Nothing in this folder imports the teacher's side of the grader, so that no file of it says what a key holds.
"""
