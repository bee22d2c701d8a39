# %% [markdown]
# # Exercise 12: what's next
#
# In chapter 12 a network forgot, and weights were rounded row by row. Here you put a number on forgetting, round weights in small groups
# as file formats of large language models do, repair a loop that learns nothing from its past, and find out what a scale really costs.
#
# **You need** chapter 12. **Time** about 55 minutes, 17 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with
# `kdcourse grade ex12_whats_next.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
import copy

import torch
import torch.nn.functional as F

from kdcourse.checks import (
    check_forgetting,
    check_group_quantise,
    check_group_verdict,
    check_tasks_in_a_row,
    check_whats_next_questions,
)
from kdcourse.data import load_mnist, split_into_tasks
from kdcourse.losses import kd_loss, only_own_head
from kdcourse.models import fake_quantise_model, make_mlp, quantise_model, saved_size_in_bytes
from kdcourse.objectives import label_objective
from kdcourse.recipes import learn_tasks, make_adam
from kdcourse.sweeps import mean_interval
from kdcourse.training import count_errors, fit

mnist = load_mnist()

# %% [markdown] locked="task1_text"
# ## Task 1: put a number on forgetting
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Summarise a table of accuracies so that good learning does not hide forgetting.
#
# `accuracies` has shape (n, n). Row i was measured after task i, column j is task j. Above the diagonal stands NaN: those tasks
# had not come yet. The mean of the last row mixes two things: how well a task was learned, and how much of it was lost.
#
# Write `my_forgetting(accuracies)`. For each task but the last, take the best accuracy that it ever had in the rows **before the
# last row**, and subtract its accuracy in the last row. Return the mean over these tasks. A task that has gained at the end counts less
# than 0.
#
# For example, `[[0.9, nan, nan], [0.7, 0.8, nan], [0.4, 0.9, 0.9]]` gives (0.9 − 0.4) and (0.8 − 0.9), so the mean is 0.2.
#
# <details><summary>Hint 1</summary>
#
# Which rows and which columns of the table do you need for the best accuracies? Cut them out first.
# </details>
# <details><summary>Hint 2</summary>
#
# The largest of some numbers and NaN is NaN. `nan_to_num(nan=...)` puts another number in its place.
# </details>
#
# **Reference** Chapter 12, forgetting.


# %% solution="task1_forgetting"
def my_forgetting(accuracies):
    ### BEGIN SOLUTION
    best = accuracies[:-1, :-1].nan_to_num(nan=-1.0).amax(dim=0)  # (n - 1,), above the last row
    return (best - accuracies[-1, :-1]).mean()
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_forgetting is not written yet")


# %% check="task1_check" points=3
check_forgetting(my_forgetting)
### BEGIN HIDDEN TESTS
check_forgetting(my_forgetting, seed=2016)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: a scale for each group
#
# **Minutes** 15 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Round weights with finer scales than one for a row, and train through the rounding.
#
# One large weight sets the scale of its whole row. Formats of four and fewer bits therefore give a scale to each *group* of
# neighbouring weights in a row.
#
# Write `my_group_quantise(weights, *, bits, group)`. `weights` has shape (R, C), and C is a multiple of `group`. Cut each row
# into groups of `group` neighbours. In each group the scale is the largest absolute weight divided by $n = 2^{b-1} - 1$. Return the rounded weights, scale
# times whole number, of shape (R, C). A group of zeros stays 0. The **gradient** passes straight through: it is the gradient of the identity.
#
# <details><summary>Hint 1</summary>
#
# `weights.unflatten(1, (-1, group))` has shape (R, C / group, group), and `flatten(1)` undoes it.
# </details>
# <details><summary>Hint 2</summary>
#
# Where the largest is 0, use 1 as the scale: `torch.where(largest > 0, largest / n, 1.0)`. For the gradient see the chapter's last turn.
# </details>
#
# **Reference** Chapter 12, rounding and the straight-through gradient; trap 98.


