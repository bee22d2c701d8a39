# %% [markdown]
# # Exercise 01: teacher and student
#
# You write the two functions with which chapter 01 looked into a teacher, which it took from a library. You repair a wrong
# measurement of a model, read a picture of dark knowledge, and put four networks into one.
#
# **You need** chapter 01. **Time** about 45 minutes, 18 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: it takes what you wrote, tries it on random
# numbers, and when something is wrong it says which mistake it probably is. When all is done, save, and grade the file
# in a terminal with `kdcourse grade ex01_teacher_and_student.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F

from kdcourse import plots, zoo
from kdcourse.checks import (
    check_dark_knowledge,
    check_ensemble_logits,
    check_ensemble_verdicts,
    check_entropy,
    check_measured_accuracy,
    check_measured_size,
    check_soften,
)
from kdcourse.data import load_mnist
from kdcourse.losses import soften
from kdcourse.models import make_mlp
from kdcourse.objectives import label_objective
from kdcourse.plots import show
from kdcourse.sweeps import mean_interval, sweep
from kdcourse.training import predict_logits

# %% [markdown] locked="task1_text"
# ## Task 1: how soft, how unsure
#
# **Minutes** 10 · **Difficulty** 1/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Soften a teacher's answers, and say in one number how unsure each of them is.
#
# 1. Write `my_soften(logits, *, temperature)`: logits of shape (B, K) become probabilities of the same shape, the softmax of
#    $z / T$. Large logits must not break it.
# 2. Write `my_entropy(probabilities)`: one number for each row, shape (B,), its entropy $-\sum_i p_i \log p_i$ in nats. A
#    probability may be exactly 0, and then adds nothing.
#
# <details><summary>Hint 1</summary>
#
# The classes are the last dimension. Whatever turns K numbers into one, or makes them sum to 1, runs over it.
# </details>
# <details><summary>Hint 2</summary>
#
# The computer says that $0 \cdot \log 0$ is not a number. `torch.special` and `torch.xlogy` have functions that know better.
# </details>
#
# **Reference** Chapter 01, "Dark knowledge" and "Temperature, by hand"; Hinton, Vinyals, Dean (2015), equation 1.


# %% solution="task1_soften" asks="soften"
def my_soften(logits, *, temperature):
    ### BEGIN SOLUTION
    return F.softmax(logits / temperature, dim=-1)  # (B, K)
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_soften is not written yet")


# %% check="task1_soften_check" points=3
check_soften(my_soften)
### BEGIN HIDDEN TESTS
check_soften(my_soften, seed=2015)
### END HIDDEN TESTS


# %% solution="task1_entropy"
def my_entropy(probabilities):
    ### BEGIN SOLUTION
    return -torch.xlogy(probabilities, probabilities).sum(dim=-1)  # (B, K) -> (B,)
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_entropy is not written yet")


# %% check="task1_entropy_check" points=2
check_entropy(my_entropy)
### BEGIN HIDDEN TESTS
check_entropy(my_entropy, seed=2015)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: repair a measurement
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Measure accuracy and size so that the numbers mean what the table says.
#
# This function reports the accuracy of a model. It runs, and three things are wrong: the mode in which the model answers, what
# the batches' results are averaged to, and what is kept in memory.
#
# ```python
# def broken_accuracy(model, images, labels, *, batch_size):
#     model.train()
#     rates = []
#     for some, their_labels in zip(images.split(batch_size), labels.split(batch_size)):
#         answers = model(some).argmax(dim=1)
#         rates.append((answers == their_labels).float().mean())
#     return torch.stack(rates).mean()
# ```
#
# 1. Write `measured_accuracy` with the same arguments. It returns the share of *all* images that the model gets right in evaluation
#    mode, and leaves the model in the mode in which it came.
# 2. Write `measured_size(model)`. It returns two numbers: how many parameters (weights and biases, trained or frozen) the model
#    has, and how many bytes its parameters *and buffers* take as they are stored.
#
# <details><summary>Hint 1</summary>
#
# 19 images in batches of 8: the last batch has 3. With which weight does each of them enter the result?
# </details>
# <details><summary>Hint 2</summary>
#
# `model.training` tells the mode, `model.train(mode)` sets it. A tensor knows `numel()` and `element_size()`; `model.buffers()`
# are what a model stores without learning it, such as the running mean of a batch normalisation.
# </details>
#
# **Reference** Chapter 01, "What a student saves"; traps 10, 11, 13 and 16.


