# %% [markdown]
# # Best practices
#
# Somebody has a large network, wants a small one, and looks for advice. There is plenty: *start with T from 4 to 8*, *add intermediate
# features*, *let T fall during training*. Most of it was never tested where you are going to use it. In this course every such sentence was
# written down with a rule. What has been run was run with several seeds and judged by the rule. Some of it is worth 80 errors of 10,000.
# Some of it is the wrong way round.
#
# This chapter has the answers on **one page that you can print**. It also shows how an answer comes about, so that you can judge the next
# piece of advice yourself, and on your own data.
#
# **You will be able to**
# - say for each common piece of advice that was run whether it held here, by how much, and where the evidence is;
# - choose settings without fooling yourself, and turn an interval into a word by a rule;
# - tell which of these answers would not carry over to large data;
# - read a comparison and see what is missing.
#
# **You need** chapter 02; the other chapters are where most numbers come from. **Time** about 60 minutes; the machine needs about one.
#
# Symbols: $T$ [temperature](glossary:temperature); $\alpha$ the [teacher's share](glossary:alpha).

# %%
from collections import Counter

import pandas as pd
import torch
import torch.nn.functional as F

from kdcourse import plots, zoo
from kdcourse.checks import check
from kdcourse.data import load_mnist
from kdcourse.guide import read_guide
from kdcourse.models import make_mlp
from kdcourse.plots import show
from kdcourse.plots.drawings import draw_cheat_sheet, draw_verdict
from kdcourse.records import read_record
from kdcourse.results import mean_interval
from kdcourse.sweeps import compare, in_words, sweep
from kdcourse.training import pick_device, predict_logits
from kdcourse.widgets import HeatMap, guess

# %%
draw_verdict()

# %% [markdown]
# First a claim is written down, together with its **rule**: what it is compared with, how many seeds there will be, and the [smallest effect
# of interest](glossary:smallest-effect-of-interest), here mostly 15 errors of 10,000. Then pairs of students are trained. The two of a pair share a
# [seed](glossary:seed), so that luck cancels. Their differences give a [confidence interval](glossary:confidence-interval), and where it lies
# decides the word.
#
# All claims together are the [ledger](glossary:ledger). Here is the part of it about schedules. Guess before you look.

# %%
guess("10.wrong-way")

# %% tags=["plumbing"]
ledger = pd.DataFrame(read_record("ledger")["rows"]).set_index("name")


def judged(*names):
    """The effects of some rows of the ledger, as one table."""
    rows = [
        dict(effect, row=name, arm=name, verdict=ledger.verdict[name])
        for name in names
        for effect in ledger.effects[name]
        if effect["decides"]
    ]
    return pd.DataFrame(rows)


# %%
schedules = judged("T rises", "T falls", "alpha rises", "five stages")
print(
    schedules[["row", "verdict", "difference", "low", "high", "n"]].round(1).to_string(index=False)
)
show(plots.intervals(schedules.drop(columns="baseline"), smallest_effect=15), alt="10.one-row")

# %% tags=["claims"]
by_row = schedules.set_index("row")
assert (by_row.high[["T rises", "alpha rises"]] < -15).all()
assert abs(by_row.difference["alpha rises"] + 80) < 5
assert abs(by_row.difference["T rises"] + 60) < 5
assert (by_row.low[["T falls", "five stages"]] > 0).all()
assert set(by_row.verdict[["T rises", "alpha rises"]]) == {"holds"}
assert set(by_row.verdict[["T falls", "five stages"]]) == {"does not hold here"}

# %% [markdown]
# A rising $\alpha$ makes about 80 errors fewer than the best $\alpha$ that stands still. A rising $T$ makes about 60 fewer. A falling $T$ is worse
# than one that stands still. The popular recipe of five stages combines a rising $\alpha$ with a falling $T$, and it is worse than constants.
#
# ## The map of T and α
#
# $T$ and $\alpha$ are the two knobs that everybody must set. So let us look at all of their settings at once, for one small student: two hidden layers of 64
# units and 1,000 labelled images.

# %%
device = pick_device()
mnist = load_mnist(device=device)
few, held_out, test = mnist.train.take(1000), mnist.held_out.take(1000), mnist.test.take(2000)
teacher_logits = predict_logits(zoo.load("hinton_teacher", device=device), few.images)
settings = dict(
    make_student=lambda: make_mlp(64, 64).to(device),
    data={"train": (*few, teacher_logits), "held_out": held_out, "test": test},
    epochs=18, batch_size=50, lr=3e-3, progress=False,
)  # fmt: skip
CHOOSING, REPORTING = (100, 101), range(5)

