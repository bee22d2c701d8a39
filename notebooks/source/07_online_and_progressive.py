# %% [markdown]
# # Online and progressive distillation
#
# So far a teacher was finished before the first lesson, and every lesson was given in the same way. This chapter gives up both. First
# students teach each other while all of them learn: *online* distillation, which is said to need no teacher. Then the lesson changes on the
# way: temperature and $\alpha$ follow a schedule, and images come in an order, from easy to hard: *progressive* distillation. Each idea meets
# the control that is usually forgotten.
#
# **You will be able to**
# - write the loss of mutual learning, say whose weights it moves, and what becomes of it when logits are averaged;
# - judge a cohort by what it costs: as many strangers, their vote, smoothed labels, longer training;
# - draw a schedule that arrives where it promises, and hold it against constant knobs;
# - order images by difficulty, and tell what the *order* does from what the *sampling* does;
# - recognise traps 51 to 56 of `docs/traps.md` by what they leave behind.
#
# **You need** chapters 01 and 02. **Time** about 60 minutes; the machine needs about one and a half.
#
# Symbols: $S$ students; $z^i$ logits of student $i$, $p^i_T$ its probabilities at [temperature](glossary:temperature) $T$; $y$ label; $\alpha$ the [teacher's share](glossary:alpha).

# %%
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F

from kdcourse import plots, recipes, zoo
from kdcourse.data import load_mnist, minibatches
from kdcourse.losses import kd_loss, mutual_ensemble_loss, mutual_learning_loss
from kdcourse.models import make_mlp
from kdcourse.objectives import label_objective, mutual_objective, soft_target_objective, with_knobs
from kdcourse.plots import show
from kdcourse.plots.drawings import draw_cohort, draw_schedule
from kdcourse.recipes import (
    Cohort,
    CurriculumBatches,
    Ensemble,
    difficulty_by_loss,
    difficulty_by_margin,
)
from kdcourse.records import read_record
from kdcourse.schedules import constant, cosine, linear, piecewise, progress_of, step
from kdcourse.sweeps import compare, format_comparison, sweep
from kdcourse.training import count_errors, fit, pick_device, predict_logits
from kdcourse.widgets import CohortTrainer, ScheduleEditor, guess

# %%
draw_cohort()

# %% [markdown]
# The students that this chapter compares have two hidden layers of 64 units and see 500 images. So few, because on all of MNIST such networks end within
# a few errors of each other, and a [seed](glossary:seed) moves more than a method does. With 500 images there is something left to learn from
# somebody else, and a run is short enough to have eight of each. "At full size" repeats everything with ten times as many images.

# %%
FULL = False  # True: ten times the images, about ten minutes on one core
device = pick_device()
mnist = load_mnist(device=device)
samples, seeds, epochs = (5000, 8, 10) if FULL else (500, 8, 15)
few = mnist.train.take(samples)
adam = partial(recipes.make_adam, lr=1e-2)  # the optimizer of every student here
settings = dict(epochs=epochs, batch_size=50, lr=1e-2, progress=False, executor="processes")
comparisons = {}


def make_student():
    return make_mlp(64, 64).to(device)


# %% [markdown]
# ## Part one: students that teach each other
#
# A [cohort](glossary:cohort) is a group of students that start from different weights and see the same batches. In *Deep Mutual Learning* (2018) each of them learns
# from the labels, and from what its [peers](glossary:peer), the other students, say at that very moment. To look at the loss we need three who do not agree. Here
# they are, taught for a moment, each alone on 100 images of its own.


# %%
def taught_briefly(seed):
    torch.manual_seed(seed)
    student, own = make_student(), slice(100 * seed, 100 * (seed + 1))
    data, optimizer = (
        (mnist.train.images[own], mnist.train.labels[own]),
        adam(list(student.parameters())),
    )
    fit(student, data, label_objective, optimizer, epochs=10, batch_size=20, progress=False)
    return student


# %%
students = [taught_briefly(seed) for seed in range(3)]
images, labels = mnist.held_out.take(256)
answers = torch.stack(
    [predict_logits(student, images).argmax(dim=1) for student in students]
)  # (3, 256)
differ = float((answers != answers[0]).any(dim=0).float().mean())
print(
    f"errors of 256: {(answers != labels).sum(dim=1).tolist()}; on {differ:.0%} of the images not all say the same"
)

# %% tags=["claims"]
assert differ > 0.2

# %% [markdown]
# ### The loss
#
# Student $i$ gets the labels, and the mean [divergence](glossary:kullback-leibler-divergence) from each of its peers (Zhang et al., equations 5 and 8; there $T = 1$):
#
# $$L_i = \mathrm{CE}(z^i, y) + \frac{1}{S-1} \sum_{j \ne i} T^2\, \mathrm{KL}\big(p^j_T \,\|\, p^i_T\big)$$
#
# There is no $\alpha$: both terms have weight 1. $S$ students have $S$ losses, so the function returns a list.


# %%
def my_mutual_learning_loss(all_logits, labels, *, temperature):
    log_p = [F.log_softmax(logits / temperature, dim=-1) for logits in all_logits]  # S times (B, K)
    losses = []
    for i, own in enumerate(log_p):
        peers = [log_p[j].detach() for j in range(len(log_p)) if j != i]  # a target, not a partner
        told = [(peer.exp() * (peer - own)).sum(dim=-1).mean() for peer in peers]  # KL(peer ‖ own)
        losses.append(
            F.cross_entropy(all_logits[i], labels) + temperature**2 * sum(told) / len(told)
        )
    return losses


# %%
all_logits = [student(images) for student in students]  # three times (256, 10)
for t in (1.0, 4.0):
    mine = my_mutual_learning_loss(all_logits, labels, temperature=t)
    torch.testing.assert_close(mine, mutual_learning_loss(all_logits, labels, temperature=t))
    print(f"T = {t}:", [round(loss.item(), 2) for loss in mine])

# %%
guess("07.whose-gradient")


# %%
def pull(loss):
    """Length of a loss's gradient in the last layer of each student."""
    last = [student[-1].weight for student in students]
    found = torch.autograd.grad(loss, last, retain_graph=True, allow_unused=True)
    return [0.0 if gradient is None else round(gradient.norm().item(), 2) for gradient in found]


# %%
detached = mutual_learning_loss(all_logits, labels)[0]
attached = F.cross_entropy(all_logits[0], labels)
log_own = F.log_softmax(all_logits[0], dim=-1)
for peer in all_logits[1:]:
    log_peer = F.log_softmax(peer, dim=-1)  # nobody has called .detach()
    attached = attached + (log_peer.exp() * (log_peer - log_own)).sum(dim=-1).mean() / 2
print(f"peers detached:     loss {detached:.2f}, pull on students 1, 2, 3: {pull(detached)}")
print(f"peers not detached: loss {attached:.2f}, pull on students 1, 2, 3: {pull(attached)}")

# %% tags=["claims"]
assert pull(detached)[1:] == [0, 0]
assert min(pull(attached)) > 0

