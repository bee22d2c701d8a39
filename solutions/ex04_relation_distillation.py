# %% [markdown]
# # Exercise 04: relation distillation
#
# You write two relational losses of chapter 04, turn something that is called an angle into one, read which movements each loss
# sees, and judge whether distances alone can teach.
#
# **You need** chapter 04. **Time** about 60 minutes, 18 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with
# `kdcourse grade ex04_relation_distillation.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F

from kdcourse import plots, zoo
from kdcourse.checks import (
    check_angle_loss,
    check_distance_loss,
    check_invariance_picture,
    check_relation_verdicts,
    check_similarity_loss,
)
from kdcourse.data import load_mnist
from kdcourse.losses import gram_loss, rkd_angle_loss, rkd_distance_loss, similarity_preserving_loss
from kdcourse.models import make_mlp
from kdcourse.objectives import label_objective
from kdcourse.plots import show
from kdcourse.sweeps import compare, sweep
from kdcourse.training import evaluating

# %% [markdown] locked="task1_text"
# ## Task 1: distances
#
# **Minutes** 14 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Compare how far apart samples lie, whatever the width and the scale of the two embeddings.
#
# Write `my_distance_loss(student_embeddings, teacher_embeddings)` for shapes (B, D) and (B, D'). On each side take the distances
# of all pairs and divide them by the mean of those that are not zero. The loss is the Huber loss (`F.smooth_l1_loss`,
# threshold 1) of the two sides, a mean over all $B^2$ entries, the zero diagonal included. Nothing flows into the teacher. Its
# gradient must be finite, and rounding must not spoil it far from the origin.
#
# <details><summary>Hint 1</summary>
#
# `torch.cdist` has a `compute_mode`; the norm of `x[:, None] - x[None]` needs more memory and no care.
# </details>
# <details><summary>Hint 2</summary>
#
# The mean of the distances that are not zero: a sum divided by a count.
# </details>
#
# **Reference** Chapter 04, distances; Park et al. (2019), arXiv:1904.05068, equations 5 to 8; traps 31 to 33.


# %% solution="task1_distance_loss" asks="rkd_distance_loss"
def my_distance_loss(student_embeddings, teacher_embeddings):
    ### BEGIN SOLUTION
    def relations(points):
        distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")  # (B, B)
        return distances / (distances.sum() / (distances > 0).sum())

    return F.smooth_l1_loss(relations(student_embeddings), relations(teacher_embeddings.detach()))
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_distance_loss is not written yet")


# %% check="task1_check" points=5
check_distance_loss(my_distance_loss)
### BEGIN HIDDEN TESTS
check_distance_loss(my_distance_loss, seed=2019)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: similarities
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 4
#
# **Objective** Compare which samples a layer finds alike.
#
# Write `my_similarity_loss(student_features, teacher_features)` for feature maps (B, C, H, W) of any two layers. Flatten each sample
# to a row, take the inner products of all pairs, and scale each *row* of the result to length 1. The loss is the
# mean of the squared differences over all $B^2$ entries.
#
# <details><summary>Hint 1</summary>
#
# What is normalised is a row of the B×B matrix, not a sample.
# </details>
# <details><summary>Hint 2</summary>
#
# One matrix product gives all inner products; no tensor larger than B×B is needed after it.
# </details>
#
# **Reference** Chapter 04, similarity-preserving; Tung and Mori (2019), arXiv:1907.09682, equations 1 to 4; trap 37.


# %% solution="task2_similarity_loss" asks="similarity_preserving_loss gram_loss"
def my_similarity_loss(student_features, teacher_features):
    ### BEGIN SOLUTION
    student, teacher = student_features.flatten(1), teacher_features.detach().flatten(1)  # (B, D) each
    student_rows, teacher_rows = (F.normalize(x @ x.T, dim=1) for x in (student, teacher))  # (B, B)
    return (student_rows - teacher_rows).square().mean()
    ### END SOLUTION
    raise NotImplementedError("Task 2: my_similarity_loss is not written yet")


