# %% [markdown]
# # Online and progressive distillation
#
# Until now a teacher was finished before the first lesson, and every lesson was given in the same way. This chapter gives up both.
# Somebody without a teacher wants help all the same: can students teach *each other*? And somebody with a good teacher asks when to listen
# to it: at the start, at the end, always? Two things are tried for that, and both cost nothing: a knob may move while the student trains,
# and the images may come in an order. Does one of them help, and which way round? You will guess before you see it.
#
# **You will be able to**
# - write the loss of mutual learning, and say whose weights it moves and what averaging logits would change;
# - judge a cohort by what it costs: against students trained alone, their vote, smoothed labels and longer training;
# - draw a schedule that arrives where it promises, and compare it with constant knobs that were chosen with the same care;
# - order images from easy to hard, and tell what the *order* does from what the *sampling* does;
# - recognise traps 51 to 56 of [docs/traps.md](../docs/traps.md) by what they leave behind.
#
# **You need** chapters 01 and 02. **Time** about 70 minutes; the machine needs about two.
#
# The chapter has three parts: **one**, students that teach each other (*online* distillation); **two**, knobs that move, and **three**, images
# in an order (both are called *progressive* distillation). Each can be read alone. To run one, run the cells above it first.
#
# Symbols: $S$ students; $z$ logits; $p$ a peer's probabilities, $q$ the student's own; $y$ label; $T$ [temperature](glossary:temperature); $\alpha$ the
# [teacher's share](glossary:alpha).

# %%
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F

from kdcourse import plots, recipes, zoo
from kdcourse.checks import check
from kdcourse.data import load_mnist, minibatches
from kdcourse.losses import kd_loss, mutual_ensemble_loss, mutual_learning_loss
from kdcourse.models import make_hinton_student, make_mlp
from kdcourse.objectives import (
    label_objective,
    mutual_objective,
    soft_target_objective,
    with_knobs,
)

# %% tags=["plumbing"]
from kdcourse.plots import show
from kdcourse.plots.drawings import draw_cohort, draw_schedule
from kdcourse.recipes import Cohort, CurriculumBatches, Ensemble, difficulty_by_loss
from kdcourse.records import read_record
from kdcourse.schedules import constant, linear, progress_of, step
from kdcourse.sweeps import compare, format_comparison, in_words, on_all_cores, sweep
from kdcourse.training import count_errors, fit, pick_device, predict_logits
from kdcourse.widgets import CohortTrainer, ScheduleEditor, guess

# %%
FULL = False  # True: more images and longer training, about 18 minutes
device = pick_device()
mnist = load_mnist(device=device)
samples, seeds, epochs = (5000, 8, 10) if FULL else (500, 6, 15)
few = mnist.train.take(samples)
adam = partial(recipes.make_adam, lr=1e-2)  # the optimizer of every student in parts one and three
settings = dict(epochs=epochs, batch_size=50, lr=1e-2, progress=False, executor="processes")
comparisons = {}


def make_student():
    return make_mlp(64, 64).to(device)


# %% [markdown]
# ## Part one: students that teach each other
#
# Two students read the same exercises. Each has a textbook with the answers, the labels. Each also looks at what the other thinks: where
# the other hesitates between a 4 and a 9, there is something to learn that no label says. Nobody has to be trained first.
#
# A [cohort](glossary:cohort) is a group of students that start from different weights and see the same batches. In *Deep Mutual Learning*
# (Zhang et al., 2018) each learns from the labels, and from what its [peers](glossary:peer), the other students, say at that very moment.

# %%
draw_cohort()

# %% [markdown]
# The students of this part have two hidden layers of 64 units and see 500 images. There are so few because a run is then short, and each
# comparison needs many runs with different [seeds](glossary:seed). The full size has ten times as many.
#
# ### Your turn: the loss of one student
#
# A student with probabilities $q$ has one peer with probabilities $p$. Its loss is the [cross-entropy](glossary:cross-entropy) with the label,
# plus the [divergence](glossary:kullback-leibler-divergence) of its answer from the peer's:
#
# $$L = \mathrm{CE}(z, y) + \mathrm{KL}(p \,\|\, q), \qquad \mathrm{KL}(p\,\|\,q) = \sum_k p_k\,(\log p_k - \log q_k)$$
#
# Both are means over the images. For example, the label is the first of two classes, the student says $q = (0.5, 0.5)$ and the peer
# $p = (0.7, 0.3)$. Then $L = 0.69 + 0.08 = 0.77$. There is no $\alpha$ (both terms have weight 1) and, in the paper, no temperature.
#
# Before you write it, think about the gradient. A cohort's losses are added and sent backwards once.

# %%
guess("07.whose-gradient")

# %% [markdown]
# Write the loss. It trains this student and nobody else. `logits` and `peer_logits` have shape (B, K), `labels` (B,); the result is one
# number.


# %%
def mutual_loss(logits, peer_logits, labels):  # (B, K), (B, K), (B,) -> ()
    ...


mutual_loss = check("07.mutual", mutual_loss)

# %% [markdown]
# With more students the second term is the mean over all $S - 1$ peers (equation 8), and the course's `mutual_learning_loss` returns a list
# of $S$ losses. (The paper updates one student, asks it again, and only then updates the next; its code adds the divergences up instead of
# averaging them. We update all at once and take the mean, as the equation does.)
#
# To look at the losses we need students that do not agree. Here are three, each trained for a moment on 100 images of its own.


# %%
def trained_briefly(seed):
    torch.manual_seed(seed)
    student, part = make_student(), slice(100 * seed, 100 * (seed + 1))
    images, labels = mnist.train.images[part], mnist.train.labels[part]
    optimizer = adam(list(student.parameters()))
    knobs = dict(epochs=10, batch_size=20, progress=False)
    fit(student, (images, labels), label_objective, optimizer, **knobs)
    return student


students = [trained_briefly(seed) for seed in range(3)]

# %%
images, labels = mnist.held_out.take(256)
all_logits = [student(images) for student in students]  # three times (256, 10)
answers = torch.stack(all_logits).argmax(dim=2)  # (3, 256)
differ = float((answers != answers[0]).any(dim=0).float().mean())
print(f"On {differ:.0%} of 256 images the three do not all agree.")

# %% tags=["claims"]
assert differ > 0.2
of_two = mutual_loss(all_logits[0], all_logits[1], labels)
torch.testing.assert_close(of_two, mutual_learning_loss(all_logits[:2], labels)[0])


# %% [markdown]
# How hard does the first student's loss pull at each of the three? We take the length of its gradient in each last layer, once with the
# peers [detached](glossary:detach) and once without.


# %%
def pulls(loss):
    last = [student[-1].weight for student in students]
    gradients = torch.autograd.grad(loss, last, retain_graph=True, allow_unused=True)
    return [0.0 if gradient is None else round(gradient.norm().item(), 2) for gradient in gradients]


