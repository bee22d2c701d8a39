# %% [markdown]
# # Teacher and student
#
# A cook who has learned for twenty years can teach in one year what took her twenty. [Knowledge
# distillation](glossary:knowledge-distillation) tries the same with networks. A large one, the [teacher](glossary:teacher), has been
# trained; a small one, the [student](glossary:student), learns from its answers. Later in this chapter one small network keeps about two thirds of what
# five gain by voting, at a fifth of their cost. To understand why that works, you first look at what a teacher's answers hold.
#
# **You will be able to**
# - read a teacher's probabilities, and say which digits it finds alike;
# - measure the size, computation, speed and errors of a model, and tell them apart;
# - compare a student with two baselines, over several seeds;
# - name three further uses of a teacher, and what each of them does not give.
#
# **You need** chapter 00. **Time** about 50 minutes; the machine needs about one.

# %%
import copy

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical
from torch.utils.benchmark import Timer

from kdcourse import plots, zoo
from kdcourse.checks import check
from kdcourse.data import load_mnist, minibatches
from kdcourse.losses import kd_loss, soften
from kdcourse.models import count_parameters, make_mlp, make_student_mlp, size_in_bytes
from kdcourse.objectives import label_objective
from kdcourse.plots import show
from kdcourse.plots.drawings import draw_teacher_and_student
from kdcourse.sweeps import compare, format_comparison, in_words, sweep
from kdcourse.training import pick_device, predict_logits
from kdcourse.widgets import TemperatureExplorer, guess

# %%
draw_teacher_and_student()

# %% [markdown]
# ## The teacher
#
# It comes trained: 784 pixels, hidden layers of 1024, 512 and 256 units, ten answers. Such a network, in which each unit is
# connected to all units of the layer before, is called an [MLP](glossary:mlp). It learned from 55,000 images. We ask it about
# the 5,000 [held-out](glossary:held-out-images) ones, which it has never seen, so it cannot have learned them by heart.

# %%
device = pick_device()
mnist = load_mnist(device=device)
teacher = zoo.load("teacher_mlp", device=device)
images, labels = mnist.held_out
logits = predict_logits(teacher, images)  # (5000, 10)
wrong = logits.argmax(dim=1) != labels
sure = soften(logits, temperature=1).amax(dim=1).mean()
print(f"wrong on {wrong.sum()} of {len(labels):,} held-out digits")
print(f"mean probability of its answer: {sure:.3f}")

# %% tags=["claims"]
assert wrong.sum() < 75
assert sure > 0.98

# %% [markdown]
# It is wrong on about one digit in a hundred, and it is nearly always sure. For each image it gives ten
# [logits](glossary:logits), and the [softmax](glossary:softmax) turns them into ten probabilities: `soften` with `temperature=1`. Here are the ten digits on which
# it is least sure. Under each stands its label, then the teacher's answer.

# %%
order = soften(logits, temperature=1).amax(dim=1).argsort()
captions = [f"label {labels[i]} → {logits[i].argmax()}" for i in order[:10]]
ax = plots.digit_grid(images[order[:10]], captions=captions, columns=5)
ax.figure.set_size_inches(5.6, 2.9)
show(ax, alt="01.least-sure-digits")

# %% tags=["claims"]
assert wrong[order[:10]].sum() == 5

# %% [markdown]
# Five of the ten answers are wrong. Would you do better?
#
# ## Dark knowledge
#
# A label says "4" and nothing else. The teacher's nine other probabilities say which wrong answers are nearly right. They are
# tiny. So we divide the logits by a [temperature](glossary:temperature) $T$ before the softmax: at $T = 4$ they become visible.
# Geoffrey Hinton, who made the method known, calls what they hold [dark knowledge](glossary:dark-knowledge).
#
# ### Your turn: the mean answer for each digit
#
# Which digits does the teacher find alike? `soft` holds its softened answers, shape (N, 10), and `labels` the right digits, shape
# (N,). Write a function that returns ten rows, shape (10, 10): row $d$ is the mean of the answers to all images whose label is $d$.
#
# For example, suppose only two images are labelled 6, and class 2 gets 0.02 from one and 0.04 from the other. Then row 6 has 0.03 in column 2.


# %%
def mean_answers(soft, labels):  # (N, 10), (N,) -> (10, 10)
    ...


mean_answers = check("01.mean-answers", mean_answers)

# %% [markdown]
# Before you see the rows:

# %%
guess("01.not-symmetric")