# %% [markdown]
# All losses are added and sent backwards once; because peers are [detached](glossary:detach), each student gets the gradient of its own loss and no
# other. Without `.detach()` the loss has the same value and another meaning: a peer is dragged towards the student whom it teaches.
#
# ### A cohort of one
#
# A widely read text writes mutual learning as a class. Here is its loss, nearly as it is printed. Its comment promises "average of other students'
# predictions". Somebody tries it with a single student, to have a baseline.


# %%
def texts_losses(all_logits, labels, temperature=4.0):
    losses = []
    for i, logits in enumerate(all_logits):
        peer_logits = [all_logits[j] for j in range(len(all_logits)) if j != i]
        peer_avg = torch.stack(peer_logits).mean(dim=0)
        soft_peer = F.softmax(peer_avg / temperature, dim=-1)
        soft_self = F.log_softmax(logits / temperature, dim=-1)
        kl_loss = F.kl_div(soft_self, soft_peer.detach(), reduction="batchmean") * temperature**2
        losses.append(F.cross_entropy(logits, labels) + kl_loss)
    return losses


# %%
for loss in (texts_losses, mutual_learning_loss):
    try:
        loss(all_logits[:1], labels)
    except (RuntimeError, ValueError) as error:
        print(f"{loss.__name__}: {error}")
nothing = torch.tensor([]).mean()
print(f"and the mean over no peers, which is how others write it: {nothing.item()}")

# %% tags=["claims"]
assert nothing.isnan()

# %% [markdown]
# <details><summary><b>Trap 52: a cohort of one</b></summary>
#
# It has no peer. Whoever stacks the peers first gets a message about an empty list of tensors; whoever takes a mean over
# none gets NaN, and `backward` spreads it into all weights without a word. Ours says what is missing. The baseline without peers is ordinary training.
#
# </details>
#
# ### Average of what?
#
# The text's comment says *predictions*; its code averages *logits*, and softens afterwards. That looks like a detail.

# %%
guess("07.mean-of-logits")

# %%
two = torch.tensor([[0.90, 0.10], [0.01, 0.99]])  # a row for each peer
of_logits = (
    two.log().mean(dim=0).softmax(dim=0)
)  # logits are log-probabilities, up to a constant that drops out
product = two.prod(dim=0).sqrt()
print("mean of predictions", [round(value, 3) for value in two.mean(dim=0).tolist()])
print("mean of logits     ", [round(value, 3) for value in of_logits.tolist()])
torch.testing.assert_close(
    of_logits, product / product.sum()
)  # the geometric mean, made to add up to 1

# %% tags=["claims"]
assert 0.22 < of_logits[0] < 0.24

# %% [markdown]
# A mean of predictions is the *arithmetic* mean: each peer keeps its say. A mean of logits becomes the *geometric* mean, a product: whoever finds a digit nearly impossible
# has a veto. Which of the two does the paper's loss follow? Write out the mean of two divergences. What depends on the student, with its probabilities $q_k$, is $-\frac12\sum_k (p^1_k + p^2_k) \log q_k$:
# of the peers only their sum is in it. So the pairwise lessons are *one* lesson, and it comes from the mean prediction. The gradients agree:

# %%
own = all_logits[0].detach().requires_grad_()
peers = torch.stack([logits.detach() for logits in all_logits[1:]])  # (2, 256, 10)
losses = {
    "pairwise": torch.stack([kd_loss(own, peer, temperature=1.0) for peer in peers]).mean(),
    "mean of predictions": kd_loss(own, peers.softmax(dim=-1).mean(dim=0).log(), temperature=1.0),
    "mean of logits": kd_loss(own, peers.mean(dim=0), temperature=1.0),
}

# %%
gradients = {
    name: torch.autograd.grad(loss, own, retain_graph=True)[0] for name, loss in losses.items()
}
pairwise = gradients["pairwise"]
for name, gradient in gradients.items():
    away = (gradient - pairwise).norm() / pairwise.norm()
    print(
        f"{name:20} loss {losses[name]:.3f}, gradient differs from the pairwise one by {away:.0%}"
    )
torch.testing.assert_close(gradients["mean of predictions"], pairwise)

# %% tags=["claims"]
assert losses["pairwise"] > losses["mean of predictions"]
assert (gradients["mean of logits"] - pairwise).norm() > 0.2 * pairwise.norm()

# %% [markdown]
# The first two *losses* differ by a number that this student cannot change: how much its peers disagree among themselves. It is what is left of the pairwise term at its best, at the mean prediction; only a united
# cohort can have a term of 0. The mean of logits pulls elsewhere. Here is the held-out digit on which the two targets differ most.

# %%
logits = torch.stack(
    [predict_logits(student, mnist.held_out.images) for student in students]
)  # (3, 5000, 10)
of_predictions, of_logits = (
    logits.softmax(dim=2).mean(dim=0),
    logits.mean(dim=0).softmax(dim=1),
)  # (5000, 10)
digit = int((of_predictions - of_logits).abs().sum(dim=1).argmax())
said = logits[:, digit].argmax(dim=1).tolist()
rows = {
    f"peer {number}": row for number, row in enumerate(logits[:, digit].softmax(dim=1), start=1)
}
rows |= {"mean of predictions": of_predictions[digit], "mean of logits": of_logits[digit]}

# %%
ax = plots.matrix(
    torch.stack(list(rows.values())), rows=list(rows), columns=range(10), numbers=".2f", label="probability",
    ax=plots.new_axes(width=8.5, height=2.8),
)  # fmt: skip
ax.set_title(f"a {int(mnist.held_out.labels[digit])}, as three students see it", fontsize=10)
show(ax, alt="07.heat-map-probabilities")

# %% tags=["claims"]
assert int(of_logits[digit].argmax()) not in said
assert of_predictions[digit].max() < 0.6 < of_logits[digit].max()

# %% [markdown]
# Each peer is for another digit, and all but rules out what the others say. The mean of predictions keeps a part of each. The mean of logits settles on a digit that *no* peer had in mind, because nobody rules it out altogether: a 0.00 in the picture may be a thousandth
# or a billionth, and in a product that is a difference. (Whether it is the right digit, the title says. A veto may be wise or not.)
# How large is the difference as a rule?

# %%
for t in (1.0, 4.0, 16.0):
    gap = (logits / t).softmax(dim=2).mean(dim=0) - (logits.mean(dim=0) / t).softmax(dim=1)
    print(f"T = {t:4}: the two targets differ by {gap.abs().sum(dim=1).mean():.2f} of at most 2")
pair = [student(images) for student in students[:2]]
torch.testing.assert_close(mutual_learning_loss(pair, labels), mutual_ensemble_loss(pair, labels))

# %% [markdown]
# <details><summary><b>Trap 51: averaged logits under the name of mutual learning</b></summary>
#
# Another method, with the target of an ensemble by veto. It may serve as well, and has a name of its own here: `mutual_ensemble_loss`. In a cohort of two
# there is one peer and nothing to average, so both are the same; and the higher $T$, the nearer they come.
#
# </details>
#
# ### What a peer says in the middle of a lesson
#
# A finished teacher is asked in evaluation mode. A peer is *in training*, with its [dropout](glossary:dropout) on. Should a student learn from what the peer happens to say with a third of its units switched off?