# %% [markdown]
# The map is filled by two seeds, which count errors on *held-out* images. We call them the seeds that choose. Other seeds will report. The cell below
# trains the two baselines, which are the lines that a setting has to beat.


# %%
def measure(temperature, alpha):
    runs = sweep(temperature=temperature, alpha=alpha, seeds=CHOOSING, baselines=[], **settings)
    return {"held-out errors of 1,000": runs.held_out_errors.mean()}


usual = sweep(temperature=4.0, alpha=0.7, seeds=CHOOSING, **settings)
means = usual.groupby("arm", sort=False).held_out_errors.mean()
baselines = {"plain": means["no_teacher"], "smoothed": means["label_smoothing"]}
print(f"plain {baselines['plain']:.1f}, smoothed labels {baselines['smoothed']:.1f}, ", end="")
print(f"T = 4 and α = 0.7: {means['distilled']:.1f} held-out errors")

# %% [markdown]
# **Run the notebook up to the next cell and press ▶.** Each tick trains one setting. Look at two things: in which direction do the numbers fall? And how
# much does a column differ from its neighbour, compared with a row?

# %%
TEMPERATURES, ALPHAS = (1, 2, 4, 8, 20), (0.3, 0.6, 0.9)
heat_map = HeatMap(measure, TEMPERATURES, ALPHAS, baselines=baselines)
heat_map

# %% [markdown]
# Without a running kernel, this is the same map when it is full:

# %%
full_map = HeatMap(measure, TEMPERATURES, ALPHAS, baselines=baselines)
full_map.step(len(TEMPERATURES) * len(ALPHAS))
show(full_map.canvas.figure, alt="10.map")
best_temperature, best_alpha = full_map.best()
print(f"fewest held-out errors: T = {best_temperature}, α = {best_alpha}")

# %% tags=["plumbing"]
full_map.close()
errors = pd.Series(
    {knobs: values["held-out errors of 1,000"] for knobs, values in full_map.values.items()}
)
by_temperature, by_alpha = errors.groupby(level=0).mean(), errors.groupby(level=1).mean()
rows, columns = by_temperature.max() - by_temperature.min(), by_alpha.max() - by_alpha.min()
print(f"from T = 1 to T = 20: {by_temperature[1] - by_temperature[20]:.1f} held-out errors fewer")
print(f"largest difference between rows {rows:.1f}, between columns {columns:.1f}")

# %% tags=["claims"]
assert best_temperature >= 4
assert by_temperature[1] - by_temperature[[8, 20]].mean() > 4
assert rows > columns

# %% [markdown]
# For this student and this teacher the temperature matters far more than $\alpha$: the rows differ, the columns hardly do. One reason is that the teacher is
# very sure of itself. At $T = 1$ its answers are nearly the labels, and then it does not matter whom one listens to.
#
# Is the map the same elsewhere? Ask it the same two questions. `python -m experiments grid` fills it with 25 settings, two shapes of student and two numbers of
# images, eight seeds
# that report.


# %%
def arms_of(cell):  # (T, alpha) from names such as "T = 4, α = 0.5"
    taught = {name: mean for name, mean in cell.items() if name.startswith("T = ")}
    pairs = [name.replace("T = ", "").split(", α = ") for name in taught]
    index = pd.MultiIndex.from_tuples([tuple(map(float, pair)) for pair in pairs])
    return pd.Series(list(taught.values()), index=index).unstack()


recorded = read_record("ledger")["grid"]
for cell, arms in recorded.items():
    table = arms_of(arms)
    names = [f"{temperature:g}" for temperature in table.index]
    ax = plots.matrix(
        table.to_numpy(), rows=names, columns=table.columns, numbers=".0f", label="test errors"
    )
    ax.set(xlabel="α", ylabel="T", title=f"{cell}: plain {arms['plain']:.0f}")
    show(ax, alt="10.recorded-grid")

# %% tags=["claims"]
maps, smoothed = {}, {}
for cell, arms in recorded.items():
    maps[cell], smoothed[cell] = arms_of(arms), arms["smoothed 0.3"]