# %% solution="task2_accuracy" asks="accuracy count_errors predict_logits"
def measured_accuracy(model, images, labels, *, batch_size):
    ### BEGIN SOLUTION
    was_training = model.training
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(some).argmax(dim=1) for some in images.split(batch_size)])  # (N,)
    model.train(was_training)
    return (answers == labels).float().mean()
    ### END SOLUTION
    raise NotImplementedError("Task 2: measured_accuracy is not written yet")


# %% check="task2_accuracy_check" points=3
check_measured_accuracy(measured_accuracy)
### BEGIN HIDDEN TESTS
check_measured_accuracy(measured_accuracy, seed=2015)
### END HIDDEN TESTS


# %% solution="task2_size" asks="count_parameters size_in_bytes"
def measured_size(model):
    ### BEGIN SOLUTION
    parameters, buffers = list(model.parameters()), list(model.buffers())
    size = sum(tensor.numel() * tensor.element_size() for tensor in [*parameters, *buffers])
    return sum(tensor.numel() for tensor in parameters), size
    ### END SOLUTION
    raise NotImplementedError("Task 2: measured_size is not written yet")


# %% check="task2_size_check" points=2
check_measured_size(measured_size)
### BEGIN HIDDEN TESTS
check_measured_size(measured_size, seed=2015)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: explain a picture
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Read dark knowledge, and tell it from softness alone.
#
# The cell below draws the teacher's mean answers at $T = 4$ to held-out digits, without the diagonal: how much of its probability
# goes to each *wrong* digit. It prints a few facts as well.
#
# 1. What would this matrix look like if label smoothing, and not a teacher, had made the targets?
#    (a) the same pattern, only paler  (b) empty: all white  (c) one colour everywhere
# 2. The row of the 8 holds most, the printed 17 % in all. What does that say?
#    (a) the teacher is least sure about 8s  (b) there are more 8s than other digits  (c) other digits are often taken for 8s
# 3. Look at the printed pair, 5 and 3. How can a 5 resemble a 3 more than a 3 resembles a 5?
#    (a) it cannot: likeness goes both ways  (b) the two numbers are means over different images
#    (c) there are fewer 5s than 3s
#
# Write the three letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# Label smoothing looks at the label. Does it look at the image?
# </details>
# <details><summary>Hint 2</summary>
#
# A row is the mean answer to images of *one* label; a column is what *one* class gets from images of all labels.
# </details>
#
# **Reference** Chapter 01, "Dark knowledge"; Müller, Kornblith, Hinton (2019).

# %% locked="task3_picture"
mnist, teacher = load_mnist(), zoo.load("teacher_mlp")
images, labels = mnist.held_out
soft = soften(predict_logits(teacher, images), temperature=4)  # (5000, 10)
mean_answer = torch.stack([soft[labels == digit].mean(dim=0) for digit in range(10)])  # (10, 10): label, class
mean_answer.fill_diagonal_(float("nan"))
ax = plots.matrix(100 * mean_answer, rows=range(10), columns=range(10), label="per cent at T = 4")
ax.set(xlabel="class", ylabel="label")
show(ax, alt="Mean probability of each wrong class for each label, per cent at T = 4: a matrix of unequal numbers.")
print(f"wrong classes together, label 8: {mean_answer[8].nansum():.1%}, label 6: {mean_answer[6].nansum():.1%}")
print(f"label 5, class 3: {mean_answer[5, 3]:.1%}   label 3, class 5: {mean_answer[3, 5]:.1%}")
print("images of each label:", labels.bincount().tolist())

# %% solution="task3_answers"
answers = [None, None, None]
### BEGIN SOLUTION
answers = ["c", "a", "b"]
### END SOLUTION

# %% check="task3_check" points=3
check_dark_knowledge(answers)