# %%
torch.manual_seed(0)
peer = make_mlp(64, 64, dropout=0.3).to(device)
fit(
    peer,
    mnist.train.take(500),
    label_objective,
    adam(list(peer.parameters())),
    epochs=4,
    batch_size=50,
    progress=False,
)
peer.train()
with torch.no_grad():
    passes = torch.stack([peer(images).softmax(dim=1) for _ in range(200)])  # (200, 256, 10)
calm = predict_logits(peer, images).softmax(dim=1)

# %%
away = {
    name: (told - calm).abs().sum(dim=1).mean()
    for name, told in (("one", passes[0]), ("all", passes.mean(dim=0)))
}
print(
    f"from what it says without dropout, one pass is away by {away['one']:.2f} (of at most 2), the mean of 200 by {away['all']:.2f}"
)

# %% tags=["claims"]
assert away["all"] < away["one"]

# %% [markdown]
# <details><summary><b>Trap 53: nobody has decided</b></summary>
#
# Both are defensible. A calm target costs one more forward pass of every student at every step. A noisy one is free, and since the noise is drawn anew each time, a student
# follows its average; which, as the second number says, is not the calm target either. `mutual_learning` takes the training-mode pass, and says so; the text's class takes whatever mode it is in. The students below have no dropout: nothing hangs on it here.
#
# </details>
#
# ### A cohort, live
#
# The recipe `mutual_learning` needs no more than the loss above, an optimizer for each student, and different starts. Two students on 500 images; beside them the first once more, alone,
# from the same start and on the same batches: its [twin](glossary:twin).


# %%
def held_out_errors(student):
    return {"errors": 100 * count_errors(student, *mnist.held_out) / len(mnist.held_out.labels)}


def fresh(seed):
    torch.manual_seed(seed)
    return make_student()


# %%
small = mnist.train.take(500)
knobs = dict(epochs=15, batch_size=50, evaluate=held_out_errors, progress=False)
together = recipes.mutual_learning(
    [fresh(0), fresh(1)], small, make_optimizer=adam, **knobs
).evaluations
twin = fresh(0)
alone = fit(twin, small, label_objective, adam(list(twin.parameters())), **knobs).evaluations

# %%
lines = {
    "student 0 of two": ("student", "student 0 errors"),
    "student 1 of two": ("kd", "student 1 errors"),
}
ax = plots.new_axes()
for name, (role, key) in lines.items():
    plots.curve(
        range(1, 16), [found[key] for found in together], role=role, label=name, markevery=3, ax=ax
    )
percent = [found["errors"] for found in alone]
plots.curve(range(1, 16), percent, role="no_teacher", label="student 0, alone", markevery=3, ax=ax)
ax.set(xlabel="epoch", ylabel="held-out errors, %", xticks=range(0, 16, 3))
show(ax, alt="07.held-out-errors")

# %% [markdown]
# One pair and one twin prove nothing, but they can be watched. The widget trains a cohort, and student 0 alone beside it. It draws everybody's held-out errors, those of the cohort's vote, and
# how much each is told by whom. Press play; move $T$ while it runs, or what the students learn from.

# %%
cohort = CohortTrainer(
    [fresh(0), fresh(1)], mnist._replace(train=small), make_optimizer=adam, batch_size=50
)
cohort

# %% [markdown]
# The same by code, with another pair like it: yours waits as you left it.

# %%
scripted = CohortTrainer(
    [fresh(0), fresh(1)], mnist._replace(train=small), make_optimizer=adam, batch_size=50
)
scripted.step(100)
scripted.temperature.value = 4.0
scripted.step(50)
print(
    "held-out errors in %:", {name: round(curve[-1], 1) for name, curve in scripted.curves.items()}
)
print(scripted.marks)
scripted.close()

# %% tags=["claims"]
assert scripted.marks[0].step == 100
assert scripted.curves["vote"][-1] < scripted.curves["vote"][0]

# %% [markdown]
# With four there are more lines, and a larger table of who is told what by whom. Reset it and set *learn from* to "labels only": that is what strangers do.

# %%
cohort = CohortTrainer(
    [fresh(s) for s in range(4)], mnist._replace(train=small), make_optimizer=adam, batch_size=50
)
cohort

# %%
scripted = CohortTrainer(
    [fresh(s) for s in range(4)], mnist._replace(train=small), make_optimizer=adam, batch_size=50
)
scripted.step(150)
told = scripted.divergences[-1]  # (5, 5): row i is told, column j tells; the last is the one alone
print(
    "held-out errors in %:", {name: round(curve[-1], 1) for name, curve in scripted.curves.items()}
)
print(
    f"student 0 is told {told[0, 1:4].mean():.2f} nats by a peer; the one alone would tell it {told[0, 4]:.2f}"
)
scripted.close()

# %% tags=["claims"]
assert told.diagonal().abs().max() < 1e-5

# %% [markdown]
# ### What a cohort is compared with
#
# A cohort costs as many trainings as it has students, so it has to face what that money buys otherwise. For cohorts of two and of four, from the same starts and on the same batches:
#
# - **strangers**, who learn from labels alone; and strangers with [smoothed labels](glossary:label-smoothing);
# - **peers**, at the paper's $T = 1$ and at the text's $T = 4$; and peers whose **logits are averaged**, at both;
# - students of a **big teacher**, the course's CNN, which has seen 55,000 images. Its knobs are chosen on [held-out images](glossary:held-out-images), with seeds that are not used again:

# %%
big_teacher = zoo.load("teacher_cnn", device=device)

# %%
cache = predict_logits(big_teacher, few.images)  # (N, 10)
grid = sweep(
    make_student=make_student, data={"train": few, "held_out": mnist.held_out}, seeds=range(100, 104), teacher=cache,
    temperature=[1.0, 2.0, 4.0, 8.0], alpha=[0.5, 0.7, 0.9, 1.0], baselines=(), **settings,
)  # fmt: skip
by_knobs = grid.pivot_table(index="temperature", columns="alpha", values="held_out_errors")
T, share = (float(knob) for knob in by_knobs.stack().idxmin())
print(f"chosen: T = {T}, α = {share}; held-out errors of {len(mnist.held_out.labels):,}:")
by_knobs.round(0)


# %%
def strangers(cohort, images, labels, *ignored, label_smoothing=0.0):
    terms = [
        F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        for logits in cohort(images)
    ]
    return {f"student {number}": term for number, term in enumerate(terms)}


def big_one_teaches(cohort, images, labels, teacher_logits):
    found = {}
    for number, logits in enumerate(cohort(images)):
        kd = kd_loss(logits, teacher_logits, temperature=T)
        found[f"student {number}"] = share * kd + (1 - share) * F.cross_entropy(logits, labels)
    return found


# %% [markdown]
# A cohort is one model with a list of logits, and `sweep` trains eight of them at once, one for each seed. On two cores it trains two methods at a time, too: that is `executor="processes"` in the settings above. The cohorts of two have the first two students of the cohorts of four.

