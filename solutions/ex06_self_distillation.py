# %% [markdown]
# # Exercise 06: self-distillation
#
# You write the loss by which a network's deepest exit teaches the shallower ones, repair a forward pass that skips a stage,
# choose the confidence at which easy images leave so that a budget holds, and look at a case in which the teaching does harm.
#
# **You need** chapter 06. **Time** about 55 minutes, 18 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with
# `kdcourse grade ex06_self_distillation.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
from functools import partial
from itertools import pairwise

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from kdcourse import plots
from kdcourse.checks import (
    check_confidence_choice,
    check_deep_supervision_loss,
    check_exit_experiment,
    check_exit_forward,
    check_exit_questions,
)
from kdcourse.data import load_mnist
from kdcourse.losses import kd_loss
from kdcourse.models_exits import ExitNet, make_exit_cnn
from kdcourse.plots import show
from kdcourse.sweeps import mean_interval
from kdcourse.training import evaluating, fit
from kdcourse.widgets.exits import count_exit_multiply_adds

mnist = load_mnist()

# %% [markdown] locked="task1_text"
# ## Task 1: the deepest exit teaches
#
# **Minutes** 12 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Turn one network into teacher and students at once.
#
# Write `my_deep_supervision_loss(exit_logits, labels, *, temperature, alpha)`. `exit_logits` is a list of logits (B, K), one per
# exit, shallow to deep. The deepest exit learns from the labels alone. Every other exit gets $(1-\alpha)$ times the cross-entropy
# with the labels plus $\alpha$ times the distillation loss towards the deepest exit ($T^2$ included, as in `kd_loss`, which you may
# use). Add all of it up. No gradient of the soft targets may reach the deepest exit.
#
# <details><summary>Hint 1</summary>
#
# `*shallower, deepest = exit_logits` takes a list apart.
# </details>
# <details><summary>Hint 2</summary>
#
# Who must be detached, and in which of the terms?
# </details>
#
# **Reference** Chapter 06, the deepest exit as teacher; Zhang et al. (2019), arXiv:1905.08094, section 3; traps 46 and 50.


# %% solution="task1_deep_supervision_loss" asks="deep_supervision_loss"
def my_deep_supervision_loss(exit_logits, labels, *, temperature, alpha):
    ### BEGIN SOLUTION
    *shallower, deepest = exit_logits
    loss = F.cross_entropy(deepest, labels)
    for logits in shallower:
        soft = kd_loss(logits, deepest.detach(), temperature=temperature)
        loss = loss + (1 - alpha) * F.cross_entropy(logits, labels) + alpha * soft
    return loss
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_deep_supervision_loss is not written yet")


# %% check="task1_check" points=5
check_deep_supervision_loss(my_deep_supervision_loss)
### BEGIN HIDDEN TESTS
check_deep_supervision_loss(my_deep_supervision_loss, seed=2019)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: repair a forward pass
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 4
#
# **Objective** See the mistake that stays when the error message is gone.
#
# A network has three stages, an auxiliary head after each of the first two, and a classifier after the last. Heads and classifier take
# as many numbers as their stage has channels. The function has two mistakes: one raises an error, the other never will.
#
# ```python
# def broken_forward(stages, auxiliary_heads, classifier, images):
#     features, exit_logits = images, []
#     for stage, head in zip(stages, auxiliary_heads):
#         features = stage(features)                      # (B, C, H, W)
#         exit_logits.append(head(features.flatten(1)))
#     exit_logits.append(classifier(features.flatten(1)))
#     return exit_logits
# ```
#
# Write `repaired_forward` with the same arguments: the logits of all exits, deepest last. In front of each exit the features are averaged
# over their positions.
#
# <details><summary>Hint 1</summary>
#
# How often does the loop run, and which stage does it never reach?
# </details>
# <details><summary>Hint 2</summary>
#
# Every stage has one thing that reads it. Put these things into one list.
# </details>
#
# **Reference** Chapter 06, exits; traps 44, 45 and 47.


# %% solution="task2_repaired_forward" asks="ExitNet make_exit_cnn"
def repaired_forward(stages, auxiliary_heads, classifier, images):
    ### BEGIN SOLUTION
    features, exit_logits = images, []
    for stage, head in zip(stages, [*auxiliary_heads, classifier], strict=True):
        features = stage(features)  # (B, C, H, W)
        exit_logits.append(head(features.mean(dim=(2, 3))))
    return exit_logits
    ### END SOLUTION
    raise NotImplementedError("Task 2: repaired_forward is not written yet")


