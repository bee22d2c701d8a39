# %% [markdown]
# # Exercise 13: temperature sweep
#
# Train students at $T$ = 1, 2, 4 and 16, draw their accuracy against $T$, and find the best value. That is quickly done, and
# quickly done wrong: with one seed, on the test images, or by comparing losses that cannot be compared. Here you do it so that
# you can defend the answer, for a small and for a large student. Do the runs single out one temperature? They may do so for one
# student and not for the other: "there is no clear optimum" is an answer, too.
#
# **You need** chapters 01 and 02. **Time** about 60 minutes, 18 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: it takes what you wrote, tries it on random
# numbers, and when something is wrong it says which mistake it probably is. When all is done, save, and grade the file
# in a terminal with `kdcourse grade ex13_temperature_sweep.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
import pandas as pd
import torch.nn.functional as F

from kdcourse import plots, zoo
from kdcourse.checks import (
    check_accuracy_curve,
    check_best_temperatures,
    check_find_optimum,
    check_sweep_objective,
    check_sweep_questions,
    check_sweep_runs,
)
from kdcourse.data import load_mnist
from kdcourse.losses import kd_loss
from kdcourse.models import make_hinton_student, make_mlp
from kdcourse.plots import show
from kdcourse.sweeps import mean_interval, sweep
from kdcourse.training import predict_logits

# %% [markdown] locked="task1_text"
# ## Task 1: the objective
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Write an objective in which $T$ changes the softness of the targets and nothing else.
#
# Write `my_objective(student, images, labels, teacher_logits, *, temperature, alpha)`. It returns a dict with two weighted terms:
# `"kd"`, $\alpha$ times $T^2\,\mathrm{KL}(\text{teacher}\,\|\,\text{student})$ of the softened rows, and `"ce"`, $1 - \alpha$ times the cross-entropy with the
# labels. You may call `kd_loss`. In a sweep $T$ is a tensor: do not compare it with a number or turn it into one.
#
# <details><summary>Hint 1</summary>
#
# Ask the student once, `student(images)`, and use its logits in both terms.
# </details>
# <details><summary>Hint 2</summary>
#
# Without $T^2$ the teacher's gradient shrinks as $T$ grows, in the end like $1/T^2$. What would your curve show then?
# </details>
#
# **Reference** Chapter 02, "Why is there a $T^2$ in front?"; traps 2, 3 and 5.


# %% solution="task1_objective" asks="soft_target_objective distillation_loss"
def my_objective(student, images, labels, teacher_logits, *, temperature, alpha):
    ### BEGIN SOLUTION
    logits = student(images)  # (B, K)
    kd = kd_loss(logits, teacher_logits, temperature=temperature)
    return {"kd": alpha * kd, "ce": (1 - alpha) * F.cross_entropy(logits, labels)}
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_objective is not written yet")


# %% check="task1_check" points=4
check_sweep_objective(my_objective)
### BEGIN HIDDEN TESTS
check_sweep_objective(my_objective, seed=2015)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: runs in pairs
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Train so that only $T$ differs between two runs that you compare.
#
# Write `run_sweep(make_student, data, *, temperatures, seeds, epochs)`. `make_student()` builds a student with weights from torch's
# global generator. `data` is a dict: `"train"` holds images, labels and the teacher's logits, `"held_out"` and `"test"` hold images and
# labels. Train one student for every temperature and every seed with your objective, $\alpha = 0.9$, Adam at a learning rate of
# 0.01 and batches of 100, and return a table with a row for each: at least the columns `temperature`, `seed` and `held_out_errors` (a count).
#
# Runs of one seed must start from the same weights at *every* temperature: they are a pair, and what they share falls out of
# their difference.
#
# <details><summary>Hint 1</summary>
#
# `sweep` of `kdcourse.sweeps` does all of this in one call, trains the students together, and returns such a table. Its
# `objective` takes a dict with a name: `{"distilled": my_objective}`.
# </details>
# <details><summary>Hint 2</summary>
#
# A keyword of the objective becomes an axis when `sweep` gets a list for it. `baselines=()` leaves the baselines out; with them the table
# has rows without a temperature.
# </details>
#
# **Reference** Chapter 02, "Does $T^2$ matter for the student?"


# %% solution="task2_runs"
def run_sweep(make_student, data, *, temperatures, seeds, epochs):
    ### BEGIN SOLUTION
    return sweep(
        make_student=make_student, data=data, seeds=seeds, epochs=epochs, lr=1e-2, batch_size=100,
        objective={"distilled": my_objective}, temperature=list(temperatures), alpha=0.9, baselines=(), progress=False,
    )  # fmt: skip
    ### END SOLUTION
    raise NotImplementedError("Task 2: run_sweep is not written yet")