# %%
methods = {
    "strangers": strangers,
    "smoothed labels": partial(strangers, label_smoothing=0.1),
    "peers, T = 1": mutual_objective,
    "peers, T = 4": partial(mutual_objective, temperature=4.0),
}
averaged = partial(mutual_objective, loss=mutual_ensemble_loss)  # in twos it is the same
four_only = {
    "averaged logits, T = 1": averaged,
    "averaged logits, T = 4": partial(averaged, temperature=4.0),
}


# %%
def train_cohorts(size, methods):
    def make_cohort():
        return Cohort([make_student() for _ in range(size)])

    knobs = dict(baselines=(), keep_models=True, **settings)
    return sweep(
        make_student=make_cohort, data=(*few, cache), seeds=range(seeds), objective=methods, **knobs
    )


# %%
guess("07.same-answers")

# %%
cohorts = {
    2: train_cohorts(2, methods | {"big teacher": big_one_teaches}),
    4: train_cohorts(4, methods | four_only),
}


def measure(run):
    logits = torch.stack(
        [predict_logits(student, mnist.test.images) for student in run.model.students]
    )  # (S, N, K)
    answers, vote = logits.argmax(dim=2), logits.softmax(dim=2).mean(dim=0).argmax(dim=1)
    return {
        "arm": run.arm, "seed": run.seed,
        "one student": (answers != mnist.test.labels).float().sum(dim=1).mean().item(),
        "vote": int((vote != mnist.test.labels).sum()),
        "same answer": (answers[0] == answers[1]).float().mean().item(),
    }  # fmt: skip


measured = {
    size: pd.DataFrame([measure(run) for run in runs.itertuples()])
    for size, runs in cohorts.items()
}

# %%
same = {
    size: frame.pivot(index="seed", columns="arm", values="same answer")
    for size, frame in measured.items()
}
for arm in ("strangers", "peers, T = 1", "peers, T = 4"):
    print(
        f"{arm:12} give the same answer: {same[2][arm].mean():.1%} in twos, {same[4][arm].mean():.1%} in fours"
    )

# %% tags=["claims"]
assert (same[4]["peers, T = 4"] > same[4]["strangers"]).all()

# %%
columns = ["one student", "vote"]
means = {
    f"cohort of {size}": frame.groupby("arm", sort=False)[columns].mean()
    for size, frame in measured.items()
}
pd.concat(means.values(), axis=1, keys=means).round(0).map(
    lambda errors: "–" if pd.isna(errors) else f"{errors:.0f}"
)

# %% [markdown]
# Errors of 10,000 test images: of one student, a mean over the cohort and over eight seeds; and of the vote, for which the students' probabilities are averaged. Some differences are large and
# others are not; the [intervals](glossary:confidence-interval) tell. First a guess.

# %%
guess("07.one-of-four")

# %%
for size, frame in measured.items():
    named = frame.replace({"strangers": f"{size} strangers"})
    for metric in ("one student", "vote"):
        comparisons[f"{metric} of {size}"] = compare(
            named, metric=metric, baseline=f"{size} strangers"
        )


def in_twos_and_fours(metric):
    tables = [comparisons[f"{metric} of {size}"] for size in (2, 4)]
    return pd.concat(
        [
            table.assign(arm=f"in {word}: " + table.arm)
            for table, word in zip(tables, ("twos", "fours"), strict=True)
        ]
    )


# %%
one = in_twos_and_fours("one student")
ax = plots.intervals(one.drop(columns="baseline"))
ax.set(xlabel="errors of one student, more than a stranger's")
show(ax, alt="07.differences-errors-intervals")

# %%
against = ["smoothed labels", "peers, T = 1"]
comparisons["one student of 4, further"] = compare(
    measured[4], metric="one student", baseline=against
)
format_comparison(comparisons["one student of 4, further"], digits=0)

# %%
fours = comparisons["one student of 4"].set_index("arm")
further = comparisons["one student of 4, further"].set_index(["arm", "baseline"])
assert (fours.high[["smoothed labels", "peers, T = 4"]] < 0).all()
assert further.verdict["peers, T = 4", "smoothed labels"] != "better"
assert further.difference["peers, T = 1", "smoothed labels"] > 0
for arm, baseline in (("peers, T = 4", "peers, T = 1"), ("averaged logits, T = 1", "peers, T = 1")):
    print(f"in fours: {arm}, against {baseline}: {further.verdict[arm, baseline]}")
print(f"in fours: peers, T = 1, against strangers: {fours.verdict['peers, T = 1']}")
twos = comparisons["one student of 2"].set_index("arm").loc["peers, T = 1"]
print(
    f"in twos, at T = 1: {twos.verdict}; a cohort may save {max(0, -twos.low):.0f} errors, and cost {max(0, twos.high):.0f}"
)

# %% tags=["claims"]
assert (
    comparisons["one student of 2"].set_index("arm").high["big teacher"]
    < 2 * fours.difference["peers, T = 4"]
)

# %% [markdown]
# **It can help, and no teacher is needed.** In fours, at the text's $T = 4$, a student makes fewer errors than a stranger. At the paper's $T = 1$ the gain is smaller, so small that another processor's rounding can move its interval across 0; the lines above say what it is in this run, and whether it matters
# that predictions are averaged and not logits. In twos the interval is wide: look at its ends, and not at the verdict alone. "Unclear" is not "equal".
#
# But read the other rows. *Smoothed labels*, with no peer at all, make fewer errors than the paper's cohort, and the cohort at $T = 4$ is no better than they are. A likely reason: peers do for each other what label smoothing does, they soften the targets.
# And the paper's abstract says that mutual learning "outperforms distillation from a more powerful yet static teacher". Here the big teacher is ahead by far. But it has seen 55,000 images, so this comparison is no fair one; a fairer one follows under "The bill".
#
# ### The vote, and the strangers who are usually forgotten
#
# A cohort leaves several networks behind, and they may vote. So may strangers.

# %%
guess("07.four-vote")

# %%
vote = in_twos_and_fours("vote")
ax = plots.intervals(vote.drop(columns="baseline"))
ax.set(xlabel="errors of a vote, more than of the strangers' vote")
show(ax, alt="07.differences-errors-vote")

# %%
fours = comparisons["vote of 4"].set_index("arm")
mean = measured[4].groupby("arm")[["one student", "vote"]].mean()
gained = mean["one student"] - mean["vote"]
print("what voting gains, in fours:", gained.round(0).astype(int).to_dict())

# %% tags=["claims"]
assert fours.high["peers, T = 4"] < 0
assert gained["peers, T = 4"] < 0.75 * gained["strangers"]
assert mean.vote["smoothed labels"] == mean.vote.min()

# %% [markdown]
# Answer (a) had a point: peers agree more, so voting gains them less than strangers. Still their vote is better at $T = 4$, since each voter is. **But the best vote is that of four strangers with smoothed labels.**
#
# ### The bill
#
# Now by price. Two controls are missing. One network trained *four times as long* costs what a cohort of four costs. And what is the "online" in online distillation worth: could the four strangers, once finished,
# not teach a fifth student by their vote? It starts like the first of them and hears at the same $T = 4$, with equal weights for labels and teacher ($\alpha = ½$).

