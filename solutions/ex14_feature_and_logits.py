# %% [markdown]
# # Exercise 14: features and logits together
#
# In chapter 03 a feature term on top of soft targets made no difference that eight seeds could show. Here are another student and
# only 400 images. Do features *and* logits together beat each of them alone? You write the objective, the run, and the search for its
# weights on held-out images. The test images are used once, at the end, against both methods alone and both baselines.
#
# **You need** chapters 02 and 03. **Time** about 60 minutes, 19 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with `kdcourse grade ex14_feature_and_logits.ipynb`; on
# Colab put an exclamation mark in front.

# %% locked="setup"
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F

from kdcourse import plots, zoo
from kdcourse.checks import (
    check_candidates,
    check_combination_verdicts,
    check_combined_objective,
    check_training_run,
    check_weight_search,
)
from kdcourse.data import load_mnist
from kdcourse.losses import HintRegressor, hint_loss, kd_loss
from kdcourse.models import make_mlp
from kdcourse.objectives import label_objective
from kdcourse.plots import show
from kdcourse.recipes import make_adam
from kdcourse.sweeps import mean_interval
from kdcourse.training import count_errors, evaluating, fit

# %% [markdown] locked="task1_text"
# ## Task 1: the combined objective
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Combine three terms so that each has a weight of its own.
#
# Write `my_objective(student, images, labels, teacher_logits, teacher_features, *, regressor, temperature, alpha, feature_weight)`. The
# student is an `nn.Sequential`: `student[:-1](images)` are its features, and `student[-1]` makes logits of them. Return a dict with
# three terms, already weighted:
#
# - `"kd"`: $\alpha$ times the distillation loss,  `"ce"`: $1 - \alpha$ times the cross-entropy with the labels,
# - `"feature"`: `feature_weight` times the hint loss between the regressed features and the teacher's.
#
# With $\alpha = 0$ the student learns from labels and features, with a feature weight of 0 from labels and logits. So one function
# serves all arms. Chapter 03 left soft targets and labels to `soft_target_objective`; here you write both terms yourself.
#
# <details><summary>Hint 1</summary>
#
# `kd_loss` and `hint_loss` are there; both detach the teacher.
# </details>
# <details><summary>Hint 2</summary>
#
# Call the regressor like a function, on the student's features. Compare what it returns with the teacher's.
# </details>
#
# **Reference** Chapter 03, FitNets and the mixtures; chapter 02, the objective; traps 18 and 21.


# %% solution="task1_objective" asks="soft_target_objective hint_objective distillation_loss"
def my_objective(
    student, images, labels, teacher_logits, teacher_features, *, regressor, temperature, alpha, feature_weight
):
    ### BEGIN SOLUTION
    features = student[:-1](images)  # (B, D)
    logits = student[-1](features)  # (B, K)
    return {
        "kd": alpha * kd_loss(logits, teacher_logits, temperature=temperature),
        "ce": (1 - alpha) * F.cross_entropy(logits, labels),
        "feature": feature_weight * hint_loss(regressor(features), teacher_features),
    }
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_objective is not written yet")


# %% check="task1_check" points=5
check_combined_objective(my_objective)
### BEGIN HIDDEN TESTS
check_combined_objective(my_objective, seed=2015)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: one run
#
# **Minutes** 10 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Make runs of one seed differ by nothing but the method.
#
# Write `my_run(make_student, make_regressor, objective, data, *, seed, epochs)`. It calls `torch.manual_seed(seed)`, makes the student, *then* the
# regressor, trains both, and returns the student. `data` is a tuple of tensors. `fit` hands them to the objective in batches of 100, in an order that
# has the run's seed, too. The objective needs the regressor as its keyword `regressor`. The optimizer is `make_adam` with `lr=1e-2`.
#
# <details><summary>Hint 1</summary>
#
# `fit(student, data, objective, optimizer, epochs=…, batch_size=…, seed=…, progress=False)` is the loop.
# </details>
# <details><summary>Hint 2</summary>
#
# `partial(objective, regressor=regressor)` is the objective with one keyword filled in. Which parameters learn, apart from the student's?
# </details>
#
# **Reference** Chapter 03, "The regressor must learn, too"; chapter 02 on pairs; trap 21.


