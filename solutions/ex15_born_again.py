# %% [markdown]
# # Exercise 15: born-again networks
#
# Train a network, let it teach a new one of the same kind, and that one the next. You write
# the generations yourself, choose a temperature for each, compare them with models that had no teacher, and put their ensemble
# beside one of independent models.
#
# **You need** chapter 06. **Time** about 60 minutes, 20 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with `kdcourse grade ex15_born_again.ipynb`; on Colab
# put an exclamation mark in front.

# %% locked="setup"
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F

from kdcourse import plots
from kdcourse.checks import (
    check_born_again,
    check_born_again_questions,
    check_born_again_verdicts,
    check_chosen_temperatures,
    check_mean_probabilities,
    check_temperature_choice,
)
from kdcourse.data import load_mnist
from kdcourse.losses import kd_loss
from kdcourse.models import make_hinton_student
from kdcourse.objectives import label_objective
from kdcourse.plots import show
from kdcourse.recipes import Ensemble, make_adam
from kdcourse.sweeps import mean_interval
from kdcourse.training import count_errors, fit, predict_logits


def train_one(model, data, objective, *, epochs, seed):
    """Train in place; ``data`` is a tuple of tensors, which the objective gets in batches after the model."""
    optimizer = make_adam(list(model.parameters()), lr=7e-3)
    fit(model, data, objective, optimizer, epochs=epochs, batch_size=100, seed=seed, progress=False)


# %% [markdown] locked="task1_text"
# ## Task 1: generations
#
# **Minutes** 18 · **Difficulty** 4/5 · **Importance** 5/5 · **Points** 6
#
# **Objective** Write a recipe in which no generation differs by anything that you have not decided.
#
# Write `my_born_again(make_model, images, labels, *, temperatures, alpha, seed, epochs)`. It returns a list of trained models.
#
# - Model 0 learns from the labels. For every number in `temperatures` there is one further model: the first of them is taught by model 0 at the
#   first temperature, the next by model 1 at the second, and so on.
# - A taught model minimises $\alpha$ times the distillation loss plus $1 - \alpha$ times the cross-entropy with the labels.
# - Model $g$ has the seed `seed + g`: call `torch.manual_seed(seed + g)`, then `make_model()`, then `train_one(…, seed=seed + g)`.
# - A teacher runs in evaluation mode, and nothing in it is changed: all models come back trainable.
#
# <details><summary>Hint 1</summary>
#
# `predict_logits(model, images)` gives all logits in evaluation mode. As a third tensor of the data they reach the objective batch by batch.
# </details>
# <details><summary>Hint 2</summary>
#
# An objective is a function `objective(student, images, labels, teacher_logits)` that returns a dict of weighted terms. It may be
# defined inside the loop; it then sees the temperature of its generation.
# </details>
#
# **Reference** Chapter 06, born-again networks; Furlanello et al. (2018), arXiv:1805.04770, section 3; traps 13, 14, 48 to 50.


# %% solution="task1_born_again" asks="born_again BornAgain distill distill_from_logits soft_target_objective"
def my_born_again(make_model, images, labels, *, temperatures, alpha, seed, epochs):
    ### BEGIN SOLUTION
    torch.manual_seed(seed)
    models = [make_model()]
    train_one(models[0], (images, labels), label_objective, epochs=epochs, seed=seed)
    for number, temperature in enumerate(temperatures, start=1):

        def taught(student, images, labels, teacher_logits, temperature=temperature):
            logits = student(images)  # (B, K)
            kd = kd_loss(logits, teacher_logits, temperature=temperature)
            return {"kd": alpha * kd, "ce": (1 - alpha) * F.cross_entropy(logits, labels)}

        teacher_logits = predict_logits(models[-1], images)  # (N, K)
        torch.manual_seed(seed + number)
        models.append(make_model())
        train_one(models[-1], (images, labels, teacher_logits), taught, epochs=epochs, seed=seed + number)
    return models
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_born_again is not written yet")


# %% check="task1_check" points=6
check_born_again(my_born_again)
### BEGIN HIDDEN TESTS
check_born_again(my_born_again, seed=2018)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: an ensemble
#
# **Minutes** 6 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 4
#
# **Objective** Let several models answer as one.
#
# Write `my_ensemble(models, images)`: the mean of the models' *probabilities*, shape (N, K), every model in evaluation mode.
#
# <details><summary>Hint 1</summary>
#
# `predict_logits` again, once for each model.
# </details>
# <details><summary>Hint 2</summary>
#
# Softmax first, mean afterwards: the other order is another ensemble.
# </details>
#
# **Reference** Chapter 06, the ensemble of generations; Furlanello et al. (2018), section 3.2.