# %%
alone_too = dict(
    make_student=make_student,
    data={"train": few, "test": mnist.test},
    seeds=range(seeds),
    baselines=(),
)
longer = sweep(
    objective={"one, four times as long": label_objective},
    **alone_too,
    **(settings | {"epochs": 4 * epochs}),
)
finished = cohorts[4][cohorts[4].arm == "strangers"].model
votes = torch.stack(
    [predict_logits(Ensemble(model.students), few.images) for model in finished]
)  # (seeds, N, 10)
offline = sweep(teacher=votes, temperature=4.0, alpha=0.5, **alone_too, **settings)


def taken(name, arm, column):
    rows = measured[4][measured[4].arm == arm]
    return rows.assign(arm=name, test_errors=rows[column])


# %%
bill = [
    taken("one stranger", "strangers", "one student"),
    taken("one with smoothed labels", "smoothed labels", "one student"),
    longer,
    taken("one of four peers, T = 1", "peers, T = 1", "one student"),
    taken("one of four peers, T = 4", "peers, T = 4", "one student"),
    offline.assign(arm="one, after four strangers"),
    taken("four strangers vote", "strangers", "vote"),
    taken("four peers vote, T = 4", "peers, T = 4", "vote"),
    taken("four with smoothed labels vote", "smoothed labels", "vote"),
]

# %%
price = [(1, 1), (1, 1), (4, 1), (4, 1), (4, 1), (5, 1), (4, 4), (4, 4), (4, 4)]
table = [
    frame.assign(trainings=cost, networks=used)
    for frame, (cost, used) in zip(bill, price, strict=True)
]
errors = pd.concat(table)
errors.groupby(["arm", "trainings", "networks"], sort=False).test_errors.mean().round(
    0
).to_frame().reset_index()

# %%
names = ["one stranger", "one with smoothed labels", "one, after four strangers"]
comparisons["the bill"] = compare(errors, baseline=names)
found = comparisons["the bill"].set_index(["arm", "baseline"])
means = errors.groupby("arm").test_errors.mean()
format_comparison(comparisons["the bill"], digits=0)

# %% tags=["claims"]
assert found.verdict["one, after four strangers", "one stranger"] != "better"
assert found.high["one of four peers, T = 4", "one, after four strangers"] < 0
assert found.low["one, four times as long", "one with smoothed labels"] > 0
assert means["one, four times as long"] > means["one of four peers, T = 4"] + 20
assert found.high["four with smoothed labels vote", "one with smoothed labels"] < 0

# %% [markdown]
# Three things to read off. Longer training does not buy what peers bring at $T = 4$. **"Online" is worth something**: the student who learned from four finished strangers gained nothing that we could see, the one whose peers were learning with it did. A likely reason: finished strangers know these 500
# images by heart and say little more than the labels. Peers in the middle of their lessons are unsure, and of different things. Let us look:


# %%
def entropy(model):
    p = predict_logits(model, few.images).softmax(dim=1)
    return -torch.xlogy(p, p).sum(dim=1).mean().item()


# %%
for name, length in {"after 2 epochs": 2, f"after all {epochs}": epochs}.items():
    student = fresh(0)
    fit(
        student,
        few,
        label_objective,
        adam(list(student.parameters())),
        epochs=length,
        batch_size=50,
        progress=False,
    )
    print(
        f"{name}: right on {1 - count_errors(student, *few) / samples:.0%} of its training images, mean entropy {entropy(student):.2f} nats"
    )

# %% [markdown]
# And the third: **one network with smoothed labels costs one training and is not beaten by any single network that cost four.** "No teacher needed" is true here; that *peers* were needed has not been shown.

# %% [markdown]
# ## Part two: a lesson that changes
#
# The idea is that of school: begin gently, end with the exam. A high temperature at first, so that the student sees how the digits resemble each other; a low one later, so that it becomes sure. Or a large $\alpha$
# at first and a small one later; or the other way round. A knob that moves is a [schedule](glossary:schedule), a function of progress. Its control is the same knob, standing still, chosen with the same care.
#
# ### Five stages that never arrive
#
# The widely read text has a class for it. This is all of it.


# %%
draw_schedule()


# %%
class ProgressiveDistillation:
    """Gradually increase difficulty during distillation. Start with easy examples, progress to harder ones."""

    def __init__(self, num_stages=5):
        self.num_stages, self.current_stage = num_stages, 0

    def get_temperature(self):
        return 10.0 - (10.0 - 1.0) * (self.current_stage / self.num_stages)

    def get_alpha(self):
        return 0.5 + 0.5 * (self.current_stage / self.num_stages)

    def advance_stage(self):
        if self.current_stage < self.num_stages:
            self.current_stage += 1


# %%
guess("07.fifth-stage")

# %%
text, used = ProgressiveDistillation(), []
for _ in range(5):
    used.append(
        (round(text.get_temperature(), 2), round(text.get_alpha(), 2))
    )  # with these the stage is trained
    text.advance_stage()
print("T and α of the five stages:", used)
print("announced after the last one:", (text.get_temperature(), text.get_alpha()))

# %% tags=["claims"]
assert used[-1] == (2.8, 0.9)

# %% [markdown]
# <details><summary><b>Trap 54: stages that reach their last values after the last stage</b></summary>
#
# $T = 1$ and $\alpha = 1$ are announced and never used. Counted from 0, the last of $n$ stages, epochs or steps is number $n - 1$, and stands at progress $(n-1)/(n-1) = 1$.
# `progress_of` computes that, and gives a run of a single step progress 1 rather than a division by 0.
#
# </details>

# %%
arrives = [10 + (1 - 10) * progress_of(stage, 5) for stage in range(5)]
print(
    "five stages that arrive: T =",
    arrives,
    "  a single stage stands at progress",
    progress_of(0, 1),
)

# %% tags=["claims"]
assert arrives[0] == 10
assert arrives[-1] == 1

# %% [markdown]
# In `kdcourse.schedules` a schedule is a function of progress, from 0 to 1 *inclusive*. Four of them for the temperature:

# %%
texts_T, texts_alpha = step([t for t, _ in used]), step([alpha for _, alpha in used])
drawn = {
    "the text's five stages": (texts_T, "fork"), "five that arrive": (step(arrives), "kd"),
    "linear": (linear(10, 1), "student"), "cosine": (cosine(10, 1), "ce"),
}  # fmt: skip
progress = [place / 200 for place in range(201)]
ax = plots.new_axes()
for name, (schedule, role) in drawn.items():
    plots.curve(
        progress, [schedule(p) for p in progress], role=role, label=name, markevery=25, ax=ax
    )
ax.set(xlabel="progress", ylabel="temperature T", ylim=(0, 10.5))
show(ax, alt="07.schedules-t-10")

# %% [markdown]
# Now draw your own. Five sliders for $T$ and five for $\alpha$ are five points of a schedule, with straight lines between them, or five stages. *Train to the end* trains a student with it, on the same batches and from the same start each time, and keeps
# the last five for comparison.