# %%
soft = soften(logits, temperature=4)  # (5000, 10)
alike = mean_answers(soft, labels)  # (10, 10): label, answer
alike.fill_diagonal_(float("nan"))  # about 0.9, and would hide the rest
ax = plots.matrix(alike, rows=range(10), columns=range(10), label="mean probability at T = 4")
ax.set(xlabel="probability of", ylabel="label")
show(ax, alt="01.dark-knowledge")

# %% tags=["claims"]
assert 0.033 < alike[5, 3] < 0.039
assert 0.014 < alike[3, 5] < 0.02
assert {divmod(i, 10) for i in alike.nan_to_num().flatten().topk(3).indices.tolist()} == {
    (9, 4),
    (5, 3),
    (8, 3),
}

# %% [markdown]
# Read a row: shown a 5, the teacher sees some 3 in it, 3.6 % on average. Shown a 3, it sees only 1.7 % of 5. Nobody told it that 3 and
# 5 are alike, because labels do not say so. Is it true? Ask another network, one of another kind: a convolutional network
# ([CNN](glossary:cnn)), trained independently, on images that were shifted a little. Does it confuse the pairs that the first teacher finds alike?

# %%
cnn = zoo.load("teacher_cnn", device=device)
answers = predict_logits(cnn, images).argmax(dim=1)  # (5000,)
missed = answers != labels
pairs = labels[missed] * 10 + answers[missed]  # label 5 taken for 3: 53
confused = pairs.bincount(minlength=100).view(10, 10).float()
others = ~torch.eye(10, dtype=torch.bool, device=device)
correlation = torch.corrcoef(torch.stack([alike[others], confused[others]]))[0, 1]
print(f"the CNN makes {missed.sum()} errors, on {(confused > 0).sum()} of 90 pairs")
print(f"correlation with the matrix: {correlation:.2f} (0: no relation, 1: perfect)")

# %% tags=["claims"]
assert 25 < missed.sum() < 35
assert 0.3 < correlation < 0.7

# %% [markdown]
# The two agree, roughly: what one teacher finds alike, another one confuses. Its errors concern some thirty images. The soft answers say
# something about every one of the 5,000, and a student can learn from each. That is the idea of the whole course: **an answer in ten
# numbers can teach more than an answer in one.**
# Whether it does so in practice is a question for measurement.

# %% [markdown]
# ## Temperature, by hand
#
# How soft is soft? [Entropy](glossary:entropy) measures in nats how unsure a row of probabilities is. The number
# $e^{\text{entropy}}$ is easier to read: a row with the value 3 is as unsure as one that wavers between three equally likely classes.

# %%
guess("01.wavers-at-20")


# %%
def unsure(temperature):
    entropies = Categorical(logits=logits / temperature).entropy()  # (5000,) nats
    return entropies.mean().exp().item()


temperatures = [0.5, 1, 2, 3, 4, 6, 8, 12, 16, 20]
ax = plots.curve(temperatures, [unsure(t) for t in temperatures], role="teacher", marker="o")
ax.set(xlabel="temperature T", ylabel="equally likely classes", ylim=(0, 10))
ax.set_xticks([1, 4, 8, 12, 16, 20])
show(ax, alt="01.unsure-against-temperature")

# %% tags=["claims"]
assert 1 < unsure(1) < 1.05
assert 1.45 < unsure(4) < 1.6
assert 3.8 < unsure(8) < 4.1
assert 8.55 < unsure(20) < 8.7

# %% [markdown]
# At $T = 4$, which the matrix uses, the teacher wavers between 1.5 digits; at $T = 8$ between 4; at $T = 20$ between 8.6.
#
# Now for one digit: the 3 whose answer is least sure.

# %%
least_sure = next(i for i in order if labels[i] == 3)
bars = {f"T = {t}": soften(logits[least_sure], temperature=t) for t in (1, 4, 20)}
ax = plots.probability_bars(bars)
ax.set_xticks(range(10), [*"012", "3\nlabel", *"456789"])
beside = ax.inset_axes([1.0, 0.25, 0.2, 0.6])
plots.digit_grid(images[least_sure][None], captions=["label 3"], ax=beside)  # the digit itself
show(ax, alt="01.unclear-three")

# %% [markdown]
# What does a student learn from this answer? One step of training pushes its logits in the direction $T\,(p - q)$. This is minus the gradient of the loss that
# chapter 02 builds. Here $p$ is the teacher's row and $q$ the student's. A student that knows nothing has $q = 0.1$ everywhere. For the
# label alone, $p$ is 1 for the labelled digit and 0 elsewhere, and $T = 1$.