spread = {
    cell: [means.max() - means.min() for means in (table.mean(axis=1), table.mean(axis=0))]
    for cell, table in maps.items()
}
rows, columns = zip(*spread.values(), strict=True)
assert [round(end) for end in (min(rows), max(rows))] == [54, 410]
assert [round(end) for end in (min(columns), max(columns))] == [2, 24]
for cell, table in maps.items():
    if "300" in cell.split(",")[0]:
        assert (table.loc[[8.0, 20.0]] < smoothed[cell]).all(axis=None)
    else:
        assert (table > smoothed[cell]).all(axis=None)

# %% [markdown]
# The answer to the second question is the same in all four maps: rows differ by 54 to 410 errors, columns by 2 to 24. The answer to the first is not. With two hidden
# layers the errors fall from row to row, and every setting at $T = 8$ and $T = 20$ makes fewer errors than smoothed labels. With one hidden layer and 10,000 images
# the rows hardly differ, and there, as with 2,000 images, smoothed labels (by 0.3) make fewer errors than **every one of the 25 settings**. So a map of $T$ and
# $\alpha$ does not say whether the teacher is worth it. The baseline does.
#
# ## Choose on one set, report on another
#
# Fifteen settings were tried, and the best was taken. That is where honest work goes wrong most often, because the best of many is partly good and partly lucky.

# %%
guess("10.twenty-settings")

# %% [markdown]
# ### Your turn: choose and report
#
# `held_out` and `test` hold errors, a row for each setting and a column for each seed. `plain` holds the test errors of the student without a
# teacher, for the same seeds. The first `choosing` columns may choose: the setting with the fewest **held-out** errors, summed over these
# seeds. Return its **test** errors minus those of `plain`, seed by seed, for the **other** seeds.
#
# For example, with `choosing=2` and five seeds the result holds three differences.


# %%
def choose_and_report(held_out, test, plain, choosing):  # (A, S), (A, S), (S,), a number
    ...


choose_and_report = check("10.choose", choose_and_report)

# %% [markdown]
# Now twenty settings that change nothing, 300 times over. The first line does what many reports do: the same two seeds choose and are reported, and both look at
# test images.

# %%
torch.manual_seed(0)
seemed, honest = [], []
for _ in range(300):
    same, other = torch.normal(200.0, 10.0, (2, 20, 6))  # nothing differs between the settings
    untaught = torch.normal(200.0, 10.0, (6,))
    seemed.append((same[:, :2].mean(dim=1).min() - untaught[:2].mean()).item())
    honest.append(choose_and_report(other, same, untaught, 2).mean().item())
print(f"chosen on test images:    {torch.tensor(seemed).mean():+.1f} errors".replace("-", "−"))
print(f"chosen on held-out, and reported by other seeds: {torch.tensor(honest).mean():+.1f}")

# %% tags=["claims"]
assert -16 < torch.tensor(seemed).mean() < -10
assert abs(torch.tensor(honest).mean()) < 2.5

# %% [markdown]
# Thirteen or fourteen errors out of nothing. That is nearly the 15 errors which most rows of the ledger call the smallest effect of interest. Now our own map:
# the setting that the two seeds have chosen, trained again from
# five new seeds, on test images.

# %%
reported = sweep(temperature=best_temperature, alpha=best_alpha, seeds=REPORTING, **settings)
table = compare(reported, smallest_effect=3)  # 15 errors of 10,000 are 3 of 2,000
print(in_words(table))

# %% tags=["claims"]
against_plain = table[(table.arm == "distilled") & (table.baseline == "no_teacher")]
assert against_plain.difference.item() < -15

# %% [markdown]
# Against smoothed labels, which cost nothing, five seeds may not decide. Then the word is *unclear*, and more seeds are the only way on.
#
# ## From an interval to a word
#
# The printed lines have a word in them. Who decides it? A rule that was there before the run.
#
# ### Your turn: four words
#
# `low` and `high` are the ends of an interval of differences in errors, method minus baseline. `smallest_effect` is the smallest difference
# that anyone would care about. Return
#
# - `"too small to matter"` if the whole interval is closer to 0 than the smallest effect;
# - else `"better"` or `"worse"` if 0 is outside;
# - else `"unclear"`.


# %%
def word(low, high, smallest_effect):  # three numbers -> a word
    ...


word = check("10.word", word)

# %%
rule = pd.DataFrame(
    [(low, high, word(low, high, 15)) for low, high in [(-103, -54), (-34, 15), (-9, 4), (-3, -1)]],
    columns=["low", "high", "word"],
)
print(rule.to_string(index=False))

