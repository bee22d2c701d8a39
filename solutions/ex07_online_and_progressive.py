# %% [markdown]
# # Exercise 07: online and progressive distillation
#
# You write the loss by which students teach each other, repair a schedule that never arrives, put images in order from easy to
# hard, look at what a student is drawn to when its peers disagree, and ask what a cohort is worth.
#
# **You need** chapter 07. **Time** about 50 minutes, 19 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with
# `kdcourse grade ex07_online_and_progressive.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
import math
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F

from kdcourse import plots, zoo
from kdcourse.checks import (
    check_cohort_picture,
    check_curriculum,
    check_mutual_learning_loss,
    check_mutual_verdicts,
    check_schedule,
)
from kdcourse.data import load_mnist
from kdcourse.losses import kd_loss
from kdcourse.models import make_mlp
from kdcourse.objectives import label_objective
from kdcourse.plots import show
from kdcourse.recipes import make_adam, mutual_learning
from kdcourse.sweeps import mean_interval
from kdcourse.training import count_errors, fit, predict_logits

mnist = load_mnist()

# %% [markdown] locked="task1_text"
# ## Task 1: students that teach each other
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Distil without a teacher that was trained before.
#
# Write `my_mutual_learning_loss(all_logits, labels, *, temperature)`. `all_logits` is a list of $S$ tensors (B, K), one per student, for the
# same images. Return a list of $S$ losses, one for each student:
#
# $$L_i = \mathrm{CE}(z^i, y) + \frac{1}{S-1} \sum_{j \ne i} T^2\, \mathrm{KL}\big(\mathrm{softmax}(z^j/T) \,\|\, \mathrm{softmax}(z^i/T)\big)$$
#
# You may use `kd_loss`. Loss $i$ trains student $i$ and no other: in it the peers are fixed targets. A cohort of one has no peer: raise a
# `ValueError` for it.
#
# <details><summary>Hint 1</summary>
#
# Two loops: over the students, and for each of them over all who are not this student.
# </details>
# <details><summary>Hint 2</summary>
#
# The mean is a mean of $S-1$ divergences. Whose logits must be detached, and whose not?
# </details>
#
# **Reference** Chapter 07, mutual learning; Zhang et al. (2018), arXiv:1706.00384, equations 5 and 8; traps 51 and 52.


# %% solution="task1_mutual_learning_loss" asks="mutual_learning_loss mutual_ensemble_loss mutual_objective"
def my_mutual_learning_loss(all_logits, labels, *, temperature):
    ### BEGIN SOLUTION
    if len(all_logits) < 2:
        raise ValueError(f"a cohort needs at least two students, got {len(all_logits)}: one has no peer to learn from.")
    losses = []
    for own, logits in enumerate(all_logits):
        peers = [other.detach() for place, other in enumerate(all_logits) if place != own]
        divergences = [kd_loss(logits, peer, temperature=temperature) for peer in peers]
        losses.append(F.cross_entropy(logits, labels) + torch.stack(divergences).mean())
    return losses
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_mutual_learning_loss is not written yet")


# %% check="task1_check" points=5
check_mutual_learning_loss(my_mutual_learning_loss)
### BEGIN HIDDEN TESTS
check_mutual_learning_loss(my_mutual_learning_loss, seed=2018)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: repair a schedule
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 4
#
# **Objective** Make a schedule reach what it promises, and promise the right thing.
#
# The function gives $T$ and $\alpha$ for each epoch, counted from 0. It is said to go from $T = 10$ to $T = 1$, by the same *factor* from each epoch to
# the next, and to let "the weight of the distillation grow from a half to one".
#
# ```python
# def broken_knobs(epoch, epochs):
#     temperature = 10.0 * (1.0 / 10.0) ** (epoch / epochs)
#     alpha = 0.5 + 0.5 * (epoch / epochs)
#     return temperature, alpha
# ```
#
# With five epochs, write down what the last one gets. And think about the second promise: what would be left of the labels if it were
# kept? Write `repaired_knobs(epoch, epochs)`. In it $T$ goes from 10 to 1 by the same factor in each epoch, and $\alpha$ from 0.9 to 0.5 in a straight line:
# the first epoch gets the first values, the last epoch the last ones. In a run of three epochs, for example, $T$ is 10, then $\sqrt{10}$, then 1. A run of one
# epoch gets the last values.
#
# <details><summary>Hint 1</summary>
#
# Between five epochs there are how many steps from one to the next?
# </details>
# <details><summary>Hint 2</summary>
#
# What does your formula divide by when there is one epoch?
# </details>
#
# **Reference** Chapter 07, schedules; `kdcourse.schedules.progress_of`; traps 54 and 56.


