# %% [markdown]
# # Soft targets
#
# You have 2,000 labelled images and a small network. Somebody else has a large network that has seen many more images. Can the
# large one help the small one, although it hands over nothing but its answers? In this chapter you move one slider while the small network
# trains, and **watch what becomes of its errors**. Then you build the loss behind that slider, line by line, and break it in
# the six ways in which it is usually broken. At the end a student meets a digit that it has never seen.
#
# **You will be able to**
# - steer a student with the temperature $T$ and the weight $\alpha$ while it trains;
# - write the distillation loss, and say why $T^2$ stands in front of it and what it does not do;
# - recognise six common mistakes by the numbers they leave behind: traps 1 to 6 of [docs/traps.md](../docs/traps.md);
# - judge by paired differences with intervals whether a teacher helped.
#
# **You need** chapter 01, and PyTorch as far as `loss.backward()`. **Time** about 150 minutes, in four sittings; about 3 minutes of them are
# computing. The chapter has an opening and three parts: the loss, the trainer, and the digit 3 never seen. The end of each is a good place to stop.
#
# Symbols: $z$ logits, $T$ [temperature](glossary:temperature), $p$ the teacher's probabilities, $q$ the student's.

# %%
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import HTML

from kdcourse import plots, zoo
from kdcourse.checks import check
from kdcourse.data import jitter, load_mnist, minibatches
from kdcourse.losses import distillation_loss, kd_loss, soften
from kdcourse.models import count_parameters, make_hinton_student, make_student_mlp
from kdcourse.objectives import soft_target_objective, with_knobs
from kdcourse.plots import COLORS, show
from kdcourse.plots.drawings import draw_soft_targets
from kdcourse.records import read_record
from kdcourse.results import verdict
from kdcourse.sweeps import compare, in_words, sweep
from kdcourse.training import Knobs, count_errors, make_adam, pick_device, predict_logits
from kdcourse.training.schedules import constant
from kdcourse.training.schedules import step as stages
from kdcourse.widgets import BiasExplorer, LiveTrainer, guess

# %%
draw_soft_targets()

# %% [markdown]
# The teacher answers with ten probabilities. The **temperature** $T$ makes them softer: at $T = 1$ nearly all of the probability is
# on one digit, at $T = 20$ the others come into sight. The **weight** $\alpha$ says how much the student listens to the teacher,
# and how much to the labels. The teacher is frozen: gradients flow into the student only.

# %% [markdown]
# ## The cast
#
# The teacher comes trained: two hidden layers of 1200 units, with [dropout](glossary:dropout) and with images shifted by up
# to two pixels, as in Hinton, Vinyals and Dean, 2015, from here on *the paper*. It saw all 60,000 training images. We keep 5,000 of them away from
# every *student*: with these **held-out** images we choose settings such as $T$ and $\alpha$. The test images are for reporting, at the end.
#
# One confession. The teacher's own dropout and learning rate were chosen by looking at *test* errors, so the number of errors that the
# next cell prints **flatters it**: on new digits it would do a little worse. Nothing below is judged by that number, because students are
# compared with students.

# %%
FULL = False  # True: part 3 with the paper's students and all images, more than half an hour
device = pick_device()
mnist = load_mnist(device=device)
teacher = zoo.load("hinton_teacher", device=device)
teacher_errors = count_errors(teacher, *mnist.test)
print(f"teacher: {count_parameters(teacher):,} parameters")
print(f"{teacher_errors} errors on {len(mnist.test.labels):,} test images")

# %% tags=["claims"]
assert teacher_errors <= 90  # flattered, see above; the paper's teacher makes 67

# %% [markdown]
# ## One hand on one slider
#
# Two copies of one student, with two hidden layers of 300 units, see the same 2,000 images in the same order. One listens to the
# teacher with $\alpha = 0.9$, but at $T = 1$. The other sees labels only. After 400 steps both get between 7 and 9 % of the held-out images wrong.

# %%
guess("02.first-slider")


# %%
make_two_layers = partial(make_hinton_student, 300)
students = {"two hidden layers": make_two_layers, "one hidden layer": make_student_mlp}


# Adam that remembers a hundred steps and not a thousand: a moved slider is felt at once.
quick_adam = partial(make_adam, lr=3e-3, betas=(0.9, 0.99))


def new_live_trainer(seed, make_optimizer=quick_adam):
    torch.manual_seed(seed)
    return LiveTrainer(
        students, teacher, mnist, knobs=Knobs(1.0, 0.9), digit=7,
        images=(2_000, len(mnist.train.labels)), make_optimizer=make_optimizer,
    )  # fmt: skip


# %% [markdown]
# Run the notebook **up to the next cell**, because a kernel that is busy answers no slider. Press ▶ and wait for step 400. Then drag $T$ to 20,
# and watch the distilled student, the one with a teacher, for the next two hundred steps. The student without a teacher shows what would have happened.
# On the right, the bars are what the teacher says of one 7. The dots and crosses are what the two students say.

# %%
live = new_live_trainer(seed=2)
live

# %% [markdown]
# When you have seen it, try more:
#
# - Set $T$ to 0.5. Does the help go away?
# - Set $T$ back to 20 and $\alpha$ to 1, so that no label is used at all. Does the student need labels?
# - *fork here* keeps a second copy of the student, under knobs of its own. *show digit* chooses the digit on the right.
# - For whom does the teacher do most? Set $T$ to 20 and $\alpha$ to 0.9. Choose *all images*, then *one hidden layer*, then *two hidden layers*: each choice
#   starts the race again. Give it 800 steps.
#
# Question 6 at the end of the chapter has what we measured.
#
# The command `kdcourse distill`, in a terminal, asks when a teacher **stops helping**: both shapes, few images and many, several seeds, and smoothed labels
# as the harder baseline. *reset* brings everything back to this text's settings.
#
# Without a running kernel, you see the session here, recorded:

# %%
recorded = new_live_trainer(seed=2)
recorded.step(400)
recorded.temperature.value = 20
recorded.step(400)
recorded.close()
show(recorded.picture.canvas.still(), alt="02.one-slider-recorded")


# %% tags=["claims"]
def errors_at(step):
    arms = recorded.arms.items()
    return {name: arm.errors[sum(s <= step for s in arm.steps) - 1] for name, arm in arms}


at_400, soon, ends = errors_at(400), errors_at(500), errors_at(800)
assert all(6.5 < errors < 10 for errors in at_400.values())
assert soon["distilled"] < 5.9
assert ends["distilled"] < min(5, 0.7 * at_400["distilled"])
assert 6.5 < ends["no teacher"] < 8.5

# %% [markdown]
# Within a hundred steps the distilled student gets fewer than 6 % wrong, and after four hundred fewer than 5 %. The other student's line stays where
# it was. With Adam's usual settings the errors first go *up*; question 5 at the end of the chapter asks why.
#
# One run can be luck. So we make the same move for seven starts, in half the time: $T$ stays at 1, or moves to 20 when half of the 384 steps are done.
# As in chapter 01: paired seeds, two baselines, 95 % intervals. `sweep` trains many students at once; each way of training is an
# [arm](glossary:arm). `compare` takes the difference of two arms seed by seed.
#
# New is the [smallest effect of interest](glossary:smallest-effect-of-interest): before the run we say what would be too small to matter. Here that is fewer
# than 20 errors of 10,000.

# %%
slider = sweep(
    make_student=make_two_layers, data={"train": mnist.train.take(2000), "test": mnist.test},
    teacher=teacher, alpha=0.9, seeds=range(7), epochs=24, make_optimizer=quick_adam,
    objective={
        "T stays at 1": with_knobs(soft_target_objective, {"temperature": constant(1)}),
        "T moves to 20": with_knobs(soft_target_objective, {"temperature": stages([1, 20])}),
    },
    executor="processes", progress=False,  # a process for each core
)  # fmt: skip
table = compare(slider, smallest_effect=20)
ax = plots.intervals(table, smallest_effect=20)
ax.set(xlabel="difference in test errors (of 10,000)")
show(ax, alt="02.one-slider-seeds")
print(in_words(table))