# %%
p = soften(logits[least_sure], temperature=4)  # (10,)
label_alone = F.one_hot(labels[least_sure], 10) - 0.1
dots = {"linestyle": "", "markersize": 8}
ax = plots.curve(range(10), 4 * (p - 0.1), role="kd", label="soft target, T = 4", **dots)
plots.curve(range(10), label_alone, role="ce", label="label alone", ax=ax, **dots)
ax.axhline(0, color=plots.INK, linewidth=0.8)
ax.set(xticks=range(10), xlabel="class", ylabel="push on the logit", ylim=(-0.5, 1.5))
show(ax, alt="01.push-on-logits")

# %% tags=["claims"]
assert p.topk(3).indices.tolist() == [8, 9, 3]

# %% [markdown]
# The label lifts one logit by 0.9 and lowers each of the nine others by 0.1. The soft target lifts all three digits that this could
# be. It lifts 8 and 9 more than 3, because the teacher takes this digit for an 8. **A student learns from the teacher's doubts, and
# from its mistakes too.**
#
# Now move $T$ yourself, and choose a digit and an example. In the middle is the softened answer, on the right the push on a student that
# knows nothing; the dashes are the label alone. The explorer opens on another 3, the one whose answer at $T = 4$ is the most level.
# Run the notebook **up to the next cell**, because a kernel that is busy answers no slider. Drag $T$ down to 1: 3 and 5 have nearly
# everything. Then go up slowly and watch the 9.

# %%
explorer = TemperatureExplorer(teacher, mnist.held_out, temperature=4.0)
explorer

# %% tags=["claims"]
threes = logits[labels == 3]
most_level = threes[Categorical(logits=threes / 4).entropy().argmax()]
at_1, at_4, at_20 = (soften(most_level, temperature=t) for t in (1, 4, 20))
assert at_1[[3, 5]].sum() > 0.94
assert 0.025 < at_1[9] < 0.035
assert 0.115 < at_4[9] < 0.125
assert 0.105 < at_20[9] < 0.115

# %% [markdown]
# <details><summary>What becomes of the 9</summary>
#
# At $T = 1$ the 9 has 3 %, at $T = 4$ it has 12 %: now three digits are in sight. A still higher temperature lifts all ten, so at
# $T = 20$ the 9 has 11 %, close to the tenth that each would have if all were alike.
#
# </details>

# %% [markdown]
# ## What a student saves
#
# One often reads: a teacher is large, accurate, slow and expensive; a student is small, nearly as accurate, fast and cheap. We put
# numbers to these words, for both teachers and a student. *Size* is parameters and bytes. *Speed* is images per second, 200 images at a
# time, on the processor.

# %%
guess("01.cnn-speed")

# %% [markdown]
# *Cost* is [multiply-adds](glossary:multiply-add), the computation for one image.
#
# ### Your turn: what a layer costs
#
# Each number that leaves a layer is a sum of products: one multiply-add for each weight in one row of the layer's `weight`. For example, a layer from
# 784 to 128 units gives 128 numbers, and each takes 784 multiply-adds: that is 128 · 784 = 100,352.
#
# A convolution works the same way. One number of its output takes one multiply-add for each weight in `layer.weight[0]`. For example, a
# 3 × 3 convolution from 1 to 16 channels on 28 × 28 pixels gives 16 · 28 · 28 = 12,544 numbers, and each takes 9.
#
# Write the count for one layer and its `output` for one image. The output has a batch dimension of 1: its shape is (1, 128) in the first
# example, (1, 16, 28, 28) in the second. Leave the bias out, as is usual.


# %%
def multiply_adds(layer, output):  # nn.Linear or nn.Conv2d, its output for one image -> int
    ...


multiply_adds = check("01.multiply-adds", multiply_adds)

# %% [markdown]
# To see the output of *every* layer we use **hooks**: functions that PyTorch calls whenever a layer has computed something. Chapter 03
# uses them again.


# %%
def count_multiply_adds(model):
    counts = []

    def hook(layer, inputs, output):
        counts.append(multiply_adds(layer, output))

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    predict_logits(model, images[:1])
    for handle in handles:
        handle.remove()
    return sum(counts)