# %% check="task2_check" points=4
check_exit_forward(repaired_forward)
### BEGIN HIDDEN TESTS
check_exit_forward(repaired_forward, seed=2019)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: keep to a budget
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 4/5 · **Points** 4
#
# **Objective** Turn "as accurate as possible, at this price" into a number.
#
# Somebody who runs your network has a budget: so many multiply-adds for an image, on average. A higher confidence costs more, because
# fewer images leave early. The rule of leaving is the chapter's, and given: `exits_taken(exit_logits, confidence)`.
#
# Write `my_confidence(exit_logits, costs, *, budget)`. `exit_logits` is a list of logits (N, K), shallow to deep. `costs` is a list with a number
# for each exit: what an image costs that leaves there, with all that ran before. Return the *largest* of the confidences 0.00, 0.01, …, 1.00
# at which the mean cost over the images is at most `budget`. The budget is never below `costs[0]`. For example, with the costs 1 and 5 and a
# confidence at which three of four images leave at the first exit, the mean cost is 2.
#
# <details><summary>Hint 1</summary>
#
# `exits_taken` gives a whole number for each image. A tensor of costs can be indexed with all of them at once.
# </details>
# <details><summary>Hint 2</summary>
#
# `step / 100 for step in range(101)` are the candidates. `max` of those that fit.
# </details>
#
# **Reference** Chapter 06, early exits.


# %% locked="task3_rule"
def exits_taken(exit_logits, confidence):  # list of (N, K) -> (N,)
    sure = torch.stack([logits.softmax(dim=1).amax(dim=1) for logits in exit_logits]) >= confidence  # (E, N)
    sure[-1] = True  # whoever comes to the deepest exit leaves there
    return sure.int().argmax(dim=0)


# %% solution="task3_confidence"
def my_confidence(exit_logits, costs, *, budget):
    ### BEGIN SOLUTION
    costs = torch.tensor(costs, dtype=torch.float64)
    candidates = [step / 100 for step in range(101)]
    return max(c for c in candidates if costs[exits_taken(exit_logits, c)].mean() <= budget)
    ### END SOLUTION
    raise NotImplementedError("Task 3: my_confidence is not written yet")


# %% check="task3_check" points=4
check_confidence_choice(my_confidence)
### BEGIN HIDDEN TESTS
check_confidence_choice(my_confidence, seed=2019)
### END HIDDEN TESTS

# %% [markdown] locked="task4_text"
# ## Task 4: read the trade
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Say who leaves, and what it costs.
#
# The next cells train a small convolutional network with three exits, with your loss, on images of 14×14 pixels.
# The table shows, for several confidences and for the one that you choose for 60 % of the cost, the accuracy on 1,000 held-out images, the share that leaves at each exit, and how many
# are right among those who stay until the deepest.
#
# 1. At 0.5 those who stay until the deepest exit are recognised *worse* than that exit recognises everyone (the last row). Why?
#    (a) the early exits have damaged the deepest one  (b) the deepest exit sees less of these images
#    (c) it gets another selection of images
# 2. Compare 0.7 with never leaving early.
#    (a) nearly the same accuracy for less work  (b) accuracy is clearly lost for less work  (c) nobody leaves, so it is the same
# 3. On which images should the confidence be chosen?
#    (a) on the test images, where it will be reported  (b) on held-out images  (c) on the training images, there are most of them
#
# Write the three letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# Which images are those of which a shallow exit is sure?
# </details>
# <details><summary>Hint 2</summary>
#
# What is every other knob of this course chosen on?
# </details>
#
# **Reference** Chapter 06, early exits; chapter 02 on choosing knobs.


# %% locked="task4_images"
few, held_out = mnist.train.take(1600), mnist.held_out.take(1000)
few_small, held_out_small = (F.avg_pool2d(part.images, 2) for part in (few, held_out))  # (1600, 1, 14, 14), (1000, …)


# %% locked="task4_network"
def exits_objective(network, images, labels):
    return {"exits": my_deep_supervision_loss(network(images), labels, temperature=2.0, alpha=0.3)}


torch.manual_seed(0)
network = make_exit_cnn(8, 16, 32)
optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
schedule = OneCycleLR(optimizer, 2e-2, total_steps=129)
fit(
    network, (few_small, few.labels), exits_objective, optimizer, epochs=4, batch_size=50, progress=False,
    after_step=lambda step: schedule.step(),
)  # fmt: skip
with evaluating(network):
    exit_logits = [torch.cat(parts) for parts in zip(*map(network, held_out_small.split(500)), strict=True)]