# %% solution="task2_run" asks="distill distill_from_logits fitnets"
def my_run(make_student, make_regressor, objective, data, *, seed, epochs):
    ### BEGIN SOLUTION
    torch.manual_seed(seed)
    student, regressor = make_student(), make_regressor()
    optimizer = make_adam([*student.parameters(), *regressor.parameters()], lr=1e-2)
    bound = partial(objective, regressor=regressor)
    fit(student, data, bound, optimizer, epochs=epochs, batch_size=100, seed=seed, progress=False)
    return student
    ### END SOLUTION
    raise NotImplementedError("Task 2: my_run is not written yet")


# %% check="task2_check" points=4
check_training_run(my_run)
### BEGIN HIDDEN TESTS
check_training_run(my_run, seed=2015)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: search on held-out images
#
# **Minutes** 10 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Choose weights without spending the test images.
#
# Write `my_search(candidates, run, data, *, seeds)`. `candidates` is a list of dicts such as `{"alpha": 0.5, "feature_weight": 1.0}`.
# `run(seed=…, **candidate)` trains and returns a student. `data` has the splits `"train"`, `"held_out"` and `"test"`, each a pair of images
# and labels. Return the candidate with the fewest errors on held-out images, as a mean over all seeds.
#
# <details><summary>Hint 1</summary>
#
# `count_errors(student, *data[…])` counts. Write a small function that gives a candidate's mean.
# </details>
# <details><summary>Hint 2</summary>
#
# `min` takes a `key`.
# </details>
#
# **Reference** Chapter 02 and chapter 03 on choosing weights.


# %% solution="task3_search"
def my_search(candidates, run, data, *, seeds):
    ### BEGIN SOLUTION
    def mean_errors(candidate):
        return sum(count_errors(run(seed=seed, **candidate), *data["held_out"]) for seed in seeds) / len(seeds)

    return min(candidates, key=mean_errors)
    ### END SOLUTION
    raise NotImplementedError("Task 3: my_search is not written yet")


# %% check="task3_check" points=4
check_weight_search(my_search)
### BEGIN HIDDEN TESTS
check_weight_search(my_search, seed=2015)
### END HIDDEN TESTS

# %% [markdown] locked="task4_text"
# ## Task 4: your candidates
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 2
#
# **Objective** Give every arm the same chance.
#
# Fill in the candidates of the three arms: `"logits"` (feature weight 0), `"features"` ($\alpha$ = 0) and `"both"`. Each arm needs at least three, and all
# arms the same number. The cells below search with your functions, on 400 images and two seeds that are not used again, at $T = 4$, and count errors
# on 2,500 held-out images.
#
# The teacher is the course's convolutional network, and its features are the 64 numbers before its last layer. The student is a small network of
# another kind, without convolutions, with 32 features. More candidates take longer, part of a second each.
#
# <details><summary>Hint 1</summary>
#
# Factors of ten tell more about a weight than steps of one.
# </details>
# <details><summary>Hint 2</summary>
#
# The teacher's features have a mean square near 1, so the hint loss is near 1 at the start. The cross-entropy begins at 2.3.
# </details>
#
# **Reference** Chapter 03 on weights.

# %% solution="task4_candidates"
candidates = {"logits": [], "features": [], "both": []}
### BEGIN SOLUTION
candidates = {
    "logits": [{"alpha": alpha, "feature_weight": 0.0} for alpha in (0.3, 0.6, 0.9)],
    "features": [{"alpha": 0.0, "feature_weight": weight} for weight in (1.0, 10.0, 100.0)],
    "both": [{"alpha": alpha, "feature_weight": weight} for alpha, weight in [(0.5, 1.0), (0.5, 10.0), (0.9, 10.0)]],
}
### END SOLUTION

