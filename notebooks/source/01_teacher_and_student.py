# %% [markdown]
# # Teacher and student
#
# A cook who has learned for twenty years can teach in one what took her twenty. [Knowledge
# distillation](glossary:knowledge-distillation) tries the same with networks: a large one, the [teacher](glossary:teacher),
# has been trained; a small one, the [student](glossary:student), learns from its answers. This chapter looks at what those
# answers hold, measures what a student saves and what it loses, and tries three further uses.
#
# **You will be able to**
# - read a teacher's probabilities, and say which digits it finds alike;
# - measure size, computation, speed and errors of a model, and not take one for another;
# - compare a student with two baselines, over several seeds;
# - name three further uses of a teacher, and what each of them does not give.
#
# **You need** chapter 00. **Time** about 45 minutes; the machine needs about one.

# %%
import copy

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.benchmark import Timer

from kdcourse import plots, zoo
from kdcourse.data import load_mnist, minibatches
from kdcourse.losses import kd_loss, soften
from kdcourse.models import count_parameters, make_mlp, make_student_mlp, size_in_bytes
from kdcourse.objectives import label_objective
from kdcourse.plots import show
from kdcourse.plots.drawings import draw_teacher_and_student
from kdcourse.recipes import Ensemble
from kdcourse.sweeps import compare, format_comparison, sweep
from kdcourse.training import count_errors, pick_device, predict_logits
from kdcourse.widgets import TemperatureExplorer, guess

# %%
draw_teacher_and_student()

# %% [markdown]
# ## The teacher
#
# It comes trained: 784 pixels, hidden layers of 1024, 512 and 256 units, ten answers. Such a network, in which each unit is
# connected to all units of the layer before, is called an [MLP](glossary:mlp). It learned from 55,000 images. We ask it about
# the 5,000 [held-out](glossary:held-out-images) ones, which it has never seen: there its answers are honest.

# %%
device = pick_device()
mnist = load_mnist(device=device)
teacher = zoo.load("teacher_mlp", device=device)
images, labels = mnist.held_out
logits = predict_logits(teacher, images)  # (5000, 10)
wrong = logits.argmax(dim=1) != labels
sure = soften(logits, temperature=1).amax(dim=1).mean()
print(
    f"{wrong.sum()} of {len(labels):,} held-out digits wrong; mean probability of its answer {sure:.3f}"
)

# %% tags=["claims"]
assert wrong.sum() < 75
assert sure > 0.98

# %% [markdown]
# It errs on about one digit in a hundred, and is nearly always sure. For each image it gives ten [logits](glossary:logits),
# from which the [softmax](glossary:softmax) makes ten probabilities. Here are the ten digits on which it is least sure.

# %%
order = soften(logits, temperature=1).amax(dim=1).argsort()
captions = [f"{int(labels[i])}, says {int(logits[i].argmax())}" for i in order[:10]]
ax = plots.digit_grid(images[order[:10]], captions=captions, columns=5)
ax.figure.set_size_inches(5.6, 2.9)
show(ax, alt="01.held-out-digits")

# %% [markdown]
# ## Dark knowledge
#
# A label says "4" and nothing else. The teacher's nine other probabilities say which wrong answers are nearly right. They are
# tiny, so we divide the logits by a [temperature](glossary:temperature) $T$ before the softmax. At $T = 4$ they come to light.
# Hinton calls what they hold [dark knowledge](glossary:dark-knowledge).

# %%
guess("01.wrong-digit-of-4")

# %%
soft = soften(logits, temperature=4)  # (5000, 10)
alike = torch.stack(
    [soft[labels == digit].mean(dim=0) for digit in range(10)]
)  # (10, 10): label, answer
alike.fill_diagonal_(float("nan"))  # about 0.9, and would hide the rest
ax = plots.matrix(alike, rows=range(10), columns=range(10), label="mean probability at T = 4")
ax.set(xlabel="probability of", ylabel="label")
show(ax, alt="01.mean-softened-probability")