# %% check="task2_check" points=4
check_sweep_runs(run_sweep)
### BEGIN HIDDEN TESTS
check_sweep_runs(run_sweep, seed=2015)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: the curve and its lowest point
#
# **Minutes** 18 · **Difficulty** 4/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Choose a setting without fooling yourself.
#
# A table of runs has the columns `temperature`, `seed`, `held_out_errors`, and, from `sweep`, also `test_errors`, `held_out_loss` and
# `train_loss`. Decide which of them may choose $T$.
#
# 1. Write `accuracy_curve(runs, *, images)`. It returns three lists, by rising temperature: the mean accuracy over seeds in [0, 1], and the
#    lower and upper end of its 95 % interval. `images` is how many images the errors were counted on.
# 2. Write `find_optimum(runs)`. It returns two values. The first is the temperature with the lowest mean error. The second
#    is True if that optimum is *clear*, else False: each neighbour in the list of temperatures must be worse, and the interval
#    of the paired difference, neighbour minus best, seed by seed, must lie above 0. At an end of the list there is only one neighbour.
#
# <details><summary>Hint 1</summary>
#
# `runs.pivot(index="temperature", columns="seed", values=…)` makes a table with a row per temperature and a column per seed: two rows
# subtract seed by seed.
# </details>
# <details><summary>Hint 2</summary>
#
# `mean_interval(list_of_numbers)` returns the mean and both ends of its 95 % interval. A DataFrame's row becomes a list with `.tolist()`.
# </details>
#
# **Reference** Chapter 02, "Does $T^2$ matter for the student?"; Student (1908), *The probable error of a mean*.


# %% solution="task3_curve"
def accuracy_curve(runs, *, images):
    ### BEGIN SOLUTION
    accuracy = 1 - runs.pivot(index="temperature", columns="seed", values="held_out_errors").sort_index() / images
    intervals = [mean_interval(row.tolist()) for _, row in accuracy.iterrows()]
    mean, low, high = (list(column) for column in zip(*intervals, strict=True))
    return mean, low, high
    ### END SOLUTION
    raise NotImplementedError("Task 3: accuracy_curve is not written yet")


# %% check="task3_curve_check" points=2
check_accuracy_curve(accuracy_curve)
### BEGIN HIDDEN TESTS
check_accuracy_curve(accuracy_curve, seed=2015)
### END HIDDEN TESTS


# %% solution="task3_optimum"
def find_optimum(runs):
    ### BEGIN SOLUTION
    errors = runs.pivot(index="temperature", columns="seed", values="held_out_errors").sort_index()
    place = errors.mean(axis=1).argmin()
    beside = [i for i in (place - 1, place + 1) if 0 <= i < len(errors)]
    lows = [mean_interval((errors.iloc[i] - errors.iloc[place]).tolist())[1] for i in beside]
    return errors.index[place], all(low > 0 for low in lows)
    ### END SOLUTION
    raise NotImplementedError("Task 3: find_optimum is not written yet")


# %% check="task3_optimum_check" points=3
check_find_optimum(find_optimum)
### BEGIN HIDDEN TESTS
check_find_optimum(find_optimum, seed=2015)
### END HIDDEN TESTS

# %% [markdown] locked="task4_text"
# ## Task 4: the sweep
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 2
#
# **Objective** Answer the question for two students, from your own runs.
#
# The next cells train 40 students on 2,000 images, from a teacher with three hidden layers that has seen 55,000: small ones with one layer of
# 16 units, and large ones with two layers of 300, at four temperatures, with five seeds. They take about half a minute, and draw your
# curves on the held-out images. The list has only four temperatures, because the closer two neighbours are, the less they differ, and
# the more seeds it takes to tell them apart.
#
# Then set `optimum`: for each size the best temperature, such as `4`, if it is clear, or else the words `"no clear optimum"`.
#
# <details><summary>Hint 1</summary>
#
# The bands are for one temperature each, and hold the luck of the seeds. The differences within pairs do not. Which of the two decides?
# </details>
# <details><summary>Hint 2</summary>
#
# `find_optimum` takes `runs["small"]` as it is.
# </details>
#
# **Reference** Hinton, Vinyals, Dean (2015), section 3: with 300 or more units in each hidden layer all temperatures above 8 gave fairly
# similar results, with 30 units 2.5 to 4 worked best.