# %% solution="task2_repaired_knobs" asks="linear cosine piecewise progress_of with_knobs"
def repaired_knobs(epoch, epochs):
    ### BEGIN SOLUTION
    progress = epoch / (epochs - 1) if epochs > 1 else 1.0
    temperature = 10.0 * (1.0 / 10.0) ** progress
    alpha = 0.9 + (0.5 - 0.9) * progress
    return temperature, alpha
    ### END SOLUTION
    raise NotImplementedError("Task 2: repaired_knobs is not written yet")


# %% check="task2_check" points=4
check_schedule(repaired_knobs)
### BEGIN HIDDEN TESTS
check_schedule(repaired_knobs, seed=2018)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: from easy to hard
#
# **Minutes** 10 · **Difficulty** 3/5 · **Importance** 4/5 · **Points** 4
#
# **Objective** Build a curriculum that really orders something.
#
# A text promises "start with easy examples, progress to harder ones", and changes nothing but $T$ and $\alpha$. Write
# `my_curriculum(teacher_logits, labels, *, share)`. The logits are (N, K), the labels (N,). An image is as hard as the teacher's
# cross-entropy on it is large. Return the positions (whole numbers) of the easiest share of the images, rounded up to whole images,
# the easiest first.
#
# <details><summary>Hint 1</summary>
#
# `F.cross_entropy` takes the mean over the images unless it is told not to.
# </details>
# <details><summary>Hint 2</summary>
#
# Sorting gives values, `argsort` gives positions.
# </details>
#
# **Reference** Chapter 07, a curriculum; Bengio et al. (2009), Curriculum learning, ICML, section 3; trap 55.


# %% solution="task3_curriculum" asks="difficulty_by_loss difficulty_by_margin CurriculumBatches progressive"
def my_curriculum(teacher_logits, labels, *, share):
    ### BEGIN SOLUTION
    difficulty = F.cross_entropy(teacher_logits, labels, reduction="none")  # (N,)
    return difficulty.argsort()[: math.ceil(share * len(labels))]
    ### END SOLUTION
    raise NotImplementedError("Task 3: my_curriculum is not written yet")


# %% check="task3_check" points=4
check_curriculum(my_curriculum)
### BEGIN HIDDEN TESTS
check_curriculum(my_curriculum, seed=2018)
### END HIDDEN TESTS

# %% [markdown] locked="task3_look_text"
# Look at what your order calls easy and hard among 2,000 digits. Some of the last ones would be hard for you too. Then read the line
# below the picture: which digits would a student hardly meet that begins with the easiest tenth?

# %% locked="task3_teacher"
digits = mnist.train.take(2000)
teacher_logits = predict_logits(zoo.load("teacher_cnn"), digits.images)  # (2000, 10)

# %% locked="task3_look"
order = my_curriculum(teacher_logits, digits.labels, share=1.0)
ends = torch.cat([order[:10], order[-10:]])
show(
    plots.digit_grid(digits.images[ends], captions=digits.labels[ends].tolist()),
    alt="Twenty digits with their labels: the ten easiest above, clean and alike; the ten hardest below, odd ones.",
)
tenth = torch.bincount(digits.labels[order[:200]], minlength=10).tolist()
print("each digit among the easiest 200:", dict(enumerate(tenth)))

# %% [markdown] locked="task4_text"
# ## Task 4: explain a picture
#
# **Minutes** 10 · **Difficulty** 3/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** See to what a student is drawn when its peers do not agree.
#
# The next cell trains three small students for a moment, one by one, and picks the held-out digit on which two ways of making one opinion
# out of three differ most. A row of the picture is a prediction: those of the peers, the mean of the three, and what the mean of their
# *logits* gives. The number behind a row is the mean divergence of task 1, at $T = 1$, of a student who predicts this row.
#
# 1. Which of these predictions would the peers' term of task 1 hold fast, rather than change? (a) the mean of the predictions
#    (b) the mean of the logits  (c) the surest peer's
# 2. Two peers say 3 and one says 5. Yet the mean of the logits leaves much less to the 5 than a third. Why?
#    (a) the label is a 3, and it counts  (b) the softmax has been taken twice  (c) a peer that finds 5 nearly impossible has a very
#    negative logit there, and outweighs the others
# 3. No row has the number 0, not even the best. Why?
#    (a) the students have been trained too briefly to reach it  (b) three different predictions cannot all have distance 0 to one
#    (c) the temperature is too low for it
#
# Write the three letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# For question 1 compare the numbers.
# </details>
# <details><summary>Hint 2</summary>
#
# For question 2: what does a softmax make of the sum of logits? Exponentials of sums are products.
# </details>
#
# **Reference** Chapter 07, mutual learning and its ensemble form; `kdcourse.losses.mutual_ensemble_loss`; trap 51.

# %% locked="task4_picture"


def make_student(seed, width):
    torch.manual_seed(seed)
    return make_mlp(width)


peers = [make_student(seed, 32) for seed in range(3)]
for seed, peer in enumerate(peers):
    optimizer = make_adam(list(peer.parameters()), lr=1e-2)
    fit(peer, mnist.train.take(500), label_objective, optimizer, epochs=4, batch_size=50, seed=seed, progress=False)