# %% tags=["claims"]
assert alike[4].nan_to_num().argmax() == 9
assert {divmod(i, 10) for i in alike.nan_to_num().flatten().topk(3).indices.tolist()} == {
    (9, 4),
    (5, 3),
    (8, 3),
}

# %% [markdown]
# Read a row: shown a 5, the teacher sees some 3 in it. Nobody told it that 3 and 5 are alike; labels do not say so. Is it
# true? We have a witness, the teacher's own errors: do they happen between the same pairs?

# %%
confused = torch.zeros(10, 10, device=device)
confused.index_put_(
    (labels[wrong], logits[wrong].argmax(dim=1)),
    torch.ones_like(labels[wrong]).float(),
    accumulate=True,
)
others = ~torch.eye(10, dtype=torch.bool, device=device)
correlation = torch.corrcoef(torch.stack([alike[others], confused[others]]))[0, 1]
print(
    f"{wrong.sum()} errors on {(confused > 0).sum()} of 90 pairs; correlation with the matrix: {correlation:.2f}"
)

# %% tags=["claims"]
assert 0.3 < correlation < 0.9

# %% [markdown]
# The two agree, roughly. The errors speak of some fifty images. The soft answers say something about every one of the 5,000, and a student
# can learn from each. That is the idea of the whole course: **an answer in ten numbers can teach more than an answer in one.**
# Whether it does so in practice is a question for measurement.

# %% [markdown]
# ## Temperature, by hand
#
# How soft is soft? [Entropy](glossary:entropy) measures how unsure a row of probabilities is, in nats; $e^{\text{entropy}}$ reads
# as "as unsure as between so many equally likely classes".

# %%
guess("01.wavers-at-20")


# %%
def unsure(temperature):
    p = soften(logits, temperature=temperature)
    return torch.special.entr(p).sum(dim=1).mean().exp().item()


temperatures = [0.5, 1, 2, 3, 4, 6, 8, 12, 16, 20]
ax = plots.curve(temperatures, [unsure(t) for t in temperatures], role="teacher", marker="o")
ax.set(xlabel="temperature T", ylabel="as unsure as between\nso many classes", ylim=(0, 10))
show(ax, alt="01.classes-that-teacher")

# %% tags=["claims"]
assert unsure(20) > 8
assert unsure(1) < 1.2

# %% [markdown]
# Now for one digit: the 3 on which the teacher is least sure, as the explorer below first shows it. Its label stands in bold.

# %%
least_sure = next(i for i in order if labels[i] == 3)
bars = {f"T = {t}": soften(logits[least_sure], temperature=t) for t in (1, 4, 20)}
ax = plots.probability_bars(bars, label=3)
plots.digit_grid(
    images[least_sure][None], ax=ax.inset_axes([1.0, 0.3, 0.2, 0.5])
)  # beside it: the digit itself
show(ax, alt="01.teacher-s-probabilities")

# %% [markdown]
# What does a student learn from this answer? Minus the gradient of the loss tells which of its logits go up and which go down: $T\,(p - q)$, derived in
# chapter 02. For a student that knows nothing, $q$ is 0.1 everywhere.

# %%
p = soften(logits[least_sure], temperature=4)  # (10,)
ax = plots.curve(
    range(10), 4 * (p - 0.1), role="kd", linestyle="", markersize=8, label="soft target, T = 4"
)
label_alone = F.one_hot(labels[least_sure], 10) - 0.1
plots.curve(
    range(10), label_alone, role="ce", linestyle="", markersize=8, label="label alone", ax=ax
)
ax.axhline(0, color=plots.INK, linewidth=0.8)
ax.set(xticks=range(10), xlabel="class", ylabel="change of the logit")
show(ax, alt="01.push-on-each")

# %% tags=["claims"]
assert p.topk(3).indices.tolist() == [8, 9, 3]

# %% [markdown]
# The label lifts one logit and lowers nine alike. The soft target lifts all three digits that this could be, and it lifts 8 and 9
# more than 3, for the teacher takes this digit for an 8. **A student learns from the teacher's doubts, and from its mistakes too.**
#
# Your turn. Pick a digit and an example, and move $T$. The same two pictures follow: left the softened answer, right the push on a student
# that knows nothing; the dashes are the label alone.

