# %% [markdown]
# # Exercise 02: soft targets
#
# You carry the loss of chapter 02 over to sentences, repair one that somebody else wrote, read a picture, and judge an
# experiment.
#
# **You need** chapter 02. **Time** about 45 minutes, 16 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: it takes what you wrote, tries it on random
# numbers, and when something is wrong it says which mistake it probably is. When all is done, save, and grade the file
# in a terminal with `kdcourse grade ex02_soft_targets.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
import torch
import torch.nn.functional as F

from kdcourse import plots, zoo
from kdcourse.checks import (
    check_gradient_picture,
    check_padded_kd_loss,
    check_paired_interval,
    check_repaired_loss,
    check_soft_target_verdicts,
)
from kdcourse.data import load_mnist
from kdcourse.losses import kd_loss
from kdcourse.models import make_student_mlp
from kdcourse.plots import show
from kdcourse.sweeps import sweep

# %% [markdown] locked="task1_text"
# ## Task 1: the loss of sentences
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Write the distillation loss for sequences of different lengths, so that padding has no effect.
#
# A language model gives a row of K logits at each position of a sentence. Sentences have different lengths, so a batch of
# B sentences is filled up with *padding* to a common length L. A mask of shape (B, L) is True where a position counts.
#
# Write `padded_kd_loss(student_logits, teacher_logits, mask, *, temperature)`: both logits have shape (B, L, K), the
# result is one number, the mean of $T^2\,\mathrm{KL}(\text{teacher}\,\|\,\text{student})$ over all positions that count.
# Each of them weighs the same, in whichever sentence it stands. What stands in padding must not matter. The loss must
# stay finite for a teacher that is very sure, and nothing may flow into the teacher.
#
# For example, two sentences of 3 and 1 positions have 4 positions that count. If their divergences are 1, 2, 3 and 6,
# then the loss at $T = 1$ is $12 / 4 = 3$, not the mean of the sentences' means, which is 4.
#
# <details><summary>Hint 1</summary>
#
# `logits[mask]` has shape (N, K): the N rows that count.
# </details>
# <details><summary>Hint 2</summary>
#
# From there it is the loss of chapter 02: log space, a sum over the classes, and then one mean.
# </details>
#
# **Reference** Chapter 02, "The mean of what?" and "Your turn: the whole loss"; Hinton, Vinyals, Dean (2015), section 2.


# %% solution="task1_padded_loss" asks="kd_loss distillation_loss"
def padded_kd_loss(student_logits, teacher_logits, mask, *, temperature):
    ### BEGIN SOLUTION
    log_q = F.log_softmax(student_logits[mask] / temperature, dim=-1)  # (N, K) student
    log_p = F.log_softmax(teacher_logits.detach()[mask] / temperature, dim=-1)  # (N, K) teacher
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # (N,)
    return temperature**2 * kl.mean()
    ### END SOLUTION
    raise NotImplementedError("Task 1: padded_kd_loss is not written yet")


# %% check="task1_check" points=5
check_padded_kd_loss(padded_kd_loss)
### BEGIN HIDDEN TESTS
check_padded_kd_loss(padded_kd_loss, seed=2015)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: repair a trap
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 4
#
# **Objective** Find mistakes that raise no error: the training runs, and only the results are worse.
#
# Somebody sends you this loss and says that the teacher does not help. It has **three** mistakes. Repair them: the teacher's
# term has the weight $\alpha$, the labels' term $1 - \alpha$, both are means over the images. Write your version below.
#
# ```python
# def broken_loss(student_logits, teacher_logits, labels, *, temperature, alpha):
#     log_q = F.log_softmax(student_logits / temperature, dim=-1)
#     p = F.softmax(teacher_logits / temperature, dim=-1)
#     soft = temperature**2 * F.kl_div(log_q, p)
#     hard = F.cross_entropy(student_logits, labels)
#     return (1 - alpha) * soft + alpha * hard
# ```
#
# <details><summary>Hint 1</summary>
#
# What does `F.kl_div` divide by when it is not told anything?
# </details>
# <details><summary>Hint 2</summary>
#
# Ask of each term which weight it has, and of each tensor whether a gradient may flow into it.
# </details>
#
# **Reference** Chapter 02, traps 1 to 4.


# %% solution="task2_repaired_loss" asks="soft_target_objective"
def repaired_loss(student_logits, teacher_logits, labels, *, temperature, alpha):
    ### BEGIN SOLUTION
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    soft = temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    hard = F.cross_entropy(student_logits, labels)
    return alpha * soft + (1 - alpha) * hard
    ### END SOLUTION
    raise NotImplementedError("Task 2: repaired_loss is not written yet")


# %% check="task2_check" points=4
check_repaired_loss(repaired_loss)
### BEGIN HIDDEN TESTS
check_repaired_loss(repaired_loss, seed=2015)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: explain a picture
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Say what $T^2$ does, and what it does not.
#
# The cell below draws how large the gradient is that reaches the student's logits, with the factor and without it.
#
# 1. $T$ goes from 8 to 16, and there is no factor. What is left of the gradient?
#    (a) all of it  (b) about a quarter  (c) about a half
# 2. Why does the factor not keep the gradient constant below $T \approx 4$?
#    (a) it does, the curve is level there  (b) $T^2$ is too small a number there
#    (c) $q - p$ falls like $1/T$ only where the logits are small against $T$
#
# Write both letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# Both axes are logarithmic: a straight line with slope -2 is $1/T^2$.
# </details>
# <details><summary>Hint 2</summary>
#
# The gradient of the divergence is $(q - p) / T$. What becomes of $q$ and $p$ as $T$ grows?
# </details>
#
# **Reference** Chapter 02, "Why is there a $T^2$ in front?"; Hinton, Vinyals, Dean (2015), equations 2 to 4.