# %% locked="task4_data"
TEMPERATURES = [1, 2, 4, 16]
mnist, teacher = load_mnist(), zoo.load("teacher_mlp")
few = mnist.train.take(2000)
data = {"train": (*few, predict_logits(teacher, few.images)), "held_out": mnist.held_out, "test": mnist.test}

# %% locked="task4_runs"
settings = dict(temperatures=TEMPERATURES, seeds=range(5), epochs=15)
runs = {"small": run_sweep(lambda: make_mlp(16), data, **settings)}

# %% locked="task4_runs_large"
runs["large"] = run_sweep(lambda: make_hinton_student(300), data, **settings)

# %% locked="task4_curves"
ax = None
for (size, table), role in zip(runs.items(), ("kd", "student"), strict=True):
    mean, low, high = accuracy_curve(table, images=len(mnist.held_out.labels))
    ax = plots.curve(TEMPERATURES, mean, low=low, high=high, role=role, label=f"{size} student", ax=ax)
plots.ticks_at(ax, TEMPERATURES).set(xlabel="temperature T", ylabel="held-out accuracy")
show(
    ax,
    alt="Held-out accuracy against T with intervals: the small student's is nearly flat up to T = 4 and lower at T = 16, the "
    "large student's rises steeply at first, and then more slowly up to T = 16.",
)

# %% solution="task4_optimum"
optimum = {"small": None, "large": None}
### BEGIN SOLUTION
for size, table in runs.items():
    best, clear = find_optimum(table)
    optimum[size] = float(best) if clear else "no clear optimum"
    means = table.groupby("temperature").held_out_errors.mean().round(1)
    print(f"{size} student: {optimum[size]}", means.to_frame("held-out errors").T.to_string(), sep="\n")
# The lowest mean of the small student leads its neighbour by a few errors, and the seeds differ by more than that.
assert optimum == {"small": "no clear optimum", "large": 16}
### END SOLUTION

# %% check="task4_check" points=2
check_best_temperatures(optimum, runs)

# %% [markdown] locked="task5_text"
# ## Task 5: what may you say?
#
# **Minutes** 10 · **Difficulty** 3/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Say what the sweep has shown, and what not.
#
# One question has two answers: for one student the runs name a temperature, for the other they name none.
#
# The next cell opens the test images, once, for the report. They are harder than the held-out ones, for every student alike, so
# read its columns downwards.
#
# 1. You kept the student that did best on the held-out images. What does this choice do to its held-out errors, as a report?
#    (a) nothing: it never trained on them  (b) they are on average a little too low
#    (c) they are on average a little too high
# 2. Suppose the lowest point lies at an end of the list, and its one neighbour is clearly worse. What may you say?
#    (a) the best temperature is found  (b) nothing: an optimum at an end is never clear
#    (c) it is the best of the list, and better ones may lie beyond the end
# 3. Why does the small student not profit from a high $T$, as the large one does? Which explanation agrees with all you have seen?
#    (a) at a high $T$ it is asked to match all ten logits, also those that do not matter for the answer, and has no room for that
#    (b) it has fewer parameters, so it takes more steps  (c) its loss lacks the factor $T^2$
#
# <details><summary>Hint 1</summary>
#
# Four temperatures that are in truth equally good: how would the lowest of four measured numbers compare with the truth?
# </details>
# <details><summary>Hint 2</summary>
#
# For large $T$ the loss becomes a squared difference of logits. What does the answer, the largest logit, need of that?
# </details>
#
# **Reference** Chapter 02, "Why is there a $T^2$ in front?"; Hinton, Vinyals, Dean (2015), sections 2.1 and 3.

# %% locked="task5_test"
report = pd.DataFrame({size: table.groupby("temperature").test_errors.mean() for size, table in runs.items()})
print(report.round(1).to_string())

# %% solution="task5_answers"
answers = [None, None, None]
### BEGIN SOLUTION
answers = ["b", "c", "a"]
### END SOLUTION

# %% check="task5_check" points=3
check_sweep_questions(answers)

# %% [markdown] locked="task5_beyond_text"
# The large student's best temperature was the last of your list. So look beyond it: the same seeds, and the same start of each, at $T = 64$.

# %% locked="task5_beyond"
beyond = run_sweep(lambda: make_hinton_student(300), data, **{**settings, "temperatures": [64]})
errors = pd.concat([runs["large"], beyond]).pivot(index="temperature", columns="seed", values="held_out_errors")
for one, other in [(4, 16), (16, 64)]:
    mean, low, high = mean_interval((errors.loc[one] - errors.loc[other]).tolist())
    print(f"T = {one} minus T = {other}: {mean:+.1f} held-out errors [{low:+.1f}, {high:+.1f}]")
