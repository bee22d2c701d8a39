"""The exercises' release and grading: keys, stubs, and points for what a learner wrote.

Nothing in the package imports this except the command line.
"""