# %%
data, knobs = mnist._replace(train=small), dict(epochs=15, batch_size=50, make_optimizer=adam)
editor = ScheduleEditor(fresh(0), big_teacher, data, **knobs)
editor

# %% [markdown]
# By code, with an editor of its own: the text's five stages, then a valley.

# %%
scripted = ScheduleEditor(fresh(0), big_teacher, data, **knobs)
scripted.preset.value = "as the widely read text has it"
scripted.train()
scripted.preset.value = "linear"
for slider, value in zip(scripted.temperatures, [8, 4, 2, 4, 8], strict=True):
    slider.value = value  # a valley
scripted.train()
for run in scripted.runs:
    ends = f"T from {run.temperatures[0]:.1f} to {run.temperatures[-1]:.1f}, α from {run.alphas[0]:.1f} to {run.alphas[-1]:.1f}"
    print(f"{run.name}: {ends}; held-out errors {run.errors[-1]:.1f} %")

# %%
valley = scripted.temperature_schedule  # a function like any other: the sweep below trains it too
scripted.close()

# %% tags=["claims"]
assert scripted.runs[0].temperatures[-1] == 2.8
assert valley(0.5) == 2

# %% [markdown]
# ### Constant, or not?
#
# Eleven ways to move the knobs around the constant ones that the held-out images chose, all with the big teacher. The last is the oldest idea of all: listen to the teacher first, and then practise on the labels alone.

# %%
schedules = {
    "constant": (constant(T), constant(share)),
    "the text's": (texts_T, texts_alpha),
    "the text's, arriving": (step(arrives), step([0.5, 0.625, 0.75, 0.875, 1.0])),
    "T falls, linear": (linear(2 * T, T / 4), constant(share)),
    "T falls, cosine": (cosine(2 * T, T / 4), constant(share)),
    "T falls, steps": (step([2 * T, T, T / 2, T / 4]), constant(share)),
    "T rises": (linear(T / 4, 2 * T), constant(share)),
    "T as drawn": (valley, constant(share)),
    "α rises to 1": (constant(T), linear(0.5, 1.0)),
    "α falls to .5": (constant(T), linear(1.0, 0.5)),
    "α falls to 0": (constant(T), linear(1.0, 0.0)),
    "teacher, then labels alone": (constant(T), step([1, 1, 1, 1, 0])),
}
moving = {
    name: with_knobs(soft_target_objective, {"temperature": t, "alpha": alpha})
    for name, (t, alpha) in schedules.items()
}

# %%
guess("07.schedules-save")

# %%
data = {"train": few, "test": mnist.test}
runs = sweep(
    make_student=make_student,
    data=data,
    seeds=range(seeds),
    teacher=cache,
    objective=moving,
    **settings,
)
comparisons["schedules"] = compare(runs, baseline="constant")
ax = plots.intervals(comparisons["schedules"].drop(columns="baseline"))
ax.set(xlabel="errors more than with constant knobs")
show(ax, alt="07.differences-intervals-all")

# %%
found = comparisons["schedules"].set_index("arm")
better = found.index[found.verdict == "better"].tolist()
print("an interval below 0:", ", ".join(better) or "none")
moved = [name for name in schedules if name not in ("constant", "teacher, then labels alone")]
comparisons["schedules, both baselines"] = compare(runs)
against = comparisons["schedules, both baselines"].set_index(["arm", "baseline"]).loc[moved]
format_comparison(comparisons["schedules, both baselines"], digits=0)

# %% tags=["claims"]
assert (found.difference[moved].abs() < 50).all()
assert found.low["teacher, then labels alone"] > 0
assert (against.high < 0).all()

# %% [markdown]
# **All schedules but the last are well ahead of both baselines, and none saves 50 errors, on the mean, against knobs that stand still.** (A smaller gain is not excluded: look at the left ends of the intervals.) Falling, rising, stairs, a valley: it makes little difference, because around the chosen point the table of held-out errors above is flat. The text's mistake of trap 54 cost nothing that we could see, for the same reason.
# One way of moving does harm, the last: to switch the teacher off for the last fifth, and let the student overfit to 500 labels alone.
#
# A schedule has two more numbers to choose than a constant. If you give it the better-tuned knobs, it will win; that is the usual way in which schedules win.
#
# ### Who has the last word
#
# The text's $\alpha$ *rises*: "distillation weight increases over stages", to 1. Repair its schedule so that it arrives, and at the end the labels weigh nothing. With our big teacher we saw no harm in that. Here is a hasty one: a small network
# after a moment with 200 images.