# %% solution="task2_ensemble" asks="Ensemble"
def my_ensemble(models, images):
    ### BEGIN SOLUTION
    return torch.stack([predict_logits(model, images).softmax(dim=1) for model in models]).mean(dim=0)  # (N, K)
    ### END SOLUTION
    raise NotImplementedError("Task 2: my_ensemble is not written yet")


# %% check="task2_check" points=4
check_mean_probabilities(my_ensemble)
### BEGIN HIDDEN TESTS
check_mean_probabilities(my_ensemble, seed=2018)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: a temperature for each generation
#
# **Minutes** 12 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Choose knobs without touching the images that report.
#
# The next cells train three generations of a student with two hidden layers of 150 on 500 images, with four pairs of temperatures, two seeds each. They
# count the *third* generation's errors on the 5,000 held-out images and on 5,000 test images, and print them as a table.
#
# Write `choose_temperatures(held_out_errors, test_errors)`. Both are dicts from a pair of temperatures to a list of errors, one number per
# seed. Return the pair that should be used. Then set `chosen` with it.
#
# <details><summary>Hint 1</summary>
#
# Both dicts are handed over. That does not mean that both are to be used.
# </details>
# <details><summary>Hint 2</summary>
#
# `min` takes a `key`.
# </details>
#
# **Reference** Chapter 02 on choosing knobs.

# %% locked="task3_data"
mnist, make_model = load_mnist(), partial(make_hinton_student, 150)
few, test, settings = mnist.train.take(500), mnist.test.take(5000), {"alpha": 0.7, "epochs": 6}

# %% locked="task3_runs"
held_out_errors, test_errors = {}, {}
for temperatures in [(1.0, 1.0), (4.0, 4.0), (2.0, 8.0), (8.0, 2.0)]:
    last = [
        my_born_again(make_model, *few, temperatures=temperatures, seed=seed, **settings)[-1] for seed in (100, 200)
    ]
    held_out_errors[temperatures] = [count_errors(model, *mnist.held_out) for model in last]
    test_errors[temperatures] = [count_errors(model, *test) for model in last]
names = [f"T = {first:g}, then {second:g}" for first, second in held_out_errors]
columns = {"held out": held_out_errors, "test": test_errors}
shown = {
    f"{split}, seed {seed}": [both_seeds[place] for both_seeds in errors_of.values()]
    for split, errors_of in columns.items()
    for place, seed in enumerate((100, 200))
}
print("errors of 5,000 images, generation 3")
print(pd.DataFrame(shown, index=names).to_string())


# %% solution="task3_choose"
def choose_temperatures(held_out_errors, test_errors):
    ### BEGIN SOLUTION
    return min(held_out_errors, key=lambda pair: sum(held_out_errors[pair]))
    ### END SOLUTION
    raise NotImplementedError("Task 3: choose_temperatures is not written yet")


# %% check="task3_check" points=3
check_temperature_choice(choose_temperatures)
### BEGIN HIDDEN TESTS
check_temperature_choice(choose_temperatures, seed=2018)
### END HIDDEN TESTS

# %% solution="task3_chosen"
chosen = None
### BEGIN SOLUTION
chosen = choose_temperatures(held_out_errors, test_errors)
### END SOLUTION

# %% check="task3_chosen_check" points=1
check_chosen_temperatures(chosen, held_out_errors)

# %% [markdown] locked="task4_text"
# ## Task 4: does it help?
#
# **Minutes** 14 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Compare what is equal but for one thing.
#
# The next cells run eight seeds of your generations at the temperatures in `chosen` and $\alpha = 0.7$, and beside every generation an independent
# model that learns from the labels alone, *from the same start, on the same batches*. A student with smoothed labels is there too, and the two
# ensembles of three: yours of the generations, and the package's `Ensemble`, the same mean, of the independent models.
#
# The same generations at $T = 4$, a common default, show what it costs to take a temperature without choosing it. The verdicts are about
# those with your choice.
#
# For each pair set `"better"`, `"worse"` or `"unclear"`: the first of the pair, measured against the second, from the 95 % interval of the
# differences seed by seed.
#
# <details><summary>Hint 1</summary>
#
# `mean_interval` takes the list of differences and returns their mean and the two ends.
# </details>
# <details><summary>Hint 2</summary>
#
# Fewer errors are better. An interval that holds 0 decides nothing.
# </details>
#
# **Reference** Chapter 06; chapter 02 on paired differences.


# %% locked="task4_independent"
def trained(objective, seed):
    torch.manual_seed(seed)
    model = make_model()
    train_one(model, tuple(few), objective, epochs=settings["epochs"], seed=seed)
    return model


independent = {seed: [trained(label_objective, seed + number) for number in range(3)] for seed in range(0, 80, 10)}
independent_errors = {seed: [count_errors(model, *test) for model in group] for seed, group in independent.items()}
together_errors = {seed: count_errors(Ensemble(group), *test) for seed, group in independent.items()}
smoothed = partial(label_objective, label_smoothing=0.1)
smoothing_errors = {seed: count_errors(trained(smoothed, seed + 2), *test) for seed in independent}