# %% tags=["claims"]
against = table.set_index(["arm", "baseline"])
assert against.loc["T moves to 20", "no_teacher"].high < -100
assert against.loc["T moves to 20", "label_smoothing"].high < 0
assert against.loc["T stays at 1", "no_teacher"].verdict != "better"

# %% [markdown]
# Once $T$ is 20 the teacher helps, and more than smoothed labels do. As long as $T$ is 1 it does not. Yet the labels did not change, the images did not change,
# and neither did the number of steps. What reached the student through that slider? To find out, we build the loss.

# %% [markdown]
# ## Part 1: the loss
#
# Most of this part needs only one batch: 256 held-out digits, which this teacher knows from its training, and a student of 784-128-10 after a moment of ordinary
# training. It already has opinions, and some of them are wrong.

# %%
images, labels = mnist.held_out.take(256)
torch.manual_seed(0)
student = make_student_mlp().to(device)
optimizer = torch.optim.Adam(student.parameters())
for few_images, few_labels in minibatches(*mnist.train.take(4000), batch_size=128):
    optimizer.zero_grad()
    F.cross_entropy(student(few_images), few_labels).backward()
    optimizer.step()

# %%
teacher_logits = predict_logits(teacher, images)  # (256, 10)
student_logits = predict_logits(student, images)  # (256, 10)
for name, model in {"teacher": teacher, "student": student}.items():
    print(f"{name}: {count_errors(model, images, labels)} of 256 wrong")

# %% [markdown]
# ### What the teacher says
#
# The [softmax](glossary:softmax) turns logits into probabilities, $p_i = e^{z_i/T} / \sum_j e^{z_j/T}$. Usually $T = 1$.
# Chapter 01 showed what $T$ does: a trained teacher is so sure that nine of its ten probabilities are practically zero, and a larger $T$ brings them into
# sight, in the same order. They say which *wrong* answers are nearly right.

# %% [markdown]
# ### How far is the student away?
#
# Two rows of ten probabilities need a distance. Distillation takes the [Kullback-Leibler
# divergence](glossary:kullback-leibler-divergence). It is the extra surprise, in nats, of somebody who expected the row $q$ while the world follows
# the row $p$:
#
# $$\mathrm{KL}(p\,\|\,q) = \sum_i p_i\,(\log p_i - \log q_i)$$
#
# It is 0 when the rows agree and positive otherwise. For example, $p = (0.7, 0.3)$ and $q = (0.5, 0.5)$ give
# $0.7 \log 1.4 + 0.3 \log 0.6 = 0.08$. It is *not* symmetric: the row in front does the weighting.
#
# ### Your turn: a divergence for each image
#
# Write it for a whole batch: `p` and `q` have shape (B, K), the result has shape (B,).


# %%
def kl(p, q):  # (B, K), (B, K) -> (B,)
    ...


kl = check("02.kl", kl)

# %%
p = soften(teacher_logits, temperature=4)  # (256, 10)
q = soften(student_logits, temperature=4)  # (256, 10)
print(f"KL(teacher‖student) {kl(p, q).mean():.3f}")
print(f"KL(student‖teacher) {kl(q, p).mean():.3f}")
print(f"KL(teacher‖teacher) {kl(p, p).mean():.3f}")

# %% [markdown]
# Which of the first two do we want? The one in which the *teacher* weights: wherever the teacher sees a possibility, the student
# must see one too. Now look at what PyTorch offers: `F.kl_div`.

# %%
guess("02.kl-div-order")

# %%
from_torch = F.kl_div(q.log(), p, reduction="none").sum(dim=-1)  # (256,)
print(f"F.kl_div(log q, p): {from_torch.mean():.3f}")

# %% tags=["claims"]
torch.testing.assert_close(from_torch, kl(p, q), rtol=1e-3, atol=1e-5)

# %% [markdown]
# Read `F.kl_div(input, target)` as KL(target‖input). That order has fooled many authors.
#
# <details><summary><b>Trap 1: the direction</b></summary>
#
# A common mistake in texts: the docstring says `KL(student || teacher)`, and the code below it computes
# KL(teacher‖student). The code is right, the sentence is not. Whoever changes the code to fit the sentence trains something
# else. With the student in front, the loss is weighted by the student's own probabilities, so classes that it never predicts cost nothing. Chapter 11
# comes back to that direction, where it is useful.
#
# </details>

# %% [markdown]
# ### The mean of what?
#
# `F.kl_div` gives one number per class and image, here (256, 10). Its argument `reduction` says how they become one number. The
# default is `"mean"`. (PyTorch will warn you in the cell after the question. That is the point.)

# %%
guess("02.reduction")

# %%
right = kl(p, q).mean()
with_mean = F.kl_div(q.log(), p, reduction="mean")
print(f"mean over images  {right:.4f}")
print(f"reduction='mean'  {with_mean:.4f}, which is {right / with_mean:.2f} times less")

# %% tags=["claims"]
assert 9.9 < right / with_mean < 10.1

# %% [markdown]
# `reduction="batchmean"` divides by the first dimension only. For rows that is right. But give it *sequences*, logits of shape
# (B, L, K) with a row for each word, and it divides by B alone. We fold our 256 rows into 32 "sentences" of 8 and look.

# %%
folded = F.kl_div(q.log().view(32, 8, 10), p.view(32, 8, 10), reduction="batchmean")
print(f"256 rows     {F.kl_div(q.log(), p, reduction='batchmean'):.4f}")
print(f"32 × 8 rows  {folded:.4f}, from the same digits")

# %% tags=["claims"]
assert 7.9 < folded / right < 8.1  # it has grown with the length
sequences = [logits.view(32, 8, 10) for logits in (student_logits, teacher_logits)]
torch.testing.assert_close(
    kd_loss(*sequences, temperature=4), kd_loss(student_logits, teacher_logits, temperature=4)
)  # the course's loss has not

# %% [markdown]
# <details><summary><b>Trap 2: the reduction</b></summary>
#
# `"mean"` makes the loss $K$ times too small, so $\alpha$ no longer means what it says.
# `"batchmean"` makes it grow with the length of a sequence. PyTorch prints a warning about the first and runs on; it says
# nothing about the second. Sum over classes, then take the mean over everything else, and there is nothing to remember.
#
# </details>

# %% [markdown]
# ### When a probability is exactly zero
#
# Our `kl` takes the logarithm of a probability. Computers round small probabilities to 0, and the fewer bits they use, the sooner. GPUs
# often compute in half precision, 16 bits a number. So let us see what becomes of the same teacher there.

# %%
half = teacher_logits.half().softmax(dim=-1)  # (256, 10), 16 bits a number
naive = kl(half, soften(student_logits, temperature=1).half())  # (256,)
print(f"{(half == 0).float().mean():.0%} of the teacher's probabilities are exactly 0")
print(f"{naive.isnan().sum()} of 256 divergences are not a number (NaN)")

# %% tags=["claims"]
assert naive.isnan().any()

# %% [markdown]
# $0 \cdot \log 0$ should be 0. The computer says $0 \cdot (-\infty)$, which is *not a number*, and one such digit ruins the
# whole batch. The way out is to stay in [log space](glossary:log-space) all the time: `log_softmax` gives $\log p$ without passing
# through $p$. Where $p$ is rounded to 0, $\log p$ is a harmless number such as $-60$.