# %% [markdown]
# The second interval and the third both hold 0. The second is **unclear**: 34 errors fewer are possible, and so are 15 more. The third is an
# answer: whatever the difference is, nobody would notice it. Reports that call both "no significant difference" throw away the better half of what they know. The last
# interval leaves out 0, and still nobody would notice.
#
# ### Your turn: a verdict
#
# A claim is often tested in several *conditions*: two shapes of student, or few and many images. In each there are one or more comparisons, for
# example with plain and with smoothed labels. `conditions` is a list; each condition is a list of pairs `(confirmed, word)`. `confirmed` says whether the
# comparison shows what the claim expects.
#
# A condition is *confirmed* if all of its comparisons are. It is *refuted* if one of them is not confirmed and not unclear. Return
#
# - `"holds"` if all conditions are confirmed;
# - else `"holds here only if"` if some are;
# - else `"does not hold here"` if one is refuted;
# - else `"unclear"`.


# %%
def verdict_of(conditions):  # [[(True, "better"), (False, "unclear")], …]
    ...


verdict_of = check("10.verdict", verdict_of)

# %% [markdown]
# With your rule we judge the whole ledger again, from its recorded effects.


# %%
def conditions_of(effects):
    groups = {}
    for effect in effects:
        groups.setdefault(effect["words"], []).append((effect["confirmed"], effect["word"]))
    return list(groups.values())


was_run = ledger[ledger.verdict != "not run yet"]
mine = was_run.effects.map(conditions_of).map(verdict_of)
counts = Counter(mine)
print("by your rule all verdicts are those of the ledger:", bool((mine == was_run.verdict).all()))

# %% tags=["claims"]
assert (mine == was_run.verdict).all()
assert min(counts["holds"], counts["does not hold here"]) >= 10

# %% [markdown]
# {{ ledger: counts }}
#
# The seed-by-seed differences are in the ledger too, where the record has them. So these intervals can be checked, for example:

# %%
effect = ledger.effects["Hinton: 146 to 74"][0]
mean, low, high = mean_interval(effect["values"])
print(f"{effect['arm']} minus {effect['baseline']}: {effect['values']}")
print(f"{mean:.1f} errors, 95 % interval {low:.1f} to {high:.1f}: {word(low, high, 10)}")

# %% tags=["claims"]
assert abs(low - effect["low"]) < 0.01
assert word(low, high, 10) == effect["word"]

# %% [markdown]
# ## The decision guide
#
# Each answer leads to its row in the ledger, which says what was run, with how many seeds, and against what. *Effect* is the comparison that decides: one
# interval, or the smallest
# and the largest difference where there are several conditions. It is arm minus baseline of the ledger's row, and the advice is not always the arm: at *real
# images first* the other images are. **Not run yet** means that rule and study are written and the record is not there.
#
# ### Is a teacher worth it?
#
# Ask this first, because a teacher costs more than anything else on this page. Smoothed labels cost nothing, so they are the line to beat.
#
# {{ guide: A teacher, or none }}
#
# ### What to distil
#
# Begin with the logits: they need no common layers and no new parts, and everything else is measured beside them.
#
# {{ guide: What to distil }}
#
# ### Temperature
#
# The right $T$ belongs to a teacher and a student, not to a task. If a teacher is very sure, a higher one is needed before its small
# probabilities come into sight.
#
# {{ guide: Temperature T }}
#
# ### The teacher's share
#
# {{ guide: Teacher's share α }}
#
# ### The student
#
# Depth and width are different things, and a count of parameters does not tell them apart.
#
# {{ guide: Student }}
#
# ### The teacher
#
# {{ guide: Teacher }}
#
# ### Data
#
# {{ guide: Data }}
#
# ### Schedule
#
# {{ guide: Schedule }}
#
# ### Language, memory, bits
#
# What a network forgets, and what fewer bits cost, is measured in chapter 12. Errors of a language model are counted on 3,000 definitions.
#
# {{ guide: Language, memory, bits }}
#
# ## One page to print
#
# The same lines as one sheet of A4, from [docs/images/cheat-sheet.svg](../docs/images/cheat-sheet.svg). A printer without colour will do. As a page with links
# it is [docs/cheat-sheet.md](../docs/cheat-sheet.md).

# %%
draw_cheat_sheet(read_guide())

