# %% [markdown]
# # Exercise 05: contrastive distillation
#
# You write InfoNCE in both directions, repair a queue of negatives, leave out negatives that are none, look at who gets the push, and
# measure what leaving them out is worth.
#
# **You need** part 1 of chapter 05. **Time** about 55 minutes, 18 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with
# `kdcourse grade ex05_contrastive_distillation.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
import math
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse import plots, zoo
from kdcourse.checks import (
    check_contrastive_verdicts,
    check_info_nce_loss,
    check_push_picture,
    check_queue_loss,
    check_queue_push,
)
from kdcourse.data import load_mnist, minibatches
from kdcourse.losses import EmbeddingQueue, hint_loss
from kdcourse.models import capture, make_mlp
from kdcourse.plots import show
from kdcourse.sweeps import compare, sweep

# %% [markdown] locked="task1_text"
# ## Task 1: which of these is the same?
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Turn "recognise this image among others" into a loss.
#
# Write `my_info_nce_loss(student_embeddings, teacher_embeddings, *, temperature)` for two tensors (B, D), row $i$ of both from image $i$. Scale
# every row to length 1; call them $s_i$ and $t_i$. One direction lets the student find its teacher,
#
# $$-\frac1B \sum_i \log \frac{\exp(\langle s_i, t_i \rangle / \tau)}{\sum_j \exp(\langle s_i, t_j \rangle / \tau)},$$
#
# the other one lets the teacher find its student: $\sum_j \exp(\langle s_j, t_i \rangle / \tau)$ in the denominator. Return the mean of both. It must stay
# finite for a small $\tau$, and nothing flows into the teacher.
#
# <details><summary>Hint 1</summary>
#
# One matrix product gives all cosines. Where in it are the positives?
# </details>
# <details><summary>Hint 2</summary>
#
# It is a classification with $B$ classes. Which class is right for row $i$? And for column $i$?
# </details>
#
# **Reference** Chapter 05, "Your turn: the square", which has one of the two directions; van den Oord et al. (2018), arXiv:1807.03748, equation 4; trap 30.