leaving, alone = count_exit_multiply_adds(network, held_out_small)
chosen = my_confidence(exit_logits, [cost / alone for cost in leaving], budget=0.6)
print(f"confidence for 60 % of the multiply-adds: {chosen}")
classes, rows = torch.stack(exit_logits).argmax(dim=2), {}  # (E, N)
for confidence in sorted({0.0, 0.3, 0.4, 0.5, 0.7, 0.9, 1.1, chosen}):
    exits = exits_taken(exit_logits, confidence)  # (N,)
    predictions = classes.gather(0, exits[None])[0]
    right, deepest = predictions == held_out.labels, exits == 2
    shares = {f"leave at {number}": (exits == number).float().mean().item() for number in range(3)}
    stayed = right[deepest].float().mean().item() if deepest.any() else float("nan")
    rows[confidence] = {"accuracy": right.float().mean().item(), **shares, "right at 2": stayed}
table = pd.DataFrame.from_dict(rows, orient="index")
print(table.round(3).to_string())
ax = plots.curve(table["leave at 2"], table["accuracy"], role="student", label="held-out accuracy")
ax.set(xlabel="share of images that run through the whole network", ylabel="accuracy")
show(
    ax,
    alt="Accuracy against the share of images that reach the deepest exit: it rises steeply and is level before all do.",
)

# %% solution="task4_answers"
answers = [None, None, None]
### BEGIN SOLUTION
answers = ["c", "a", "b"]
### END SOLUTION

# %% check="task4_check" points=3
check_exit_questions(answers)

# %% [markdown] locked="task5_text"
# ## Task 5: a small experiment
#
# **Minutes** 10 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 2
#
# **Objective** Find out when a deepest exit should not teach.
#
# The next cells train fully connected networks whose first stage has only 12 units: once with labels for all exits, which is what your
# loss gives for $\alpha = 0$, and once with your loss and $\alpha = 0.9$. Four pairs of runs, the same start and the same batches in each
# pair. They print test errors of every exit. Look at $\alpha = 0$ first: how much better is the deepest exit than the first? It can hardly teach more than that.
#
# Set `verdicts` for the first and for the deepest exit: `"better"`, `"worse"` or `"unclear"` with $\alpha = 0.9$, measured against
# $\alpha = 0$. And answer: the deepest exit is detached in every soft-target term. Why does its accuracy change at all?
# (a) detaching does not work here  (b) the exits share the stages below them  (c) with $\alpha = 0.9$ its own labels count less
#
# <details><summary>Hint 1</summary>
#
# `mean_interval` takes a list of differences, one for each seed.
# </details>
# <details><summary>Hint 2</summary>
#
# Follow a shallow exit's gradient downwards, not upwards.
# </details>
#
# **Reference** Chapter 06; chapter 02 on paired differences.


# %% locked="task5_labels_only"
def make_narrow():
    widths = [784, 12, 64, 64]
    stages = [nn.Sequential(nn.Flatten(), nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
    return ExitNet(stages, [nn.Linear(width, 10) for width in widths[1:]])


def run(seed, loss):
    def objective(network, images, labels):
        return {"exits": loss(network(images), labels)}

    torch.manual_seed(seed)
    network = make_narrow()
    optimizer = torch.optim.Adam(network.parameters(), lr=6e-3)
    fit(network, mnist.train.take(1000), objective, optimizer, epochs=6, batch_size=100, seed=seed, progress=False)
    with evaluating(network):
        return [int((logits.argmax(dim=1) != mnist.test.labels).sum()) for logits in network(mnist.test.images)]


def from_labels(all_logits, labels):
    return sum(F.cross_entropy(logits, labels) for logits in all_logits)


labels_only = [run(seed, from_labels) for seed in range(4)]  # errors of the first, second and deepest exit, by seed
print("alpha = 0:  ", labels_only)

# %% locked="task5_runs"
taught = [run(seed, partial(my_deep_supervision_loss, temperature=2.0, alpha=0.9)) for seed in range(4)]
print("alpha = 0.9:", taught)

# %% solution="task5_verdicts"
verdicts = {"first": None, "deepest": None}
answer = None
### BEGIN SOLUTION
for name, place in {"first": 0, "deepest": -1}.items():
    _, low, high = mean_interval([a[place] - b[place] for a, b in zip(taught, labels_only, strict=True)])
    verdicts[name] = "better" if high < 0 else "worse" if low > 0 else "unclear"
answer = "b"
### END SOLUTION

# %% check="task5_check" points=2
check_exit_experiment(verdicts, answer, taught, labels_only)