# %% solution="task2_group_quantise" asks="fake_quantise quantise"
def my_group_quantise(weights, *, bits, group):
    ### BEGIN SOLUTION
    blocks = weights.detach().unflatten(1, (-1, group))  # (R, C / group, group)
    largest = blocks.abs().amax(dim=2, keepdim=True)  # (R, C / group, 1)
    scale = torch.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1.0)
    rounded = ((blocks / scale).round() * scale).flatten(1)  # (R, C)
    return rounded + (weights - weights.detach())
    ### END SOLUTION
    raise NotImplementedError("Task 2: my_group_quantise is not written yet")


# %% check="task2_check" points=5
check_group_quantise(my_group_quantise)
### BEGIN HIDDEN TESTS
check_group_quantise(my_group_quantise, seed=2018)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: repair a loop that keeps nothing
#
# **Minutes** 15 · **Difficulty** 4/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Find mistakes in learning without forgetting that raise no error.
#
# The function learns tasks in a row, with task labels. `tasks` is a list of (images, labels), `heads` a list with the classes of each task, as in `[[0, 1],
# [2, 3]]`. Each task gets `steps` steps on all of its images, by plain SGD. The temperature is 2, and `weight` is that of the old answers. It
# returns the loss of each step. There are **three** mistakes. The optimizer and the order of the steps are right.
#
# ```python
# def broken_tasks_in_a_row(network, tasks, heads, *, steps, lr, weight):
#     optimizer = torch.optim.SGD(network.parameters(), lr=lr)
#     losses = []
#     for number, (images, labels) in enumerate(tasks):
#         old_network = network
#         for _ in range(steps):
#             logits, old_logits = network(images), old_network(images).detach()
#             loss = F.cross_entropy(logits, labels)
#             for head in heads[: number + 1]:
#                 loss = loss + weight * kd_loss(logits[:, head], old_logits[:, head], temperature=2.0)
#             optimizer.zero_grad()
#             loss.backward()
#             optimizer.step()
#             losses.append(loss.item())
#     return losses
# ```
#
# <details><summary>Hint 1</summary>
#
# `old_network = network` gives a second name to one object. What is the difference between the two logits, at any step?
# </details>
# <details><summary>Hint 2</summary>
#
# Who has been learned before task `number`? And which classes may a label be compared with, if we are told the task? `only_own_head`
# helps with the second.
# </details>
#
# **Reference** Chapter 12, the objective; Li and Hoiem (2016), arXiv:1606.09282.


