"""nbgrader's settings for this repository: its panels and its gradebook work with our keys and exercises.

``kdcourse release`` gives the same bytes as ``nbgrader generate_assignment`` with these.
"""

c = get_config()  # noqa: F821 - nbgrader defines it

c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
# The line after a solution region names its task and raises, so the stub needs no error of its own.
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE"}
# torch and tqdm write warnings and progress to stderr, which nbgrader would take for a failure.
c.Execute.iopub_timeout = 30
c.ExecutePreprocessor.timeout = 300
c.OverwriteCells.add_missing_cells = True
