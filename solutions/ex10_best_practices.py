# %% [markdown]
# # Exercise 10: best practices
#
# Chapter 10 judged other people's claims. Here you read a report that leaves out what matters, answer a question that two separate comparisons
# cannot answer, plan how many runs a comparison needs, and then write, run and judge a claim of your own.
#
# **You need** chapter 10. **Time** about 50 minutes, 17 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with
# `kdcourse grade ex10_best_practices.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
import math
import statistics

from kdcourse import zoo
from kdcourse.checks import (
    check_change_of_gain,
    check_claim,
    check_own_claim,
    check_plan,
    check_report_questions,
)
from kdcourse.data import load_mnist
from kdcourse.models import make_mlp
from kdcourse.results import mean_interval, t_quantile
from kdcourse.results import verdict as word_of
from kdcourse.sweeps import sweep
from kdcourse.training import predict_logits

# %% [markdown] locked="task1_text"
# ## Task 1: what is missing?
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Read a comparison and find what it leaves out.
#
# This report is made up. Each of its sentences was seen in print, in one form or another.
#
# > We compare StarKD with soft targets on MNIST: 10,000 training images, a student 784-100-10. The weight of StarKD's loss and its temperature
# > were chosen among 24 settings by test accuracy. Soft targets use T = 4 and α = 0.9, as is usual. Because it converges more
# > slowly, StarKD is trained for 40 epochs, soft targets for 20.
# >
# > | method | seeds | test errors, mean ± standard deviation |
# > | --- | --- | --- |
# > | labels | 3 | 320 ± 14 |
# > | soft targets | 3 | 301 ± 15 |
# > | StarKD | 3, best of 5 | 287 ± 6 |
# >
# > StarKD is clearly better than soft targets, since the intervals hardly overlap.
#
# 1. Which baseline that costs nothing is missing?
#    (a) a larger teacher  (b) smoothed labels  (c) an ensemble
# 2. What do you expect of StarKD's 287 errors on new test images?
#    (a) more errors  (b) about the same  (c) fewer errors
# 3. "3, best of 5": what is wrong?
#    (a) nothing, bad runs are outliers  (b) five seeds are too many  (c) lucky runs were selected, for one method only
# 4. What would you need for the interval of the difference between StarKD and soft targets?
#    (a) the mean of both standard deviations  (b) the differences seed by seed  (c) one more decimal place
# 5. Which control answers the sentence about 40 epochs?
#    (a) soft targets for 40 epochs  (b) StarKD for 60 epochs  (c) none, each method has what it needs
#
# Write the five letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# The chapter's drawing has four steps. Which of them does the report leave out?
# </details>
# <details><summary>Hint 2</summary>
#
# Two students of one seed share their luck. What remains of it in their difference?
# </details>
#
# **Reference** Chapter 10, "Choose on one set, report on another"; chapter 02, paired differences.

# %% solution="task1_answers"
answers = [None, None, None, None, None]
### BEGIN SOLUTION
answers = ["b", "a", "c", "b", "a"]
### END SOLUTION

# %% check="task1_check" points=4
check_report_questions(answers)

# %% [markdown] locked="task2_text"
# ## Task 2: has the gain changed?
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Compare two gains, instead of two words.
#
# "With few labels the teacher helps, with many the result is unclear. So the gain depends on the number of labels." That does not follow: one interval may end
# just left of 0, the other just right of it, and the two gains may be the same.
#
# Write `change_of_gain(taught_few, plain_few, taught_many, plain_many)`. Each argument is a list of test errors, one for each seed, in the same order
# of seeds. The gain with few labels is `taught_few` minus `plain_few`, the gain with many labels likewise. Return the mean and both ends of the 95 % interval of
# the **gain with few labels minus the gain with many**, as `(mean, low, high)`.
#
# For example, gains of −60, −50, −40 with few labels and −20, −20, −20 with many give differences of −40, −30, −20: the mean is −30, the interval
# from −54.8 to −5.2.
#
# <details><summary>Hint 1</summary>
#
# Four runs of a seed make one number. How many numbers does the interval have?
# </details>
# <details><summary>Hint 2</summary>
#
# `mean_interval` takes a list of numbers and returns the mean and both ends.
# </details>
#
# **Reference** Chapter 10, from an interval to a word; the ledger's row on the gain and the number of labels.


# %% solution="task2_change_of_gain"
def change_of_gain(taught_few, plain_few, taught_many, plain_many):
    ### BEGIN SOLUTION
    runs = zip(taught_few, plain_few, taught_many, plain_many, strict=True)
    return mean_interval([(a - b) - (c - d) for a, b, c, d in runs])
    ### END SOLUTION
    raise NotImplementedError("Task 2: change_of_gain is not written yet")