# %% [markdown]
# ## What the advice gets wrong
#
# Most of this advice was given in good faith, and much of it holds. Where it does not, three reasons come back again and again.
#
# **It was true elsewhere.** Features, contrastive losses and born-again networks were tried on CIFAR-100 and ImageNet. Here features instead of the logits are
# worse, CRD beside the logits is worse, and a born-again step gives nothing that matters (its smallest effect was 50 errors; the band below is 15):

# %%
elsewhere = judged("features say more", "CRD beside logits", "born again")
elsewhere["arm"] = elsewhere["row"] + ": " + elsewhere["words"]
show(plots.intervals(elsewhere.drop(columns="baseline"), smallest_effect=15), alt="10.not-carried")

# %% tags=["claims"]
assert (elsewhere.low[elsewhere.row != "born again"] > 0).all()
assert (elsewhere.high > 0).all()

# %% [markdown]
# **A baseline was missing.** Students that teach each other beat a student alone, clearly. They do not beat one that was trained alone on
# smoothed labels:

# %%
for name in ("mutual learning", "mutual learning and smoothing"):
    lines = judged(name)
    print(f"{name}: {ledger.verdict[name]}")
    for line in lines.itertuples():
        print(f"   {line.words}: {line.difference:+.0f} errors [{line.low:+.0f}, {line.high:+.0f}]")

# %% tags=["claims"]
assert (judged("mutual learning").high < -15).all()
assert (judged("mutual learning and smoothing").low > 15).all()

# %% [markdown]
# **The code did something else.** Four lines that are often copied, and what they compute:

# %%
logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
student, teacher = logits.softmax(dim=1)  # two rows of attention, on different words
once = (teacher * (teacher.log() - student.log())).sum()
twice = F.kl_div(student.log_softmax(dim=0), teacher.softmax(dim=0), reduction="sum")
print(f"attention: divergence {once:.2f}, with a second softmax {twice:.2f}")

# %%
torch.manual_seed(0)
anchor, bank = F.normalize(torch.randn(128), dim=0), torch.randn(4096, 128)
for name, rows in {"random": bank, "of unit length": F.normalize(bank, dim=1)}.items():
    scores = torch.cat([torch.ones(1), rows @ anchor]) / 0.07  # the positive is perfect
    loss = F.cross_entropy(scores[None], torch.tensor([0]))
    print(f"contrast: a perfect positive, memory {name}: loss {loss:.2f}")

# %%
scores = torch.zeros(4)  # teacher and student agree exactly
loss = 4 * F.binary_cross_entropy(torch.sigmoid(scores / 2), torch.sigmoid(scores / 2))
print(f"detection: a class term between equal answers, T = 2: {loss:.2f} instead of 0")
stages = [(10 - 9 * stage / 5, 0.5 + 0.5 * stage / 5) for stage in range(5)]
print(f"five stages that lead to T = 1 and α = 1: the last has T = {stages[-1][0]:.1f}, ", end="")
print(f"α = {stages[-1][1]:.1f}")

# %% tags=["claims"]
assert once > 8 > 1 > twice
assert loss > 2.7
assert round(stages[-1][0], 1) == 2.8

# %% [markdown]
# All of them run, and all of them seem to train. The first is inert, the second starts from noise that it must first forget, the third counts agreement as loss, the
# fourth never arrives. `docs/traps.md` has ninety more, each with a test.
#
# ## The small-data pitfall
#
# Nearly everything above was measured on MNIST. What would be different with a million images?

# %%
guess("10.patience")