# %% locked="task3_picture"
generator = torch.Generator().manual_seed(0)
student_rows, teacher_rows = (4 * torch.randn(256, 10, generator=generator) for _ in range(2))
temperatures = [0.5, 1, 2, 4, 8, 16, 32]


def gradient_size(temperature):
    logits = student_rows.clone().requires_grad_()
    kd_loss(logits, teacher_rows, temperature=temperature).backward()
    return float((256 * logits.grad).norm(dim=1).mean())


with_factor = [gradient_size(t) for t in temperatures]
ax = plots.curve(
    temperatures,
    [g / t**2 for g, t in zip(with_factor, temperatures, strict=True)],
    role="no_teacher",
    label="without $T^2$",
)
plots.curve(temperatures, with_factor, role="kd", label="with $T^2$", ax=ax)
ax.set(xlabel="temperature T", ylabel="gradient at the logits", xscale="log", yscale="log")
show(
    ax,
    alt="Gradient against T: without the factor it falls, steeper from T = 4 on; with it, it rises and then is level.",
)

# %% solution="task3_answers"
answers = [None, None]
### BEGIN SOLUTION
answers = ["b", "c"]
### END SOLUTION

# %% check="task3_check" points=3
check_gradient_picture(answers)

# %% [markdown] locked="task4_text"
# ## Task 4: judge an experiment
#
# **Minutes** 15 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Say whether a method helped, from few seeds, without fooling yourself.
#
# The next cell trains students on 1,000 images with the teacher and with two baselines, five seeds each: `no_teacher` learns from
# the labels, `label_smoothing` from labels that are softened without looking at the image. Runs of one seed start from the
# same weights and see the same batches.
#
# Write `paired_interval(errors, baseline_errors)`: two lists with one number per seed, in the same order. Return three
# numbers: the mean difference (method minus baseline), and the two ends of its 95 % interval, $\bar d \pm t\, s / \sqrt{n}$,
# where $s$ is the standard deviation of the differences and $t$ is Student's for $n - 1$ degrees of freedom. `STUDENT_T` has it.
#
# Then look at what the cell prints, and set both `verdicts` to `"better"`, `"worse"` or `"unclear"`: the distilled students, measured
# against each baseline. A method that beats no teacher may still give no more than smoothed labels do.
#
# <details><summary>Hint 1</summary>
#
# Subtract first, seed by seed. Everything else is about that one list of differences.
# </details>
# <details><summary>Hint 2</summary>
#
# `statistics.stdev` divides by $n - 1$, `numpy.std` by $n$ unless told otherwise. An interval that holds 0 decides nothing.
# </details>
#
# **Reference** Chapter 02, "Does $T^2$ matter for the student?"; Student (1908), *The probable error of a mean*.

# %% locked="task4_runs"
mnist, teacher = load_mnist(), zoo.load("hinton_teacher")
few = mnist.train.take(1000)
runs = sweep(
    make_student=make_student_mlp, data={"train": few, "test": mnist.test}, teacher=teacher, seeds=range(5), epochs=20,
    lr=3e-3, temperature=4, alpha=0.9, progress=False,
)  # fmt: skip
errors = {arm: group.sort_values("seed").test_errors.tolist() for arm, group in runs.groupby("arm")}
print(errors)

# %% solution="task4_interval" asks="mean_interval t_quantile compare"
STUDENT_T = {2: 12.706, 3: 4.3027, 4: 3.1824, 5: 2.7764, 6: 2.5706, 7: 2.4469, 8: 2.3646}  # by n, 95 % two-sided


def paired_interval(errors, baseline_errors):
    ### BEGIN SOLUTION
    differences = torch.tensor(errors, dtype=torch.float64) - torch.tensor(baseline_errors, dtype=torch.float64)
    n = len(differences)
    mean, half = differences.mean(), STUDENT_T[n] * differences.std() / n**0.5
    return mean, mean - half, mean + half
    ### END SOLUTION
    raise NotImplementedError("Task 4: paired_interval is not written yet")


# %% solution="task4_verdict"
verdicts = {"no_teacher": None, "label_smoothing": None}
### BEGIN SOLUTION
for baseline in verdicts:
    difference, low, high = (float(x) for x in paired_interval(errors["distilled"], errors[baseline]))
    print(f"distilled - {baseline}: {difference:+.1f} [{low:+.1f}, {high:+.1f}]")
    verdicts[baseline] = "better" if high < 0 else "worse" if low > 0 else "unclear"
### END SOLUTION

# %% check="task4_check" points=3
check_paired_interval(paired_interval)
### BEGIN HIDDEN TESTS
check_paired_interval(paired_interval, seed=2015)
### END HIDDEN TESTS

# %% check="task4_verdict_check" points=1
check_soft_target_verdicts(verdicts, errors)