# %%
log_p = F.log_softmax(teacher_logits.half(), dim=-1)  # (256, 10), still 16 bits
log_q = F.log_softmax(student_logits.half(), dim=-1)  # (256, 10)
in_log_space = (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # (256,)
print(f"in log space: {in_log_space.isnan().sum()} of 256 are NaN, mean {in_log_space.mean():.3f}")
print(f"the smallest log p is {log_p.min():.1f}")

# %% tags=["claims"]
assert in_log_space.isfinite().all()
assert kd_loss(student_logits, 1e4 * teacher_logits, temperature=1).isfinite()

# %% [markdown]
# There is a second way to meet the same zero. Someone wants the other direction, KL(student‖teacher), and swaps the
# arguments of `F.kl_div`. Now the *student's* probabilities are the target, so gradients flow through a logarithm of zero.
# The value looks healthy.

# %%
sure = (20 * student_logits).requires_grad_()  # a very sure student
log_p = F.log_softmax(teacher_logits, dim=-1)  # (256, 10)
reverse = F.kl_div(log_p, sure.softmax(dim=-1), reduction="batchmean")
reverse.backward()
print(f"value {reverse:.2f}; gradients that are NaN: {sure.grad.isnan().float().mean():.0%}")

# %% tags=["claims"]
assert reverse.isfinite()
assert sure.grad.isnan().any()

# %% [markdown]
# <details><summary><b>Trap 4: leaving log space</b></summary>
#
# `p * (p.log() - q.log())` is correct on paper and NaN for a sure teacher. Reverse KL through
# a target that needs a gradient is worse: the loss is finite, and one step later the weights are NaN.
#
# </details>

# %% [markdown]
# ### Your turn: the whole loss
#
# Now everything in one function:
#
# $$T^2 \cdot \frac{1}{B} \sum_b \mathrm{KL}\big(p^{(b)}\,\|\,q^{(b)}\big), \qquad p = \mathrm{softmax}(z^{\text{teacher}}/T),\quad q = \mathrm{softmax}(z^{\text{student}}/T)$$
#
# Both rows are softened with the same $T$. Stay in log space. `detach` the teacher's logits, so that no gradient flows into the teacher. The factor $T^2$ has a section of its
# own below; for now, multiply by it. For example, logits $(2, 0)$ of a teacher and $(0, 0)$ of a student at $T = 2$ give $p = (0.73, 0.27)$, $q = (0.5, 0.5)$,
# a divergence of 0.111
# and a loss of $4 \cdot 0.111 = 0.44$.


# %%
def my_kd_loss(student_logits, teacher_logits, *, temperature):  # (B, K), (B, K) -> a number
    ...


my_kd_loss = check("02.kd-loss", my_kd_loss)

# %%
for t in (1.0, 4.0, 20.0):
    print(f"T = {t:4}: {my_kd_loss(student_logits, teacher_logits, temperature=t):.4f}")

# %% tags=["claims"]
worked = my_kd_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=2.0)
assert abs(float(worked) - 0.44) < 0.005
for t in (1.0, 4.0, 20.0):
    pair = (student_logits, teacher_logits)
    torch.testing.assert_close(my_kd_loss(*pair, temperature=t), kd_loss(*pair, temperature=t))

# %% [markdown]
# ### One batch, thirty temperatures
#
# The student, the teacher and the batch stay what they are. What does the loss do while $T$ goes from 0.5 to 32?

# %%
many = torch.logspace(-0.3, 1.5, 30).tolist()  # temperatures from 0.5 to 32
losses = [float(my_kd_loss(student_logits, teacher_logits, temperature=t)) for t in many]
ax = plots.curve(many, losses, color=COLORS["kd"])
ax.set(xlabel="temperature T", ylabel="kd_loss (nats × T²)")
show(plots.ticks_at(ax, [0.5, 1, 2, 4, 8, 16, 32]), alt="02.loss-of-one-batch")

# %% tags=["claims"]
assert 8 < many[losses.index(max(losses))] < 20
assert max(losses) > 10 * losses[7]  # T is 1.4 there
stacked = torch.func.vmap(lambda t: kd_loss(student_logits, teacher_logits, temperature=t))
torch.testing.assert_close(stacked(torch.tensor(many, device=device)).cpu(), torch.tensor(losses))

# %% [markdown]
# One student, one teacher, one batch, and yet the loss at one temperature is many times the loss at another. Remember it when
# somebody compares the losses of two runs.
#
# <details><summary><b>Trap 5: code that <code>vmap</code> cannot run</b></summary>
#
# [`vmap`](glossary:vmap) runs a function once for many values of an argument, here for thirty temperatures in one call. The course's `sweep` trains many
# students in one program with it. Inside there is no *one* temperature, so `if temperature <= 0: raise …` on a tensor stops with "It looks like you're
# attempting to use a Tensor in some data-dependent control flow". A check must look at plain numbers and let tensors pass, as `kd_loss` does. And `F.kl_div`
# has no rule for `vmap`: PyTorch falls back to a slow loop and warns. The loss written out has neither problem, and it reads like the formula.
#
# </details>

# %% [markdown]
# ### Why is there a $T^2$ in front?
#
# Dividing by $T$ makes targets soft. It does something else, too. The derivative of $\mathrm{KL}(p\,\|\,q)$ by one of the
# student's logits is
#
# $$\frac{\partial\,\mathrm{KL}}{\partial z_i} = \frac{1}{T}\,(q_i - p_i)$$
#
# <details><summary>Where this comes from, in three lines</summary>
#
# Only $-\sum_j p_j \log q_j$ depends on the student, and $\log q_j = z_j/T - \log \sum_k e^{z_k/T}$.
# The derivative of $\log q_j$ by $z_i$ is $\frac{1}{T}(1 - q_i)$ if $j = i$, and $-\frac{1}{T}\,q_i$ otherwise.
# So the sum is $-\frac{1}{T}\big(p_i - q_i \sum_j p_j\big) = \frac{1}{T}(q_i - p_i)$, because the $p_j$ sum to 1.
#
# </details>
#
# One $1/T$ is in sight. And $q_i - p_i$ depends on $T$ as well, because both rows move towards $1/K$.

# %%
guess("02.gradient-at-16")


# %%
def kd_without_t2(student_logits, teacher_logits, *, temperature):
    return kd_loss(student_logits, teacher_logits, temperature=temperature) / temperature**2


def gradient_size(loss, temperature):
    logits = student_logits.clone().requires_grad_()
    loss(logits, teacher_logits, temperature=temperature).backward()
    return float((logits.grad * len(logits)).norm(dim=1).mean())  # of one digit, on average


temperatures = [0.5, 1, 2, 4, 8, 16, 32]
without = [gradient_size(kd_without_t2, t) for t in temperatures]
with_t2 = [gradient_size(kd_loss, t) for t in temperatures]

# %%
ax = plots.curve(temperatures, without, role="no_teacher", label="without $T^2$")
plots.curve(temperatures, with_t2, role="kd", label="with $T^2$", ax=ax)
ax.set(xlabel="temperature T", ylabel="gradient at the logits", yscale="log")
show(plots.ticks_at(ax, temperatures), alt="02.gradient-size")

# %%
left = torch.tensor(without)[1:] / torch.tensor(without)[:-1]  # (6,): of the row above
sizes = {"T": temperatures, "gradient without T²": without, "with T²": with_t2}
sizes["without T², left of the row above"] = ["", *(f"{share:.2f}" for share in left.tolist())]
pd.DataFrame(sizes).round(4).set_index("T")

# %% tags=["claims"]
loud = dict(zip(temperatures, with_t2, strict=True))
assert left[-2:].min() > 0.16  # about a quarter
assert left[-2:].max() < 0.34
assert 0.6 < left[1] < 0.85  # 1 to 2: about seven tenths
assert 2 / 3 < loud[32] / loud[16] < 3 / 2
assert loud[4] / loud[1] > 3

# %% [markdown]
# From each row to the next, $T$ doubles. If the gradient shrank like $1/T^2$, a quarter would be left. In the last two rows it is about that, and $T^2$ undoes it. In
# the first rows far more is left, because there the logits are not small against $T$. So there $T^2$ does too much: with the factor, the gradient grows with $T$.

# %% [markdown]
# <details><summary><b>Trap 3: "T² keeps the gradient constant."</b></summary>
#
# This is a common sentence. You have just seen where it is true, for
# temperatures well above the size of the logits, and where not: from $T = 1$ to $T = 4$ the gradient grows more than threefold, *with*
# the factor. If you sweep $T$ there, you also sweep how loud the teacher is.
#
# </details>
#
# #### What the student imitates when $T$ is large
#
# For large $T$, $e^{z/T} \approx 1 + z/T$. Shift the logits of each row to mean 0, which a softmax does
# not notice, and put the approximation into $q_i - p_i$. Then $T^2 \cdot \partial\,\mathrm{KL}/\partial z_i \approx (z^s_i - z^t_i)/K$:
# the gradient of a plain squared error between logits. How nearly do the two point the same way? The *cosine* says it (1: same direction, 0: unrelated).