# %% [markdown]
# | here | with more data, or larger models | so |
# | --- | --- | --- |
# | Students train for about 800 steps. | ImageNet, ResNet-50, teacher and student on the same view: 300 epochs 80.30 %, 1,200 epochs 81.54 %, 9,600 epochs 82.31 % (Beyer et al.). | Our answers on *longer training* say little about really long training. |
# | On the map above a high $T$ helps, and a rising $T$ helps: the teacher is very sure. | ImageNet, ResNet-50 teaches ResNet-18: $T = 1$ 71.49 %, $T = 3$ 69.67 %, $T = 64$ 66.19 % (Chandrasegaran et al., the authors' table). | Do not carry our $T$ over. Carry over that it must be tuned. |
# | CRD is worse than the logits alone. | CIFAR-100, thirteen pairs: CRD makes .4 to 2.4 points more than distilled logits, whose $T$ and $\alpha$ were not tuned (authors' table of CRD). | Features seem to gain where there are many classes and deep networks. |
# | A born-again step gives nothing that matters. | CIFAR-100, DenseNets: .6 to 1.3 points; CIFAR-10: −.2 to +.3. Two seeds of one step differ by .7 points (Furlanello et al.). | Look at the seeds before you believe either. |
# | Clever losses are hard to tell from plain soft targets. | With stronger augmentation and larger data the gap to plain distillation shrinks further; the authors call the opposite belief the *small-data pitfall* (Hao et al.). | This one carries over. |
# | In detection the class term gives most, the pyramid little. | COCO: class predictions through the teacher's head lift a detector from 40.2 to 43.7 AP; copied plainly they are usually behind features (Wang et al.). | The order of terms is a property of the recipe. |
# | The teacher is there. | Language models: with a teacher at hand distillation wins up to a compute level that grows with the student; with a teacher still to be trained, for one student, train the student on the data (Busbridge et al.). | Count the teacher's cost. |
#
# Two things carry over without any change: the two baselines, and the rule that is written before the run.
#
# ## Summary
#
# - A claim, its rule, its baselines and the smallest effect of interest are written down before the run. Then the word is no matter of taste.
# - Choose on held-out images with some seeds, report on test images with others. The best of twenty settings that do nothing seems to be worth thirteen errors.
# - *Unclear* is not *equal*. *Too small to matter* is an answer.
# - Here a rising $\alpha$ and a rising $T$ helped, a falling $T$ did not. Logits were hard to beat by features. Smoothed labels were hard to
#   beat without a teacher.
# - The temperature belongs to a teacher and a student. Tune it, and do not copy it: not from a paper, and not from here.
#
# ## Think, then try
#
# 1. A claim is tested in one condition, against plain and against smoothed labels. It is better than plain, and against smoothed the interval is from −9 to +6 with a
#    smallest effect of 15. What is the verdict?
#
#    <details><summary>Answer</summary>
#
#    *does not hold here*. The second comparison is too small to matter, which is clear and not what the claim expects. `verdict_of([[(True, "better"), (False,
#    "too small to matter")]])` says so.
#
#    </details>
#
# 2. You have money for ten runs, and settings to choose among. How would you spend it?
#
#    <details><summary>One answer</summary>
#
#    For example two settings with one seed each that choose, and eight runs that report: four pairs, the chosen setting and the baseline. More settings would leave too few pairs
#    for an interval of any use. With four pairs the interval reaches 3.2 standard errors to each side, and not 2 as with many.
#
#    </details>
#
# 3. Make the map for a student with one hidden layer, `make_mlp(64)`. Does the same corner win?
#
#    <details><summary>What to expect</summary>
#
#    The best setting may still lie at a high $T$, but it is far less of a gain, and smoothed labels come close. Chapter 02 and `kdcourse distill` show why: one
# hidden layer cannot follow this teacher.
#
#    </details>
#
# More, with checks that know the usual slips: `exercises/ex10_best_practices`.
#
# ## References
#
# - Beyer et al. (2022). *Knowledge distillation: a good teacher is patient and consistent.* [arXiv:2106.05237](https://arxiv.org/abs/2106.05237): the table of ImageNet runs.
# - Chandrasegaran et al. (2022). *Revisiting label smoothing and knowledge distillation compatibility: what was missing?*
#   [arXiv:2206.14532](https://arxiv.org/abs/2206.14532), and the table in the authors' repository.
# - Tian, Krishnan, Isola (2020). *Contrastive representation distillation.* [arXiv:1910.10699](https://arxiv.org/abs/1910.10699), and the table in the authors' repository.
# - Furlanello et al. (2018). *Born-again neural networks.* [arXiv:1805.04770](https://arxiv.org/abs/1805.04770): tables on CIFAR-10 and CIFAR-100.
# - Hao et al. (2023). *VanillaKD: revisit the power of vanilla knowledge distillation from small scale to large scale.* [arXiv:2305.15781](https://arxiv.org/abs/2305.15781).
# - Wang et al. (2023). *CrossKD: cross-head knowledge distillation for object detection.* [arXiv:2306.11369](https://arxiv.org/abs/2306.11369).
# - Busbridge et al. (2025). *Distillation scaling laws.* [arXiv:2502.08606](https://arxiv.org/abs/2502.08606).
