# %% [markdown]
# # Exercise 90: a fixture
#
# A small exercise in the form of all others, for the tests of the grader.

# %% locked="setup"
import torch

from kdcourse.checks import check_kd_loss, check_picture

# %% [markdown] locked="task1_text"
# ## Task 1: the loss
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Write the distillation loss.
#
# <details><summary>Hint 1</summary>
#
# Logarithms first.
# </details>
# <details><summary>Hint 2</summary>
#
# Mind the <b>factor</b>.
# </details>
#
# **Reference** Chapter 02.


# %% solution="task1_kd_loss" asks="kd_loss distillation_loss"
def my_kd_loss(student_logits, teacher_logits, *, temperature):
    ### BEGIN SOLUTION
    log_q = torch.log_softmax(student_logits / temperature, dim=-1)
    log_p = torch.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_kd_loss is not written yet")


# %% check="task1_check" points=5
check_kd_loss(my_kd_loss)
### BEGIN HIDDEN TESTS
check_kd_loss(my_kd_loss, seed=271828)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: twice
#
# **Minutes** 5 · **Difficulty** 1/5 · **Importance** 1/5 · **Points** 4
#
# **Objective** Double a number.
#
# <details><summary>Hint 1</summary>
#
# Add.
# </details>
# <details><summary>Hint 2</summary>
#
# Or multiply.
# </details>
#
# **Reference** None.


# %% solution="task2_double"
def double(number):
    ### BEGIN SOLUTION
    return 2 * number
    ### END SOLUTION
    raise NotImplementedError("Task 2: double is not written yet")


# %% check="task2_check" points=4
expected = 6
assert double(3) == expected, "three and three"
### BEGIN HIDDEN TESTS
assert double(-7) == -20 + expected, "secret: minus seven"
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: a picture
#
# **Minutes** 5 · **Difficulty** 1/5 · **Importance** 1/5 · **Points** 3
#
# **Objective** Choose. (a) or (b), and (b) or (c).
#
# <details><summary>Hint 1</summary>
#
# Look.
# </details>
# <details><summary>Hint 2</summary>
#
# Look again.
# </details>
#
# **Reference** None.

# %% solution="task3_answers"
answers = [None, None]
### BEGIN SOLUTION
answers = ["b", "c"]
### END SOLUTION

# %% check="task3_check" points=3
check_picture(answers)

# %% [markdown] locked="task4_text"
# ## Task 4: rows
#
# **Minutes** 10 · **Difficulty** 1/5 · **Importance** 1/5 · **Points** 4
#
# **Objective** Take the mean of each row of `table`.
#
# <details><summary>Hint 1</summary>
#
# Which dimension?
# </details>
# <details><summary>Hint 2</summary>
#
# The last.
# </details>
#
# **Reference** None.

# %% locked="task4_table"
table = torch.arange(12.0).reshape(3, 4)

# %% solution="task4_rows"
rows = None
### BEGIN SOLUTION
rows = table.mean(dim=1)
### END SOLUTION

# %% check="task4_check" points=4
if rows is None:
    raise NotImplementedError("Task 4: rows is not there yet")
assert type(rows) is torch.Tensor, "a tensor is needed"
assert torch.allclose(rows, table.mean(dim=1)), "these are not the means of the rows"