# %% solution="task1_info_nce_loss" asks="info_nce_loss"
def my_info_nce_loss(student_embeddings, teacher_embeddings, *, temperature):
    ### BEGIN SOLUTION
    student = F.normalize(student_embeddings, dim=1)  # (B, D)
    teacher = F.normalize(teacher_embeddings.detach(), dim=1)  # (B, D)
    scores = student @ teacher.T / temperature  # (B, B), positives on the diagonal
    right = torch.arange(len(scores), device=scores.device)  # (B,)
    return (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_info_nce_loss is not written yet")


# %% check="task1_check" points=5
check_info_nce_loss(my_info_nce_loss)
### BEGIN HIDDEN TESTS
check_info_nce_loss(my_info_nce_loss, seed=2018)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: repair a queue
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 4/5 · **Points** 4
#
# **Objective** Keep the latest embeddings, all of them, and nothing else.
#
# This is a common way to write a batch of embeddings (B, D) into a bank (size, D), and it is wrong:
#
# ```python
# def broken_push(bank, pointer, embeddings):
#     if pointer + len(embeddings) > len(bank):
#         pointer = 0
#     bank[pointer : pointer + len(embeddings)] = embeddings
#     return (pointer + len(embeddings)) % len(bank)
# ```
#
# Try it on paper with a bank of ten rows and batches of four: which rows are never written? And what would a batch of twelve do?
#
# Write `repaired_push(bank, count, embeddings)`, where `count` says how many embeddings have been pushed since the start. Return a *new* bank, in
# which the batch's rows stand one after another, scaled to length 1, from row `count` modulo size on, wrapping around at the end; and the new
# count. Of a batch larger than the bank the last embeddings stay, each in the row where it would have come one by one.
#
# <details><summary>Hint 1</summary>
#
# Give each embedding of the batch its number since the start. In which row does number $n$ belong?
# </details>
# <details><summary>Hint 2</summary>
#
# A list of rows as index, `bank[rows] = …`, writes to all of them. No row should come twice in it.
# </details>
#
# **Reference** Chapter 05, "More negatives: a queue"; He et al. (2020), arXiv:1911.05722, section 3.2; traps 38 and 39.


# %% solution="task2_repaired_push" asks="EmbeddingQueue"
def repaired_push(bank, count, embeddings):
    ### BEGIN SOLUTION
    bank, size = bank.clone(), len(bank)
    numbers = torch.arange(count, count + len(embeddings))[-size:]  # of the embeddings that stay
    bank[numbers % size] = F.normalize(embeddings[-size:], dim=1)
    return bank, count + len(embeddings)
    ### END SOLUTION
    raise NotImplementedError("Task 2: repaired_push is not written yet")


# %% check="task2_check" points=4
check_queue_push(repaired_push)
### BEGIN HIDDEN TESTS
check_queue_push(repaired_push, seed=2018)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: leave out what is no negative
#
# **Minutes** 12 · **Difficulty** 4/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Do not push away what belongs together.
#
# Write `my_queue_loss(student_embeddings, teacher_embeddings, labels, *, queue, queue_labels, temperature)`. The first direction of
# task 1 only: student $i$ finds $t_i$. Its negatives are the teacher's embeddings of the other images of the batch, and the rows of `queue` (M, D),
# unit vectors. But leave out:
#
# - negatives, in batch and queue, whose label is that of image $i$: they are false. (An older entry of image $i$ itself goes with them.)
# - rows of the queue with `queue_labels` of −1: nothing has been written there yet.
#
# Left out means: not in the denominator. The positive always stays in. All rows are to be scaled to length 1, nothing flows into the teacher.
#
# <details><summary>Hint 1</summary>
#
# Put scores and masks of batch and queue side by side, (B, B + M), and take one softmax over all.
# </details>
# <details><summary>Hint 2</summary>
#
# Which score makes $\exp$ of it 0? It is not the score 0.
# </details>
#
# **Reference** Chapter 05, "False negatives" and "More negatives: a queue"; traps 29 and 40.


# %% solution="task3_queue_loss" asks="CRDLoss"
def my_queue_loss(student_embeddings, teacher_embeddings, labels, *, queue, queue_labels, temperature):
    ### BEGIN SOLUTION
    student, teacher = F.normalize(student_embeddings, dim=1), F.normalize(teacher_embeddings.detach(), dim=1)
    scores = student @ torch.cat([teacher, queue]).T / temperature  # (B, B + M)
    others = torch.cat([labels, queue_labels])  # (B + M,)
    allowed = (labels[:, None] != others) & (others >= 0)  # (B, B + M)
    right = torch.arange(len(student), device=student.device)  # (B,)
    allowed[right, right] = True
    return F.cross_entropy(scores.masked_fill(~allowed, -math.inf), right)
    ### END SOLUTION
    raise NotImplementedError("Task 3: my_queue_loss is not written yet")


# %% check="task3_check" points=4
check_queue_loss(my_queue_loss)
### BEGIN HIDDEN TESTS
check_queue_loss(my_queue_loss, seed=2018)
### END HIDDEN TESTS

# %% [markdown] locked="task4_text"
# ## Task 4: explain a picture
#
# **Minutes** 9 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** See whom the loss pushes.
#
# The next cell trains a student for three epochs with your loss of task 1, then takes 500 held-out digits. Each is an anchor; the
# other 499 are its negatives, and the softmax says which share of the push each gets. Row: the anchor's digit; column: the negative's; every
# row adds up to 1. If all negatives counted alike, all numbers would be near 0.1. Below, for several $\tau$, the share that goes to negatives of the anchor's own digit.
#
# 1. What does the loss do along the diagonal?
#    (a) nothing, as it does not use labels  (b) it draws images of one digit together  (c) it drives images of one digit apart
# 2. Why does the share of the false negatives shrink as $\tau$ grows?
#    (a) differences of cosines count for less, all negatives are felt nearly alike  (b) fewer of the negatives are false
#    (c) the student's embeddings move away from those of their class
# 3. A queue gives 4,096 negatives instead of 499. How many of them are false?
#    (a) hardly any, among so many  (b) about the same share as before  (c) none, they come from earlier batches
#
# Write the three letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# A negative's share is the strength with which it is pushed away.
# </details>
# <details><summary>Hint 2</summary>
#
# Does the queue know anything about the anchor?
# </details>
#
# **Reference** Chapter 05, "What the temperature does" and "False negatives"; trap 29.

# %% locked="task4_teacher"
mnist, teacher = load_mnist(), zoo.load("teacher_cnn")


@torch.no_grad()
def ask_teacher(images):
    with capture(teacher, "head.1") as features:
        teacher(images)
    return features["head.1"]  # (N, 64)


few = mnist.train.take(1000)
embeddings_t = ask_teacher(few.images)  # (1000, 64)
centre = embeddings_t.mean(dim=0)  # a cosine looks from the origin: put it into their middle
embeddings_t = embeddings_t - centre
some = mnist.held_out.take(500)
some_t = ask_teacher(some.images) - centre  # (500, 64)

# %% locked="task4_picture"
torch.manual_seed(0)
student, projection = make_mlp(64, 32), nn.Linear(32, 64)
optimizer = torch.optim.Adam([*student.parameters(), *projection.parameters()], lr=3e-3)
generator = torch.Generator().manual_seed(0)
for images, labels, t in minibatches(*few, embeddings_t, batch_size=64, epochs=3, generator=generator):
    loss = F.cross_entropy(student(images), labels)
    loss = loss + my_info_nce_loss(projection(student[:-1](images)), t, temperature=0.1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

with torch.no_grad():
    s = projection(student[:-1](some.images))  # (500, 64)
    cosines = F.normalize(s, dim=1) @ F.normalize(some_t, dim=1).T  # (500, 500)
itself, digits = torch.eye(500, dtype=torch.bool), F.one_hot(some.labels, 10).float()  # (500, 10)


def shares_of_push(temperature):
    return (cosines / temperature).masked_fill(itself, -math.inf).softmax(dim=1)  # (500, 500), negatives alone


by_digit = digits.T @ shares_of_push(0.1) @ digits / digits.sum(dim=0)[:, None]  # (10, 10)
ax = plots.matrix(
    by_digit, rows=range(10), columns=range(10), numbers=".2f", label="share of the push, τ = 0.1",
    ax=plots.new_axes(width=5.5, height=4),
)  # fmt: skip
ax.set(xlabel="digit of the negative", ylabel="digit of the anchor")
show(ax, alt="Heat map, ten by ten digits: the diagonal is much the brightest, with shares far above a tenth.")
same = some.labels[:, None] == some.labels
print(f"negatives of the anchor's digit: {same[~itself].float().mean():.1%} of all")
for tau in (0.05, 0.1, 0.3, 1.0):
    print(f"τ = {tau:4}: they get {(shares_of_push(tau) * same).sum(dim=1).mean():.1%} of the push")

# %% solution="task4_answers"
answers = [None, None, None]
### BEGIN SOLUTION
answers = ["c", "a", "b"]
### END SOLUTION

# %% check="task4_check" points=3
check_push_picture(answers)

# %% [markdown] locked="task5_text"
# ## Task 5: a small experiment
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 2
#
# **Objective** Measure what false negatives cost, and whether negatives are worth it.
#
# The next cells train students on 1,000 images, four seeds, with the labels and *your* loss of task 3: once with the digits as labels, `left out`,
# and once with each image's own number as its label, so that only the image itself is kept out: `false negatives in`. A `squared error`
# on the same projected embeddings has no negatives at all. And there are both baselines. The weights, 2 and 100, are the middle ones of
# those tried in chapter 05; nothing was chosen on test images. Set each verdict to `"better"`, `"worse"` or
# `"unclear"`: the first of the pair, measured against the second.
#
# <details><summary>Hint 1</summary>
#
# `compare(runs, baseline=…)` gives paired differences with their intervals. `baseline` may be one name, or a list of them.
# </details>
# <details><summary>Hint 2</summary>
#
# An interval that holds 0 decides nothing. Fewer errors are better: both ends are then negative.
# </details>
#
# **Reference** Chapter 05, "Does InfoNCE help?"; chapter 02 on paired differences.


# %% locked="task5_without"
budget = {
    "make_student": lambda: make_mlp(64, 32), "seeds": range(4), "epochs": 6, "batch_size": 50, "lr": 4e-3,
    "data": {"train": (*few, torch.arange(1000), embeddings_t), "test": mnist.test},
    "parts": {"projection": lambda: nn.Linear(32, 64), "queue": lambda: EmbeddingQueue(64, 256)},
    "stacked": False, "progress": False,
}  # fmt: skip


def squared_error(student, images, labels, numbers, t, *, projection, queue):
    embeddings = student[:-1](images)  # (B, 32)
    ce = F.cross_entropy(student[-1](embeddings), labels)
    return {"ce": ce, "hint": 100 * hint_loss(projection(embeddings), t)}


without = sweep(objective={"squared error": squared_error}, **budget)


# %% locked="task5_runs"
def contrast(student, images, labels, numbers, t, *, projection, queue, known):
    # Copies of the queue: the push comes before the backward pass, which still needs what was in it.
    embeddings, classes = student[:-1](images), labels if known else numbers  # (B, 32), (B,)
    loss = my_queue_loss(
        projection(embeddings),
        t,
        classes,
        queue=queue.vectors.clone(),
        queue_labels=queue.labels.clone(),
        temperature=0.1,
    )
    queue.push(t, classes)  # after the loss
    return {"ce": F.cross_entropy(student[-1](embeddings), labels), "contrast": 2 * loss}


objectives = {"left out": partial(contrast, known=True), "false negatives in": partial(contrast, known=False)}
runs = pd.concat([without, sweep(objective=objectives, baselines=(), **budget)])
errors = {arm: group.sort_values("seed").test_errors.tolist() for arm, group in runs.groupby("arm")}
print(runs.pivot(index="seed", columns="arm", values="test_errors").to_string())

# %% solution="task5_verdicts"
verdicts = {
    ("left out", "no_teacher"): None,
    ("left out", "false negatives in"): None,
    ("left out", "squared error"): None,
    ("false negatives in", "label_smoothing"): None,
}
### BEGIN SOLUTION
for arm, baseline in verdicts:
    pair = compare(runs, baseline=baseline).set_index("arm")
    verdicts[arm, baseline] = str(pair.verdict[arm])
### END SOLUTION

# %% check="task5_check" points=2
check_contrastive_verdicts(verdicts, errors)