# %%
explorer = TemperatureExplorer(teacher, mnist.held_out, temperature=4.0)
explorer

# %% [markdown]
# ## What a student saves
#
# The usual table says: a teacher is large, accurate, slow, expensive; a student small, nearly as accurate, fast, cheap. Let us
# fill it with numbers. *Size* is parameters and bytes. *Cost* is [multiply-adds](glossary:multiply-add), the computation per
# image, which we count layer by layer: each number that leaves a layer took as many as one row of its weights is long.


# %%
def count_multiply_adds(model):
    counted = []
    handles = [
        module.register_forward_hook(
            lambda m, _, output: counted.append(output.numel() * m.weight[0].numel())
        )
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    predict_logits(model, images[:1])
    for handle in handles:
        handle.remove()
    return sum(counted)


# %% [markdown]
# *Speed* is images per second, on one processor core so that your numbers and ours mean the same, 500 images at a time. We add a second teacher, a
# small convolutional network ([CNN](glossary:cnn)) that learned from images shifted about.

# %%
guess("01.cnn-speed")


# %%
def images_per_second(model):
    on_cpu, some = copy.deepcopy(model).cpu(), images[:500].cpu()
    with torch.inference_mode():
        seconds = Timer("on_cpu(some)", globals={"on_cpu": on_cpu, "some": some}).blocked_autorange(
            min_run_time=0.5
        )
    return len(some) / seconds.median


models = {
    "teacher": teacher,
    "CNN teacher": zoo.load("teacher_cnn", device=device),
    "student": make_student_mlp().to(device).eval(),
}
table = pd.DataFrame(index=models)
table["parameters"] = [count_parameters(model) for model in models.values()]
table["kilobytes"] = [size_in_bytes(model) // 1000 for model in models.values()]
table["multiply-adds"] = [count_multiply_adds(model) for model in models.values()]
table["images/s"] = [
    float(f"{images_per_second(model):.1g}") for model in models.values()
]  # one digit: it wavers
table.map("{:,.0f}".format)

# %%
size, work, speed = table["parameters"], table["multiply-adds"], table["images/s"]

# %% tags=["claims"]
assert size["teacher"] / size["CNN teacher"] > 20
assert 4 < work["CNN teacher"] / work["teacher"] < 6
assert speed["CNN teacher"] < speed["teacher"] < speed["student"]
assert 14 < size["teacher"] / size["student"] < 15
assert 14 < work["teacher"] / work["student"] < 15

# %% [markdown]
# The student has a fourteenth of the teacher's parameters and of its multiply-adds, and is faster. But the CNN, the smallest
# of the three in parameters, is the slowest, with about five times the teacher's multiply-adds. **Size, cost and speed are
# three questions.** Ask for the one you pay for.

# %% [markdown]
# ## What it loses, and what a teacher gives back
#
# *Accuracy* is missing, because a student must be trained first, and one run is luck. So we train several of each kind:
#
# - **no teacher**: the labels alone;
# - **[label smoothing](glossary:label-smoothing)**: labels made a little soft, without any knowledge. Whatever a teacher gives must exceed this;
# - **distilled**: 0.9 of the loss from a teacher's soft answers, 0.1 from the labels. Chapter 02 takes this loss apart.
#
# All get the same 2,000 images and as many steps. So few, since a teacher that has seen 55,000 has something to add where the
# student has seen little; and so that you need not wait. The first of each kind share a [seed](glossary:seed), and so do the
# second, and so on: the same initial weights, the same order of images. So we look at the [paired
# difference](glossary:paired-difference), seed by seed.
#
# From a few differences we get a 95 % [interval](glossary:confidence-interval): the range in which the true mean difference can well lie. A method is
# *clearly* better where the whole interval is on its side of zero. What it has to beat are the first two, our
# [baselines](glossary:baseline).

# %%
guess("01.which-teacher")

# %%
runs = sweep(
    make_student=make_student_mlp, data={"train": mnist.train.take(2000), "test": mnist.test}, seeds=range(4),
    epochs=20, lr=3e-3, temperature=8, alpha=0.9, progress=False,
    teacher={"MLP": teacher, "CNN": models["CNN teacher"]},
)  # fmt: skip
comparison = compare(runs)
format_comparison(comparison, digits=0)

# %%
ax = plots.intervals(comparison)
ax.set(xlabel="difference in test errors (of 10,000)")
show(ax, alt="01.paired-differences-test")
found = comparison.set_index(["arm", "baseline"]).high

# %% tags=["claims"]
assert (found["teacher=CNN"] < 0).all()
assert found["teacher=MLP", "label_smoothing"] > 0
assert found["label_smoothing", "no_teacher"] < 0

# %% [markdown]
# A dot is a mean difference, left of zero are fewer errors; where the line crosses zero, the seeds do not decide. The CNN's
# student beats both baselines. The first teacher's student is **not** clearly better than label smoothing, though its teacher
# has twenty times the CNN's parameters.
#
# Why? This table cannot say: the two teachers differ in the kind of network, in their errors, and in the shifted images that only the CNN
# has seen. It does say that a teacher is not good for a student merely because it is large.
#
# And it holds for these settings, which we picked after a few tries: task 2 below has others, at which the first teacher's
# student does worse than without a teacher, and others again at which it clearly beats both baselines.
#
# How near do the students come to their teachers?

# %%
errors = runs.groupby("arm", sort=False).test_errors.mean()
for name in ("teacher", "CNN teacher"):
    errors[name] = count_errors(models[name], *mnist.test)
print((100 - errors / 100).round(1).astype(str).add(" % right").to_string())

# %% tags=["claims"]
assert errors["teacher"] < 140
assert errors["CNN teacher"] < 70
assert errors["teacher=CNN"] > 5 * errors["teacher"]

# %% [markdown]
# "Approaches teacher", says the usual table. Not here: with 2,000 images, where its teacher had 55,000, the best student still makes more than
# five times the errors of either teacher. Whether a student comes near depends on the images it gets. In chapter 02 it gets more.

# %% [markdown]
# ## Use 1: many models into one
#
# An [ensemble](glossary:ensemble), several models that vote, errs less than its members and costs all of them. Can one student
# take its place? Suppose five clinics, each with 1,000 labelled images, train a small network each. We average the five
# networks' probabilities, and let a student of the same size learn these averages, on 4,000 further images *without* labels.


# %%
def make_small():
    return make_mlp(32)


def part_of_train(start, end):
    return {"train": tuple(tensor[start:end] for tensor in mnist.train), "test": mnist.test}


def train_alone(data, *, make=make_small, epochs=30, name="no_teacher", baselines=()):
    return sweep(
        make_student=make, data=data, seeds=range(3), epochs=epochs, lr=3e-3, objective={name: label_objective},
        baselines=baselines, keep_models=True, progress=False,
    )  # fmt: skip


# %%
first = train_alone(part_of_train(0, 1000), baselines=("label_smoothing",))
clinics = [first[first.arm == "no_teacher"]] + [
    train_alone(part_of_train(1000 * k, 1000 * (k + 1))) for k in range(1, 5)
]
ensembles = [Ensemble([clinic.model.iloc[seed] for clinic in clinics]) for seed in range(3)]
members = pd.concat(clinics).test_errors
voting = [count_errors(ensemble, *mnist.test) for ensemble in ensembles]
print(f"members {members.min()} to {members.max()} errors, ensembles {voting}")

# %% tags=["claims"]
assert max(voting) < members.min()

# %% [markdown]
# Every ensemble is better than every one of its members. Now the student, as small as one member, with about as many steps.
# Its labels are not used: $\alpha = 1$. For comparison, what nobody in this story may do: pool the five clinics' images, and
# train one small network on all 5,000.

# %%
further = part_of_train(5000, 9000)
opinions = torch.stack(
    [predict_logits(ensemble, further["train"][0]) for ensemble in ensembles]
)  # (3, 4000, 10)
student_runs = sweep(
    make_student=make_small, data=further, seeds=range(3), epochs=8, lr=3e-3, teacher=opinions, temperature=2, alpha=1.0, baselines=(), progress=False,
)  # fmt: skip
voting_runs = pd.DataFrame({"arm": "ensemble", "seed": range(3), "test_errors": voting})
pooled = train_alone(part_of_train(0, 5000), epochs=6, name="pooled")
columns = ["arm", "seed", "test_errors"]
comparison = compare(
    pd.concat([part[columns] for part in (first, student_runs, voting_runs, pooled)])
)
format_comparison(comparison, digits=0)

# %%
found = comparison[comparison.arm == "distilled"]
cost = [count_multiply_adds(model) for model in (ensembles[0], make_small().to(device))]
print(f"multiply-adds per image: ensemble {cost[0]:,}, student {cost[1]:,}")

# %% tags=["claims"]
assert (found.high < 0).all()  # better than the first clinic's network, also with label smoothing
assert student_runs.test_errors.mean() > sum(voting) / 3  # but not as good as the vote
assert cost[0] == 5 * cost[1]

# %% [markdown]
# One small network, at a fifth of the vote's cost, clearly beats the first clinic's network, with label smoothing or without.
# Some of the ensemble's lead is lost. And look at the last row of the table before you distil: where data may be pooled, an
# ordinary network on all labels is the baseline to beat.

# %% [markdown]
# ## Use 2: data that must stay where it is
#
# A hospital may not give away its images, nor their labels. It trains a teacher behind its walls; outside, on public images that nobody has
# labelled, the teacher's answers train a student. One part of MNIST plays the hospital, another of the same size the public.

# %%
guess("01.no-label-at-all")

# %%
inside = train_alone(
    part_of_train(0, 2000), make=lambda: make_mlp(64), epochs=20, name="teacher inside"
)
public = part_of_train(2000, 4000)
answers = torch.stack(
    [predict_logits(model, public["train"][0]) for model in inside.model]
)  # (3, 2000, 10)
outside = sweep(
    make_student=lambda: make_mlp(64), data=public, seeds=range(3), epochs=20, lr=3e-3, teacher=answers, temperature=4, alpha=1.0, progress=False,
)  # fmt: skip
print(
    "teacher inside:",
    inside.test_errors.tolist(),
    "errors; its student:",
    outside[outside.arm == "distilled"].test_errors.tolist(),
)
format_comparison(compare(outside), digits=0)

# %%
student_errors = outside[outside.arm == "distilled"].test_errors

# %% tags=["claims"]
assert student_errors.max() < 1500
assert student_errors.mean() < 1.25 * inside.test_errors.mean()

# %% [markdown]
# Close to its teacher, without one label. Here the baselines do what the story forbids: they learn from the public images'
# *labels*. They say what labels would have been worth, had somebody made them.
#
# > **This is no privacy guarantee.** The teacher's answers depend on its private images, and nothing here limits how much they give away about one of them: somebody with enough answers may find out
# > whether a certain image was among them. Guarantees come from calibrated noise and a counted budget, as in PATE, whose teachers are many, like our clinics.

# %% [markdown]
# ## Use 3: smoother gradients?
#
# Soft targets are said to give smoother gradients. Each batch gives another gradient; the less they scatter around their mean,
# the surer the step. So take *one* student after a short training, and compute the gradient of 62 batches of 64 held-out
# images. The measure is the [gradient noise](glossary:gradient-noise): scatter over squared length of the mean. It does not
# change if a loss is simply multiplied by a number.


# %%
def gradient_noise(student, loss, targets, size=64):
    batches = list(zip(images[:3968].split(size), targets[:3968].split(size), strict=True))
    parameters = list(student.parameters())
    gradients = [torch.autograd.grad(loss(student(x), y), parameters) for x, y in batches]
    rows = torch.stack(
        [torch.cat([part.flatten() for part in gradient]) for gradient in gradients]
    )  # (62, parameters)
    scatter = rows.var(dim=0).sum()
    mean_squared = rows.mean(dim=0).square().sum() - scatter / len(
        rows
    )  # without what the scatter adds to it
    return (scatter / mean_squared).item()


# %%
guess("01.noise-at-1")


# %%
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


# %% [markdown]
# One more row keeps us honest: a *fake* teacher that knows nothing but the label, with a logit of 12 for it and 0 for the
# others. If it does as well, it is not the teacher's knowledge that smooths.

# %%
fake = 12.0 * F.one_hot(labels, 10)
ways = {"labels": (F.cross_entropy, labels)}
ways |= {f"teacher, T = {t}": (at(t), logits) for t in (1, 4)} | {
    "fake teacher, T = 4": (at(4), fake)
}
students = [trained_for_a_moment(seed) for seed in range(3)]
noise = pd.DataFrame(
    {name: [gradient_noise(student, *way) for student in students] for name, way in ways.items()}
)
against_labels = noise.mean() / noise["labels"].mean()
noise.T.rename(columns="student {}".format).round(1)

# %% tags=["claims"]
assert 0.75 < against_labels["teacher, T = 1"] < 1.25
assert against_labels["teacher, T = 4"] < 1 / 3
assert against_labels["fake teacher, T = 4"] < 1 / 2

# %% [markdown]
# At $T = 1$ little changes; at $T = 4$ the gradients have less than a third of the noise. With the *fake* teacher, which knows nothing, they
# have less than half. So **much of the smoothness comes from the temperature**, which asks all ten logits for a value on every image, long
# after the answer is right.
#
# The rest may be knowledge, or only the size of this teacher's logits. And a smoother gradient is not yet a better student: what counts are
# the errors above.

# %% [markdown]
# ## Summary
#
# - A teacher's softened probabilities say which classes are alike; they agree roughly with its own confusions.
# - Size, cost, speed and accuracy are four measurements. A network with fewer parameters can be the slower one.
# - A teacher must beat label smoothing, not only "no teacher". Not every teacher does, and its size does not tell.
# - A student can stand for an ensemble, or for a teacher whose data stay inside. The first loses something, the second promises nothing about privacy.
# - Gradients are smoother at a higher temperature, with a teacher or without.
#
# ## Think, then try
#
# 1. Compute the matrix of dark knowledge on 5,000 *training* images, at $T = 1$ and at $T = 4$. What has changed, and what does that mean for a student?
#    Is that why the first teacher helps little? Give its student the held-out images instead, which it has not trained on.
# 2. Train on 4,000 images for 8 epochs at `temperature=4`. What becomes of the first teacher's student, and why might soft targets need more steps? Then
#    give 500 images, and 8,000, at the settings above: where does which teacher help?
# 3. Replace the five clinics by five networks on the *same* 1,000 images, with different seeds. Why does voting help less?
# 4. Let the hospital's teacher answer with its most likely class only (`F.one_hot` of it, times 12). What does the student lose, and what does the hospital still give away?
#
# More, with checks that know the usual slips: `exercises/ex01_teacher_and_student`.
#
# ## References
#
# - Hinton, Vinyals, Dean (2015). *Distilling the knowledge in a neural network.* [arXiv:1503.02531](https://arxiv.org/abs/1503.02531): sections 1 and 2 (teacher, student, temperature).
# - Buciluǎ, Caruana, Niculescu-Mizil (2006). *Model compression.* KDD 2006: an ensemble into one network, with unlabelled data.
# - Papernot and others (2017). *Semi-supervised knowledge transfer for deep learning from private training data.* [arXiv:1610.05755](https://arxiv.org/abs/1610.05755): section 2 (PATE: many teachers, noise, a counted budget).
# - Shokri and others (2017). *Membership inference attacks against machine learning models.* [arXiv:1610.05820](https://arxiv.org/abs/1610.05820): what answers give away about training data.
# - Müller, Kornblith, Hinton (2019). *When does label smoothing help?* [arXiv:1906.02629](https://arxiv.org/abs/1906.02629): section 1 (the second baseline) and
#   section 4 (why a teacher trained with it teaches less).