# %% check="task2_check" points=4
check_similarity_loss(my_similarity_loss)
### BEGIN HIDDEN TESTS
check_similarity_loss(my_similarity_loss, seed=2019)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: repair a trap
#
# **Minutes** 14 · **Difficulty** 4/5 · **Importance** 4/5 · **Points** 4
#
# **Objective** Tell what a loss is called from what it compares.
#
# This function calls itself angle-wise. Move all of the student's points by the same amount: it changes, and no angle has.
#
# ```python
# def broken_angle_loss(student_embeddings, teacher_embeddings):
#     student = F.normalize(student_embeddings, dim=1)
#     teacher = F.normalize(teacher_embeddings, dim=1)
#     student_angles, teacher_angles = student @ student.T, teacher @ teacher.T
#     return F.mse_loss(student_angles / student_angles.max(), teacher_angles / teacher_angles.max())
# ```
#
# Write `repaired_angle_loss`. At every sample $i$, the vertex, take the unit directions to every $j$ and every $k$; their inner product is the
# cosine of the angle. The loss is the Huber loss (threshold 1) of the student's and the teacher's cosines, a mean over all $B^3$. A direction
# of length 0 counts as 0, and nothing flows into the teacher.
#
# <details><summary>Hint 1</summary>
#
# `x[None] - x[:, None]` holds at [i, j] the way from i to j.
# </details>
# <details><summary>Hint 2</summary>
#
# For one vertex the directions are a matrix with a row for each j. What does that matrix times its transpose hold?
# </details>
#
# **Reference** Chapter 04, angles; Park et al. (2019), arXiv:1904.05068, equations 9 and 10; traps 31 and 34.


# %% solution="task3_repaired_angle_loss" asks="rkd_angle_loss"
def repaired_angle_loss(student_embeddings, teacher_embeddings):
    ### BEGIN SOLUTION
    def cosines(points):
        directions = F.normalize(points[None] - points[:, None], dim=2)  # (B, B, D)
        return directions @ directions.mT  # (B, B, B)

    return F.smooth_l1_loss(cosines(student_embeddings), cosines(teacher_embeddings.detach()))
    ### END SOLUTION
    raise NotImplementedError("Task 3: repaired_angle_loss is not written yet")


# %% check="task3_check" points=4
check_angle_loss(repaired_angle_loss)
### BEGIN HIDDEN TESTS
check_angle_loss(repaired_angle_loss, seed=2019)
### END HIDDEN TESTS

# %% [markdown] locked="task4_text"
# ## Task 4: explain a picture
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Read what a loss leaves free.
#
# The cell below takes the teacher's embeddings of sixty digits as a perfect student, and changes that student: every number doubled and its
# sign changed; the batch mean subtracted, from the student alone; only the first or only the last 32 of its 64 numbers kept; stretched along one
# direction. A number in the picture is the loss as a share of what a student gets that has nothing to do with the teacher (the same
# points in another order).
#
# 1. A layer in front of the student's embedding subtracts the batch mean. Which losses call this student wrong?
#    (a) distance and angle  (b) Gram and similarity-preserving  (c) all four
# 2. Half of the numbers were thrown away, and every loss stays far below 1. What does that say?
#    (a) either half of the 64 numbers holds most of the relations  (b) the losses do not look at the other half
#    (c) each loss is divided by the number of coordinates
# 3. Which change is free under every one of the four?
#    (a) subtracting the mean  (b) being stretched along one direction  (c) every number doubled, with the other sign
#
# Write the three letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# Read the picture by rows.
# </details>
# <details><summary>Hint 2</summary>
#
# Subtracting the mean moves all points by one vector. Changing every sign mirrors each coordinate.
# </details>
#
# **Reference** Chapter 04, "Who sees what?"

# %% locked="task4_picture"
mnist, teacher = load_mnist(), zoo.load("teacher_cnn")
few = mnist.train.take(800)
with evaluating(teacher):
    embeddings = teacher[:-1](few.images).mean(dim=(2, 3))  # (800, 64)