# %%
def images_per_second(model):
    on_cpu, some = copy.deepcopy(model).cpu(), images[:200].cpu()
    with torch.inference_mode():
        timer = Timer("on_cpu(some)", globals={"on_cpu": on_cpu, "some": some})
        seconds = timer.blocked_autorange(min_run_time=0.5)  # on one core
    return len(some) / seconds.median


models = {
    "MLP teacher": teacher,
    "CNN teacher": cnn,
    "student": make_student_mlp().to(device).eval(),
}
table = pd.DataFrame(index=models)
table["parameters"] = [count_parameters(model) for model in models.values()]
table["kilobytes"] = [size_in_bytes(model) // 1000 for model in models.values()]
table["multiply-adds"] = [count_multiply_adds(model) for model in models.values()]
speeds = [images_per_second(model) for model in models.values()]
table["images/s"] = [float(f"{speed:.1g}") for speed in speeds]  # one digit: it wavers
table.map("{:,.0f}".format)

# %% tags=["claims"]
size, work, speed = table["parameters"], table["multiply-adds"], table["images/s"]
assert 20 < size["MLP teacher"] / size["CNN teacher"] < 21
assert 4 < work["CNN teacher"] / work["MLP teacher"] < 6
assert 1.5 * speed["CNN teacher"] < speed["MLP teacher"] < speed["student"]
assert 14 < size["MLP teacher"] / size["student"] < 15
assert 14 < work["MLP teacher"] / work["student"] < 15

# %% [markdown]
# The student has a fourteenth of the first teacher's parameters and of its multiply-adds, and is faster. But the CNN, with a twentieth of
# the first teacher's parameters, does five times the multiply-adds and is the slowest of the three. **Size, cost and speed are three
# different questions.** Ask for the one that you pay for.

# %% [markdown]
# ## What it loses, and what a teacher gives back
#
# *Accuracy* is still missing, because a student must be trained first. We train four kinds of students. Each kind is called an
# [arm](glossary:arm):
#
# - **no teacher**: from the labels alone;
# - **[label smoothing](glossary:label-smoothing)**: from labels made a little soft. 0.1 of the probability is spread evenly over the ten digits,
#   without any knowledge of which are alike;
# - **student of the MLP**: the first teacher's soft answers have the weight 0.9 in the loss, the labels 0.1;
# - **student of the CNN**: the same, with the CNN's answers. Chapter 02 takes this loss apart.
#
# The first two are our [baselines](glossary:baseline): a teacher must give more than both. The soft answers have $T = 8$ here, twice that
# of the matrix. It was picked by hand after a few tries, and on which images is not recorded. So the numbers below may favour both teachers a
# little. All students get the same 2,000 images and the same number of
# steps. Why so few images? The teachers have seen 55,000, so they have something to add; and you need not wait.

# %%
guess("01.which-teacher")

# %% [markdown]
# One run can be luck. So `sweep` trains four students of each kind, from four [seeds](glossary:seed), in 20 passes over the images
# (`epochs`). Before the run we name the [smallest effect of interest](glossary:smallest-effect-of-interest), the smallest difference
# that would matter: 15 errors on the 10,000 test images. An interval that lies wholly between 15 fewer and 15 more, the grey band in the picture
# below, is called "too small to matter".

# %%
SMALLEST, BASELINES = 15, ["no teacher", "label smoothing"]
runs = sweep(
    make_student=make_student_mlp,
    data={"train": mnist.train.take(2000), "test": mnist.test},
    teacher={"MLP": teacher, "CNN": cnn},
    temperature=8,
    alpha=0.9,
    epochs=20,
    lr=3e-3,
    seeds=range(4),
    progress=False,
)
runs["arm"] = runs.arm.str.replace("teacher=", "student of the ").str.replace("_", " ")
by_seed = runs.pivot(index="seed", columns="arm", values="test_errors").rename_axis(columns=None)
by_seed = by_seed[[*BASELINES, "student of the MLP", "student of the CNN"]]
by_seed.assign(**{"the CNN's − no teacher": by_seed["student of the CNN"] - by_seed["no teacher"]})

# %% [markdown]
# These are test errors of 10,000. Each row is a seed: its four students started from the same weights and saw the images in the same
# order. So we subtract within a row. The last column holds four such [paired differences](glossary:paired-difference).
#
# `compare` gives their mean, and a 95 % [interval](glossary:confidence-interval), the range in which the true mean difference may
# well lie. It does so for every arm and both baselines. A method is *clearly* better if the whole interval lies below zero errors.

# %%
comparison = compare(runs, baseline=BASELINES, smallest_effect=SMALLEST)
format_comparison(comparison, digits=0).rename(columns={"test_errors": "errors"})

# %%
ax = plots.intervals(comparison, smallest_effect=SMALLEST)
ax.set(xlabel="difference in test errors (of 10,000)")
show(ax, alt="01.two-teachers")
print(in_words(comparison, ["student of the MLP", "student of the CNN"]))

# %% tags=["claims"]
upper = comparison.set_index(["arm", "baseline"]).high
assert (upper["student of the CNN"] < 0).all()
assert upper["student of the MLP", "label smoothing"] > 0
assert upper["label smoothing", "no teacher"] < 0

# %% [markdown]
# A dot is a mean difference. Left of zero are fewer errors. Where a line crosses zero, these seeds do not decide. The CNN's
# student beats both baselines. The first teacher's student is **not** clearly better than label smoothing, though its teacher
# has twenty times the CNN's parameters.
#
# Why? This table cannot say. The two teachers differ in the kind of network, in their errors, and in the shifted images that only the
# CNN has seen. It does say that a teacher is not good for a student merely because it is large.
#
# The result holds for these settings. Question 2 at the end has others.
#
# How near do the students come to their teachers?

# %%
errors = runs.groupby("arm").test_errors.mean()
for kind in ("MLP", "CNN"):  # the teachers' errors were counted when they were made
    errors[f"the {kind} itself"] = zoo.provenance(f"teacher_{kind.lower()}")["test_errors"]
right = (100 - errors.sort_values(ascending=False) / 100).round(1)
pd.DataFrame({"right, %": right}).rename_axis(None)

# %% tags=["claims"]
assert errors["the MLP itself"] < 140
assert errors["the CNN itself"] < 70
assert errors["student of the CNN"] > 5 * errors["the MLP itself"]

# %% [markdown]
# "Nearly as accurate", one often reads. Not here: the best student still makes more than five times the errors of either
# teacher. It had 2,000 images, and its teacher had 55,000.

# %% [markdown]
# ## Use 1: many models into one
#
# An [ensemble](glossary:ensemble) is several models that vote. It makes fewer errors than its members, and costs as much as all of
# them. Can one student take its place? Suppose five clinics have 1,000 labelled images each, and each trains a small network, with 32
# hidden units. We average the five networks' probabilities. A student of the same size learns these averages, on 4,000 further images
# *without* labels.

# %% [markdown]
# ### Your turn: the vote
#
# `all_logits` has shape (M, N, K): M members, N images, K classes. Return the mean of the members' probabilities, shape (N, K). For
# example, one member gives class 9 the probability 0.7 and another one gives it 0.1: then the vote gives it 0.4.


# %%
def vote(all_logits):  # (M, N, K) -> (N, K)
    ...


vote = check("01.vote", vote)

# %% [markdown]
# Each clinic trains from three seeds, once with labels and once with smoothed labels. `train_alone`, in the collapsed cell, is a `sweep`
# without a teacher.


# %% tags=["plumbing"]
# The networks and the data of the clinics, and training without a teacher.
def make_small():
    return make_mlp(32)


def part_of_train(start, end):
    return {"train": tuple(tensor[start:end] for tensor in mnist.train), "test": mnist.test}


def train_alone(
    data, *, make=make_small, epochs=30, name="no_teacher", baselines=(), seeds=range(3)
):
    return sweep(
        make_student=make, data=data, seeds=seeds, epochs=epochs, lr=3e-3,
        objective={name: label_objective}, baselines=baselines, keep_models=True, progress=False,
    )  # fmt: skip


# %%
data_of_clinics = [part_of_train(1000 * k, 1000 * (k + 1)) for k in range(5)]
clinics = pd.concat([train_alone(data, baselines=["label_smoothing"]) for data in data_of_clinics])
plain = clinics[clinics.arm == "no_teacher"]


def vote_of(seed, images):
    members = [predict_logits(model, images) for model in plain[plain.seed == seed].model]
    return vote(torch.stack(members))  # (5, N, 10) -> (N, 10)


voting = [
    int((vote_of(seed, mnist.test.images).argmax(dim=1) != mnist.test.labels).sum())
    for seed in range(3)
]
print(f"errors of the members: {plain.test_errors.min()} to {plain.test_errors.max()}")
print(f"errors of the votes: {min(voting)} to {max(voting)}")

# %% tags=["claims"]
assert max(voting) < plain.test_errors.min()

# %% [markdown]
# Each vote is better than every one of its members. Now the student. It is as small as one member and takes about as many steps. The
# labels of its 4,000 images are not used: $\alpha = 1$. Besides networks, `sweep` takes logits as a teacher: here the vote's, one set for each
# seed. The vote gives probabilities. The softmax of their logarithms gives them back, so the logarithms serve as logits.
#
# What shall the student be compared with? With the *average* clinic, with and without label smoothing. With the *best* of
# the five, which is chosen by its test errors, and this favours it. And with what nobody in this story may do: pool the five clinics' images, and train one small network on all 5,000.

# %%
further = part_of_train(5000, 9000)
opinions = [vote_of(seed, further["train"][0]).log() for seed in range(3)]
distilled = sweep(
    make_student=make_small, data=further, seeds=range(3), epochs=8, lr=3e-3,
    teacher=torch.stack(opinions), temperature=2, alpha=1.0, baselines=(), progress=False,
)  # fmt: skip
pooled = train_alone(part_of_train(0, 5000), epochs=6, name="all images pooled")

# %% tags=["plumbing"]
# The errors of all, in one table with a row for each arm and seed.
COLUMNS = ["arm", "seed", "test_errors"]
words = {"no_teacher": "average clinic", "label_smoothing": "average clinic, smoothed"}
average = clinics.replace({"arm": words}).groupby(["arm", "seed"], sort=False).test_errors.mean()
best = plain.groupby("seed").test_errors.min().reset_index().assign(arm="best clinic")
votes = pd.DataFrame({"arm": "vote of five", "seed": range(3), "test_errors": voting})
everybody = [average.reset_index(), best, distilled.assign(arm="student"), votes, pooled]
together = pd.concat([part[COLUMNS] for part in everybody])

# %%
comparison = compare(together, baseline=[*words.values(), "best clinic"], smallest_effect=SMALLEST)
format_comparison(comparison, digits=0).rename(columns={"test_errors": "errors"})

# %%
cost = count_multiply_adds(make_small().to(device))
print(f"multiply-adds for an image: five clinics {5 * cost:,}, student {cost:,}")
print(in_words(comparison, "student"))

# %% tags=["claims"]
errors = together.groupby("arm").test_errors.mean()
assert (comparison[comparison.arm == "student"].high < 0).all()
lead = errors["average clinic"] - errors["vote of five"]
assert 0.2 < (errors["student"] - errors["vote of five"]) / lead < 0.5
assert errors["all images pooled"] < errors["student"]
assert errors["average clinic, smoothed"] - errors["average clinic"] > 10

# %% [markdown]
# One small network, at a fifth of the vote's cost, clearly beats the average clinic, with label smoothing or without, and also the best
# of the five. About a third of the vote's lead over the average clinic is lost. Label smoothing, so good above, makes the clinics'
# smaller networks worse: a baseline can also lose. And look at the last row of the table before you distil: where data may be pooled, an
# ordinary network on all labels is the baseline to beat.

# %% [markdown]
# ## Use 2: data that must stay where it is
#
# A hospital may not give away its images, nor their labels. It trains a teacher inside. Outside there are public images that nobody
# has labelled, and the teacher's answers to these images train a student. One part of MNIST plays the hospital, another part of the same size the
# public.

# %%
guess("01.no-label-at-all")


# %%
def make_middle():
    return make_mlp(64)


inside = train_alone(part_of_train(0, 2000), make=make_middle, epochs=20, name="teacher inside")
public = part_of_train(2000, 4000)
answers = [predict_logits(model, public["train"][0]) for model in inside.model]
outside = sweep(
    make_student=make_middle, data=public, seeds=range(3), epochs=20, lr=3e-3,
    teacher=torch.stack(answers), temperature=4, alpha=1.0, progress=False,
)  # fmt: skip
outside["arm"] = outside.arm.replace("distilled", "student outside").str.replace("_", " ")

# %%
both = pd.concat([outside[COLUMNS], inside[COLUMNS]])
comparison = compare(both, baseline=["teacher inside", *BASELINES], smallest_effect=SMALLEST)
print(in_words(comparison, "student outside"))
format_comparison(comparison, digits=0).rename(columns={"test_errors": "errors"})

# %% tags=["claims"]
student_errors = outside[outside.arm == "student outside"].test_errors
assert 900 < student_errors.mean() < 1300
assert 1 < student_errors.mean() / inside.test_errors.mean() < 1.25

# %% [markdown]
# The student gets nearly nine of ten digits right, without one label. It makes more errors than the teacher inside, but less than a quarter more.
# The two baselines do what the story forbids: they learn from the public images' *labels*. They show what labels would have been worth.
#
# > **This is no privacy guarantee.** The teacher's answers depend on its private images, and nothing here limits how much they give
# > away about one of them. With enough answers, somebody may find out whether a certain image was among them. A guarantee needs noise added
# > to the answers and a limit on how many are given. PATE does this, with many teachers, like our clinics.

# %% [markdown]
# ## Use 3: smoother gradients?
#
# Soft targets are said to give smoother gradients. Each batch gives a different gradient. The less these gradients scatter around their
# mean, the more reliable each step. So we take *three* students after a short training, and compute for each the gradients of 62 batches
# of 64 held-out images. The measure is the [gradient noise](glossary:gradient-noise): their scatter divided by the squared length of
# their mean. It does not change if a loss is multiplied by a number.

# %%
guess("01.noise-at-1")

# %% [markdown]
# Two collapsed cells hold the measure and the short training. The table below has four rows. The last is a control: a *fake* teacher
# that knows only the label, with logit 12 for the label and 0 for the others. At $T = 4$ that is a probability of 0.69 for the label and
# 0.03 for each other digit: label smoothing, in fact. If it does as well, then it is not the teacher's knowledge that smooths.


# %% tags=["plumbing"]
# The gradient noise of one student, from 62 batches.
def gradient_noise(student, loss, targets, size=64):
    batches = list(zip(images[:3968].split(size), targets[:3968].split(size), strict=True))
    parameters = list(student.parameters())
    gradients = [torch.autograd.grad(loss(student(x), y), parameters) for x, y in batches]
    flat = [torch.cat([part.flatten() for part in gradient]) for gradient in gradients]
    rows = torch.stack(flat)  # (62, parameters)
    scatter = rows.var(dim=0).sum()
    mean_squared = rows.mean(dim=0).square().sum()
    mean_squared -= scatter / len(rows)  # what the scatter adds to it
    return (scatter / mean_squared).item()


# %% tags=["plumbing"]
# A student after one pass over 5,000 images, and soft targets as a loss.
def trained_for_a_moment(seed):
    torch.manual_seed(seed)
    student = make_small().to(device)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    order = torch.Generator().manual_seed(seed)
    for some, their_labels in minibatches(*mnist.train.take(5000), generator=order):
        optimizer.zero_grad()
        F.cross_entropy(student(some), their_labels).backward()
        optimizer.step()
    return student


def at(temperature):
    return lambda student_logits, targets: kd_loss(student_logits, targets, temperature=temperature)


# %%
fake = 12.0 * F.one_hot(labels, 10)
ways = {"labels": (F.cross_entropy, labels)}
ways |= {f"teacher, T = {t}": (at(t), logits) for t in (1, 4)}
ways |= {"fake teacher, T = 4": (at(4), fake)}
students = [trained_for_a_moment(seed) for seed in range(3)]
noise = pd.DataFrame(
    {name: [gradient_noise(student, *way) for student in students] for name, way in ways.items()}
)
noise.T.rename(columns="student {}".format).assign(mean=noise.mean()).round(1)

# %% tags=["claims"]
against_labels = noise.mean() / noise["labels"].mean()
assert 0.75 < against_labels["teacher, T = 1"] < 1.25
assert 0.09 < against_labels["teacher, T = 4"] < 0.18
assert 0.14 < against_labels["fake teacher, T = 4"] < 0.28
assert soften(fake, temperature=4).amax(dim=1).sub(0.69).abs().max() < 0.005

# %% [markdown]
# At $T = 1$ little changes. At $T = 4$ the gradients have about an eighth of the noise. With the *fake* teacher, which knows only the
# label, they have about a fifth. So **much of the smoothness comes from the temperature**: it asks all ten logits for a value on every
# image, also long after the answer is right.
#
# The rest may be knowledge, or only the size of this teacher's logits. And a smoother gradient is not yet a better student. What
# counts are the errors above.

# %% [markdown]
# ## Summary
#
# - A teacher's softened probabilities say which classes are alike; they agree roughly with the errors of another network.
# - Size, cost, speed and accuracy are four measurements. A network with fewer parameters can be the slower one.
# - A teacher must beat label smoothing, not only "no teacher". Not every teacher does, and its size does not decide.
# - A student can replace an ensemble, or a teacher whose data stay inside. In the first case some accuracy is lost; in the second, privacy is not guaranteed.
# - Gradients are smoother at a higher temperature, with a teacher or without.
#
# ## Think, then try
#
# The answers were measured as in this chapter: errors on the 10,000 test images, 8 seeds, paired, with 95 % intervals. In a clone of the repository
# `python -m experiments.think 01` measures them again.
#
# 1. Compute the matrix of dark knowledge on 5,000 *training* images, at $T = 1$ and at $T = 4$. What has changed? Is that why the first
#    teacher helps little? Give its student 2,000 held-out images instead, on which this teacher was not trained.
#
#    <details><summary>Measured</summary>
#
#    At $T = 1$ all wrong digits together get 0.15 % on training images and 1.4 % on held-out ones, 10 times as much. At
#    $T = 4$ it is 9.1 % and 10.0 %, only 1.1 times as much. So the temperature brings back what is hidden.
#
#    On held-out images the student makes 132 errors fewer (116 to 149) than without a teacher, and 38 errors more (19
#    to 57) than with label smoothing. So this is not why the first teacher helps little.
#
#    </details>
#
# 2. Train on 4,000 images for 8 epochs at `temperature=4`. What becomes of the first teacher's student? Then take the settings above with
#    500 images for 80 epochs, and with 8,000 images for 5. The number of steps stays about the same. Where does which teacher help?
#
#    <details><summary>Measured</summary>
#
#    With 4,000 images, 8 epochs and $T = 4$ the first teacher hurts. Its student makes 42 errors more (20 to 64) than
#    without a teacher, and 189 errors more (160 to 218) than with label smoothing. The CNN's student makes 103 errors
#    fewer (83 to 123) than without a teacher, and 44 errors more (32 to 55) than with label smoothing.
#
#    With 500 images both teachers beat both baselines. Compared with label smoothing the student makes 136 errors fewer
#    (111 to 161) with the first teacher, and 246 errors fewer (211 to 280) with the CNN. With 8,000 images label
#    smoothing beats both: the student makes 165 errors more (139 to 190) with the first teacher, and 56 errors more (34
#    to 78) with the CNN. So these teachers help this student where images are few.
#
#    </details>
#
# 3. Replace the five clinics by five networks on the *same* 1,000 images, with different seeds. Why does voting help less?
#
#    <details><summary>Measured</summary>
#
#    On the same images the vote makes 38 errors fewer (30 to 46) than its members do on average, measured for 8 sets of
#    1,000 images. With five different sets it makes 304 errors fewer (292 to 316), measured for 8 seeds. Networks that
#    saw the same images make many of the same errors, and what all members get wrong, a vote cannot mend: 73 % (73 to
#    74) of a member's errors if all saw the same images, 31 % (31 to 32) if each saw its own.
#
#    </details>
#
# 4. Let the hospital's teacher answer with its most likely class only (`F.one_hot` of it, times 12). What does the student lose, and what does
#    the hospital still give away?
#
#    <details><summary>Measured</summary>
#
#    The student makes 50 errors more (22 to 77) than with the whole answers: 1,134 and 1,084 on average. The hospital
#    still gives away an answer for each image, and each depends on its private images.
#
#    </details>
#
# More, with checks that know the usual slips: [exercise 01](../exercises/ex01_teacher_and_student/ex01_teacher_and_student.ipynb).
#
# ## References
#
# - Hinton, Vinyals, Dean (2015). *Distilling the knowledge in a neural network.* [arXiv:1503.02531](https://arxiv.org/abs/1503.02531): sections 1 and 2
#   (teacher, student, temperature).
# - Buciluǎ, Caruana, Niculescu-Mizil (2006). *Model compression.* KDD 2006: an ensemble into one network, with unlabelled data.
# - Papernot and others (2017). *Semi-supervised knowledge transfer for deep learning from private training data.*
#   [arXiv:1610.05755](https://arxiv.org/abs/1610.05755): section 2 (PATE: many teachers, noise, a counted budget).
# - Shokri and others (2017). *Membership inference attacks against machine learning models.* [arXiv:1610.05820](https://arxiv.org/abs/1610.05820): what answers
#   give away about training data.
# - Müller, Kornblith, Hinton (2019). *When does label smoothing help?* [arXiv:1906.02629](https://arxiv.org/abs/1906.02629): section 1 (the second baseline) and
#   section 4 (a teacher trained with it taught less there; that is disputed, and on our digits [it taught better](../docs/ledger.md#label-smoothed-teacher)).