# %% check="task2_check" points=4
check_change_of_gain(change_of_gain)
### BEGIN HIDDEN TESTS
check_change_of_gain(change_of_gain, seed=2010)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: how many pairs?
#
# **Minutes** 13 · **Difficulty** 4/5 · **Importance** 4/5 · **Points** 4
#
# **Objective** Plan a comparison before you pay for it.
#
# A small pilot has given a few paired differences. Their standard deviation $s$ (the one with $n - 1$) says how much a difference varies. With $n$ new pairs the interval will
# reach about $t_{n-1} \, s / \sqrt n$ to each side of the mean. We want that to be **below** the smallest effect of interest.
#
# Write `plan(differences, *, smallest_effect, seconds, budget)`. A pair takes `seconds` seconds, and there are `budget` seconds in all. Find the smallest
# $n \ge 2$ that is enough.
#
# - If it can be paid for, return `(n, True)`.
# - If not, return `(m, False)`, where `m` is the number of whole pairs that can be paid for.
#
# For example, $s = 12$ and a smallest effect of 15 need 5 pairs, because $t_4 \cdot 12 / \sqrt 5 = 14.9$. With 4 pairs it would be 19.1.
#
# <details><summary>Hint 1</summary>
#
# `statistics.stdev(differences)` is $s$, and `t_quantile(0.95, n - 1)` is $t_{n-1}$.
# </details>
# <details><summary>Hint 2</summary>
#
# $t$ depends on $n$ itself, so try one $n$ after the other.
# </details>
#
# **Reference** Chapter 10, "Think, then try", question 2; Student (1908).


# %% solution="task3_plan"
def plan(differences, *, smallest_effect, seconds, budget):
    ### BEGIN SOLUTION
    affordable = int(budget // seconds)
    deviation = statistics.stdev(differences)
    for pairs in range(2, affordable + 1):
        if t_quantile(0.95, pairs - 1) * deviation / math.sqrt(pairs) < smallest_effect:
            return pairs, True
    return affordable, False
    ### END SOLUTION
    raise NotImplementedError("Task 3: plan is not written yet")


# %% check="task3_check" points=4
check_plan(plan)
### BEGIN HIDDEN TESTS
check_plan(plan, seed=2010)
### END HIDDEN TESTS

# %% [markdown] locked="task4_text"
# ## Task 4: a claim of your own
#
# **Minutes** 15 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Write a claim that can turn out wrong, pay for it, and accept the answer.
#
# You have a student 784-32-10, 500 labelled images, the course's teacher, and **30 students**. Each seed trains three of them: one that is taught with your $T$ and
# $\alpha$, one on labels (`no_teacher`), one on smoothed labels (`label_smoothing`). The seeds 100 and 101 were used to choose, so they must not
# report.
#
# Fill in `claim` before you run anything: your setting, the baseline that it is measured against, a list of seeds (five or more), the smallest effect of interest in errors of
# 2,000, and what you expect: `"better"`, `"worse"` or `"too small to matter"`. Then run the cell below it and look at the interval.
#
# Set `word` to what the rule of chapter 10 makes of the interval, and `judgement` to what that means for your claim:
# `"confirmed"`, `"refuted"` or `"open"`. All three give full points. A claim that turns out wrong is as good as another.
#
# <details><summary>Hint 1</summary>
#
# For example, that $T = 4$ with $\alpha = 0.7$ is better than smoothed labels. How many errors of 2,000 would you care about?
# </details>
# <details><summary>Hint 2</summary>
#
# An unclear interval leaves the claim open. Any other word than the expected one refutes it.
# </details>
#
# **Reference** Chapter 10, from an interval to a word.

# %% solution="task4_claim"
claim = {
    "temperature": None,
    "alpha": None,
    "baseline": None,
    "seeds": None,
    "smallest_effect": None,
    "expects": None,
}
### BEGIN SOLUTION
claim = {
    "temperature": 4.0,
    "alpha": 0.7,
    "baseline": "label_smoothing",
    "seeds": [0, 1, 2, 3, 4, 5],
    "smallest_effect": 10,
    "expects": "better",
}
### END SOLUTION

# %% check="task4_claim_check" points=2
check_claim(claim)

# %% locked="task4_runs"
mnist = load_mnist()
few, test = mnist.train.take(500), mnist.test.take(2000)
logits = predict_logits(zoo.load("teacher_mlp"), few.images)
runs = sweep(
    make_student=lambda: make_mlp(32),
    data={"train": (*few, logits), "test": test},
    temperature=claim["temperature"],
    alpha=claim["alpha"],
    seeds=claim["seeds"],
    epochs=20,
    batch_size=50,
    lr=1e-2,
    progress=False,
)
by_arm = {arm: rows.sort_values("seed").test_errors.tolist() for arm, rows in runs.groupby("arm")}
taught, untaught = by_arm["distilled"], by_arm[claim["baseline"]]
print("distilled", taught, "\n" + claim["baseline"], untaught)
mean, low, high = mean_interval([a - b for a, b in zip(taught, untaught, strict=True)])
print(f"difference {mean:+.1f}, 95 % interval {low:+.1f} to {high:+.1f}")

# %% solution="task4_judgement"
word, judgement = None, None
### BEGIN SOLUTION
word = word_of(low, high, smallest_effect=claim["smallest_effect"])
judgement = "confirmed" if word == claim["expects"] else "open" if word == "unclear" else "refuted"
### END SOLUTION

# %% check="task4_check" points=3
check_own_claim(claim, taught, untaught, word=word, judgement=judgement)