# %% solution="task3_tasks_in_a_row" asks="learn_tasks lwf_objective lwf_loss"
def tasks_in_a_row(network, tasks, heads, *, steps, lr, weight):
    ### BEGIN SOLUTION
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    losses = []
    for number, (images, labels) in enumerate(tasks):
        with torch.no_grad():
            old_logits = network(images)  # once, before the first step of this task
        for _ in range(steps):
            logits = network(images)
            loss = F.cross_entropy(only_own_head(logits, labels, heads=heads), labels)
            for head in heads[:number]:
                loss = loss + weight * kd_loss(logits[:, head], old_logits[:, head], temperature=2.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses
    ### END SOLUTION
    raise NotImplementedError("Task 3: tasks_in_a_row is not written yet")


# %% check="task3_check" points=4
check_tasks_in_a_row(tasks_in_a_row)
### BEGIN HIDDEN TESTS
check_tasks_in_a_row(tasks_in_a_row, seed=2016)
### END HIDDEN TESTS

# %% [markdown] locked="task4_text"
# ## Task 4: explain two tables
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 3
#
# **Objective** Read numbers on forgetting and on size with their question in mind.
#
# The cell below trains one network on five pairs of digits, by LwF without task labels, and asks it in both ways. Then it saves one student
# three times.
#
# 1. What has this network lost after five tasks?
#    (a) what the old digits look like  (b) how old digits compare with new ones  (c) nothing, the difference is luck
# 2. A report says: "LwF reaches 97 % on split MNIST." Which question was asked?
#    (a) without the task: it is the harder one  (b) either, they differ little  (c) with the task
# 3. The student of 2 bits, as it comes out of training, makes a file as large as the floating-point one. Why?
#    (a) it holds the floating-point weights that training moves  (b) its scales take most of the file  (c) `torch.save` writes 32 bits for each number
# 4. You round to 2 bits in groups of 16 weights, with a scale of 32 bits for each group. How many bits does a weight take in the file?
#    (a) 2  (b) 2.5  (c) 4
#
# Write the four letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# The two columns of the first table belong to the same network.
# </details>
# <details><summary>Hint 2</summary>
#
# A scale is shared by as many weights as there are in a group.
# </details>
#
# **Reference** Chapter 12, one loss and two questions, and what is in the file; traps 97 and 99.

# %% locked="task4_tables"
torch.manual_seed(0)
network = make_mlp(60)
history = learn_tasks(
    network, split_into_tasks(mnist.train.take(3000)), mnist.test.take(1000), told=False, batch_size=32
)
print("after the fifth task   told the pair   not told")
right = [100 * history.accuracies(told=told)[-1] for told in (True, False)]
for task, (told, untold) in enumerate(zip(*right, strict=True), start=1):
    print(f"task {task} {told:26.1f} % {untold:8.1f} %")
student = make_mlp(64)
faked = fake_quantise_model(student, bits=2)
for name, model in {
    "float": student,
    "2 bits, in training": faked,
    "2 bits, packed": quantise_model(faked, bits=2),
}.items():
    print(f"{name:20} {saved_size_in_bytes(model):8,} bytes")

# %% solution="task4_answers"
answers = [None, None, None, None]
### BEGIN SOLUTION
answers = ["b", "c", "a", "c"]
### END SOLUTION

# %% check="task4_check" points=3
check_whats_next_questions(answers)

# %% [markdown] locked="task5_text"
# ## Task 5: a small experiment
#
# **Minutes** 7 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 2
#
# **Objective** Judge by paired seeds whether finer scales are worth anything.
#
# Five students, 784-32-10, are trained on 1,000 images. Each is then rounded to 2 bits twice, by *your* function: with groups of 16 weights, and
# with one group for the whole row. Nothing is trained afterwards.
#
# Set `verdict` to `"better"`, `"worse"` or `"unclear"` for the groups, measured against the rows.
#
# <details><summary>Hint 1</summary>
#
# Fewer errors are better. `mean_interval` of the five differences gives their mean and the ends of its interval.
# </details>
# <details><summary>Hint 2</summary>
#
# Look at whether 0 is inside.
# </details>
#
# **Reference** Chapter 12, rounded after training; chapter 02 on paired differences.


# %% locked="task5_runs"
def run(seed):
    torch.manual_seed(seed)
    student = make_mlp(32)
    optimizer = make_adam(list(student.parameters()))
    fit(student, mnist.train.take(1000), label_objective, optimizer, epochs=5, batch_size=32, seed=seed, progress=False)
    errors = {}
    for name, in_groups in {"groups": True, "rows": False}.items():
        rounded = copy.deepcopy(student)
        for layer in (rounded[1], rounded[3]):
            group = 16 if in_groups else layer.in_features
            layer.weight.data = my_group_quantise(layer.weight, bits=2, group=group).detach()
        errors[name] = count_errors(rounded, *mnist.test)
    return errors


runs = [run(seed) for seed in range(5)]
groups, rows = [errors["groups"] for errors in runs], [errors["rows"] for errors in runs]
print("groups of 16", groups, "\nwhole rows  ", rows)
differences = [a - b for a, b in zip(groups, rows, strict=True)]
print("difference and interval", [round(x, 1) for x in mean_interval(differences)])

# %% solution="task5_verdict"
verdict = None
### BEGIN SOLUTION
_, low, high = mean_interval(differences)
verdict = "better" if high < 0 else "worse" if low > 0 else "unclear"
### END SOLUTION

# %% check="task5_check" points=2
check_group_verdict(verdict, groups, rows)