points, generator = embeddings[:60], torch.Generator().manual_seed(0)
centred = points - points.mean(dim=0)
axis = torch.linalg.svd(centred).Vh[0]  # (64,) along which the points spread most
changed = {
    "-2 x": -2 * points,
    "mean subtracted": centred,
    "first 32 numbers": points[:, :32],
    "last 32 numbers": points[:, 32:],
    "stretched": points + 2 * (centred @ axis)[:, None] * axis,
    "another order": points[torch.randperm(60, generator=generator)],
}
relations = {
    "distance": rkd_distance_loss,
    "angle": rkd_angle_loss,
    "Gram": gram_loss,
    "similarity": similarity_preserving_loss,
}
unrelated = {name: loss(changed["another order"], points) for name, loss in relations.items()}
shares = [[loss(x, points) / unrelated[name] for name, loss in relations.items()] for x in changed.values()]
ax = plots.matrix(
    torch.tensor(shares), rows=list(changed), columns=list(relations), numbers=".2f", label="share of the loss",
    ax=plots.new_axes(width=6.5),
)  # fmt: skip
show(
    ax,
    alt="Heat map, six changes by four losses: -2 x is 0 everywhere; the mean subtracted is 0 for distance and angle only.",
)

# %% solution="task4_answers"
answers = [None, None, None]
### BEGIN SOLUTION
answers = ["b", "a", "c"]
### END SOLUTION

# %% check="task4_check" points=3
check_invariance_picture(answers)

# %% [markdown] locked="task5_text"
# ## Task 5: a small experiment
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 2
#
# **Objective** Judge a method against both baselines, and see what an idle weight does.
#
# The next cells train students with *your* distance loss beside the labels, no soft targets at all: 800 images, four seeds, at weight 1 and at
# weight 100, and both baselines. Set each verdict to `"better"`, `"worse"` or `"unclear"`: the first of the pair, measured
# against the second.
#
# <details><summary>Hint 1</summary>
#
# `compare(runs)` takes the differences seed by seed and gives their intervals, a row for each arm and baseline.
# </details>
# <details><summary>Hint 2</summary>
#
# An interval that holds 0 decides nothing. Fewer errors are better: both ends are then negative.
# </details>
#
# **Reference** Chapter 04, "Does it help?"; chapter 02 on paired differences.


# %% locked="task5_baselines"
budget = {
    "make_student": lambda: make_mlp(128, 32), "seeds": range(4), "epochs": 11, "batch_size": 50, "lr": 3e-3,
    "data": {"train": (*few, embeddings), "test": mnist.test}, "stacked": False, "progress": False,
}  # fmt: skip


without = sweep(
    objective={
        "no_teacher": label_objective,
        "label_smoothing": partial(label_objective, label_smoothing=0.1),
    },
    baselines=(),
    **budget,
)


# %% locked="task5_runs"
def objective(student, images, labels, teacher_embeddings, *, weight):
    student_embeddings = student[:-1](images)  # (B, 32)
    ce = F.cross_entropy(student[-1](student_embeddings), labels)
    return {"ce": ce, "relation": weight * my_distance_loss(student_embeddings, teacher_embeddings)}


runs = pd.concat([without, sweep(objective=objective, weight=[1, 100], baselines=(), **budget)])
errors = {arm: group.sort_values("seed").test_errors.tolist() for arm, group in runs.groupby("arm")}
print(runs.pivot(index="seed", columns="arm", values="test_errors").to_string())

# %% solution="task5_verdicts"
verdicts = {
    ("weight=100", "no_teacher"): None,
    ("weight=100", "label_smoothing"): None,
    ("weight=1", "no_teacher"): None,
}
### BEGIN SOLUTION
table = compare(runs).set_index(["arm", "baseline"]).verdict
verdicts = {pair: str(table[pair]) for pair in verdicts}
### END SOLUTION

# %% check="task5_check" points=2
check_relation_verdicts(verdicts, errors)