# %% check="task4_check" points=2
check_candidates(candidates)

# %% locked="task4_data"
mnist, teacher = load_mnist(), zoo.load("teacher_cnn")
few = mnist.train.take(400)
with evaluating(teacher):
    teacher_features = teacher[:-1](few.images).mean(dim=(2, 3))  # (400, 64)
    teacher_logits = teacher(few.images)  # (400, 10)
make_student, make_regressor = partial(make_mlp, 128, 32), partial(HintRegressor, 32, 64)
data = (*few, teacher_logits, teacher_features)


# %% locked="task4_search"
def run(*, seed, objective=my_objective, **weights):
    bound = partial(objective, temperature=4.0, **weights)
    return my_run(make_student, make_regressor, bound, data, seed=seed, epochs=7)


splits = {"train": few, "held_out": mnist.held_out.take(2500), "test": mnist.test}
chosen = {arm: my_search(tries, run, splits, seeds=[100, 101]) for arm, tries in candidates.items()}
pd.DataFrame(chosen).T.rename_axis("chosen for")

# %% [markdown] locked="task5_text"
# ## Task 5: the comparison
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Say what the combination gains, against what, and how surely.
#
# The next cells train four seeds of every arm with the chosen weights, and both baselines at the same budget. They print the errors of 10,000 test images. Set
# `verdicts`: is `"both"` `"better"`, `"worse"` or `"unclear"` against each other arm, by the 95 % interval of the differences seed by seed?
#
# <details><summary>Hint 1</summary>
#
# `mean_interval` takes the list of differences and returns their mean and the two ends.
# </details>
# <details><summary>Hint 2</summary>
#
# A lower mean is not yet better: look where the interval ends, and let the code choose the word. Of four comparisons, one whose interval
# only just misses 0 is weak evidence: "better" is what the rule says, not a certainty.
# </details>
#
# **Reference** Chapter 02 on intervals; chapter 03, features on top of soft targets.


# %% locked="task5_baselines"
def errors_from_labels(seed, label_smoothing):
    torch.manual_seed(seed)
    student = make_student()
    optimizer = make_adam(list(student.parameters()), lr=1e-2)
    objective = partial(label_objective, label_smoothing=label_smoothing)
    fit(student, data, objective, optimizer, epochs=7, batch_size=100, seed=seed, progress=False)
    return count_errors(student, *mnist.test)


baselines = {
    "no_teacher": [errors_from_labels(seed, 0.0) for seed in range(4)],
    "label_smoothing": [errors_from_labels(seed, 0.1) for seed in range(4)],
}

# %% locked="task5_runs"
errors = {
    arm: [count_errors(run(seed=seed, **weights), *mnist.test) for seed in range(4)] for arm, weights in chosen.items()
} | baselines
table = pd.DataFrame(errors)
print(pd.concat([table, table.mean().to_frame("mean").T]).to_string())
ax = plots.new_axes()
for place, arm in enumerate(errors):
    ax.plot(errors[arm], [place] * 4, "o", color=plots.INK, fillstyle="none")
    ax.plot(table[arm].mean(), place, "|", color=plots.INK, markersize=18)
ax.set(yticks=range(len(errors)), yticklabels=list(errors), xlabel="test errors (of 10,000)")
show(
    ax,
    alt="Test errors of five arms, a ring for each seed and a bar for the mean: the bars of the two arms with features lie left of the others.",
)

# %% solution="task5_verdicts"
verdicts = {"logits": None, "features": None, "no_teacher": None, "label_smoothing": None}
### BEGIN SOLUTION
for other in verdicts:
    difference, low, high = mean_interval([a - b for a, b in zip(errors["both"], errors[other], strict=True)])
    print(f"both minus {other}: {difference:+.1f} [{low:+.1f}, {high:+.1f}]")
    verdicts[other] = "better" if high < 0 else "worse" if low > 0 else "unclear"
### END SOLUTION

# %% check="task5_check" points=4
check_combination_verdicts(verdicts, errors)