logits = torch.stack([predict_logits(peer, mnist.held_out.images) for peer in peers])  # (3, 5000, 10)
of_predictions, of_logits = logits.softmax(dim=2).mean(dim=0), logits.mean(dim=0).softmax(dim=1)  # (5000, 10)
digit = (of_predictions - of_logits).abs().sum(dim=1).argmax()
rows = {f"peer {number}": row for number, row in enumerate(logits[:, digit].softmax(dim=1), start=1)}
rows |= {"mean of predictions": of_predictions[digit], "mean of logits": of_logits[digit]}
pulls = [
    torch.stack([kd_loss(row.log()[None], peer[None], temperature=1.0) for peer in logits[:, digit]]).mean()
    for row in rows.values()
]
ax = plots.matrix(
    torch.stack(list(rows.values())), rows=[f"{name}: {pull:.2f}" for name, pull in zip(rows, pulls, strict=True)],
    columns=range(10), numbers=".2f", label="probability", ax=plots.new_axes(width=8.5, height=2.8),
)  # fmt: skip
ax.set_title(f"a {int(mnist.held_out.labels[digit])}, as three students see it", fontsize=10)
show(
    ax,
    alt="Heat map, five predictions by ten digits: peers favour 5, 3, 3; the mean keeps a third for 5, the logits' mean much less.",
)

# %% solution="task4_answers"
answers = [None, None, None]
### BEGIN SOLUTION
answers = ["a", "c", "b"]
### END SOLUTION

# %% check="task4_check" points=3
check_cohort_picture(answers)

# %% [markdown] locked="task5_text"
# ## Task 5: a small experiment
#
# **Minutes** 10 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 3
#
# **Objective** Ask what a method costs before you praise it.
#
# The next cells train cohorts of two with *your* loss, 500 images, five seeds; `mutual` is the mean of the test errors of both. It is
# compared with the same two students from the same starts on the same batches, each `alone`; with smoothed labels: `label_smoothing`;
# and with one of them for `twice as long`: that costs what a cohort costs, two students, or one for twice the epochs.
#
# Set each verdict to `"better"`, `"worse"` or `"unclear"`: `mutual`, measured against this baseline. Unclear does not mean equal, so set
# `may_save` too: how many errors the cohort may save against `alone`, at most, as far as the 95 % interval can tell.
#
# <details><summary>Hint 1</summary>
#
# `mean_interval` takes a list of differences, one for each seed.
# </details>
# <details><summary>Hint 2</summary>
#
# An interval that holds 0 decides nothing. Fewer errors are better: both ends are then negative. Which end is the cohort's best case?
# </details>
#
# **Reference** Chapter 07; chapter 02 on paired differences.

# %% locked="task5_baselines"
few, epochs = mnist.train.take(500), 10


def errors_alone(seed, start, *, epochs=epochs, label_smoothing=0.0):
    student = make_student(start, 64)
    objective = partial(label_objective, label_smoothing=label_smoothing)
    optimizer = make_adam(list(student.parameters()), lr=3e-3)
    fit(student, few, objective, optimizer, epochs=epochs, batch_size=50, seed=seed, progress=False)
    return count_errors(student, *mnist.test)


def errors_of_two(seed, **knobs):
    return sum(errors_alone(seed, start, **knobs) for start in (seed, 100 + seed)) / 2


baselines = {
    "alone": [errors_of_two(seed) for seed in range(5)],
    "label_smoothing": [errors_of_two(seed, label_smoothing=0.1) for seed in range(5)],
    "twice as long": [errors_alone(seed, seed, epochs=2 * epochs) for seed in range(5)],
}


# %% locked="task5_runs"
def errors_mutual(seed):
    cohort = [make_student(start, 64) for start in (seed, 100 + seed)]
    mutual_learning(
        cohort, few, temperature=1.0, loss=my_mutual_learning_loss, epochs=epochs, batch_size=50, seed=seed,
        make_optimizer=partial(make_adam, lr=3e-3),
    )  # fmt: skip
    return sum(count_errors(student, *mnist.test) for student in cohort) / 2


errors = {"mutual": [errors_mutual(seed) for seed in range(5)], **baselines}
print(pd.DataFrame(errors).rename_axis("seed").to_string())

# %% solution="task5_verdicts"
verdicts = {"alone": None, "label_smoothing": None, "twice as long": None}
may_save = None
### BEGIN SOLUTION
for name in verdicts:
    _, low, high = mean_interval([a - b for a, b in zip(errors["mutual"], errors[name], strict=True)])
    verdicts[name] = "better" if high < 0 else "worse" if low > 0 else "unclear"
    if name == "alone":
        may_save = max(0, -low)
### END SOLUTION

# %% check="task5_check" points=3
check_mutual_verdicts(verdicts, may_save, errors)