def attached_loss(logits, peers, labels):
    """The same loss by somebody who forgot .detach()."""
    log_q, log_p = logits.log_softmax(dim=-1), torch.stack(peers).log_softmax(dim=-1)  # (S-1, B, K)
    return F.cross_entropy(logits, labels) + (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


# %%
detached = mutual_learning_loss(all_logits, labels)[0]
attached = attached_loss(all_logits[0], all_logits[1:], labels)
for name, loss in {"detached": detached, "not detached": attached}.items():
    strengths = ", ".join(f"{pull:.2f}" for pull in pulls(loss))
    print(f"peers {name}: loss {loss:.2f}, pull on students 1, 2, 3: {strengths}")

# %% tags=["claims"]
assert pulls(detached)[1:] == [0, 0]
assert min(pulls(attached)) > 0
torch.testing.assert_close(detached, attached)

# %% [markdown]
# The value is the same, the meaning is not. Without `.detach()` a peer is dragged towards the student whom it teaches.
#
# <details><summary><b>Trap 52: a cohort of one</b></summary>
#
# Somebody tries the loss with a single student, to have a baseline. There is no peer. The mean over no peers is NaN, and `backward` silently
# spreads it into all weights. `mutual_learning_loss` raises a `ValueError` instead. The baseline without peers is ordinary training.
#
# </details>
#
# ### The mean of what?
#
# Instead of comparing with each peer one could make *one* opinion of theirs first, and learn from that. But which mean? Some code averages the
# peers' *logits* under a comment that says "average of predictions". That looks like a detail.

# %%
guess("07.mean-of-logits")

# %%
two = torch.tensor([[0.90, 0.10], [0.01, 0.99]])  # a row for each peer
of_logits = two.log().mean(dim=0).softmax(dim=0)  # logits are log-probabilities, up to a constant
for name, row in {"mean of predictions": two.mean(dim=0), "mean of logits": of_logits}.items():
    print(f"{name:20} {row[0]:.3f}  {row[1]:.3f}")

# %% tags=["claims"]
assert 0.22 < of_logits[0] < 0.24
product = two.prod(dim=0).sqrt()
torch.testing.assert_close(of_logits, product / product.sum())  # the geometric mean, summing to 1

# %% [markdown]
# A mean of predictions is the *arithmetic* mean: each peer keeps its say. A mean of logits becomes the *geometric* mean, a product: a peer that
# finds a digit nearly impossible has a veto.
#
# Which of the two does the pairwise loss follow? Compare the gradients of three losses of the first student:

# %%
first_logits = all_logits[0].detach().requires_grad_()
peers = torch.stack([logits.detach() for logits in all_logits[1:]])  # (2, 256, 10)
mean_prediction = peers.softmax(dim=-1).mean(dim=0)  # (256, 10)
by_peer = torch.stack([kd_loss(first_logits, peer, temperature=1.0) for peer in peers])
losses = {
    "pairwise": by_peer.mean(),
    "mean of predictions": kd_loss(first_logits, mean_prediction.log(), temperature=1.0),
    "mean of logits": kd_loss(first_logits, peers.mean(dim=0), temperature=1.0),
}

# %%
gradients = {name: torch.autograd.grad(loss, first_logits)[0] for name, loss in losses.items()}
pairwise = gradients["pairwise"]
for name, gradient in gradients.items():
    away = (gradient - pairwise).norm() / pairwise.norm()
    print(f"{name:20} loss {losses[name]:.3f}, gradient {away:.0%} away from the pairwise one")

# %% tags=["claims"]
torch.testing.assert_close(gradients["mean of predictions"], pairwise)
assert losses["pairwise"] > losses["mean of predictions"]
assert (gradients["mean of logits"] - pairwise).norm() > 0.2 * pairwise.norm()
entropies = torch.special.entr(torch.cat([peers.softmax(dim=-1), mean_prediction[None]])).sum(dim=2)
assert (entropies[2] > entropies[:2].mean(dim=0) - 1e-6).all()  # entropy is concave

# %% [markdown]
# The first two have the *same gradient*: the pairwise lessons are one lesson, and it comes from the mean of the predictions. Their values differ
# by a number that this student cannot change: how much its peers disagree among themselves.
#
# <details><summary><b>Why they agree, and what the paper says</b></summary>
#
# Write out the mean of two divergences. What depends on the student is $-\frac12\sum_k (p^1_k + p^2_k) \log q_k$. Of the peers it contains only
# their sum.
#
# The paper has the mean of the peers' predictions too, as a variant. It calls it worse than the pairwise loss, and gives a reason: the mean is
# sharper. But a mean of predictions is never sharper than its members are on average, because entropy is concave. So the reason
# does not follow from the equations. Where the two train differently, something else differs.
#
# </details>
#
# The mean of logits is another matter. Here is the held-out digit on which the two targets differ most.

# %%
held_out = torch.stack([predict_logits(student, mnist.held_out.images) for student in students])
of_predictions = held_out.softmax(dim=2).mean(dim=0)  # (3, 5000, 10) -> (5000, 10)
of_logits = held_out.mean(dim=0).softmax(dim=1)
digit = int((of_predictions - of_logits).abs().sum(dim=1).argmax())
each = held_out[:, digit].softmax(dim=1)  # (3, 10)
rows = {f"peer {number}": row for number, row in enumerate(each, start=1)}
rows |= {"mean of predictions": of_predictions[digit], "mean of logits": of_logits[digit]}

# %%
ax = plots.matrix(
    torch.stack(list(rows.values())), rows=list(rows), columns=range(10), numbers=".2f",
    label="probability", ax=plots.new_axes(width=8.5, height=2.8),
)  # fmt: skip
ax.set_title(f"a {int(mnist.held_out.labels[digit])}, as three students see it", fontsize=10)
show(ax, alt="07.two-means")

# %% tags=["claims"]
assert int(of_logits[digit].argmax()) not in each.argmax(dim=1).tolist()
favourites = each[:, each.argmax(dim=1)]  # (3, 3): row i, what peer i gives the favourites
assert f"{each[0, 0]:.2f}" == "0.00"
assert (each[:, 0] > favourites.sort(dim=1).values[:, 1]).all()  # more than both others get
assert of_predictions[digit].max() < 0.6 < of_logits[digit].max()
assert int(of_logits[digit].argmax()) == int(mnist.held_out.labels[digit]) == 0

# %% [markdown]
# Each peer is for another digit, and all but rules out what the others say. The mean of predictions keeps a part of each. The mean of
# logits settles on a digit that *no* peer had in mind, because no peer puts it as low as the others' digits. (Peer 1's 0.00 is rounded.) Here the
# veto is wise: it *is* a 0. That is one digit, chosen because it is extreme.
#
# <details><summary><b>Trap 51: averaged logits under the name of mutual learning</b></summary>
#
# It is another method, with an ensemble's product as its target. It may serve as well, and has a name of its own here: `mutual_ensemble_loss`. In a
# cohort of two there is one peer and nothing to average, so both are the same. And the higher $T$, the nearer they come.
#
# </details>
#
# <details><summary><b>Trap 53: nobody has decided about dropout</b></summary>
#
# A finished teacher is asked in evaluation mode. A peer is *in training*, with its [dropout](glossary:dropout) on. Is its answer taken with a third of the units
# switched off, or without? Both are defensible. A calm target costs one more forward pass of every student at every step. A noisy one is free.
# `mutual_learning` takes the training-mode pass, and says so. The students below have no dropout, so nothing depends on it here.
#
# </details>

# %%
guess("07.same-answers")

# %% [markdown]
# ### A cohort, live
#
# Four students on 500 images, and beside them the first once more: *alone*, from the same start and on the same batches. It is the
# [twin](glossary:twin) of student 0. Run the notebook **up to the next cell**, move $T$ to 4, press play and watch for about 300 steps. Two things to look
# for: where do the four curves and the grey one end? And the middle panel shows how far apart two students' answers are: does the
# blue line (two of the cohort) keep below the grey one (one of them and the twin)? Then press reset and play again with *learn from* at "labels only".


# %%
def fresh(seed):
    torch.manual_seed(seed)
    return make_student()


small = mnist.train.take(500)
four_and_twin = dict(data=mnist._replace(train=small), make_optimizer=adam, batch_size=50)
cohort = CohortTrainer([fresh(seed) for seed in range(4)], **four_and_twin)
cohort

# %% [markdown]
# Without a running kernel, these are the curves of the same session, with $T = 4$. The first 50 steps are left out, because errors fall too fast there.

# %%
recorded = CohortTrainer([fresh(seed) for seed in range(4)], **four_and_twin)
recorded.temperature.value = 4.0
recorded.step(310)
recorded.close()
ax = plots.new_axes()
roles = {"student 0": "student", "alone": "no_teacher", "vote": "kd"}
labels_of = {"student 0": "one of the four", "alone": "twin, alone", "vote": "vote of the four"}
for name, errors in recorded.curves.items():
    style = dict(role=roles.get(name, "student"), label=labels_of.get(name), markevery=0.1)
    plots.curve(recorded.measured[5:], errors[5:], ax=ax, **style)
ax.set(xlabel="training step", ylabel="held-out errors, %")
show(ax, alt="07.cohort-recorded")

# %%
apart = recorded.divergences  # (M, 5, 5): M measurements of the four and the twin
within = apart[:, :4, :4].sum(dim=(1, 2)) / 12  # twelve pairs of two different students
outside = (apart[:, 4, :4] + apart[:, :4, 4]).mean(dim=1) / 2
print("How far apart two students' answers are: mean divergence, in nats")
for place in (5, -1):
    step_number, near, far = recorded.measured[place], within[place], outside[place]
    print(f"step {step_number}: two of the cohort {near:.2f}, one of them and the twin {far:.2f}")

# %% tags=["claims"]
late = {name: sum(errors[-4:]) / 4 for name, errors in recorded.curves.items()}
assert sum(late[f"student {number}"] for number in range(4)) / 4 < late["alone"]
assert 2 * within[-1] < outside[-1]

# %% [markdown]
# In this session the four end below the twin on average, but the lines cross for a long time. Their answers are far closer to each other than to the
# twin's. One cohort and one twin prove nothing. So now several cohorts, and the controls that papers usually leave out.
#
# ### What a cohort is compared with
#
# A cohort costs as many trainings as it has students, so it has to face what that money buys otherwise. All cohorts below have four
# students, with the same starts and the same batches:
#
# - **alone**: the same students, independently trained on labels; and alone with [smoothed labels](glossary:label-smoothing);
# - **peers**, at the paper's $T = 1$ and at $T = 4$, which is widely used; and peers whose **logits are averaged**;
# - in cohorts of two, beside peers, students of a **big teacher**: the course's CNN, which has seen 55,000 images. Its knobs are chosen on
#   [held-out images](glossary:held-out-images), with seeds that are not used again.

# %% tags=["plumbing"]
big_teacher = zoo.load("teacher_cnn", device=device)
cache = predict_logits(big_teacher, few.images)  # (N, 10)
grid = sweep(
    make_student=make_student, data={"train": few, "held_out": mnist.held_out},
    seeds=range(100, 102), teacher=cache, baselines=(),
    temperature=[2.0, 4.0, 8.0], alpha=[0.7, 0.9, 1.0], **settings,
)  # fmt: skip
by_knobs = grid.pivot_table(index="temperature", columns="alpha", values="held_out_errors")
big_temperature, big_share = (float(knob) for knob in by_knobs.stack().idxmin())
print(f"chosen for the big teacher: T = {big_temperature:g}, α = {big_share:g}")


# %% tags=["plumbing"]
def alone(cohort, images, labels, *ignored, label_smoothing=0.0):
    each = cohort(images)
    terms = [F.cross_entropy(logits, labels, label_smoothing=label_smoothing) for logits in each]
    return {f"student {number}": term for number, term in enumerate(terms)}


def big_one_teaches(cohort, images, labels, teacher_logits):
    terms = {}
    for number, logits in enumerate(cohort(images)):
        kd = kd_loss(logits, teacher_logits, temperature=big_temperature)
        ce = F.cross_entropy(logits, labels)
        terms[f"student {number}"] = big_share * kd + (1 - big_share) * ce
    return terms


def train_cohorts(size, methods):
    def make_cohort():
        return Cohort([make_student() for _ in range(size)])

    knobs = dict(seeds=range(seeds), baselines=(), keep_models=True, **settings)
    return sweep(make_student=make_cohort, data=(*few, cache), objective=methods, **knobs)


# %% [markdown]
# Before the runs we name the **smallest effect of interest** for all three parts: 15 errors of 10,000. An interval that lies between 15
# fewer and 15 more is called "too small to matter".
#
# To `sweep`, a cohort is a single model that returns a list of logits. So each method is one objective:

# %%
SMALLEST = 15
judged = partial(compare, smallest_effect=SMALLEST)
averaged = partial(mutual_objective, loss=mutual_ensemble_loss)
methods = {
    "alone": alone,
    "smoothed labels": partial(alone, label_smoothing=0.1),
    "peers, T = 1": mutual_objective,
    "peers, T = 4": partial(mutual_objective, temperature=4.0),
}
in_fours = {
    "averaged logits, T = 1": averaged,
    "averaged logits, T = 4": partial(averaged, temperature=4.0),
}
in_twos = methods if FULL else {name: methods[name] for name in ("alone", "peers, T = 4")}
cohorts = {
    2: train_cohorts(2, in_twos | {"big teacher": big_one_teaches}),
    4: train_cohorts(4, methods | in_fours),
}


# %% tags=["plumbing"]
def measure(run):
    each = [predict_logits(student, mnist.test.images) for student in run.model.students]
    logits = torch.stack(each)  # (S, N, K)
    answers, vote = logits.argmax(dim=2), logits.softmax(dim=2).mean(dim=0).argmax(dim=1)
    return {
        "arm": run.arm, "seed": run.seed,
        "errors": (answers != mnist.test.labels).float().sum(dim=1).mean().item(),
        "vote errors": int((vote != mnist.test.labels).sum()),
        "same answer": (answers[0] == answers[1]).float().mean().item(),
    }  # fmt: skip


def measure_all(runs):
    return pd.DataFrame([measure(run) for run in runs.itertuples()])


# %%
measured = {size: measure_all(runs) for size, runs in cohorts.items()}
same = measured[4].pivot(index="seed", columns="arm", values="same answer")
for arm in ("alone", "peers, T = 1", "peers, T = 4"):
    print(f"two students give the same answer: {arm:13} {same[arm].mean():.1%}")

# %% tags=["claims"]
assert (same["peers, T = 4"] > same["alone"]).all()

# %% [markdown]
# Peers agree more. Are they also better? First a guess.

# %%
guess("07.one-of-four")

# %%
for size, table in measured.items():
    comparisons[f"one student of {size}"] = judged(table, metric="errors", baseline="alone")
    comparisons[f"vote of {size}"] = judged(table, metric="vote errors", baseline="alone")
print(
    in_words(comparisons["one student of 4"], ["smoothed labels", "peers, T = 1", "peers, T = 4"])
)
ax = plots.intervals(comparisons["one student of 4"], smallest_effect=SMALLEST)
ax.set(xlabel="difference from one student alone, in test errors of 10,000")
show(ax, alt="07.one-of-four")

# %%
comparisons["against smoothed labels"] = judged(
    measured[4], metric="errors", baseline="smoothed labels"
)
with_peers = ["peers, T = 1", "peers, T = 4"]
against_smoothed = comparisons["against smoothed labels"]
tables = {
    "in fours": against_smoothed[against_smoothed.arm.isin(with_peers)],
    "in twos": comparisons["one student of 2"],
}
named = [table.assign(arm=f"{size}: " + table.arm) for size, table in tables.items()]
print(in_words(pd.concat(named), unit="errors"))

# %% tags=["claims"]
one = comparisons["one student of 4"].set_index("arm")
further = against_smoothed.set_index("arm")
assert (one.high[["smoothed labels", "peers, T = 4"]] < 0).all()
assert comparisons["one student of 2"].set_index("arm").high["peers, T = 4"] < 0
assert further.verdict["peers, T = 4"] != "better"
assert further.difference["peers, T = 1"] > 0

# %% [markdown]
# **It helps, and no teacher is needed.** At $T = 4$ a student of four makes fewer errors than alone, and so does a student of two. At the paper's
# $T = 1$ the gain is smaller. Look at the ends of an interval, and not at the verdict alone: "unclear" is not "equal".
#
# But read the other rows. *Smoothed labels*, with no peer at all, make fewer errors than the paper's cohort, and the cohort at $T = 4$ is not clearly better
# than they are at this size. A likely reason: peers do for each other what label smoothing does. They soften the targets.
#
# The paper's abstract says that mutual learning "outperforms distillation from a more powerful yet static teacher". Here the big teacher is
# ahead by far. But it has seen 55,000 images, so this comparison is not fair. A fairer one follows under "The bill".
#
# ### Several may vote
#
# A cohort leaves several networks behind, and they may vote: their probabilities are averaged. So may four that were trained alone.

# %%
guess("07.four-vote")

# %%
print(in_words(comparisons["vote of 4"], ["smoothed labels", *with_peers]))
ax = plots.intervals(comparisons["vote of 4"], smallest_effect=SMALLEST)
ax.set(xlabel="difference from the vote of four alone, in test errors of 10,000")
show(ax, alt="07.vote-of-four")

# %%
mean = measured[4].groupby("arm", sort=False)[["errors", "vote errors"]].mean()
mean = mean.round().astype(int)
mean["saved by voting"] = mean["errors"] - mean["vote errors"]
mean

# %% tags=["claims"]
vote = comparisons["vote of 4"].set_index("arm")
assert vote.difference["peers, T = 4"] < 0
gained = mean["saved by voting"]
assert gained["peers, T = 4"] < 0.75 * gained["alone"]
assert mean["vote errors"]["smoothed labels"] == mean["vote errors"].min()

# %% [markdown]
# Choice (a) of the guess had a point: peers agree more, so a vote saves them fewer errors. At $T = 4$ their vote still makes fewer errors here on
# average, because each voter is better. How clear that is, the sentence above says. **But the best vote is that of four students alone with smoothed labels.**
#
# ### The bill
#
# Now by price. Two more controls. One network trained *four times as long* costs what a cohort of four costs. And what is the "online" in online
# distillation worth: could the four that were trained alone not teach a fifth student afterwards, by their vote? It starts like the first of them.
# To be fair to it, its $T$ and $\alpha$ are the best of nine pairs by held-out errors, while the peers keep the one $T = 4$.

# %% tags=["plumbing"]
splits = {"train": few, "held_out": mnist.held_out, "test": mnist.test}
one_each = dict(make_student=make_student, data=splits, seeds=range(seeds), baselines=())
four_times = settings | {"epochs": 4 * epochs}
longer = sweep(objective={"four times as long": label_objective}, **one_each, **four_times)
finished = cohorts[4][cohorts[4].arm == "alone"].model
votes = torch.stack(  # (seeds, N, 10)
    [predict_logits(Ensemble(model.students), few.images) for model in finished]
)
first = seeds if FULL else 2  # so many seeds choose its knobs
tried = sweep(
    teacher=votes[:first], temperature=[1.0, 4.0, 16.0], alpha=[0.5, 0.9, 1.0],
    **one_each | {"seeds": range(first)}, **settings,
)  # fmt: skip
by_pair = tried.groupby(["temperature", "alpha"]).held_out_errors.mean()
best = dict(zip(by_pair.index.names, map(float, by_pair.idxmin()), strict=True))
offline = sweep(teacher=votes, **best, **one_each, **settings)
offline = offline.assign(arm="a fifth, after the four")
print("chosen for the fifth student: T = {temperature:g}, α = {alpha:g}".format(**best))


# %% tags=["plumbing"]
def taken(name, arm, column="errors"):
    rows = measured[4][measured[4].arm == arm]
    return rows.assign(arm=name, test_errors=rows[column])[["arm", "seed", "test_errors"]]


bill = {  # trainings, networks in use
    (1, 1): [taken("alone", "alone"), taken("smoothed labels", "smoothed labels")],
    (4, 1): [longer, taken("of four peers, T = 1", "peers, T = 1"),
             taken("of four peers, T = 4", "peers, T = 4")],
    (5, 1): [offline],
    (4, 4): [taken("vote of four alone", "alone", "vote errors"),
             taken("vote of four peers, T = 4", "peers, T = 4", "vote errors"),
             taken("vote of four, smoothed", "smoothed labels", "vote errors")],
}  # fmt: skip
errors = pd.concat(
    table.assign(trainings=cost, networks=used)
    for (cost, used), tables in bill.items() for table in tables
)  # fmt: skip

# %%
means = errors.groupby(["arm", "trainings", "networks"], sort=False).test_errors.mean()
means = means.round(0).astype(int).reset_index(["trainings", "networks"])
means.rename(columns={"test_errors": "test errors"})

# %% tags=["plumbing"]
names = ["alone", "smoothed labels", "a fifth, after the four"]
comparisons["the bill"] = judged(errors, baseline=names)
of_bill = comparisons["the bill"].set_index(["arm", "baseline"])
against_longer = judged(errors, baseline="four times as long").set_index(["arm", "baseline"])
of_four = [f"of four peers, T = {t}" for t in (1, 4)]
single = ["four times as long", "of four peers, T = 4", "a fifth, after the four"]
parts = {
    "first": against_longer.loc[[(name, "four times as long") for name in of_four]],
    "second": of_bill.loc[[("of four peers, T = 4", "a fifth, after the four")]],
    "third": of_bill.loc[[(name, "smoothed labels") for name in single]],
}
parts = {part: rows.reset_index() for part, rows in parts.items()}
lines = [rows.assign(arm=f"{part}: " + rows.arm) for part, rows in parts.items()]
print(in_words(pd.concat(lines), unit="errors"))

# %% tags=["claims"]
assert of_bill.low["four times as long", "smoothed labels"] > 0
assert not (of_bill.verdict.loc[[(name, "smoothed labels") for name in single]] == "better").any()
assert against_longer.high["of four peers, T = 4", "four times as long"] < 0
assert of_bill.high["vote of four, smoothed", "smoothed labels"] < 0
assert of_bill.difference["of four peers, T = 4", "a fifth, after the four"] < -20

# %% [markdown]
# Read off three things, in the order of the lines. First: longer training does not buy what peers bring at $T = 4$.
#
# Second: **"online" is worth something.** The student who learned from four finished ones, with knobs chosen for it, makes more errors than the one
# whose peers were learning with it. A likely reason: finished students know these 500 images by heart and say little more than the labels.
# Peers in the middle of their lessons are unsure, and of different things. (Anil et al., 2018, made this comparison for large networks, and report
# otherwise: a student of finished networks did as well as online. What they claim for online is speed, not fewer errors.) Let us look at one
# student: its errors on the training images, and how unsure it is (entropy, in nats).


# %%
def entropy_and_errors(length):
    student = fresh(0)
    knobs = dict(epochs=length, batch_size=50, progress=False)
    fit(student, few, label_objective, adam(list(student.parameters())), **knobs)
    p = predict_logits(student, few.images).softmax(dim=1)
    return torch.special.entr(p).sum(dim=1).mean().item(), count_errors(student, *few) / samples


unsure = []
for length in (2, epochs):
    nats, wrong = entropy_and_errors(length)
    print(f"after {length} epochs: wrong on {wrong:.0%} of its training images, {nats:.2f} nats")
    unsure.append(nats)

# %% tags=["claims"]
assert unsure[-1] < unsure[0] / 5
assert FULL or wrong < 0.02

# %% [markdown]
# At the end it nearly repeats the labels, so little is left to teach. In this fairer form, against four finished students, the paper's sentence about
# a static teacher holds here at $T = 4$. At the paper's own $T = 1$ the full size leaves it unclear.
#
# The third thing: **one network with smoothed labels costs one training, and no single network that cost four or five is clearly better.** "No teacher
# needed" is true here. That *peers* were needed has not been shown.
#
# ### Did it hold?
#
# The same at full size is one command, `python -m experiments.chapters 07`. The full size has 5,000 images, 10 epochs and 8 seeds in parts one and
# three. Left: this run. Right: the recorded full size.

# %% tags=["plumbing"]
full = read_record("chapter07")


def in_plain_words(name):
    return name.replace("_", " ")


def held(name, baseline, without=()):
    """Draw a comparison of this run, and beside it the one at full size."""
    here, there = (images_two, 2000) if name == "schedules" else (samples, 5000)
    tables = {f"this run, {here:,} images": comparisons[name]}
    if not FULL:
        tables[f"full size, {there:,} images"] = pd.DataFrame(full["comparisons"][name])
    rows = {title: table[table.baseline == baseline] for title, table in tables.items()}
    common = set.intersection(*(set(table.arm) for table in rows.values())) - set(without)
    figure = plots.did_it_hold(
        {title: table[table.arm.isin(common)] for title, table in rows.items()},
        images=dict.fromkeys(rows, len(mnist.test.labels)), smallest_effect=SMALLEST,
    )  # fmt: skip
    other = {"stands still": "knobs that stand still"}.get(baseline, in_plain_words(baseline))
    for ax in figure.axes:  # in one line, two long labels would run into each other
        ax.set_xlabel(f"difference from {other},\nin errors of 10,000 test images")
    return figure


# %%
show(held("one student of 4", "alone"), alt="07.one-of-four-held")

# %%
show(held("the bill", "smoothed labels"), alt="07.bill-held")

# %%
show(held("vote of 4", "alone"), alt="07.vote-of-four-held")

# %% tags=["claims"]
if not FULL:
    at_full = pd.DataFrame(full["comparisons"]["one student of 4"]).set_index("arm")
    assert (at_full.high[["smoothed labels", *with_peers]] < 0).all()
    bill_full = pd.DataFrame(full["comparisons"]["the bill"]).set_index(["arm", "baseline"])
    assert (
        bill_full.low.loc[["of four peers, T = 1", "of four peers, T = 4"]][:, "smoothed labels"]
        > 0
    ).all()
    votes_full = pd.DataFrame(full["comparisons"]["vote of 4"]).set_index("arm")
    assert (votes_full.high[with_peers] > 0).all()
    assert votes_full.high["smoothed labels"] < 0
    fifth = ("of four peers, T = 4", "a fifth, after the four")
    assert bill_full.high[fifth] < 0
    assert bill_full.verdict["of four peers, T = 1", "a fifth, after the four"] == "unclear"
    means_full = bill_full["mean"][:, "smoothed labels"].round().astype(int)
    names = ["four times as long", "of four peers, T = 4", "of four peers, T = 1"]
    assert means_full[names].tolist() == [645, 594, 664]

# %% tags=["claims"]
if not FULL:
    row = at_full.loc["averaged logits, T = 1"]
    assert [round(row.low), round(row.high)] == [-103, 12]
    row = at_full.loc["averaged logits, T = 4"]
    assert round(row.difference) == -172
    assert abs(row.difference - at_full.difference["peers, T = 4"]) < 10

# %% [markdown]
# At full size a student with peers beats one alone at both temperatures, and **smoothed labels are now ahead of every single network of a cohort**. One thing
# did not hold: here the vote of four peers made fewer errors on average than the vote of four alone. At full size the difference is unclear for both
# temperatures. The vote of four with smoothed labels still beats it.
#
# Averaged logits at $T = 1$ show no clear gain over a student alone at full size (between 103 errors fewer and 12 more). At $T = 4$ they make 172
# errors fewer, about as many as peers save. That agrees with trap 51: the higher $T$, the nearer the two.
#
# The fifth student, taught afterwards by the four, stays behind one of four peers at $T = 4$ at full size, too; at $T = 1$ that is unclear. Training four
# times as long ends at 645 errors there. Peers at $T = 4$ end at 594, but peers at $T = 1$ at 664, no better than training longer. (These are means. The
# record has no interval for their difference.)
#
# ## Part two: knobs that move
#
# In school one begins gently and ends with the exam. Applied to distillation, a common piece of advice reads: start with a high
# temperature, so that the student sees how the digits resemble each other, and lower it, so that the student becomes sure. Another says: let the
# weight of the teacher grow. A knob that moves is a [schedule](glossary:schedule), a function of progress, from 0 at the first step to 1 at the
# last. Its control is the same knob standing still, chosen with the same care.

# %%
draw_schedule()

# %% [markdown]
# This part needs a student whom a teacher can help much: Hinton's, with two hidden layers, and his teacher of chapter 02. Each layer has 150 units here, and
# 300 at full size.

# %%
pupils = partial(make_hinton_student, 300 if FULL else 150)
images_two, epochs_two, seeds_two = (2000, 30, 5) if FULL else (1000, 30, 4)
lesson = mnist.train.take(images_two)
teacher = zoo.load("hinton_teacher", device=device)
teacher_logits = predict_logits(teacher, lesson.images)  # (N, 10)
lessons = dict(
    make_student=lambda: pupils().to(device), teacher=teacher_logits, epochs=epochs_two,
    batch_size=100, lr=2e-3, progress=False, executor="processes",
)  # fmt: skip

# %% [markdown]
# First the control. The best of nine constant settings is chosen on held-out images, with one seed (two at full size) that is not used again. One seed
# is cheap and rough: settings that lie close together may change places with another seed. A control that is a little worse than the best
# makes every schedule below look a little better than it is.

# %%
still = sweep(
    seeds=range(100, 102 if FULL else 101), temperature=[4.0, 20.0, 40.0], alpha=[0.5, 0.9, 1.0],
    data={"train": lesson, "held_out": mnist.held_out}, baselines=(), **lessons,
)  # fmt: skip
by_knobs = still.pivot_table(index="temperature", columns="alpha", values="held_out_errors")
T_still, share_still = (float(knob) for knob in by_knobs.stack().idxmin())
print(f"Fewest held-out errors: T = {T_still:g}, α = {share_still:g}. Held-out errors of 5,000:")
by_knobs.rename_axis(index="T", columns="α").round(0).astype(int)

# %% tags=["claims"]
assert T_still > 10

# %% [markdown]
# ### Your turn: a line that arrives
#
# Let $T$ rise from 1 to 20 in a straight line over the steps of a run, which are counted from 0. In a run of five steps the first has $T = 1$,
# the third, in the middle, $T = 10.5$, and the last $T = 20$. (Whether a knob should rise or fall is another question, and comes after this one.)
# First a guess: here is the other direction, as it is often written.
#
# ```python
# T = 10 - (10 - 1) * stage / stages
# ```

# %%
guess("07.fifth-stage")

# %% [markdown]
# Write $T$ for step number `step` of a run of `steps` steps, two or more.


# %%
def temperature_at(step, steps):  # 0 <= step < steps
    ...


temperature_at = check("07.schedule", temperature_at)

# %%
numbers = range(5)
stages = {
    "as it is often written": [10 - (10 - 1) * stage / 5 for stage in numbers],
    "arriving": [10 - (10 - 1) * stage / (5 - 1) for stage in numbers],
    "yours, rising": [temperature_at(stage, 5) for stage in numbers],
}
for name, row in stages.items():
    print(f"{name:22} T = " + ", ".join(f"{t:g}" for t in row))

# %% tags=["claims"]
assert stages["as it is often written"][-1] == 2.8
assert stages["arriving"][-1] == 1
assert stages["yours, rising"] == [1, 5.75, 10.5, 15.25, 20]
assert progress_of(4, 5) == 1 == progress_of(0, 1)

# %% [markdown]
# <details><summary><b>Trap 54: stages that reach their last values after the last stage</b></summary>
#
# $T = 1$ is announced and never used. Counted from 0, the last of $n$ stages, epochs or steps is number $n - 1$, and stands at progress
# $(n-1)/(n-1) = 1$. `progress_of` computes that, and gives a run of a single step progress 1 rather than a division by 0.
#
# </details>
#
# ### Draw your own
#
# In `kdcourse.schedules` a schedule is a function of progress: `linear(1, 20)` is the line that you have just written. The editor draws one by
# hand. Five sliders for $T$ and five for $\alpha$ are five points, with straight lines between them. *Train to the end* trains a student with
# it, from the same start and on the same batches each time, and keeps the last five runs for comparison. Before you train one, guess.

# %%
guess("07.which-schedule")

# %% [markdown]
# Run the notebook **up to the next cell**. Train "α falls" and then "α rises": the same knobs, in the other order. What to look for: is
# one curve below the other all the way, and is it still at the end? Then try to beat both.

# %%
editor_data, optimizer_two = mnist._replace(train=lesson), partial(recipes.make_adam, lr=2e-3)
editor_knobs = dict(epochs=epochs_two, batch_size=100, make_optimizer=optimizer_two)
torch.manual_seed(0)
editor = ScheduleEditor(pupils().to(device), teacher, editor_data, **editor_knobs)
editor.preset.value = "α falls"
editor

# %% [markdown]
# Without a running kernel, these are the two runs, recorded by code in an editor of their own:

# %%
torch.manual_seed(0)
drawn = ScheduleEditor(pupils().to(device), teacher, editor_data, **editor_knobs)
for preset in ("α falls", "α rises"):
    drawn.preset.value = preset
    drawn.train()
drawn.close()
ax = plots.new_axes()
for run, role in zip(drawn.runs, ("kd", "student"), strict=True):
    x, y = run.steps[3:], run.errors[3:]
    plots.curve(x, y, role=role, label=run.name[2:], markevery=0.1, ax=ax)
ax.set(xlabel="training step", ylabel="held-out errors, %")
show(ax, alt="07.falls-and-rises")

# %% tags=["claims"]
falling, rising = (torch.tensor(run.errors[3:]) for run in drawn.runs)
assert (falling - rising)[:3].mean() > 2 * (falling - rising)[-3:].mean()

# %% [markdown]
# The gap is widest early: the run that begins with soft targets alone starts more slowly. By the end most of it has closed. Whether the rest is real,
# one student cannot say, as the widget's last line says too. So four students for each way of moving a knob (five at full size), all around
# the constant that the held-out images chose. "The stages" is the common advice rolled together: $T$ falls from 10 to 2.8 and $\alpha$ rises
# from 0.5 to 0.9, in five stages.

# %%
schedules = {
    "stands still": (constant(T_still), constant(share_still)),
    "T falls to 1": (linear(T_still, 1.0), constant(share_still)),
    "T rises from 1": (linear(1.0, T_still), constant(share_still)),
    "α falls to 0": (constant(T_still), linear(1.0, 0.0)),
    "α rises from 0": (constant(T_still), linear(0.0, 1.0)),
    "the stages": (step([10, 8.2, 6.4, 4.6, 2.8]), step([0.5, 0.6, 0.7, 0.8, 0.9])),
}
moving = {
    name: with_knobs(soft_target_objective, {"temperature": t, "alpha": alpha})
    for name, (t, alpha) in schedules.items()
}

# %%
lesson_and_test = {"train": lesson, "test": mnist.test}
runs = sweep(seeds=range(seeds_two), objective=moving, data=lesson_and_test, **lessons)
comparisons["schedules"] = judged(runs, baseline="stands still")
comparisons["schedules, both baselines"] = judged(runs)
print(in_words(comparisons["schedules"], [name for name in schedules if name != "stands still"]))
ax = plots.intervals(comparisons["schedules"].drop(columns="baseline"), smallest_effect=SMALLEST)
ax.set(xlabel="difference from knobs that stand still, in test errors of 10,000")
show(ax, alt="07.schedules")

# %%
table = format_comparison(comparisons["schedules, both baselines"], digits=0)
table.rename(index=in_plain_words, columns=in_plain_words)

# %% tags=["claims"]
moved = comparisons["schedules"].set_index("arm")
means = runs.groupby("arm").test_errors.mean()
assert means["α rises from 0"] + 60 < means["α falls to 0"]
assert means["α rises from 0"] < means["stands still"] < means["α falls to 0"]
assert means["T rises from 1"] < means["T falls to 1"]
both = comparisons["schedules, both baselines"].set_index(["arm", "baseline"])
assert (both.high.loc[["stands still", "α rises from 0"]] < 0).all()

# %% [markdown]
# **A knob that rises beats the one that stands still, and the same knob falling loses to it.** That is so for $\alpha$ and for $T$. The
# stages make more errors than the best constant, although their $\alpha$ rises. Their $T$ falls, and is lower than the constant's all the time; either
# may be the reason. Why $T$ should rise we do not know.
#
# Did it hold with 2,000 images and five seeds?

# %%
show(held("schedules", "stands still"), alt="07.schedules-held")

# %% tags=["claims"]
if not FULL:
    rows = pd.DataFrame(full["comparisons"]["schedules"]).set_index("arm")
    assert (rows.high[["T rises from 1", "α rises from 0"]] < 0).all()
    assert (rows.low[["T falls to 1", "α falls to 0", "the stages"]] > 0).all()

# %% [markdown]
# It held: at full size, too, both rises are better, both falls and the stages are worse, and no interval holds 0.
#
# ### How long will you train?
#
# All these runs have 300 steps (600 at full size). Here is one of nine: 300 images, three epochs, the same teacher at $T = 4$, and a student
# with 300 units a layer. The constant is $\alpha = 0.5$.

# %%
ways = {"stands still": constant(0.5), "falls": linear(1.0, 0.0), "rises": linear(0.0, 1.0)}
shortly = {
    f"α {name}": with_knobs(soft_target_objective, {"temperature": 4.0, "alpha": alpha})
    for name, alpha in ways.items()
}
beginning = {"train": lesson.take(300), "test": mnist.test}
short = lessons | {
    "make_student": lambda: make_hinton_student(300).to(device),
    "teacher": teacher_logits[:300], "epochs": 3,
}  # fmt: skip
nine_steps = sweep(seeds=range(5), objective=shortly, data=beginning, baselines=(), **short)
print(in_words(judged(nine_steps, baseline="α stands still")))

# %% tags=["claims"]
short_means = nine_steps.groupby("arm").test_errors.mean()
assert short_means["α falls"] + 100 < short_means["α stands still"] < short_means["α rises"]

# %% [markdown]
# The order turns round: $\alpha$ falling makes hundreds of errors *fewer* than the constant, and $\alpha$ rising makes more.
# (Question 4 at the end tries $T = 20$, too, and 20 epochs instead of 30.) **A schedule is an answer to the question how long you will train.**
#
# ### Who has the last word
#
# With $\alpha$ rising to 1, nothing is left of the labels at the end. With a good teacher that did no harm. Here is a hasty one: a small network
# after a moment with 200 images, and the students of part one again.

# %%
torch.manual_seed(0)
hasty, far = make_mlp(32).to(device), slice(50_000, 50_200)
its_own = mnist.train.images[far], mnist.train.labels[far]
optimizer = recipes.make_adam(list(hasty.parameters()))
fit(hasty, its_own, label_objective, optimizer, epochs=4, batch_size=20, progress=False)
wrong = count_errors(hasty, *few) / samples
print(f"The hasty teacher is wrong on {wrong:.0%} of the training images.")
ends = {
    "α rises to 1": linear(0.5, 1.0), "α rises to .9": linear(0.6, 0.9), "α = .75": constant(0.75),
    "α falls to .5": linear(1.0, 0.5), "α falls to 0": linear(1.0, 0.0),
}  # fmt: skip

# %% tags=["claims"]
assert 0.35 < wrong < 0.6

# %%
guess("07.rising-alpha-bad-teacher")

# %%
objectives = {
    name: with_knobs(soft_target_objective, {"temperature": 4.0, "alpha": alpha})
    for name, alpha in ends.items()
}
hastily = sweep(
    make_student=make_student, data={"train": few, "test": mnist.test},
    seeds=range(seeds if FULL else 4),
    teacher=predict_logits(hasty, few.images), objective=objectives, **settings,
)  # fmt: skip
comparisons["a hasty teacher"] = judged(hastily)
against = comparisons["a hasty teacher"]
print(in_words(against[against.baseline == "no_teacher"], list(ends)))

# %% tags=["claims"]
hasty_means = hastily.groupby("arm").test_errors.mean()
assert hasty_means["α rises to 1"] > 2 * hasty_means["no_teacher"]
assert hasty_means["α rises to 1"] > hasty_means["α rises to .9"] > hasty_means["α = .75"]
assert hasty_means["α = .75"] > hasty_means["α falls to 0"]
verdicts = against.set_index(["arm", "baseline"]).verdict
assert not (verdicts.loc[list(ends)][:, "label_smoothing"] == "better").any()

# %% [markdown]
# In the first four the mean $\alpha$ over the run is the same, 0.75. What differs is who speaks last. With $\alpha$ rising to 1 the teacher's mistakes are all
# that is left. Where $\alpha$ falls, the labels repair most of the damage. (With the fall to 0 they also have more to say altogether, since the
# mean $\alpha$ is 0.5.) No schedule beats label smoothing, which needs no teacher.
#
# Did it hold? The rise to 1 is left out of the picture, because its thousands of errors would hide the others.

# %%
show(held("a hasty teacher", "no_teacher", without=["α rises to 1"]), alt="07.hasty-held")

# %% tags=["claims"]
if not FULL:
    hasty_full = pd.DataFrame(full["comparisons"]["a hasty teacher"])
    hasty_full = hasty_full.set_index(["arm", "baseline"])
    row = hasty_full.loc[("α = .75", "no_teacher")]
    assert [round(row[name]) for name in ("difference", "low", "high")] == [-56, -107, -5]
    falls = hasty_full.verdict.loc[["α falls to .5", "α falls to 0"]]
    assert (falls[:, "no_teacher"] == "unclear").all()
    row = hasty_full.loc[("α rises to 1", "no_teacher")]
    assert round(row["mean"] / row.baseline_mean) == 6
    assert (hasty_full.low.loc[list(ends)][:, "label_smoothing"] > 0).all()

# %% [markdown]
# At full size one thing turned round: a steady $\alpha = 0.75$ makes 56 errors *fewer* than no teacher (5 to 107). Both falls are unclear there. What held: letting
# $\alpha$ rise to 1 does the greatest harm (there it multiplies the errors by six), and no schedule beats label smoothing.
#
# With the good teacher the last word helped, and with this one it did harm. So ask first who knows better. **Do not give a bad teacher the last word.**
#
# <details><summary><b>Trap 56: giving a teacher the last word unseen</b></summary>
#
# At $\alpha = 1$ the labels are silent. With a teacher that is right nearly everywhere that helped. With one that is wrong on half of the images it more than
# doubled the errors. Count the teacher's errors on the training images first.
#
# </details>
#
# ## Part three: from easy to hard
#
# A school book begins with what is easy. Images have no chapters, but a teacher can say what is hard: an image on which it is nearly wrong. A
# [curriculum](glossary:curriculum) (Bengio et al., 2009) shows the easy ones first. If the order helps, it costs nothing.
#
# The same code that promises "start with easy examples, progress to harder ones" often changes two numbers, $T$ and $\alpha$, and never
# looks at an example. So first: what is hard? Ask the big teacher. A digit is as hard as the teacher's cross-entropy on it is large.

# %%
pool = mnist.train.take(4000)
pool_logits = predict_logits(big_teacher, pool.images)
easiest_first = difficulty_by_loss(pool_logits, pool.labels).argsort()  # positions, not values
extremes = torch.cat([easiest_first[:10], easiest_first[-10:]])
ax = plots.digit_grid(pool.images[extremes], captions=pool.labels[extremes].tolist())
show(ax, alt="07.easiest-and-hardest")

# %% [markdown]
# In the upper row are the ten easiest of 4,000, in the lower row the ten hardest, which are odd indeed.

# %%
guess("07.easiest-first")

# %% [markdown]
# How often does each digit stand among the easiest?

# %%
parts = {"easiest 400": easiest_first[:400], "hardest 400": easiest_first[-400:]}
counts = {name: pool.labels[part].bincount(minlength=10) for name, part in parts.items()}
rows = {name: count.tolist() for name, count in counts.items()}
pd.DataFrame(rows).T.rename_axis("each digit among the", axis=0)

# %% tags=["claims"]
assert counts["easiest 400"][[1, 7, 9]].tolist() == [0, 2, 2]

# %% [markdown]
# Among the easiest 400 there is not one 1, and only two 7s and two 9s. A curriculum that begins with them hides digits from the student.
#
# ### Your turn: the pace
#
# `CurriculumBatches` draws each batch at random from the easiest share of the images. The *pace* says how that share grows with progress. Ours is a tenth
# at the start, grows in a straight line to all images at half-time, and stays there. For example, at progress 0.25 it is half of the way from 0.1 to 1, so 0.55.


# %%
def share_at(progress):  # 0 <= progress <= 1
    ...


share_at = check("07.pace", share_at)

# %% [markdown]
# Here is what the student meets: the mean difficulty of the images in each epoch, as a rank from 0, the easiest, to 1. Beside it the
# epochs of somebody who changes only $T$ and $\alpha$.

# %%
difficulty = difficulty_by_loss(cache, few.labels)  # (N,)
rank = difficulty.argsort().argsort() / samples


def mean_rank(make_batches):
    generator = torch.Generator().manual_seed(0)
    batches = make_batches(*few, rank, batch_size=50, epochs=epochs, generator=generator)
    ranks = torch.stack([ranks.mean() for _, _, ranks in batches])
    return ranks.unflatten(0, (epochs, -1)).mean(dim=1).cpu()


# %%
shuffled = mean_rank(minibatches)
in_order = mean_rank(partial(CurriculumBatches, difficulty=difficulty, pace=share_at))
x = range(1, epochs + 1)
ax = plots.curve(x, shuffled, role="no_teacher", label="only T and α change")
plots.curve(x, in_order, role="student", label="a curriculum", ax=ax)
ax.set(xlabel="epoch", ylabel="mean rank of difficulty", ylim=(0, 0.6))
show(ax, alt="07.mean-rank")

# %% tags=["claims"]
assert (shuffled - 0.5).abs().max() < 0.01
assert in_order[0] < 0.2

# %% [markdown]
# <details><summary><b>Trap 55: a curriculum that only changes T</b></summary>
#
# Nothing is ordered. A gain from it is a gain from a schedule.
#
# </details>
#
# A real curriculum changes *two* things: the order, and the sampling. At first only a tenth of the images is used, and late images are seen
# less often. So the control that counts is the same sampling in a **random order**: random numbers as difficulty. Beside it stand
# hardest first, plain epochs, and a curriculum without the flaw of the table: the easiest *of each digit* first. All learn from the big
# teacher's soft targets, with the $T$ and $\alpha$ that were chosen for it in part one.


# %%
def easiest_of_each_digit(difficulty, labels):
    ranks = torch.empty_like(difficulty)
    for digit in range(10):
        alike = labels == digit
        ranks[alike] = difficulty[alike].argsort().argsort() / alike.sum()  # from 0 to 1 in each
    return ranks


fair = easiest_of_each_digit(difficulty, few.labels)

# %% tags=["claims"]
fair_tenth = few.labels[fair.argsort()[: samples // 10]].bincount(minlength=10)
assert fair_tenth.min() > 0.5 * samples / 100
tenth = few.labels[difficulty.argsort()[: samples // 10]].bincount(minlength=10)
assert FULL or tenth[[1, 5, 9]].sum() == 0  # as the guess says


# %% tags=["plumbing"]
def train_in_order(difficulty, pace, objective, seed):
    student, make_batches = fresh(seed), minibatches
    if difficulty is not None:
        make_batches = partial(CurriculumBatches, difficulty=difficulty.to(device), pace=pace)
    knobs = dict(epochs=epochs, batch_size=50, seed=seed, make_batches=make_batches, progress=False)
    fit(student, (*few, cache), objective, adam(list(student.parameters())), **knobs)
    return student


def train_in_orders(make_orders, pace, objective, seeds):
    rows = [
        (name, seed, difficulty)
        for seed in range(seeds) for name, difficulty in make_orders(seed).items()
    ]  # fmt: skip
    calls = [(difficulty, pace, objective, seed) for _, seed, difficulty in rows]
    students = on_all_cores(train_in_order, calls, device=device)
    table = pd.DataFrame([row[:2] for row in rows], columns=["arm", "seed"])
    return table.assign(test_errors=[count_errors(student, *mnist.test) for student in students])


# %%
def orders(seed):
    generator = torch.Generator().manual_seed(1000 + seed)
    return {
        "easiest first": difficulty,
        "easiest of each digit first": fair,
        "hardest first": -difficulty,
        "random order": torch.rand(samples, generator=generator),
        "plain epochs": None,
    }


order_seeds = 12
soft = partial(soft_target_objective, temperature=big_temperature, alpha=big_share)
ordered = train_in_orders(orders, share_at, soft, order_seeds)

# %%
comparisons["order"] = judged(ordered, baseline=["random order", "plain epochs"])
table = comparisons["order"]
against_random = table[table.baseline == "random order"]
print(in_words(against_random))
ax = plots.intervals(against_random.drop(columns="baseline"), smallest_effect=SMALLEST)
ax.set(xlabel="difference from a random order, in test errors of 10,000")
show(ax, alt="07.orders")

# %% tags=["claims"]
differences = table.set_index(["arm", "baseline"]).difference
assert differences["easiest first", "random order"] > 0
assert (differences.drop("easiest first").abs() < 100).all()

# %% [markdown]
# **Easiest first is worse than a random order.** A part of the reason may be in the table: easy digits are not of all kinds. What the other orders did
# in this run, the sentences above say.
#
# ### The orders at full size

# %%
show(held("order", "random order"), alt="07.orders-held")

# %% tags=["claims"]
if not FULL:
    orders_full = pd.DataFrame(full["comparisons"]["order"]).set_index(["arm", "baseline"])
    row = orders_full.loc[("easiest first", "random order")]
    assert [round(row[name]) for name in ("difference", "low", "high")] == [50, 15, 85]
    assert (orders_full.low["easiest first"] > 0).all()
    row = orders_full.loc[("easiest of each digit first", "random order")]
    assert 0 < row.low < 5
    assert 15 < row.difference < 25
    assert orders_full.verdict["hardest first", "random order"] == "unclear"

# %% [markdown]
# At full size easiest first is still worse than a random order, by 50 errors (15 to 85). The easiest *of each digit* first is worse there, too, by some 20
# errors, with an interval that only just leaves out 0. Hardest first cannot be told from a random order.
#
# ### What the sampling does by itself
#
# Now labels alone, and a pace that reaches all images only in the last step. Many write it so; our own recipe had it as its default
# until this was measured.

# %%
slow = linear(0.2, 1.0)


def three_orders(seed):
    return {name: orders(seed)[name] for name in ("easiest first", "random order", "plain epochs")}


slowly = train_in_orders(three_orders, slow, label_objective, seeds if FULL else 4)
comparisons["order, slow pace, labels"] = judged(slowly, baseline=["plain epochs", "random order"])
table = comparisons["order, slow pace, labels"]
print(in_words(table[table.baseline == "plain epochs"]))
show(held("order, slow pace, labels", "plain epochs"), alt="07.slow-pace-held")

# %% tags=["claims"]
slow_here = table.set_index(["arm", "baseline"])
assert slow_here.difference["random order", "plain epochs"] > 100
assert slow_here.difference["easiest first", "plain epochs"] > 100
if not FULL:
    slow_full = pd.DataFrame(full["comparisons"]["order, slow pace, labels"])
    slow_full = slow_full.set_index(["arm", "baseline"])
    assert round(slow_full.difference["random order", "plain epochs"]) == 89
    assert slow_full.low["random order", "plain epochs"] > 0

# %% [markdown]
# A *random* order costs hundreds of errors here, and 89 at full size, probably because late images come too rarely. Whoever compares a curriculum with
# plain epochs alone mixes this up with the order. Hacohen and Weinshall (2019), who do find a gain on other images, also run a random order and
# the hardest first.

# %% tags=["plumbing"]
about_full = (
    f"part one and three: {samples:,} images, {epochs} epochs in batches of 50, {seeds} seeds "
    f"({order_seeds} for the orders), the big teacher at T = {big_temperature:g}, "
    f"α = {big_share:g}; part two: {images_two:,} images, {epochs_two} epochs in batches of 100, "
    f"{seeds_two} seeds, still at T = {T_still:g}, α = {share_still:g}"
)
print("The recorded full size: " + full["about"])

# %% tags=["claims"]
assert FULL or "5,000 images, 10 epochs" in full["about"]

# %% [markdown]
# ## Summary
#
# - Mutual learning: each student learns from the labels and from its peers' present answers. The peers stand in its loss as detached targets. A cohort
#   has at least two.
# - The mean of pairwise divergences pulls towards the *mean prediction*. Averaged logits pull towards a product, in which every peer has a veto: another method.
# - Peers at $T = 4$ helped without any teacher. In the small run they helped more than training four times as long. At both sizes a peer made fewer
#   errors than a fifth student that finished ones had taught, with knobs tuned for it. Peers were not clearly better than label smoothing here, and
#   worse at full size; and smoothing costs one training, not four.
# - A schedule runs over progress from 0 to 1 *inclusive*; five stages have four steps between them.
# - With a good teacher, $\alpha$ or $T$ that rises made fewer errors than the best constant, and $\alpha$ or $T$ that falls made more. Why $T$ should rise we do
#   not know. In a run of nine steps the order of the two ways for $\alpha$ turned round.
# - With a poor teacher an $\alpha$ that rises to 1 did great harm, at both sizes.
# - A curriculum must order something, and its control is a random order under the same sampling. Easiest first was worse, perhaps in part because
#   easy digits are not of all kinds.
#
# ## Think, then try
#
# The answers were measured with this chapter's code: errors of the 10,000 test images, 8 seeds, paired, with 95 % intervals. In a clone of
# the repository `python -m experiments.think 07` measures them again.
#
# 1. Give the cohort smoothed labels as well: peers *and* smoothing. Do the two gains add up?
#
# <details><summary>Answer</summary>
#
# No. In fours, with 500 images and 8 seeds, a student makes 1,427 errors with peers at $T = 4$ and smoothed labels
# together. It makes 1,433 with peers alone, 1,426 with smoothed labels alone, and 1,515 with neither. Both together are
# not clearly better than peers alone (between 27 errors fewer and 14 more), nor than smoothed labels alone (between 21
# errors fewer and 22 more). If the two gains added up, a student would make 1,345 errors. It makes 82 errors more (59
# to 105). That agrees with the suspicion that both do the same thing: they soften the targets.
#
# </details>
#
# 2. The peers keep $T = 4$. Is a higher $T$ better?
#
# <details><summary>Answer</summary>
#
# We see no gain here. With 500 images and 8 seeds a student of four makes 1,443 errors at $T = 8$ and 1,433 at $T = 4$.
# The difference is unclear (between 4 errors fewer and 24 more). Both are better than $T = 1$, with its 1,470 errors.
#
# </details>
#
# 3. One student of 64 units, one of 256. Who gains from whom? `Cohort` does not mind.
#
# <details><summary>Answer</summary>
#
# Both gain. At $T = 4$, with 500 images and 8 seeds, the student of 64 units makes 96 errors fewer (40 to 152) than
# alone. The one of 256 units makes 259 errors fewer (87 to 431). The larger one may gain more, but that is unclear: it
# makes between 332 errors fewer and 6 more than if it had gained what the small one gains.
#
# Alone the larger one makes 1,607 errors and the smaller one 1,527. Which of them is better alone is unclear, too: the
# larger one makes between 100 errors fewer and 260 more. So a peer need not be clearly better to be useful.
#
# </details>
#
# 4. Two checks on the question how long to train. Repeat the run of nine steps at $T = 20$: does the order turn round there, too? And train 20 epochs of
#    1,000 images instead of 30: is rising still better than falling, for $T$ and for $\alpha$?
#
# <details><summary>Answer</summary>
#
# The order turns round at $T = 20$ as well. In nine steps, with 8 seeds, $\alpha$ falling makes 1,605 errors fewer
# (1,348 to 1,862) than the constant, and $\alpha$ rising 239 errors more (99 to 379). Twenty epochs, 200 steps, are
# long enough for the other order: a knob that rises makes fewer errors than the same knob falling. For $T$ it makes 116
# errors fewer (90 to 143), for $\alpha$ 229 errors fewer (202 to 256).
#
# </details>
#
# ## References
#
# - Zhang, Xiang, Hospedales, Lu (2018). *Deep mutual learning.* [arXiv:1706.00384](https://arxiv.org/abs/1706.00384): section 3 and equations 1, 5, 8 (the loss, larger cohorts);
#   the variant with the mean of the peers' predictions, and why it is said to be worse; abstract (against a static teacher).
# - Anil, Pereyra, Passos, Ormandi, Dahl, Hinton (2018). *Large scale distributed neural network training through online distillation.*
#   [arXiv:1804.03235](https://arxiv.org/abs/1804.03235): peers on
#   disjoint parts of the data, whose predictions may be a little out of date (abstract).
# - Jafari, Rezagholizadeh, Sharma, Ghodsi (2021). *Annealing knowledge distillation.* [arXiv:2104.07163](https://arxiv.org/abs/2104.07163): soft targets at
#   temperatures that fall step by step (abstract).
# - Bengio, Louradour, Collobert, Weston (2009). *Curriculum learning.* ICML: the idea, and what it might do for optimisation.
# - Hacohen, Weinshall (2019). *On the power of curriculum learning in training deep networks.* [arXiv:1904.03626](https://arxiv.org/abs/1904.03626): difficulty
#   by a teacher, pace, and the controls: random order and anti-curriculum.
# - Müller, Kornblith, Hinton (2019). *When does label smoothing help?* [arXiv:1906.02629](https://arxiv.org/abs/1906.02629): the control that needs no peer.