# %%
logits = student_logits.clone().requires_grad_()
difference = student_logits - teacher_logits
difference = difference - difference.mean(dim=1, keepdim=True)  # each row to mean 0
cosines = {}
for t in (1, 4, 20, 100):
    (gradient,) = torch.autograd.grad(kd_loss(logits, teacher_logits, temperature=t), logits)
    cosines[t] = F.cosine_similarity(gradient.flatten(), difference.flatten(), dim=0).item()
    print(f"T = {t:3}: cosine {cosines[t]:.3f}")

# %% tags=["claims"]
assert cosines[1] < 0.8
assert cosines[20] > 0.9
assert cosines[100] > 0.99

# %% [markdown]
# At $T = 20$, the temperature of the paper's experiments, distillation is nearly [logit matching](glossary:logit-matching).
# At $T = 1$ it is something else: there the student hears almost only about the classes that the teacher believes in.

# %% [markdown]
# ### $\alpha$: how loud is the teacher?
#
# When labels are there, they get a share: $L = \alpha \cdot \mathrm{KD} + (1 - \alpha) \cdot \mathrm{CE}$, with the
# [cross-entropy](glossary:cross-entropy) taken at $T = 1$. Without labels the soft targets stand alone.

# %%
knob = {"temperature": 4.0, "alpha": 0.7}
both = distillation_loss(student_logits, teacher_logits, labels, **knob)
unlabelled = distillation_loss(student_logits, teacher_logits, temperature=4.0)
ce = F.cross_entropy(student_logits, labels)
print(f"0.7 · {unlabelled:.3f} + 0.3 · {ce:.3f} = {both:.3f}")

# %% tags=["claims"]
torch.testing.assert_close(both, 0.7 * unlabelled + 0.3 * ce)
torch.testing.assert_close(unlabelled, kd_loss(student_logits, teacher_logits, temperature=4.0))

# %% [markdown]
# $\alpha = 0.7$ reads like "seventy per cent teacher". But $\alpha$ weights *losses*, and what moves weights are *gradients*. So
# measure the teacher's share of the gradient at $\alpha = 0.5$, with and without $T^2$.

# %%
guess("02.share-of-gradient")


# %%
def label_term(logits, teacher_logits, *, temperature):
    return F.cross_entropy(logits, labels)


def teacher_share(loss, temperature):  # in percent, at α = 0.5
    kd, ce = gradient_size(loss, temperature), gradient_size(label_term, temperature)
    return 100 * kd / (kd + ce)


loud = [teacher_share(kd_loss, t) for t in temperatures]
quiet = [teacher_share(kd_without_t2, t) for t in temperatures]

# %%
ax = plots.curve(temperatures, loud, role="kd", label="with $T^2$")
plots.curve(temperatures, quiet, role="no_teacher", label="without $T^2$", ax=ax)
ax.axhline(50, color=COLORS["teacher"], linewidth=0.8, linestyle=":")
ax.text(32, 51, "what α = 0.5 promises", ha="right", va="bottom", fontsize=8.5)
ax.set(xlabel="temperature T", ylabel="teacher's share of gradient, %", ylim=(0, 100))
show(plots.ticks_at(ax, temperatures), alt="02.teacher-share")
print(f"α = 0.5, T = 16: {loud[5]:.0f} % with T², {quiet[5]:.0f} % without")

# %% tags=["claims"]
assert quiet[5] < 6
assert min(loud[3:]) > 80

# %% [markdown]
# Forget $T^2$, and at $T = 16$ the teacher is almost silent: about 3 % of the gradient. Keep it, and $\alpha$ means roughly the same
# from $T = 4$ upwards. But even then the teacher's share is nearly nine tenths, not a half. So treat $\alpha$ as a knob to be tuned, not as a
# percentage.

# %% [markdown]
# ## Part 2: the trainer
#
# ### The teacher is asked once
#
# The teacher does not change, and neither do the images. So its logits are computed once, for all images that are used, and kept. That
# saves most of the work of a step. It also makes room for a silent mistake: the cache is in the order of the *data*, while
# batches come *shuffled*.

# %%
guess("02.shuffled-cache")

# %%
used = mnist.train.take(55_000 if FULL else 20_000)
cache = predict_logits(teacher, used.images)  # (20000, 10), row i belongs to image i
order = torch.randperm(len(cache), generator=torch.Generator().manual_seed(0)).to(device)
shuffled_labels = used.labels[order]
in_order = (cache.argmax(dim=1) == shuffled_labels).float().mean()
by_index = (cache[order].argmax(dim=1) == shuffled_labels).float().mean()
print(f"cache read in order            {in_order:6.1%} agree with the label beside them")
print(f"cache read by the image's index {by_index:5.1%}")

# %% tags=["claims"]
assert in_order < 0.12
assert by_index > 0.98

# %% [markdown]
# Nothing crashes: shapes fit, and a loss comes out. Only the targets belong to other images. The remedy costs nothing.
#
# ### Your turn: a batch with its cached answers
#
# `order` is a shuffled list of all indices, a tensor of shape (N,). Return images, labels and cached logits of the batch that holds the `size`
# indices of `order` from place `start` on. For example, with `order = [2, 0, 3, 1]`, `start = 0` and `size = 2`, the batch is image 2, then image 0. The last batch of
# an epoch may be shorter.


# %%
def take_batch(images, labels, cache, order, start, size):  # -> images, labels, logits
    ...


take_batch = check("02.take-batch", take_batch)

# %%
batch_images, batch_labels, batch_logits = take_batch(*used, cache, order, 0, 128)
agree = (batch_logits.argmax(dim=1) == batch_labels).float().mean()
print(f"{len(batch_labels)} images; for {agree:.0%} the cached teacher agrees with the label")

# %% tags=["claims"]
asked_again = predict_logits(teacher, batch_images)
torch.testing.assert_close(batch_logits, asked_again, rtol=1e-3, atol=1e-3)

# %% [markdown]
# In the course, `minibatches(images, labels, cache, batch_size=128)` does this: logits are one more tensor of the batch, cut by the same index.
#
# One mistake is still possible. If the images are [augmented](glossary:augmentation), for example shifted by a random pixel or two, the cache was
# computed for *other* pictures. How different is the teacher's answer?

# %%
moved = jitter(batch_images, torch.Generator().manual_seed(0), pixels=2)  # the same digits, shifted
show(plots.digit_grid(torch.cat([batch_images[:10], moved[:10]])), alt="02.shifted-digits")
stale = kd_loss(predict_logits(teacher, moved), batch_logits, temperature=4)
scale = kd_loss(student_logits, teacher_logits, temperature=4)
print(f"kd_loss of the teacher on shifted images, against its own cached answers: {stale:.2f}")
print(f"for scale, kd_loss of our barely trained student on unshifted images: {scale:.2f}")

# %% tags=["claims"]
assert 0.05 < stale < 0.03 * scale

# %% [markdown]
# <details><summary><b>Trap 6: a cache with the wrong key</b></summary>
#
# Key it by the image's index, never by the position in the batch. Under random augmentation
# no such key exists, unless the augmentation itself is part of it. Otherwise run the teacher in the loop, and pay for it. A perfect
# student, the teacher itself, would be *punished* by the stale cache you see above. Here the punishment is small, about a hundredth of the loss of a barely
# trained student. This teacher was trained with such shifts, so it hardly notices them. Another one would disagree more.
#
# </details>

# %% [markdown]
# ### The loop
#
# An [objective](glossary:objective) takes the student and a batch, and returns the terms of the loss, already weighted, by name. Its
# knobs, such as $T$ and $\alpha$, are keywords.


# %%
def objective(student, images, labels, teacher_logits, *, temperature, alpha, loss=kd_loss):
    logits = student(images)  # (B, K)
    kd = loss(logits, teacher_logits, temperature=temperature)
    return {"kd": alpha * kd, "ce": (1 - alpha) * F.cross_entropy(logits, labels)}