# %%
torch.manual_seed(0)
hasty, far = make_mlp(32).to(device), slice(50_000, 50_200)
its_own = mnist.train.images[far], mnist.train.labels[far]
optimizer = recipes.make_adam(list(hasty.parameters()))
fit(hasty, its_own, label_objective, optimizer, epochs=4, batch_size=20, progress=False)
wrong = count_errors(hasty, *few) / samples
print(f"the hasty teacher is wrong on {wrong:.0%} of the training images")
ends = {
    "α rises to 1": linear(0.5, 1.0), "α rises to .9, the text's": texts_alpha, "α = .75": constant(0.75),
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
logits = predict_logits(hasty, few.images)
hastily = sweep(
    make_student=make_student,
    data=data,
    seeds=range(seeds),
    teacher=logits,
    objective=objectives,
    **settings,
)
comparisons["a hasty teacher"] = compare(hastily)
means = hastily.groupby("arm").test_errors.mean()

# %% tags=["claims"]
assert means["α rises to 1"] > 2 * means["no_teacher"]

# %%
found = comparisons["a hasty teacher"].set_index(["arm", "baseline"])
format_comparison(comparisons["a hasty teacher"], digits=0)

# %% tags=["claims"]
assert (
    found.low[[("α rises to .9, the text's", name) for name in ("no_teacher", "label_smoothing")]]
    > 0
).all()
assert (
    means["α rises to 1"]
    > means["α rises to .9, the text's"]
    > means["α = .75"]
    > means["α falls to 0"]
)
assert not (found.loc[list(ends)].verdict[:, "label_smoothing"] == "better").any()

# %% [markdown]
# In the first four the mean $\alpha$ over the run is nearly the same, about ¾; what differs is who speaks last. Where $\alpha$ falls to 0 the labels repair most of the damage; there they also have more to say altogether, for the mean $\alpha$ is ½. (No schedule makes this teacher useful: none beats label smoothing.)
#
# <details><summary><b>Trap 56: ending at α = 1</b></summary>
#
# The student forgets the labels when it matters most. A good teacher hides the mistake; a poor one shows it.
#
# </details>

# %% [markdown]
# ## Part three: from easy to hard
#
# "Start with easy examples, progress to harder ones", says the text's class. Look at it again: it changes two numbers. It never sees an example.
#
# A [curriculum](glossary:curriculum) (Bengio et al., 2009) orders them. What is hard? Ask the big teacher: a digit is as hard as the teacher's [cross-entropy](glossary:cross-entropy) on it is large; or, as hard as the best wrong class comes near the right one, by the difference of their logits, the *margin*.

# %%
difficulty = difficulty_by_loss(
    cache, few.labels
)  # (N,): one number per image, so no mean is taken
torch.testing.assert_close(difficulty, F.cross_entropy(cache, few.labels, reduction="none"))

# %%
pool = mnist.train.take(4000)
pool_logits = predict_logits(big_teacher, pool.images)
easiest_first = difficulty_by_loss(pool_logits, pool.labels).argsort()  # positions, not values
ends = torch.cat([easiest_first[:10], easiest_first[-10:]])
ax = plots.digit_grid(pool.images[ends], captions=pool.labels[ends].tolist())
show(ax, alt="07.easiest-digits-clean")

# %%
by_margin = difficulty_by_margin(pool_logits, pool.labels).argsort()
both = torch.isin(easiest_first[-400:], by_margin[-400:]).float().mean()
print(f"of the hardest tenth by loss, {both:.0%} are in the hardest tenth by margin")
counts = {
    name: torch.bincount(pool.labels[part], minlength=10)
    for name, part in {
        "easiest 400": easiest_first[:400],
        "hardest 400": easiest_first[-400:],
    }.items()
}
pd.DataFrame({name: found.tolist() for name, found in counts.items()}).T.rename_axis(
    "each digit among the", axis=0
)

# %% tags=["claims"]
assert both > 0.6
assert counts["easiest 400"][1] < 5

# %% [markdown]
# The two measures nearly agree, and the hardest are odd indeed. But look at the table: among the easiest 400 there is hardly a 1. A curriculum that begins with them hides a digit from the student. Keep that in mind.
#
# ### What an order is made of
#
# `CurriculumBatches` draws each batch at random from the easiest share of the images, rounded up to whole ones, and the *pace* says how that share grows. Ours grows from a tenth to everything at half-time. So that you see what the text's class does not do, here is the mean
# difficulty of the images in each epoch, as a rank from 0, the easiest, to 1.

# %%
rank = difficulty.argsort().argsort() / samples  # (N,)
pace = piecewise([(0, 0.1), (0.5, 1), (1, 1)])


def mean_rank(make_batches):
    generator = torch.Generator().manual_seed(0)
    batches = make_batches(*few, rank, batch_size=50, epochs=epochs, generator=generator)
    return (
        torch.stack([ranks.mean() for _, _, ranks in batches])
        .unflatten(0, (epochs, -1))
        .mean(dim=1)
        .cpu()
    )


# %%
shuffled = mean_rank(minibatches)
ordered = mean_rank(partial(CurriculumBatches, difficulty=difficulty, pace=pace))
ax = plots.curve(
    range(1, epochs + 1),
    shuffled,
    role="no_teacher",
    label="the text's: T and α change, images do not",
)
plots.curve(
    range(1, epochs + 1), ordered, role="student", label="a curriculum by the teacher's loss", ax=ax
)
ax.set(xlabel="epoch", ylabel="mean rank of difficulty", ylim=(0, 0.6))
show(ax, alt="07.text-s-line")

# %% tags=["claims"]
assert (shuffled - 0.5).abs().max() < 0.01
assert ordered[0] < 0.2

# %% [markdown]
# <details><summary><b>Trap 55: a curriculum that only changes T</b></summary>
#
# Nothing is ordered. Whoever reports a gain from it reports a gain from a schedule.
#
# </details>
#
# A real curriculum changes *two* things: the order, and the sampling. At first only a tenth of the images is used, later images are seen less often than earlier ones, and batches are drawn with replacement. So the control that counts is the same sampling in a **random order**: random numbers as difficulty.
# Beside it: hardest first, the *anti-curriculum*; plain epochs; and a curriculum without the flaw that we have seen, with the easiest *of each digit* first.


# %%
def easiest_of_each_digit(difficulty, labels):
    found = torch.empty_like(difficulty)
    for digit in range(10):
        own = labels == digit
        found[own] = (
            difficulty[own].argsort().argsort() / own.sum()
        )  # its rank among its own kind, from 0 to 1
    return found


# %%
fair = easiest_of_each_digit(difficulty, few.labels)
share_of = {
    name: torch.bincount(few.labels[values.argsort()[: samples // 10]], minlength=10)
    for name, values in {"easiest tenth": difficulty, "easiest tenth of each digit": fair}.items()
}
pd.DataFrame({name: found.tolist() for name, found in share_of.items()}).T.rename_axis(
    "each digit in the", axis=0
)

# %% tags=["claims"]
assert share_of["easiest tenth of each digit"].min() > 0.5 * samples / 100

# %%
guess("07.easiest-first")


# %%
def train_in_order(difficulty, pace, objective, seed):
    student, make_batches = fresh(seed), minibatches
    if difficulty is not None:
        make_batches = partial(CurriculumBatches, difficulty=difficulty.to(device), pace=pace)
    knobs = dict(epochs=epochs, batch_size=50, seed=seed, make_batches=make_batches, progress=False)
    fit(student, (*few, cache), objective, adam(list(student.parameters())), **knobs)
    return count_errors(student, *mnist.test)


def at_random(seed):
    return torch.rand(samples, generator=torch.Generator().manual_seed(1000 + seed))


# %%
soft, rows = partial(soft_target_objective, temperature=T, alpha=share), []
order_seeds = 2 * seeds if FULL else 12
for seed in range(order_seeds):
    orders = {
        "easiest first": difficulty, "easiest of each digit first": fair, "hardest first": -difficulty,
        "random order": at_random(seed), "plain epochs": None,
    }  # fmt: skip
    rows += [
        (name, seed, train_in_order(order, pace, soft, seed)) for name, order in orders.items()
    ]

# %%
ordered = pd.DataFrame(rows, columns=["arm", "seed", "test_errors"])
comparisons["order"] = compare(ordered, baseline=["random order", "plain epochs"])
ax = plots.intervals(comparisons["order"])
ax.set(xlabel="difference in test errors (of 10,000)")
show(ax, alt="07.differences-intervals-easiest")

# %%
found = comparisons["order"].set_index(["arm", "baseline"])
others = found[found.index.get_level_values("arm") != "easiest first"]
print(
    "an interval that leaves out 0:",
    [pair for pair, row in found.iterrows() if row.verdict != "unclear"],
)
format_comparison(comparisons["order"], digits=0)

# %% tags=["claims"]
assert (found.loc["easiest first"].low > 0).all()
assert (others.difference.abs() < 60).all()

# %% [markdown]
# **Easiest first is worse than a random order, and than no order.** The flaw was in the table: easy digits are not of all kinds. With the easiest *of each digit* first we see no harm, and no gain in its place; nor do we with the hardest first. On these images we cannot see that the order matters, as long as it does not keep a digit back.
#
# #### What the sampling does by itself
#
# Labels alone, and a pace that reaches all images only in the last step, a fifth to all in a straight line. Many write it so; our own recipe had it as its default until this was measured.

# %%
slow, rows = linear(0.2, 1.0), []
for seed in range(seeds):
    orders = {"easiest first": difficulty, "random order": at_random(seed)}
    rows += [
        (name, seed, train_in_order(order, slow, label_objective, seed))
        for name, order in orders.items()
    ]
plain = runs[runs.arm == "no_teacher"].assign(arm="plain epochs")[["arm", "seed", "test_errors"]]
slowly = pd.concat([pd.DataFrame(rows, columns=["arm", "seed", "test_errors"]), plain])
comparisons["order, slow pace, labels"] = compare(slowly, baseline=["plain epochs", "random order"])
found = comparisons["order, slow pace, labels"].set_index(["arm", "baseline"])
format_comparison(comparisons["order, slow pace, labels"], digits=0)

# %% tags=["claims"]
assert found.difference["random order", "plain epochs"] > 100
assert found.low["easiest first", "plain epochs"] > 0

# %% [markdown]
# A *random* order costs hundreds of errors: late images come too rarely. Whoever compares a curriculum with plain epochs alone mixes this up with the order. It is why Hacohen and Weinshall (2019), who do find a gain on other images, run the random and the anti-curriculum as controls.
#
# All three ideas in one call: `recipes.progressive` takes schedules for $T$ and $\alpha$, a difficulty, and a pace.

# %%
student = fresh(0)
recipes.progressive(
    student, big_teacher, small, temperature=linear(8.0, 2.0), alpha=linear(0.9, 0.5), difficulty=difficulty_by_loss, pace=pace,
    epochs=15, batch_size=50, make_optimizer=adam,
)  # fmt: skip
print(f"{count_errors(student, *mnist.test)} errors of 10,000")

# %% [markdown]
# ## At full size
#
# The same code with ten times as many images is one command, `python -m experiments.chapters 07`. Its record: differences in test errors of 10,000, with their intervals, against the baseline that each question asks for.

# %%
about_full = f"{samples:,} images, {epochs} epochs in batches of 50, {seeds} seeds ({order_seeds} for the orders); the big teacher's students at T = {T:g}, α = {share:g}"
full = read_record("chapter07")
print(full["about"])
table = pd.concat(
    [pd.DataFrame(rows).assign(question=name) for name, rows in full["comparisons"].items()]
)
asked = {
    "one student of 4, further": "smoothed labels",
    "the bill": "one with smoothed labels",
    "a hasty teacher": "no_teacher",
}
asked |= {
    "schedules, both baselines": "",
    "order": "random order",
    "order, slow pace, labels": "plain epochs",
}
table = table[table.question.map(asked).isna() | (table.question.map(asked) == table.baseline)]
table = table.set_index(["question", "arm"])[["baseline", "difference", "low", "high"]].round(0)
table

# %%
if not FULL:
    one_of_four, fours = table.loc["one student of 4"], table.loc["vote of 4"]
    assert (one_of_four.high[["peers, T = 1", "peers, T = 4", "averaged logits, T = 4"]] < 0).all()
    assert (table.loc["one student of 4, further"].low > 0).all()
    assert (fours.low[["peers, T = 1", "peers, T = 4"]] < 0).all()
    assert (fours.high[["peers, T = 1", "peers, T = 4"]] > 0).all()
    assert fours.high["smoothed labels"] < 0
    assert (table.loc["schedules"].low[moved] < 0).all()
    assert (table.loc["schedules"].high[moved] > 0).all()
    assert table.loc["order"].low["easiest first"] > 0
    assert table.loc["a hasty teacher"].low["α rises to .9, the text's"] > 0
    online = {
        row["arm"]: row
        for row in full["comparisons"]["the bill"]
        if row["baseline"] == "one, after four strangers"
    }
    assert (
        online["one of four peers, T = 4"]["high"] < 0 < online["one of four peers, T = 1"]["high"]
    )

# %% [markdown]
# With ten times the images a student with peers beats a stranger at both temperatures, and **smoothed labels are ahead of every cohort**. The peers' vote is no longer better than the strangers'; that of strangers with smoothed labels still is. That peers learn at the same time is still worth something
# at $T = 4$, and unclear at $T = 1$ (the record compares with the student of finished strangers too; the table shows one baseline for each question). No schedule's interval leaves out 0, except where the teacher is switched off at the end; the text's $\alpha$, with a hasty teacher, does harm; and easiest first is still worse than a random order.
#
# ## Summary
#
# - Mutual learning: each student gets the labels and the mean divergence from its peers, who stand in its loss as detached targets. A cohort has at least two.
# - The mean of pairwise divergences pulls towards the *mean prediction*. Averaged logits pull towards a product, in which every peer has a veto: another method.
# - Here peers at $T = 4$ helped, without any teacher, and more than longer training or a teacher made of finished strangers: it is worth something that they learn at the same time. Label smoothing helped no less, as far as we can tell, with one training instead of four.
# - With few images peers' vote beat strangers'; with more it did not. Strangers with smoothed labels beat both. A cohort is judged by what else its money buys.
# - A schedule runs over progress from 0 to 1 *inclusive*; five stages have four steps between them. Ask who has the last word: at $\alpha = 1$ the labels have none, and a poor teacher's mistakes stay.
# - Against constant knobs chosen on held-out images no schedule gained here. The constant is the control.
# - A curriculum must order something, and its control is a random order under the same sampling. Easiest first was worse, because easy digits are not of all kinds; with the easiest of each digit first no difference was to be seen.
#
# ## Think, then try
#
# 1. Give the cohort smoothed labels as well: peers *and* smoothing. Do the two gains add up, and what does your answer say about what peers do?
# 2. One student of 64 units, one of 256. Who gains from whom? `Cohort` does not mind.
# 3. Let each student of a cohort see half of the images, another half each, with peers' answers on the rest as soft targets alone. What does a peer know now that a label does not say? (Anil et al. train so.)
# 4. In `easiest_of_each_digit` use the *student's* own loss after three epochs instead of the teacher's. Is it a better judge of what is hard for it?
#
# More, with checks that know the usual slips: `exercises/ex07_online_and_progressive`.
#
# ## References
#
# - Zhang, Xiang, Hospedales, Lu (2018). *Deep mutual learning.* [arXiv:1706.00384](https://arxiv.org/abs/1706.00384): section 3 and equations 1, 5, 8 (the loss, larger cohorts); abstract (against a static teacher).
# - Anil, Pereyra, Passos, Ormandi, Dahl, Hinton (2018). *Large scale distributed neural network training through online distillation.* [arXiv:1804.03235](https://arxiv.org/abs/1804.03235): peers on
#   disjoint parts of the data, whose predictions may be a little out of date (abstract).
# - Jafari, Rezagholizadeh, Sharma, Ghodsi (2021). *Annealing knowledge distillation.* [arXiv:2104.07163](https://arxiv.org/abs/2104.07163): soft targets at temperatures that fall step by step (abstract).
# - Bengio, Louradour, Collobert, Weston (2009). *Curriculum learning.* ICML: the idea, and what it might do for optimisation.
# - Hacohen, Weinshall (2019). *On the power of curriculum learning in training deep networks.* [arXiv:1904.03626](https://arxiv.org/abs/1904.03626): difficulty by a teacher, pace, and the controls: random order and anti-curriculum.
# - Müller, Kornblith, Hinton (2019). *When does label smoothing help?* [arXiv:1906.02629](https://arxiv.org/abs/1906.02629): the control that needs no peer.