# %% locked="task4_runs"
def ensemble_errors(models):
    return int((my_ensemble(models, test.images).argmax(dim=1) != test.labels).sum())


default, rows = (4.0, 4.0), []  # the default is used also as long as nothing is chosen
for seed, others in independent_errors.items():
    row = {}
    for temperatures, at in [(chosen or default, ""), (default, ", T = 4")]:
        taught = my_born_again(make_model, *few, temperatures=temperatures, seed=seed, **settings)
        counts = [count_errors(model, *test) for model in taught]
        row |= {f"generation {number}{at}": count for number, count in enumerate(counts, start=1)}
        row |= {f"all generations{at}": ensemble_errors(taught), f"a generation{at}": sum(counts) / 3}
    row |= {"no teacher": others[2], "label smoothing": smoothing_errors[seed]}
    row |= {"independent models": together_errors[seed], "an independent model": sum(others) / 3}
    rows.append(row)
table = pd.DataFrame(rows, index=list(independent_errors))
errors, mean = {name: table[name].tolist() for name in table}, table.mean()
singles = [name for name in table if name.startswith(("a generation", "an independent"))]
print(f"errors of 5,000 test images by seed; chosen: T = {chosen}")
print(table.drop(columns=singles).T.to_string())

# %% locked="task4_curves"
members = {
    "all generations": "a generation",
    "all generations, T = 4": "a generation, T = 4",
    "independent models": "an independent model",
}
for ensemble, member in members.items():
    print(f"{ensemble}: {mean[ensemble]:.0f} errors; {member}, on average: {mean[member]:.0f}")
ax = None
for at, label, role in [("", "chosen T", "student"), (", T = 4", "T = 4", "kd")]:
    line = [mean[f"generation {number}{at}"] for number in (1, 2, 3)]
    ax = plots.curve([1, 2, 3], line, role=role, label=label, ax=ax)
plots.curve([1, 2, 3], pd.DataFrame(independent_errors).mean(axis=1), role="no_teacher", label="no teacher", ax=ax)
ax.axhline(mean["label smoothing"], color=plots.COLORS["label_smoothing"], linestyle="-.", label="label smoothing")
ax.set(xlabel="generation (means of 8 seeds)", ylabel="test errors (of 5,000)", xticks=[1, 2, 3])
ax.legend(frameon=False)
show(
    ax,
    alt="Mean test errors of generations 1 to 3: the line for T = 4 rises steeply, those for the chosen temperatures and for "
    "models of the same seeds without a teacher stay lower; a dash-dotted line for label smoothing lies below all.",
)

# %% solution="task4_verdicts"
verdicts = {
    ("generation 3", "no teacher"): None,
    ("generation 3", "label smoothing"): None,
    ("all generations", "generation 3"): None,
    ("all generations", "independent models"): None,
}
### BEGIN SOLUTION
for one, other in verdicts:
    _, low, high = mean_interval([a - b for a, b in zip(errors[one], errors[other], strict=True)])
    verdicts[one, other] = "better" if high < 0 else "worse" if low > 0 else "unclear"
### END SOLUTION

# %% check="task4_check" points=4
check_born_again_verdicts(verdicts, errors)

# %% [markdown] locked="task5_text"
# ## Task 5: explain
#
# **Minutes** 6 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 2
#
# **Objective** Conclude what a measurement allows, and not more.
#
# 1. At $T = 4$ the ensemble of generations makes more errors than that of independent models. Where do most of them come from?
#    (a) averaging gains much less where each model was taught by another  (b) its members make more errors to begin with
#    (c) probabilities of distilled models cannot be averaged
# 2. A common claim is a gain of 0.5 to 1 % of accuracy from the first generation. What do your numbers say about that?
#    (a) that born-again networks do not work  (b) that there must be a mistake in the code
#    (c) that no such gain shows for this network, these images and this budget
#
# Write both letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# The last two lines that were printed, T = 4 and the independent models: take the difference of the ensembles, and that of their members.
# </details>
# <details><summary>Hint 2</summary>
#
# What was varied, and what was not?
# </details>
#
# **Reference** Chapter 06; Furlanello et al. (2018), sections 4 and 5.

# %% solution="task5_answers"
answers = [None, None]
### BEGIN SOLUTION
answers = ["b", "c"]
behind = {one: mean[f"{one}, T = 4"] - mean[other] for one, other in
          [("all generations", "independent models"), ("a generation", "an independent model")]}  # fmt: skip
assert behind["a generation"] > 0.5 * behind["all generations"] > 0
### END SOLUTION

# %% check="task5_check" points=2
check_born_again_questions(answers)