# %% [markdown]
# The course has it as `kdcourse.objectives.soft_target_objective`. `with_knobs(objective, knobs)` reads the knobs anew at each step,
# so that somebody can turn them meanwhile.
#
# The loop does not depend on distillation. It is a [generator](glossary:generator): it takes one step, hands over what
# happened, and sleeps until somebody asks for the next. Whoever asks may look, draw, turn knobs, or stop.


# %%
def my_train(student, batches, objective, optimizer):
    for index, batch in enumerate(batches):
        student.train()  # whoever asks for the next step may have evaluated in between
        terms = objective(student, *batch)
        loss = sum(terms.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield index, {name: term.detach() for name, term in terms.items()}


# %% [markdown]
# That is the whole loop. From here on the course uses `kdcourse.training.train`, which is this loop with a few checks. We ask ours
# for 300 steps, and raise the temperature in the middle. The terms stay tensors until they are drawn, because reading a number from a GPU makes
# everything wait.

# %%
torch.manual_seed(0)
student = make_student_mlp().to(device)
knobs, history = Knobs(temperature=2.0, alpha=0.7), []
optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
batches = minibatches(*used, cache, batch_size=128, epochs=2)
for index, terms in my_train(student, batches, with_knobs(objective, knobs), optimizer):
    history.append(terms)
    if index == 150:
        knobs.temperature = 8.0
    if index == 299:
        break  # the generator simply sleeps on

# %%
values = {name: torch.stack([terms[name] for terms in history]).cpu() for name in ("kd", "ce")}
curves = {name: (range(len(history)), value) for name, value in values.items()}
ax = plots.training_curves(curves, marks={150: "T = 8"})
ax.legend(ax.lines[:2], ["distillation term", "label term"], frameon=False)
ax.set(ylabel="weighted term of the loss", yscale="log", ylim=(None, 60))  # room for the mark
show(ax, alt="02.two-terms")

# %% tags=["claims"]
before, after = (
    {name: v[part].mean() for name, v in values.items()}
    for part in (slice(130, 150), slice(200, 300))
)
assert 0.6 < before["kd"] < 2
assert 10 < values["kd"][151] < 22
assert after["ce"] > 1.1 * before["ce"]

# %% [markdown]
# At the mark the distillation term jumps from about 1 to about 15, from one step to the next. That is not the student: the loss at another temperature is
# *another ruler*. The label term rises a little as well, and that *is* the student: it now follows the teacher more than the labels. So two runs with
# different $T$ are compared by their errors, never by their losses.
#
# The live trainer above runs this loop.

# %% [markdown]
# ### Does $T^2$ matter for the student?
#
# Again 2,000 images, at $T = 8$ and $\alpha = 0.5$. The student has one hidden layer, as the one whose gradients you have measured. As before, fewer than 20
# errors would be too small to matter.

# %%
few = {"train": (*mnist.train.take(2000), cache[:2000]), "test": mnist.test}
ways = {"with T²": objective, "without T²": partial(objective, loss=kd_without_t2)}
runs = sweep(
    make_student=make_student_mlp, data=few, objective=ways, temperature=8, alpha=0.5,
    seeds=range(5), epochs=20, lr=3e-3, executor="processes", progress=False,
)  # fmt: skip
print(in_words(compare(runs, baseline="without T²", smallest_effect=20), "with T²"))
table = compare(runs, smallest_effect=20)
ax = plots.intervals(table, smallest_effect=20)
ax.set(xlabel="difference in test errors (of 10,000)")
show(ax, alt="02.with-and-without-t2")
print(in_words(table))

# %% tags=["claims"]
pair = compare(runs, baseline="without T²").set_index("arm").loc["with T²"]
against_none = table[table.baseline == "no_teacher"].set_index("arm")
against_smoothing = table[table.baseline == "label_smoothing"].set_index("arm")
assert pair.high < 0  # better with it
assert (against_none.loc[["with T²", "label_smoothing"]].high < 0).all()  # both beat no teacher
assert not (against_smoothing.verdict == "better").any()  # no teacher beats smoothed labels here
assert against_none.loc["without T²"].verdict != "better"

# %% [markdown]
# Read the interval, not the mean. With the factor, the student beats the one without a teacher. Without the factor nothing is left of the teacher's help: that
# student does no better than one without a teacher. The sentence above says whether it does worse.
#
# And notice the second baseline: **neither of these students beats label smoothing, which knows no teacher.** Softness
# alone could be all of the gain here. Without that row the comparison would have flattered the teacher. Part 3 asks what a teacher gives beyond softness.

# %% [markdown]
# ## Part 3: a digit never seen
#
# The paper trains students with two hidden layers of 800 units on all 60,000 images at $T = 20$. Here they run with layers of
# 300 on a part of the images, in a minute. With `FULL = True` at the top they have 800 units, 55,000 images and 20 epochs, close to the record at the end of
# this part.

# %%
hidden, samples, epochs = (800, 55_000, 20) if FULL else (300, 6_000, 10)
make_student = partial(make_hinton_student, hidden)


def distil(split, logits, *, alpha, epochs=epochs):
    data = {"train": (*split, logits), "test": mnist.test}
    return sweep(
        make_student=make_student, data=data, objective={"distilled": objective},
        temperature=20, alpha=alpha, seeds=range(3), epochs=epochs, lr=3e-3, keep_models=True,
        executor="processes", progress=False,
    )  # fmt: skip


# %% tags=["plumbing"]
def averages(runs, **columns):  # column="in words": a row for each arm, the mean over seeds
    means = runs.groupby("arm", sort=False)[list(columns)].mean().rename(columns=columns)
    means.index = means.index.str.replace("_", " ")
    return means.rename_axis(None).round(1)


# %% [markdown]
# ### Distilled against plain

# %%
guess("02.hinton-distilled")

# %%
runs = distil(mnist.train.take(samples), cache[:samples], alpha=0.9)
table = compare(runs, smallest_effect=20)
ax = plots.intervals(table, smallest_effect=20)
ax.set(xlabel="difference in test errors (of 10,000)")
show(ax, alt="02.distilled-against-plain")
print(in_words(table))

# %% tags=["claims"]
against = table[table.arm == "distilled"].set_index("baseline")
smoothing = table.set_index("arm").loc["label_smoothing"].difference  # against no teacher
assert against.loc["no_teacher"].high < 0
assert against.loc["label_smoothing"].high < 0
assert FULL or 0.45 < smoothing / against.loc["no_teacher"].difference < 0.85

# %% [markdown]
# Distillation beats both baselines here. But label smoothing alone goes about two thirds of the way from "no teacher" to "distilled"; at full size it goes a
# third of the way. (The paper's distilled student makes 74 errors, nearly as few as its teacher.) The rest comes from the teacher. The student had 6,000 images. Its teacher had ten times as many, and saw each in ever-changing positions. What the
# teacher learned there reaches the student in the soft targets.

# %% [markdown]
# ### The digit 3, never seen
#
# Now the experiment that made the paper famous. Take every 3 out of the [transfer set](glossary:transfer-set), the images on
# which the student learns. It meets 0, 1, 2 and 4 to 9, with the teacher's soft targets and without labels ($\alpha = 1$). It never
# sees a 3. But the teacher, shown an 8, a 2 or a 5, says how much of a 3 there is in it.

# %%
part = mnist.train.take(55_000 if FULL else 8_000)
kept = part.labels != 3
of_3 = soften(cache[: len(kept)], temperature=4)[:, 3]  # (N,); at 4 the eye sees more than at 20
shares = {digit: of_3[part.labels == digit].mean().item() for digit in range(10) if digit != 3}
ax = plots.new_axes(height=2.4)
ax.bar(
    [f"{digit}" for digit in shares],
    [100 * share for share in shares.values()],
    color=COLORS["teacher"],
)
ax.set(xlabel="shown digit", ylabel="a 3 in it, %")
show(ax, alt="02.share-of-3")

# %% tags=["claims"]
assert set(sorted(shares, key=shares.get)[-3:]) == {2, 5, 8}
assert max(shares, key=shares.get) == 8
assert shares[8] > 10 * shares[6]

# %% [markdown]
# An 8 has most of a 3 in it, about 2 %, and a 6 has next to none. These few per cent are all that the student will ever hear of a 3.

# %%
guess("02.threes-found")

# %%
without_3 = distil((part.images[kept], part.labels[kept]), cache[: len(kept)][kept], alpha=1.0)
is_3 = mnist.test.labels == 3


def count_threes(model):
    return int((predict_logits(model, mnist.test.images[is_3]).argmax(dim=1) == 3).sum())


without_3["threes"] = [count_threes(model) for model in without_3.model]
averages(without_3, threes="threes found of 1,010", test_errors="all errors of 10,000")

# %% tags=["claims"]
is_distilled = without_3.arm == "distilled"
assert (without_3[is_distilled].threes > 100).all()
assert (without_3[~is_distilled].threes == 0).all()
assert FULL or 200 < without_3[is_distilled].threes.mean() < 430

# %% [markdown]
# Hundreds of threes, recognised by a network that never saw one. Without a teacher: not a single one.
#
# ### Give it its threes
#
# About two thirds of the 1,010 are still missed, and the paper found the reason. The student knows what a 3 looks like, but it has also learned that a 3 never occurs. That second
# lesson sits in one number, the [bias](glossary:bias) of class 3 in the last layer. So raise it.
#
# By how much? The paper chose the amount that was best *on the test set*. We do not, because images by which something was chosen can no
# longer test it. We choose on the **held-out** images, which have threes among them.
#
# Run the notebook **up to the next cell** and move the slider with the mouse or the arrow keys. You see twenty held-out threes: first ten that one of the
# students finds, then ten that it misses. Watch the brown answers turn blue. Then look at the right: what does it cost, and where are all errors fewest?

# %%
first_student = without_3.model.iloc[0]  # distilled
bias_explorer = BiasExplorer(first_student, mnist.held_out)
bias_explorer

# %% [markdown]
# Was it the teacher, or is it the bias alone? To find out, all nine students get the same treatment, those without a teacher too: for each we choose
# the bias with the fewest held-out errors.


# %%
def raise_bias(logits, bias, classes):
    moved = logits.clone()  # (N, 10)
    moved[:, classes] += bias
    return moved


def choose_bias(model, classes, candidates):
    logits, labels = predict_logits(model, mnist.held_out.images), mnist.held_out.labels
    answers = [raise_bias(logits, bias, classes).argmax(dim=1) for bias in candidates]
    errors = [int((answer != labels).sum()) for answer in answers]
    return candidates[errors.index(min(errors))]


candidates = [step / 4 for step in range(81)]  # 0 to 20

# %% [markdown]
# For the student above, without a running kernel:

# %%
still = BiasExplorer(first_student, mnist.held_out)
before = still.found
still.bias.value = choose_bias(first_student, [3], candidates)
show(still.canvas.figure, alt="02.bias-chosen")
print(f"chosen: {still.bias.value}; threes found: {before} before, {still.found} after")
still.close()

# %% tags=["claims"]
assert 3 < still.bias.value < 12
assert before < 260
assert still.found > 1.5 * before
assert still.found > 300  # of 509
assert (mnist.held_out.labels == 3).sum() == 509

# %% [markdown]
# The curve of all errors is steep at first and nearly level around its lowest point, so a little more or less makes hardly a difference. The paper's amount, tuned on its
# test set, is 3.5.
#
# Now we count test errors, each student with its own bias.


# %%
def with_bias(runs, classes, candidates):
    table = runs[["arm", "seed", "test_errors"]].copy()
    table["bias"] = [choose_bias(model, classes, candidates) for model in runs.model]
    logits = [predict_logits(model, mnist.test.images) for model in runs.model]
    pairs = zip(logits, table.bias, strict=True)
    answers = [raise_bias(row, bias, classes).argmax(dim=1) for row, bias in pairs]
    table["errors_with_bias"] = [int((row != mnist.test.labels).sum()) for row in answers]
    table["threes"] = [int((row[is_3] == 3).sum()) for row in answers]
    return table


table_3 = with_bias(without_3, [3], candidates)
comparison = compare(table_3, metric="errors_with_bias", smallest_effect=20)
print(in_words(comparison, "distilled", unit="errors"))
averages(
    table_3, threes="threes found with bias", errors_with_bias="all errors with bias",
    test_errors="all errors without", bias="chosen bias",
)  # fmt: skip

# %% tags=["claims"]
distilled = comparison[comparison.arm == "distilled"]
means = table_3.groupby("arm")[["test_errors", "errors_with_bias", "threes"]].mean()
left = means.errors_with_bias / means.test_errors  # what the bias leaves of the errors
assert (distilled.high < 0).all()
assert distilled["mean"].iloc[0] < 0.6 * distilled.baseline_mean.min()
assert FULL or left["distilled"] < 0.6
assert min(left["no_teacher"], left["label_smoothing"]) > 0.65
assert FULL or 830 < means.threes["distilled"] < 960
assert FULL or 330 < means.threes["label_smoothing"] < 700
assert means.threes["no_teacher"] < 450
found_before = {"distilled": without_3[is_distilled].threes.mean()}
gained = {arm: means.threes[arm] - found_before.get(arm, 0) for arm in means.index}
lost = {arm: gained[arm] - (means.test_errors - means.errors_with_bias)[arm] for arm in gained}
lost_for_each = {arm: lost[arm] / gained[arm] for arm in gained}  # other digits for a three
assert FULL or lost_for_each["distilled"] < 0.33
assert FULL or lost_for_each["label_smoothing"] > 2 * lost_for_each["distilled"]

# %% [markdown]
# With the bias the distilled students find about 900 of the 1,010 threes, and about half of all their errors are gone. Look at the other rows, too. Students without a
# teacher have a bias to raise as well, and then they find some threes, with smoothed labels about half of them. But the price is higher: for each three that is
# won, students with smoothed labels lose more than twice as many other digits as distilled ones. So far fewer of all their errors go away.
#
# In the paper, at full size, the student makes 206 errors, 133 of them on threes. With the bias it makes 109, of which 14 are on threes: it recognises 98.6 % of a
# digit that it never saw.

# %% [markdown]
# ### Only sevens and eights
#
# The last experiment is the strangest. The transfer set holds 7s and 8s and nothing else. Eight of the ten classes never appear.

# %%
guess("02.sevens-and-eights")

# %%
kept = (used.labels == 7) | (used.labels == 8)
split = (used.images[kept], used.labels[kept])
only_78 = distil(split, cache[kept], alpha=1.0, epochs=40 if FULL else 16)
table_78 = with_bias(only_78, [7, 8], [-step / 4 for step in range(81)])
comparison = compare(table_78, metric="errors_with_bias", smallest_effect=20)
print(in_words(comparison, "distilled", unit="errors"))
table_78["right"] = 100 - table_78.test_errors / 100
table_78["right_with_bias"] = 100 - table_78.errors_with_bias / 100
averages(
    table_78, right_with_bias="right with bias, %", right="right without, %", bias="chosen bias"
)

# %% tags=["claims"]
distilled = comparison[comparison.arm == "distilled"]
assert distilled["mean"].iloc[0] < 4000
assert (distilled.high < 0).all()
assert distilled.baseline_mean.min() > 6800  # of the sevens and eights alone there are 2,002

# %% [markdown]
# These students saw two digits of ten, and get more than 60 % of all ten right; at full size it is 91 %. Students without a teacher get little more right than the sevens
# and eights themselves, a fifth of the test. The paper reports 47.3 % errors, and 13.2 % with both biases lowered by 7.6, again tuned on the test set.
#
# Here are the eight digits that one of these students has never seen, each with the first test image that it recognised, and the share that it recognised of all.

# %%
logits = predict_logits(only_78.model.iloc[0], mnist.test.images)  # (10000, 10)
answers = raise_bias(logits, table_78.bias.iloc[0], [7, 8]).argmax(dim=1)  # (10000,)
firsts, captions = [], []
for digit in (0, 1, 2, 3, 4, 5, 6, 9):
    is_digit = mnist.test.labels == digit
    right = is_digit & (answers == digit)
    firsts.append(int(right.int().argmax()))
    captions.append(f"{right.sum() / is_digit.sum():.0%}")
picture = plots.digit_grid(mnist.test.images[firsts], captions=captions, columns=8)
show(picture, alt="02.eight-digits-never-seen")

# %% tags=["claims"]
assert all(caption != "0%" for caption in captions)

# %% [markdown]
# ### At full size
#
# The full-size runs have 2×800 units, all 60,000 images, 20 epochs (40 for the 7s and 8s) and three seeds. Where a bias is chosen, 5,000 images are held out for it. One
# command makes them: `python -m experiments.hinton`. It records its numbers with seeds, versions and machine. First: did the comparison with both baselines hold?

# %%
record = read_record("hinton")
small, full = table[table.arm == "distilled"], pd.DataFrame(record["comparisons"])
runs_of = {"this run: 6,000 images": small, "full size: 60,000": full}
tests = dict.fromkeys(runs_of, 10_000)
show(plots.did_it_hold(runs_of, images=tests, smallest_effect=15), alt="02.did-it-hold")
print(in_words(full, unit="errors").replace("In this run", "At full size"))

# %% tags=["claims"]
assert (full.high < 0).all()
means = {arm: part["test_errors"] for arm, part in record["means"].items()}
gain = means["no_teacher"] - means["label_smoothing"]
assert 0.3 < gain / (means["no_teacher"] - means["distilled"]) < 0.4
assert [record["settings"][key] for key in ("epochs", "seeds", "held_out")] == [20, 3, 5000]
assert [record["arms"][arm]["longer"] for arm in ("without_3", "only_7_and_8")] == [1, 2]
assert round(record["means"]["only_7_and_8"]["test_errors_with_bias"], -2) == 900
assert [round(means[arm]) for arm in ("teacher", "without_3", "no_teacher")] == [61, 127, 143]

# %% [markdown]
# It held. At full size all students make fewer errors, so the differences are smaller, but the intervals stay left of 0.
#
# Now the paper beside our record. Two warnings belong to this picture. At full size we trained no baselines without 3s or with 7s and 8s only, so the picture
# shows means. And the teacher's 61 is the flattering number from the beginning of this chapter: do not read it as "better than the paper's 67".

# %% tags=["plumbing"]
rows = {
    "teacher": ("teacher", "test_errors"),
    "no teacher": ("no_teacher", "test_errors"),
    "label smoothing": ("label_smoothing", "test_errors"),
    "distilled": ("distilled", "test_errors"),
    "3 never seen": ("without_3", "test_errors"),
    "3 never seen, with bias": ("without_3", "test_errors_with_bias"),
    "only 7 and 8": ("only_7_and_8", "test_errors"),
    "only 7 and 8, with bias": ("only_7_and_8", "test_errors_with_bias"),
}
sources = {"paper": record["paper"], "recorded here": record["means"]}
dots = {
    source: {row: part.get(arm, {}).get(key) for row, (arm, key) in rows.items()}
    for source, part in sources.items()
}
show(plots.dots(dots, xlabel="test errors of 10,000"), alt="02.paper-and-record")

# %% [markdown]
# Distillation closes most of the gap between the plain student and the teacher in both. One order differs. In the paper the student that never saw a 3 makes more errors than
# the plain one (206 against 146); here it makes fewer (127 against 143). After the bias ours still misses 20 threes, the paper's 14. Our
# biases come from held-out images, the paper's from the test set. All numbers, folded:

# %% tags=["plumbing"]
numbers = {
    name: pd.DataFrame(part).unstack()  # by experiment and by what was counted
    for name, part in {"paper": record["paper"], "recorded here": record["means"]}.items()
}
long = pd.DataFrame(numbers).dropna(how="all").to_html(na_rep="–")
HTML(f"<details><summary>Every number of the paper and of the record</summary>{long}</details>")

# %% [markdown]
# ### Once more, and nothing chosen by test errors
#
# This record has two weak points: its teacher's settings were chosen by test errors, and three seeds are few. A second command avoids both: `python -m experiments.hinton_table`.
# The teacher's dropout, learning rate and epochs were chosen on 5,000 held-out images, on which nothing was trained. So were the students' $T$ and $\alpha$, and whether they
# see images shifted by up to two pixels. Then eight new seeds were trained for 50 epochs: plain, with smoothed labels, and distilled, all on the same images. It is a new
# teacher, on 55,000 images; that it makes 61 errors too is chance.

# %% tags=["plumbing"]
chosen = read_record("hinton_table")
settings = chosen["settings"]
ends = pd.DataFrame(chosen["comparisons"])
ends["verdict"] = [verdict(row.low, row.high, smallest_effect=10) for row in ends.itertuples()]
sources = {"paper": record["paper"], "by held-out images": chosen["means"]}
dots = {
    source: {row: part.get(rows[row][0], {}).get("test_errors") for row in list(rows)[:4]}
    for source, part in sources.items()
}
ax = plots.dots(dots, xlabel="test errors of 10,000")
ax.set(xscale="linear", xlim=(50, 155))
show(ax, alt="02.by-held-out-images")
print(f"chosen: T = {settings['temperature']:g}, α = {settings['alpha']:g},", end=" ")
print(f"images {settings['views']}")
words = in_words(ends[ends.arm == "distilled"], unit="errors")
print(words.replace("In this run", "At full size"))

# %% tags=["claims"]
of_table = {arm: part["test_errors"] for arm, part in chosen["means"].items()}
assert settings["views"] == "shifted"
assert [
    round(of_table[arm]) for arm in ("teacher", "no_teacher", "label_smoothing", "distilled")
] == [61, 81, 71, 67]
against = ends[ends.arm == "distilled"].set_index("baseline")
assert [round(end) for end in against.loc["label_smoothing", ["low", "high"]]] == [-7, -1]
assert against.verdict["label_smoothing"] == "too small to matter"
assert (against.high < 0).all()
on_threes = [
    part["without_3"]["errors_on_3_with_bias"] for part in (record["means"], record["paper"])
]
assert [round(errors) for errors in on_threes] == [20, 14]

# %% [markdown]
# Shifted images and a longer training bring the plain student from 143 errors to 81. (Epochs, batch size and learning rate changed together with the shifts, and we did not
# separate them.) Smoothed labels bring it to 71, a teacher to 67. So most of the way is the recipe, with [data augmentation](glossary:augmentation) in it. Beyond
# smoothing the teacher adds 1 to 7 errors. That is less than 10, which the [ledger](../docs/ledger.md#hinton-settings-by-held-out-images) had called the smallest effect that matters, before the run.
# The paper's students saw no shifted images, so its 74 is not the same experiment.
#
# On MNIST, with all labels and this recipe, a teacher hardly matters. With 2,000 images, or with a missing digit, it does.

# %% [markdown]
# ## Summary
#
# - The loss is $T^2 \cdot \mathrm{KL}(\text{teacher} \,\|\, \text{student})$ of softened rows: summed over classes, averaged over everything else, in log space, with nothing
#   flowing into the teacher.
# - Where $T$ is large against the logits, the gradient shrinks like $1/T^2$, and the factor $T^2$ undoes that. Below $T \approx 4$ it does not keep the gradient constant.
# - $\alpha$ weights losses, not gradients. Losses at two temperatures cannot be compared; errors can.
# - Cached teacher logits belong to the image, by index, and to the image *as it is shown*.
# - A teacher is compared with no teacher **and** with label smoothing, over seeds, in pairs. Softness alone can be all of the gain, or a part.
# - A teacher gives something that softness cannot give: a student can learn a digit that it has never seen from what the teacher says about other digits.
#
# ## Think, then try
#
# Each question has a folded answer. Its numbers were measured with this chapter's code; `python -m experiments.think 02`, in a clone of the
# repository, measures them again. Write down your own expectation first.
#
# 1. Adam divides each gradient by its own running size. What should the factor $T^2$ change for a student trained with Adam at $\alpha = 1$? And at $\alpha = 0.9$?
#
# <details><summary>Answer</summary>
#
# At $\alpha = 1$ nothing: the factor multiplies every gradient, and Adam divides it out. On this chapter's 2,000 images
# at $T = 8$, over 8 seeds, students make 888 test errors of 10,000 with the factor and 887 without it. The difference
# is too small to matter: it lies between 5 errors fewer and 6 more with it.
#
# At $\alpha = 0.9$ the labels' term is there to be compared with, and the factor matters: 885 errors with it, 921
# without it. That is 36 errors fewer (19 to 53). At $\alpha = 0.5$ it is what you saw in "Does $T^2$ matter for the
# student?".
#
# </details>
#
# 2. Replace `kd_loss` by the reverse direction, in log space, in the experiment without 3s. Does the student still learn what a 3 looks like?
#
# <details><summary>Answer</summary>
#
# Yes, about as well. Over 8 seeds, students trained with the reverse direction find 319 of the 1,010 test threes on
# average, and those with the chapter's direction 326. The difference lies between 64 threes fewer and 51 more. Of all
# 10,000 test images they get 921 and 910 wrong, and the difference lies between 52 errors fewer and 73 more. The two
# may still differ by as much. At $T = 20$ both rows are nearly level, and there both directions are nearly the squared
# error between logits.
#
# At $T = 1$ the direction matters: the reverse one makes 42 errors more (4 to 81). But at that temperature there is
# next to nothing of a 3 in the soft targets: the two find 0.0 and 1.5 threes on average.
#
# </details>
#
# 3. Train for 10 epochs at `lr=1e-3` instead of 20 at `3e-3`, in the comparison of $T^2$. Does the teacher still help? What does "equal budget" hide?
#
# <details><summary>Answer</summary>
#
# No: with the factor, at $T = 8$ and $\alpha = 0.5$, the distilled student makes 297 errors more (273 to 321) than the
# one without a teacher. With more epochs it overtakes that one. Test errors of 10,000, means over 8 seeds, all at
# `lr=1e-3`:
#
# | epochs | no teacher | label smoothing | distilled | distilled against no teacher |
# |---|---|---|---|---|
# | 10 | 1,091 | 1,068 | 1,388 | 297 errors more (273 to 321) |
# | 20 | 1,006 | 953 | 1,196 | 190 errors more (170 to 211) |
# | 40 | 1,018 | 899 | 964 | 54 errors fewer (32 to 76) |
# | 80 | 1,015 | 852 | 762 | 253 errors fewer (229 to 277) |
#
# After 80 epochs the distilled student makes 253 errors fewer (229 to 277) than the one without a teacher, and 89
# errors fewer (76 to 103) than the one with smoothed labels. Soft targets are a slower start and a better end. An equal
# number of steps is fair only if both have had enough of them, so the budget belongs to the question.
#
# </details>
#
# 4. How many 3s must come back into the transfer set before the bias is no longer needed?
#
# <details><summary>Answer</summary>
#
# At most 300 of the 811; 100 may be enough. As before, fewer than 20 errors would be too small to matter. With 100
# threes the best bias still makes 18 errors fewer (5 to 32), so it may matter a little. With 300 threes it does not:
# the difference lies between 9 errors fewer and 3 more. All other digits of the 8,000 images stay, and the bias is
# chosen on held-out images. Errors of 10,000 test images, means over 6 seeds:
#
# | threes among the images | threes found of 1,010 | errors | errors with the best bias | the bias makes |
# |---|---|---|---|---|
# | 0 | 311 | 924 | 446 | 478 errors fewer (456 to 500) |
# | 10 | 690 | 546 | 357 | 189 errors fewer (138 to 239) |
# | 30 | 845 | 399 | 348 | 51 errors fewer (36 to 65) |
# | 100 | 917 | 332 | 313 | 18 errors fewer (5 to 32) |
# | 300 | 952 | 295 | 292 | between 9 errors fewer and 3 more |
#
# Ten threes already change most, although each is seen only once in an epoch: with them the student misses 378 threes
# fewer (308 to 449).
#
# </details>
#
# 5. With Adam as it is usually set, the errors first go *up* when $T$ goes from 1 to 20: `new_live_trainer(2, make_adam)`. Why? Compare one leap with
#    a slow drag, and a leap with Adam's memory cleared (`live.arms["distilled"].optimizer.state.clear()`).
#
# <details><summary>Answer</summary>
#
# A part of it is Adam. It divides each gradient by its own running size, and at first these are still the small sizes
# of $T = 1$, so the steps are too large. We measured 8 starts. At step 400 the students get 158 (7.9 %) of the 2,000
# held-out images wrong, on average. From there on we counted the errors every 5 steps, for 200 steps. The table has the
# mean of each start's highest count, and its difference from the highest count of a copy whose $T$ stays at 1.
#
# | $T$ after step 400 | most errors of 2,000 | against $T = 1$ |
# |---|---|---|
# | stays at 1 | 165 (8.3 %) |  |
# | one leap to 20 | 246 (12.3 %) | 81 errors more (71 to 91) |
# | 2, 4 and 8 for ten steps each, then 20 | 204 (10.2 %) | 39 errors more (31 to 47) |
# | one leap, Adam's memory cleared | 196 (9.8 %) | 31 errors more (25 to 37) |
# | one leap, memory cleared, a tenth of the learning rate | 176 (8.8 %) | 11 errors more (7 to 16) |
# | one leap, with `quick_adam` from the start | 162 (8.1 %) | 24 errors fewer (10 to 39) |
#
# At the worst moment the slow drag makes 42 errors fewer (28 to 55) than the leap, and the leap with a cleared memory
# 50 errors fewer (41 to 59). The rest is not this memory. With a cleared memory *and* a tenth of the learning rate the
# errors still rise, and for longer: after 200 steps this student makes 18 errors more (12 to 23) than the one whose $T$
# stays at 1. After one leap alone it makes by then 44 errors fewer (40 to 48). On its way from one set of targets to
# another, this student gets worse before it gets better. The opening's `quick_adam` forgets the old sizes within a
# hundred steps. With it the worst moment is no worse than that of its own copy at $T = 1$: it makes 24 errors fewer (10
# to 39).
#
# </details>
#
# 6. In the opening, once $T$ is 20: what becomes of the errors when $T$ goes to 0.5, or $\alpha$ to 1? And what does a teacher do with *all* images, for
#    one hidden layer and for two?
#
# <details><summary>Answer</summary>
#
# Means of 5 starts, in % of the 2,000 held-out images.
#
# - With $T$ at 0.5 for another 400 steps the errors stay low: 4.3 %, where the student without a teacher makes 7.4 %.
#   What was learned at $T = 20$ is not lost so soon.
# - With $\alpha = 1$, the errors after another 400 steps are 3.9 %. This student needs no labels.
# - With all images and 800 steps, a student of two hidden layers gets 1.4 % wrong with the teacher and 3.2 % without,
#   which is 37 errors fewer (26 to 48). With one hidden layer it is 3.1 % against 3.9 %, 15 errors fewer (5 to 24). So
#   the shape of the student matters. Why? A likely reason is that one hidden layer cannot follow this teacher; we did
#   not measure that.
#
# </details>
#
# More, with checks that know the usual slips: [exercise 02](../exercises/ex02_soft_targets/ex02_soft_targets.ipynb). And
# [exercise 13](../exercises/ex13_temperature_sweep/ex13_temperature_sweep.ipynb) asks which temperature is best, for a small and for a large student, with
# enough seeds to tell.
#
# ## References
#
# - Hinton, Vinyals, Dean (2015). *Distilling the knowledge in a neural network.* [arXiv:1503.02531](https://arxiv.org/abs/1503.02531): section 2 and equations 1 to 4
#   (the loss, and its limit for large $T$), section 3 (MNIST).
# - Müller, Kornblith, Hinton (2019). *When does label smoothing help?* [arXiv:1906.02629](https://arxiv.org/abs/1906.02629): why that baseline belongs in the table.