# %% [markdown] locked="task4_text"
# ## Task 4: many models into one
#
# **Minutes** 15 · **Difficulty** 3/5 · **Importance** 4/5 · **Points** 5
#
# **Objective** Make one teacher of several, distil it, and say honestly what was won.
#
# Four clinics, each with 500 labelled images, have trained a small network each. A student of the same size shall learn from all
# four, on 3,000 images that nobody has labelled.
#
# 1. Write `ensemble_logits(all_logits)`: the logits of M members, shape (M, B, K), become logits of shape (B, K) whose softmax is
#    the *mean of the members' probabilities*. They must stay finite for members that are very sure. The chapter took the logarithm
#    of the vote; if all members are very sure, some mean probability is rounded to 0, and its logarithm is not finite.
# 2. Run the cell that trains. Then set each verdict: is the distilled student `"better"` or `"worse"` than one clinic's network, than
#    the vote of all four, and than a student that was *given* labels for the 3,000 images, trained with label smoothing? Write
#    `"unclear"` where the interval of the paired difference holds 0.
#
# <details><summary>Hint 1</summary>
#
# The logarithm of a probability is a logit: softmax brings the probability back.
# </details>
# <details><summary>Hint 2</summary>
#
# The logarithm of a mean of exponentials has a function of its own, `torch.logsumexp`, which never leaves log space. For the
# verdicts, subtract seed by seed; `mean_interval(differences)` gives the mean and both ends of its 95 % interval.
# </details>
#
# **Reference** Chapter 01, "Use 1: many models into one"; Buciluǎ, Caruana, Niculescu-Mizil (2006).


# %% solution="task4_ensemble" asks="Ensemble"
def ensemble_logits(all_logits):
    ### BEGIN SOLUTION
    log_probabilities = F.log_softmax(all_logits, dim=-1)  # (M, B, K)
    return log_probabilities.logsumexp(dim=0)  # (B, K); softmax takes no notice of the missing - log M
    ### END SOLUTION
    raise NotImplementedError("Task 4: ensemble_logits is not written yet")


# %% check="task4_ensemble_check" points=3
check_ensemble_logits(ensemble_logits)
### BEGIN HIDDEN TESTS
check_ensemble_logits(ensemble_logits, seed=2006)
### END HIDDEN TESTS


# %% locked="task4_clinics"
def train_small(start, end, **settings):
    part = {"train": tuple(tensor[start:end] for tensor in mnist.train), "test": mnist.test}
    return sweep(
        make_student=lambda: make_mlp(32), data=part, seeds=range(3), lr=3e-3, baselines=(), keep_models=True,
        progress=False, **settings,
    )  # fmt: skip


smoothed_labels = partial(label_objective, label_smoothing=0.1)
clinics = [train_small(500 * k, 500 * (k + 1), epochs=25, objective={"clinic": label_objective}) for k in range(4)]
given_labels = train_small(
    5000, 8000, epochs=10, objective={"no_teacher": label_objective, "label_smoothing": smoothed_labels}
)


# %% locked="task4_runs"
def vote(images, seed):
    members = [predict_logits(clinic.model.iloc[seed], images) for clinic in clinics]
    return ensemble_logits(torch.stack(members))  # (4, N, 10) -> (N, 10)


opinions = torch.stack([vote(mnist.train.images[5000:8000], seed) for seed in range(3)])  # (3, 3000, 10)
distilled = train_small(5000, 8000, epochs=10, teacher=opinions, temperature=1, alpha=1.0)  # the vote alone
runs = pd.concat([distilled, given_labels])
errors = {arm: group.sort_values("seed").test_errors.tolist() for arm, group in runs.groupby("arm")}
errors["one clinic"] = clinics[0].test_errors.tolist()
errors["the vote"] = [
    int((vote(mnist.test.images, seed).argmax(dim=1) != mnist.test.labels).sum()) for seed in range(3)
]
for arm, by_seed in errors.items():
    print(f"{arm:16} {by_seed}")

# %% solution="task4_verdicts"
verdicts = {"one clinic": None, "the vote": None, "label_smoothing": None}
### BEGIN SOLUTION
for baseline in verdicts:
    differences = [a - b for a, b in zip(errors["distilled"], errors[baseline], strict=True)]
    mean, low, high = mean_interval(differences)
    print(f"distilled - {baseline}: {mean:+.1f} [{low:+.1f}, {high:+.1f}]")
    verdicts[baseline] = "better" if high < 0 else "worse" if low > 0 else "unclear"
### END SOLUTION

# %% check="task4_verdicts_check" points=2
check_ensemble_verdicts(verdicts, errors)
