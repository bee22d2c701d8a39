# %% [markdown]
# # Feature distillation
#
# A teacher's ten probabilities are the last line of a long calculation. This chapter hands the student some of the lines
# before it: what a layer computes (FitNets), *where* it computes (attention transfer), and which images it finds alike
# (contrastive features). First we learn to read a layer without being fooled; in the end all of them meet plain soft
# targets, at equal budget, with intervals.
#
# **You will be able to**
# - read any layer of any model with a hook, and name four ways in which that goes wrong;
# - write the three losses from their formulas, and recognise traps 18 to 30 of `docs/traps.md` by what they leave behind;
# - see what a weight is worth before you choose it, and choose it on held-out images;
# - say when features add something to soft targets.
#
# **You need** chapter 02. **Time** about 60 minutes; the machine needs about one.
#
# Symbols: $F$ a layer's output, a [feature map](glossary:feature-map) of $C$ channels and $H \times W$ positions; $s$ student,
# $t$ teacher; $B$ images in a batch.

# %%
import math
import warnings
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from kdcourse import plots, zoo
from kdcourse.data import load_mnist
from kdcourse.losses import (
    HintRegressor,
    attention_map,
    attention_transfer_loss,
    hint_loss,
    info_nce_loss,
    kd_loss,
)
from kdcourse.models import capture, count_parameters, make_student_cnn
from kdcourse.plots import COLORS, show
from kdcourse.plots.drawings import draw_attention_transfer, draw_fitnets, draw_hooks
from kdcourse.recipes import fitnets, make_adam
from kdcourse.records import read_record
from kdcourse.sweeps import compare, format_comparison, sweep
from kdcourse.training import count_errors, evaluating, fit, pick_device, train
from kdcourse.widgets import AttentionExplorer, guess

# %%
draw_fitnets()

# %% [markdown]
# ## The cast
#
# Both networks are convolutional: three *stages* and a head. A stage is two 3 × 3 convolutions, each followed by
# [batch normalisation](glossary:batch-normalisation) and a ReLU; stages 2 and 3 halve height and width. The head averages each
# channel over all places and turns the averages into ten logits. The teacher's stages have 16, 32 and 64 channels, the student's
# 4, 8 and 16: a fifteenth of the parameters. And the student is given few images. On all of MNIST two methods differ by less than
# two seeds of the same method do; with few images there is something to be gained, and so something to be seen.
#
# Numbers of *trained* students differ a little from machine to machine: another processor rounds differently, and after some
# hundred steps that is another run. The text claims only what held on all that we tried; verdicts on thin differences are printed.

# %%
FULL = (
    False  # True: more images, more seeds, all test images; about a quarter of an hour of one core
)
SAMPLES, EPOCHS, SEEDS, CHOICE_SEEDS = (2000, 10, 8, 3) if FULL else (1000, 5, 4, 1)
device = pick_device()
mnist = load_mnist(device=device)
few = mnist.train.take(SAMPLES)
teacher = zoo.load("teacher_cnn", device=device)
parameters = {"teacher": count_parameters(teacher), "student": count_parameters(make_student_cnn())}
print(
    parameters,
    f"teacher's errors on {len(mnist.held_out.labels):,} held-out images:",
    count_errors(teacher, *mnist.held_out),
)

# %% tags=["claims"]
assert 14 < parameters["teacher"] / parameters["student"] < 16

# %% [markdown]
# ## What a hook sees
#
# `teacher(images)` returns logits, and everything before them is gone. A [hook](glossary:hook) is a function that PyTorch calls
# each time a module has run, with the module, its inputs and its output. So put one on each stage and write down what comes by.

# %%
draw_hooks()

# %%
images, labels = mnist.held_out.take(256)
seen = {}
for (
    name,
    module,
) in teacher.named_children():  # name=name: each hook keeps the name of its own module
    module.register_forward_hook(
        lambda module, inputs, output, name=name: seen.update({name: output})
    )
with torch.no_grad():
    logits = teacher(images)
for name, output in seen.items():
    print(f"{name:7} {tuple(output.shape)}")

# %% tags=["claims"]
assert seen["stage2"].shape == (256, 32, 14, 14)

# %% [markdown]
# From stage to stage there are fewer positions and more channels. Each of the 14 × 14 positions of `stage2` holds 32 numbers
# about its neighbourhood. Four lines were enough. Now look at what they have left behind.
#
# ### Hooks stay

# %%
guess("03.hooks-twice")

# %%
handles = [module.register_forward_hook(lambda *ignored: None) for module in teacher.children()]
count = len(teacher.stage2._forward_hooks)
print(f"{count} hooks on stage2; and the old features are alive: {tuple(seen['stage2'].shape)}")
assert count == 2
for handle in handles:
    handle.remove()

# %% tags=["claims"]
assert len(teacher.stage2._forward_hooks) == 1  # of the first we have no handle

# %% [markdown]
# <details><summary><b>Trap 24: hooks left behind</b></summary>
#
# A widely read text has a class that registers hooks in its constructor and never removes
# them. Wrap a model twice and everything is captured twice, for as long as the model lives; the features of the last batch stay
# in memory, and with gradients all that led to them.
#
# </details>
#
# Here is that class, nearly as it is printed. In the call one name is misspelt.


# %%
class FeatureExtractingModel(nn.Module):
    def __init__(self, model, layer_names):
        super().__init__()
        self.model, self.features = model, {}
        for name, module in model.named_modules():
            if name in layer_names:
                module.register_forward_hook(
                    lambda module, inputs, output, name=name: self.features.update({name: output})
                )

    def forward(self, images):
        return self.model(images), self.features


teacher = zoo.load("teacher_cnn", device=device)  # a fresh one, without hooks
wrapped = FeatureExtractingModel(teacher, ["stage2", "stage_3"])
_, features = wrapped(images)
print("captured:", list(features))

# %% tags=["claims"]
assert list(features) == ["stage2"]

# %% [markdown]
# No error: `stage_3` matches nothing, and so nothing is captured. And the dictionary is kept from call to call. Where a layer does
# not run this time, as in a network that may leave by an [early exit](glossary:early-exit), what an *earlier* batch left is still there.

# %%
_, features = wrapped(images)
teacher.stage1(images[:64])  # 64 images, and the model is left after its first stage
print(f"64 images went in; the dictionary holds stage2 of {len(features['stage2'])}")

# %% tags=["claims"]
assert len(features["stage2"]) == 256

# %% [markdown]
# <details><summary><b>Trap 25: a name that matches nothing</b></summary>
#
# Nothing is captured and nothing is said; features of an earlier batch survive and
# pass for new ones. A loss on them compares different images.
#
# </details>
#
# ### Hooks hand over the tensor itself
#
# Many models save memory with `nn.ReLU(inplace=True)`. We hook the convolution in front of one. A convolution gives
# negative numbers as well as positive ones.

# %%
guess("03.inplace-relu")

# %%
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(inplace=True)).to(device)
kept = {}
hook = net[0].register_forward_hook(
    lambda module, inputs, output: kept.update(output=output, copy=output.clone())
)
net(images)
hook.remove()
print(
    f"smallest of the captured output {kept['output'].min():.3f}, of a copy made in the hook {kept['copy'].min():.3f}"
)

# %% tags=["claims"]
assert kept["output"].min() == 0
assert kept["copy"].min() < -0.1

# %% [markdown]
# <details><summary><b>Trap 26: the tensor itself</b></summary>
#
# You asked for what stands before the ReLU and got what stands behind it. A method that was
# designed for the one runs on the other, and no shape gives it away.
#
# </details>
#
# ### Repaired
#
# `kdcourse.models.capture` is a [context manager](glossary:context-manager): at its end every hook is gone, after an error too. It
# empties the dictionary at the start of each pass, copies what it keeps, and knows the names of the model. Below it refuses two
# things: the misspelt name, and a fourth way to go wrong that we have not met yet.

# %%
teacher = zoo.load("teacher_cnn", device=device)
with torch.no_grad(), capture(teacher, "stage1", "stage2", "stage3") as teacher_features:
    teacher_logits = teacher(images)
print({name: tuple(features.shape) for name, features in teacher_features.items()})
assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())
for model, layer in [(teacher, "stage_3"), (nn.DataParallel(teacher), "module.stage3")]:
    try:
        with capture(model, layer):
            model(images)
    except ValueError as error:
        print(f"\n{layer}: {error}")

# %% [markdown]
# <details><summary><b>Trap 27: `DataParallel`</b></summary>
#
# The second refusal. `nn.DataParallel` copies a model to several GPUs, and all copies would write into
# one dictionary, each over the other.
#
# </details>
#
# ## FitNets: learn the numbers
#
# The first idea is the plainest. Let the student's middle layer, the *guided* layer, produce what the teacher's middle layer, the
# [hint](glossary:hint), produces. Here is the obstacle.

# %%
torch.manual_seed(0)
student = make_student_cnn().to(device)
with capture(student, "stage1", "stage2", "stage3") as student_features:
    student_logits = student(images)
print(
    "student",
    tuple(student_features["stage2"].shape),
    "  teacher",
    tuple(teacher_features["stage2"].shape),
)
try:
    hint_loss(student_features["stage2"], teacher_features["stage2"])
except ValueError as error:
    print(error)

# %% [markdown]
# 8 numbers a position against 32. The paper puts a learned layer between them, a [regressor](glossary:regressor): at
# each position a linear map from 8 numbers to 32, which is a 1×1 convolution. It is trained with the student and thrown away afterwards.
# The loss is the squared error (equation 3 of the paper; there half the sum, here the mean, as in later code, which often gives it a
# weight of 100):
#
# $$L_\text{hint} = \frac{1}{B\,C\,H\,W} \left\| r(F^s) - F^t \right\|^2$$

# %%
regressor = HintRegressor(8, 32).to(device)
guided, hint = (
    regressor(student_features["stage2"]),
    teacher_features["stage2"],
)  # (256, 32, 14, 14) both
by_hand = (guided - hint.detach()).square().mean()
torch.testing.assert_close(by_hand, hint_loss(guided, hint))
print(
    f"the regressor: {count_parameters(regressor)} parameters; hint loss at the start {by_hand:.3f}"
)

# %% tags=["claims"]
assert count_parameters(regressor) == 8 * 32 + 32

# %% [markdown]
# A regressor changes channels and nothing else. If the hint has fewer positions, 7 × 7 say, the maps still do not fit. And when
# one side was pooled to a single position, PyTorch finds a way that nobody asked for, with no more than a warning (silenced here).

# %%
pooled = (
    nn.Conv2d(8, 64, 1).to(device)(student_features["stage2"]).mean(dim=(2, 3), keepdim=True)
)  # (256, 64, 1, 1)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    broadcast = F.mse_loss(
        pooled, teacher_features["stage3"]
    )  # (256, 64, 1, 1) against (256, 64, 7, 7)
print(f"F.mse_loss gives {broadcast:.3f}: one position was compared with all 49")
fitting = HintRegressor(8, 64, size=7).to(device)(
    student_features["stage2"]
)  # pools 14×14 to 7×7, then convolves
print("with size=7:", tuple(fitting.shape), f"{hint_loss(fitting, teacher_features['stage3']):.3f}")

# %% tags=["claims"]
assert fitting.shape == teacher_features["stage3"].shape

# %% [markdown]
# <details><summary><b>Trap 19: channels fit, maps do not</b></summary>
#
# A 1×1 convolution fixes channels only. Height and width are a matter of pooling, or
# of another layer; a loss must refuse to broadcast.
#
# </details>
#
# ### Another loss under the same name
#
# The widely read text calls its loss FitNets, too. It first scales the 32 numbers of each position to unit length, on both sides, and
# then takes the mean of the squared differences.

# %%
guess("03.times-ten")


# %%
def normalised_loss(guided, hint):
    return F.mse_loss(F.normalize(guided, dim=1), F.normalize(hint, dim=1))


for name, loss in {"hint_loss": hint_loss, "normalised": normalised_loss}.items():
    print(f"{name:10} {loss(guided, hint):.4f}   features × 10: {loss(10 * guided, hint):.4f}")
torch.testing.assert_close(normalised_loss(10 * guided, hint), normalised_loss(guided, hint))

# %% [markdown]
# It is blind to how strongly a position is active. And it is small: a unit vector's 32 squares add up to 1, so each is about
# 1/32, and the *mean* over channels is the squared distance divided by 32. What matters is the push on the student, the gradient:


# %%
def push(loss):
    """Length of a loss's gradient in the student's weights."""
    found = torch.autograd.grad(
        loss, list(student.parameters()), retain_graph=True, allow_unused=True
    )
    return (
        torch.cat([gradient.flatten() for gradient in found if gradient is not None]).norm().item()
    )


distance = (
    (F.normalize(guided, dim=1) - F.normalize(hint, dim=1)).square().sum(dim=1).mean()
)  # of unit vectors
torch.testing.assert_close(distance / 32, normalised_loss(guided, hint))
pushes = {
    "hint_loss": push(hint_loss(guided, hint)),
    "normalised": push(normalised_loss(guided, hint)),
}
print(
    {name: round(size, 4) for name, size in pushes.items()},
    f"ratio {pushes['hint_loss'] / pushes['normalised']:.0f}",
)

# %% tags=["claims"]
assert pushes["hint_loss"] > 8 * pushes["normalised"]

# %% [markdown]
# <details><summary><b>Trap 18: normalised, averaged, and called FitNets</b></summary>
#
# It may be a useful loss. But it is another one: blind to magnitudes, and
# its mean is smaller by the number of channels. A weight that was found for one of the two says nothing about the other.
#
# </details>
#
# ### The regressor must learn, too
#
# The regressor starts as a random matrix. Its parameters are not the student's; somebody has to give them to the optimizer. What if
# nobody does? First the loop that most people write.


# %%
def hint_stage(*, remember, steps=80):
    torch.manual_seed(0)
    student, regressor, losses = make_student_cnn().to(device), HintRegressor(8, 32).to(device), []
    learned = [*student.parameters(), *(regressor.parameters() if remember else [])]
    optimizer = torch.optim.Adam(learned, lr=1e-2)
    for step in range(steps):
        batch = slice(32 * (step % 8), 32 * (step % 8 + 1))
        with capture(student, "stage2") as features:
            student(images[batch])
        loss = hint_loss(regressor(features["stage2"]), teacher_features["stage2"][batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).cpu()


# %%
guess("03.forgotten-regressor")

# %%
learned, forgotten = hint_stage(remember=True), hint_stage(remember=False)
ax = plots.curve(range(80), forgotten, role="no_teacher", label="regressor forgotten", markevery=10)
plots.curve(range(80), learned, role="kd", label="regressor learns", ax=ax, markevery=10)
ax.set(xlabel="step", ylabel="hint loss", ylim=(0, None))
show(ax, alt="03.hint-loss-over")
ends = {"learned": learned[-8:].mean().item(), "forgotten": forgotten[-8:].mean().item()}
print({name: round(value, 3) for name, value in ends.items()}, f"start {learned[0]:.3f}")

# %%


def forgetful(student, images, labels):
    with capture(student, "stage2") as features:
        student(images)
    return {
        "hint": hint_loss(regressor(features["stage2"]), teacher_features["stage2"][: len(images)])
    }


try:
    next(
        train(
            student, [(images[:32], labels[:32])], forgetful, torch.optim.Adam(student.parameters())
        )
    )
except ValueError as error:
    print(error)

# %% tags=["claims"]
assert ends["forgotten"] > 1.2 * ends["learned"]
assert ends["forgotten"] < 0.9 * learned[0]

# %% [markdown]
# <details><summary><b>Trap 21: a regressor that nobody trains</b></summary>
#
# The loss falls, so nothing looks wrong: the student bends itself towards a
# random projection of itself. The course's loop walks through the graph of the first loss and refuses, as you see.
#
# </details>
#
# ### Two stages
#
# FitNets is a *recipe*, not only a loss. Stage one: the hint loss alone trains all layers up to the guided one, without any
# label. Stage two: soft targets train the whole student from there. `recipes.fitnets` does both.

# %%
torch.manual_seed(0)
student_of_two_stages = make_student_cnn().to(device)
history = fitnets(
    student_of_two_stages, teacher, mnist.train.take(500), student_layer="stage2", teacher_layer="stage2",
    hint_epochs=4, epochs=8, batch_size=25, temperature=4.0, alpha=0.5, make_optimizer=partial(make_adam, lr=1e-2),
)  # fmt: skip

# %% tags=["claims"]
assert (
    count_errors(student_of_two_stages, *mnist.held_out.take(1000)) < 400
)  # it has learned; how well, see the comparison

# %%
first, kd, ce = history.hint.terms["hint"], history.kd.terms["kd"], history.kd.terms["ce"]
switch = len(first)
ax = plots.curve(range(switch), first, color=COLORS["fork"], label="stage one: hint", linestyle="-")
plots.curve(
    range(switch, switch + len(kd)),
    kd,
    role="kd",
    label="stage two: soft targets",
    ax=ax,
    markevery=20,
)
plots.curve(
    range(switch, switch + len(ce)), ce, role="ce", label="stage two: labels", ax=ax, markevery=20
)
ax.axvline(switch, color=plots.INK, linewidth=0.8, linestyle=":")
ax.set(xlabel="step", ylabel="term of the loss", yscale="log")
show(ax, alt="03.hint-loss-falls")

# %% tags=["claims"]
assert (switch, len(kd)) == (80, 160)
assert first[-8:].mean() < 0.5 * first[0]

# %% [markdown]
# The paper made the student *thinner and deeper* than its teacher, so deep that in 2015 it could hardly be trained at all; a
# hint in the middle got it started. Our student is shallow, has batch normalisation and needs no help to start. So keep a question
# for the end: are the steps of stage one well spent here?
#
# ## Attention transfer: learn the places
#
# Must the student copy 32 numbers at each place? Perhaps it is enough to know *where* the teacher is active. Square the
# features, add up the channels, and scale the map to length 1:
#
# $$A = \frac{a}{\|a\|_2}, \qquad a_{hw} = \sum_c |F_{chw}|^p, \qquad p = 2$$

# %%
draw_attention_transfer()

# %%
features = teacher_features["stage2"]  # (256, 32, 14, 14)
energy = features.abs().pow(2).sum(dim=1).flatten(1)  # (256, 196)
by_hand = energy / energy.norm(dim=1, keepdim=True)
torch.testing.assert_close(by_hand, attention_map(features))
print(
    tuple(features.shape),
    "→",
    tuple(by_hand.shape),
    f"length of each row {by_hand.norm(dim=1).mean():.3f}",
)

# %% [markdown]
# The channels are gone: a map of 8 channels and one of 32 can be compared without any regressor. Look at the teacher's maps
# over ten digits; each is scaled to its own brightest place.


# %%
def maps_of(features):
    """Attention maps of each stage as pictures."""
    return {
        name: attention_map(maps).unflatten(1, maps.shape[2:]) for name, maps in features.items()
    }


first_of_each = [int((labels == digit).nonzero()[0]) for digit in range(10)]
of_teacher = {
    f"teacher, {name}": maps[first_of_each].cpu()
    for name, maps in maps_of(teacher_features).items()
}
show(plots.attention_grid(images[first_of_each], of_teacher), alt="03.digits-teacher-s")

# %% [markdown]
# Stage 1 traces the strokes. Stage 2 has half the resolution and lights up around them, in hollows, too. At stage 3 a few of 49
# patches are left: the crossing of the 4, the upper bow of the 9. Nobody taught the teacher where to be active; it came with the labels.
#
# And the power $p$? The paper tries several and takes 2. The larger $p$ is, the more the strongest features decide.

# %%
example = teacher_features["stage3"][first_of_each]  # (10, 64, 7, 7)
powers = {
    f"p = {p:g}": F.normalize(example.abs().pow(p).sum(dim=1).flatten(1), dim=1).unflatten(
        1, (7, 7)
    )
    for p in (0.5, 2, 8)
}
show(
    plots.attention_grid(
        images[first_of_each], {name: maps.cpu() for name, maps in powers.items()}
    ),
    alt="03.teacher-s-stage",
)
bright = {
    name: (maps > 0.5 * maps.amax(dim=(1, 2), keepdim=True)).float().mean().item()
    for name, maps in powers.items()
}
print(
    "share of places at least half as bright as the brightest:",
    {name: f"{share:.0%}" for name, share in bright.items()},
)

# %% tags=["claims"]
assert bright["p = 0.5"] > bright["p = 2"] > bright["p = 8"]

# %% [markdown]
# ### The loss, and what a weight is worth
#
# The loss is the mean squared difference of the two maps, added up over layers. (That is the form of the authors' code. Equation 2 of
# the paper has the length of the difference, not squared.)

# %%
layers = ["stage2", "stage3"]
students, teachers = (
    [found[name] for name in layers] for found in (student_features, teacher_features)
)
terms = [
    (attention_map(s) - attention_map(t).detach()).square().mean()
    for s, t in zip(students, teachers, strict=True)
]
torch.testing.assert_close(sum(terms), attention_transfer_loss(students, teachers))
print({name: f"{term:.4f}" for name, term in zip(layers, terms, strict=True)})

# %% [markdown]
# Small numbers, because the maps are unit vectors: of 49 or 196 entries whose squares add up to 1. Whatever student and teacher
# do, the loss of a layer is at most $2/(HW)$. The widely read text adds it at weight 1; the usual weight is 1000.

# %%
guess("03.attention-push")

# %%
ce = push(F.cross_entropy(student_logits, labels))
per_stage = {
    name: push(attention_transfer_loss(student_features[name], teacher_features[name])) / ce
    for name in maps_of(teacher_features)
}
both = push(attention_transfer_loss(students, teachers)) / ce
print(
    {name: f"{share:.3f}" for name, share in per_stage.items()},
    f"stages 2 and 3 together: {both:.3f}",
)
print(f"at weight 1000: {1000 * both:.0f} times the push of the cross-entropy")

# %% tags=["claims"]
assert 0.05 < both < 0.25
assert per_stage["stage1"] < per_stage["stage3"]

# %% [markdown]
# <details><summary><b>Trap 23: attention transfer at weight 1</b></summary>
#
# In the paper's networks, with maps of up to 32 × 32 positions and a long
# training, weight 1 is about a thousand times too weak, and the method "does nothing". Here 1 is weak, and 1000 would drown
# the labels. **A weight does not travel without the size of its maps.** Measure the push first; then choose on held-out images, as
# we do below.
#
# </details>
#
# Two more mistakes, both about shapes. The text recommends attention transfer because it "does not require teacher and student layers to
# have the same dimension". And it walks through both lists of layers with `zip`, whose `strict` is False unless somebody says otherwise.


# %%
def text_loss(student_maps, teacher_maps):
    total = sum(
        F.mse_loss(attention_map(s), attention_map(t))
        for s, t in zip(student_maps, teacher_maps, strict=False)
    )
    return total / len(student_maps)


one_missing = text_loss(students, teachers[:1])
print(f"two layers against one: {one_missing:.4f}, half of the first term alone")
torch.testing.assert_close(one_missing, terms[0] / 2)
for wrong in [
    (students, teachers[:1]),
    ([], []),
    (student_features["stage2"], teacher_features["stage3"]),
]:
    try:
        attention_transfer_loss(*wrong)
    except ValueError as error:
        print("-", error)

# %% [markdown]
# <details><summary><b>Trap 22: `zip` stops at the shorter list</b></summary>
#
# It drops a layer silently, and a mean over no layer divides by zero. Trap 20, "no matching sizes needed", is true of channels
# only: maps of 14 × 14 and 7 × 7 cannot be subtracted.
#
# </details>
#
# ### See it
#
# Two students learn from the same few images: one from labels alone, the other with attention transfer on top, at weight 30 so that the eye sees it. Then we look at
# their maps beside the teacher's. One student of each kind is enough for a picture; who makes fewer errors is a question for many. First the teacher's answers, once, for
# all images.


# %%
def ask(model, images):
    with evaluating(model), capture(model, *layers) as features:
        logits = model(images)
    return logits, *[features[name] for name in layers]


chunks = [ask(teacher, part) for part in few.images.split(250)]
cached = [torch.cat(parts) for parts in zip(*chunks, strict=True)]  # logits, stage2, stage3
print(
    [tuple(tensor.shape) for tensor in cached], f"{sum(t.nbytes for t in cached) / 2**20:.0f} MiB"
)

# %% [markdown]
# Feature maps are large: at this rate all of MNIST would take gigabytes. For large data, or images that are augmented, the teacher
# runs in the loop instead, as it does in `recipes.fitnets`.
#
# The optimizer has a learning rate that rises and falls (`OneCycleLR`). It, too, uses a hook: of the optimizer, called after each step.

# %%
STEPS = EPOCHS * math.ceil(SAMPLES / 25)  # batches of 25


def make_optimizer(parameters):
    optimizer = torch.optim.Adam(parameters, lr=0.03)
    schedule = OneCycleLR(optimizer, max_lr=0.03, total_steps=STEPS + 1)
    optimizer.register_step_post_hook(lambda *ignored: schedule.step())
    return optimizer


def attention_objective(student, images, labels, teacher_logits, *teachers, weight):
    with capture(student, *layers) as features:
        logits = student(images)
    attention = attention_transfer_loss([features[name] for name in layers], teachers)
    return {"ce": F.cross_entropy(logits, labels), "attention": weight * attention}


# %%
trained = {"untrained": student}
for name, weight in {"labels only": 0.0, "labels and attention": 30.0}.items():
    torch.manual_seed(0)
    trained[name] = make_student_cnn().to(device)
    objective, optimizer = (
        partial(attention_objective, weight=weight),
        make_optimizer(trained[name].parameters()),
    )
    fit(
        trained[name],
        (*few, *cached),
        objective,
        optimizer,
        epochs=EPOCHS,
        batch_size=25,
        progress=False,
    )

# %% tags=["claims"]
assert all(
    count_errors(model, *mnist.held_out.take(1000)) < 400
    for name, model in trained.items()
    if name != "untrained"
)

# %%
rows, distances = {"teacher": of_teacher["teacher, stage3"]}, {}
for name, model in trained.items():
    _, *found = ask(model, images)
    rows[name] = attention_map(found[-1])[first_of_each].unflatten(1, (7, 7)).cpu()
    pairs = zip(layers, found, teachers, strict=True)
    distances[name] = {layer: attention_transfer_loss(s, t).item() for layer, s, t in pairs}
show(plots.attention_grid(images[first_of_each], rows), alt="03.stage-3-maps")
distances = pd.DataFrame(distances).T  # over all 256 images
distances.round(5)

# %% tags=["claims"]
assert (distances.loc["labels and attention"] < 0.6 * distances.loc["labels only"]).all()
assert distances.stage2["labels only"] > 0.7 * distances.stage2["untrained"]

# %% [markdown]
# The table holds the distances to the teacher's maps, over all 256 images. The student that was told where to look looks there, at both layers. The one
# that learned from labels found places of its own: at stage 2 it is about as far from the teacher as a student that was never trained, or further: random
# filters answer to the ink there, too. (In the picture, at stage 3, they light up nearly everywhere.) Learning is not the same as becoming like the
# teacher.
#
# Now you. Move the layer, pick digits, choose a student. Three things to find out: at which layer do all students agree with the
# teacher, even the untrained one, and why is that no achievement? Which digits divide the two trained students most? What does
# a large $p$ do to the distance?

# %%
explorer = AttentionExplorer(teacher, trained, mnist.held_out.take(500))
explorer

# %% [markdown]
# The controls can be moved by code as well: for one digit through all layers and students, and each time the number is read.

# %%
table = {}
for name in trained:
    explorer.student.value = name
    for layer in ("stage1", "stage2", "stage3"):
        explorer.layer.value = layer
        table[name, layer] = explorer.distance
explorer.close()  # raises if anything went wrong in reaction to a slider
table = pd.Series(table).unstack().loc[list(trained)]
table.round(5)

# %% tags=["claims"]
assert (table["stage1"] < 0.002).all()  # stage 1 sees the digit itself, whatever its weights are

# %% [markdown]
# ## Contrastive features: learn who is alike
#
# The third idea drops the numbers and the places. Pool the last stage to one vector per image, an [embedding](glossary:embedding). What
# matters in it is which images lie close together. Scale each embedding to length 1; the inner product of two of them, the *cosine*, is
# then 1 where they point the same way. Here are the cosines between the teacher's embeddings of thirty digits.

# %%
sorted_by_digit = torch.cat([(labels == digit).nonzero().flatten()[:3] for digit in range(10)])
embeddings = teacher_features["stage3"].mean(dim=(2, 3))  # (256, 64)
unit = F.normalize(embeddings, dim=1)
cosines = unit @ unit.T  # (256, 256)
ax = plots.matrix(cosines[sorted_by_digit][:, sorted_by_digit].cpu(), label="cosine")
ax.set(
    xticks=range(1, 30, 3),
    xticklabels=range(10),
    yticks=range(1, 30, 3),
    yticklabels=range(10),
    xlabel="digit",
    ylabel="digit",
)
show(ax, alt="03.cosines-between-teacher")

# %% [markdown]
# [InfoNCE](glossary:infonce) turns this into a puzzle: given the student's embedding of image $i$, pick the teacher's embedding of the
# *same* image out of the batch. A puzzle with $B$ answers is a classification, and its loss a cross-entropy over cosines divided by a
# temperature $\tau$. With $s_i$ and $t_i$ the embeddings of student and teacher, scaled to length 1:
#
# $$L = -\frac1B \sum_i \log \frac{\exp(\langle s_i, t_i \rangle / \tau)}{\sum_j \exp(\langle s_i, t_j \rangle / \tau)}$$


# %%
def my_info_nce(student_embeddings, teacher_embeddings, *, temperature):
    s, t = (
        F.normalize(student_embeddings, dim=1),
        F.normalize(teacher_embeddings.detach(), dim=1),
    )  # (B, D) each
    similarity = s @ t.T / temperature  # (B, B)
    right = torch.arange(len(s), device=s.device)  # the answer of row i is column i
    return F.cross_entropy(similarity, right), F.cross_entropy(similarity.T, right)


student_embeddings = student_features["stage3"].mean(dim=(2, 3))  # (256, 16)
projection = nn.Linear(16, 64).to(device)
rows, columns = my_info_nce(projection(student_embeddings), embeddings, temperature=0.1)
ours = info_nce_loss(projection(student_embeddings), embeddings, temperature=0.1)
torch.testing.assert_close((rows + columns) / 2, ours)
print(
    f"loss of 'student finds teacher' {rows:.2f}, of 'teacher finds student' {columns:.2f}, mean {ours:.2f}"
)
print(f"whoever guesses among 256 has log 256 = {math.log(256):.2f}")

# %% [markdown]
# Both directions are there, and it takes both. Two images, angles in degrees: the teacher's embeddings at 0 and 50, the student's at −40 and
# 30.


# %%
def at(*degrees):
    radians = torch.deg2rad(torch.tensor(degrees, dtype=torch.float))
    return torch.stack([radians.cos(), radians.sin()], dim=1)  # (2, 2)


s, t = at(-40, 30), at(0, 50)
similarity = s @ t.T
print("each student's nearest teacher:", similarity.argmax(dim=1).tolist())
print("each teacher's nearest student:", similarity.argmax(dim=0).tolist())

# %% tags=["claims"]
assert similarity.argmax(dim=1).tolist() == [0, 1]
assert similarity.argmax(dim=0).tolist() == [1, 1]

# %% [markdown]
# <details><summary><b>Trap 30: one direction only</b></summary>
#
# Every student finds its teacher, and the puzzle of the rows is solved. But the second student
# stands nearer to the first teacher than the first does: seen from the teachers, it is not.
#
# </details>
#
# The projection, a learned linear layer, is needed because 16 numbers have no cosine with 64. The text builds projections in its
# constructor, and then its contrastive loss does not use them.

# %%
try:
    info_nce_loss(student_embeddings, embeddings, temperature=0.1)
except ValueError as error:
    print(error)
as_wide = torch.randn(
    256, 64, device=device, requires_grad=True
)  # a student that happens to be as wide as its teacher
info_nce_loss(as_wide, embeddings, temperature=0.1).backward()
print("gradient of the projection that was built and not used:", projection.weight.grad)

# %% tags=["claims"]
assert projection.weight.grad is None

# %% [markdown]
# <details><summary><b>Trap 28: projections that are built and not used</b></summary>
#
# With other widths it is a crash, which is the lucky case. With equal widths it
# runs, and the projections never learn.
#
# </details>
#
# ### Who is a negative?
#
# All other images of the batch are pushed away. On MNIST one in ten of them shows the *same digit*. One in ten, that sounds harmless.

# %%
guess("03.share-of-the-push")

# %%
others = ~torch.eye(256, dtype=torch.bool, device=device)
same_digit = (labels[:, None] == labels) & others
weight_of = (cosines / 0.1).softmax(dim=1) * others  # the gradient's weight of each negative
share, pushed = same_digit.sum() / others.sum(), (weight_of * same_digit).sum() / weight_of.sum()
print(f"{share:.1%} of the negatives show the same digit; they get {pushed:.0%} of the push")

# %% tags=["claims"]
assert 0.08 < share < 0.12
assert pushed > 0.8

# %%
every = info_nce_loss(embeddings, embeddings, temperature=0.1)
without = info_nce_loss(embeddings, embeddings, temperature=0.1, labels=labels)
print(
    f"a perfect student's loss: {every:.2f} with all negatives, {without:.2f} with those of other digits only"
)

# %% tags=["claims"]
assert every > 2 * without

# %% [markdown]
# <details><summary><b>Trap 29: every other sample a negative</b></summary>
#
# A teacher that has learned its digits well puts equal digits close together, and the loss
# spends nearly all of its push on tearing them apart. With `labels=` they are left out.
#
# </details>
#
# ## All against plain soft targets
#
# One objective holds every method; a method is a set of weights. It is short enough to be read. `regressor` and `projection` are learned with
# the student, each student has its own; `progress` says how far the training is, from 0 to 1.


# %%
def objective(
    student, images, labels, teacher_logits, *teachers, regressor, projection, weights, progress
):
    with capture(student, *layers) as found:
        logits = student(images)
    if progress < weights.get("hint stage", 0):  # FitNets' first stage: no label, no soft target
        return {"hint": hint_loss(regressor(found["stage2"]), teachers[0])}
    alpha = weights.get("kd", 0)
    terms = {"ce": (1 - alpha) * F.cross_entropy(logits, labels)}
    if alpha:
        terms["kd"] = alpha * kd_loss(logits, teacher_logits, temperature=4.0)
    if "hint" in weights:
        terms["hint"] = weights["hint"] * hint_loss(regressor(found["stage2"]), teachers[0])
    if "attention" in weights:
        terms["attention"] = weights["attention"] * attention_transfer_loss(
            [found[name] for name in layers], teachers
        )
    if "contrastive" in weights:
        pooled, target = projection(found["stage3"].mean(dim=(2, 3))), teachers[1].mean(dim=(2, 3))
        terms["contrastive"] = weights["contrastive"] * info_nce_loss(
            pooled, target, temperature=0.1, labels=labels
        )
    return terms


# %% [markdown]
# ### Weights first
#
# Each term alone, at a few weights, judged by 1,000 *held-out* images, with seeds that the comparison will not use. The test
# images stay out of it. `executor="processes"` trains as many students at a time as the machine has cores, each in a process of its
# own; on a GPU it changes nothing.

# %%
grid = {"kd": (0.5, 0.9), "hint": (1, 10), "attention": (10, 1000), "contrastive": (0.5, 2)}
parts = {"regressor": lambda: HintRegressor(8, 32), "projection": lambda: nn.Linear(16, 64)}
budget = dict(
    make_student=make_student_cnn, parts=parts, epochs=EPOCHS, batch_size=25, make_optimizer=make_optimizer,
    progress=False, executor="processes",
)  # fmt: skip


def methods(named):
    return {name: partial(objective, weights=weights) for name, weights in named.items()}


choice = sweep(
    data={"train": (*few, *cached), "held_out": mnist.held_out.take(1000)}, seeds=range(100, 100 + CHOICE_SEEDS), baselines=[],
    objective=methods({f"{term} {w:g}": {term: w} for term in grid for w in grid[term]}), **budget,
)  # fmt: skip
found = choice.groupby("arm", sort=False).held_out_errors.mean()
chosen = {term: min(grid[term], key=lambda w: found[f"{term} {w:g}"]) for term in grid}
print("chosen:", chosen)
found.rename("held-out errors of 1,000").to_frame()

# %% [markdown]
# One number stands out: attention transfer at 1000, the weight that the paper uses on its own maps, makes several times as many errors. You
# saw why: a push about a hundred times that of the labels. The other pairs differ less, and the one seed that we can afford here is too few
# to be sure of them. That is fine. The choice need not be perfect; it must only be made without the test images.

# %%
print(
    f"attention transfer at 1000: {found['attention 1000'] / found['attention 10']:.1f} times the errors that it makes at 10"
)

# %% tags=["claims"]
assert found["attention 1000"] > 2 * found["attention 10"]

# %% [markdown]
# ### Then the comparison
#
# Eight methods, and the two baselines that `sweep` adds. All have the same number of steps: FitNets pays for its first stage with a fifth
# of them. Three are mixtures: soft targets *and* a feature term, at every step.

# %%
guess("03.fitnets-or-mixture")

# %%
single = {name: {name: chosen[name]} for name in chosen}
together = {
    f"kd + {name}": {"kd": chosen["kd"], name: chosen[name]}
    for name in ("hint", "attention", "contrastive")
}
two_stages = {"fitnets": {"kd": chosen["kd"], "hint stage": 0.2}}
runs = sweep(
    data={"train": (*few, *cached), "test": mnist.test if FULL else mnist.test.take(2000)}, seeds=range(SEEDS),
    objective=methods(single | two_stages | together), **budget,
)  # fmt: skip
against = {"against no teacher": "no_teacher", "against soft targets": "kd"}
comparisons = {title: compare(runs, baseline=baseline) for title, baseline in against.items()}
about_full = (
    f"{SAMPLES:,} images, {EPOCHS} epochs in batches of 25, {SEEDS} seeds, {runs.attrs['evaluated']['test']:,} test images; "
    f"weights chosen on held-out images: {chosen}"
)
format_comparison(compare(runs))


# %%
def in_words(table):
    """Say which methods of a comparison are better, unclear, worse."""
    groups = table.groupby("verdict", sort=False).arm.agg(", ".join)
    return "; ".join(f"{verdict}: {arms}" for verdict, arms in groups.items())


table = comparisons["against no teacher"]
ax = plots.intervals(table)
ax.set(xlabel=f"difference in test errors (of {runs.attrs['evaluated']['test']:,})")
show(
    ax,
    alt=f"Differences to no teacher with 95 per cent intervals, a row per method. {in_words(table)}.",
)
print(in_words(table))

# %% tags=["claims"]
assert len(table) == 9  # eight methods and label smoothing

# %% [markdown]
# The contrastive term makes fewer errors than no teacher. But most intervals are wide, and on another machine some verdicts are others: a student that has so few images and steps depends much on its luck, and four seeds are few. They can tell more about the *mean*
# of the three mixtures than about any one of them: the luck of three students cancels in part. One number per seed, then, compared as before.

# %%
mixed = (
    runs[runs.arm.isin(together)]
    .groupby("seed", as_index=False)
    .test_errors.mean()
    .assign(arm="mixtures")
)
pooled = compare(
    pd.concat([mixed, runs]), baseline=["no_teacher", "label_smoothing", "kd", "fitnets"]
)
pooled = pooled[pooled.arm == "mixtures"].set_index("baseline")
for name, row in pooled.iterrows():
    print(
        f"mixtures − {name}: {row.difference:+.0f} errors [{row.low:+.0f}, {row.high:+.0f}], {row.verdict}"
    )
print(
    "from seed to seed, standard deviation:",
    runs.groupby("arm", sort=False).test_errors.std().round().to_dict(),
)

# %% tags=["claims"]
assert pooled.difference["fitnets"] < 0
assert pooled.difference["no_teacher"] < 0
assert table.set_index("arm").difference["contrastive"] < 0  # against no teacher

# %% [markdown]
# **The steps of the hint stage are not well spent here.** The mixtures have the feature *and* the answer at every step, and make fewer errors than FitNets
# and than a student without a teacher.
#
# The harder question is this one: does a feature term add anything *to soft targets*, which cost nothing but a table of logits?

# %%
ax = plots.intervals(comparisons["against soft targets"])
ax.set(xlabel=f"difference in test errors (of {runs.attrs['evaluated']['test']:,})")
found = in_words(comparisons["against soft targets"])
show(
    ax,
    alt=f"Differences to soft targets alone with 95 per cent intervals, a row per method. {found}.",
)
print(found)

# %% [markdown]
# Most of these intervals are as wide as what could be gained, and what they say with four other seeds is another matter. So ask again, with more of everything.
#
# ## At full size
#
# `python -m experiments.chapters 03` runs this chapter with `FULL = True`: twice as many images, four times as many steps, eight seeds, all
# test images. It leaves a record.

# %%
record = read_record("chapter03")
full = pd.DataFrame(record["comparisons"]["against soft targets"]).set_index("arm")
ax = plots.intervals(full.reset_index())
ax.set(xlabel="difference in test errors (of 10,000)")
show(
    ax,
    alt=f"At full size: differences to soft targets alone with intervals. {in_words(full.reset_index())}.",
)
print(record["about"])
full.round(1)

# %% tags=["claims"]
assert (
    full.loc[["hint", "attention", "contrastive", "fitnets", "label_smoothing", "no_teacher"]].low
    > 0
).all()
assert (full.loc[list(together)].verdict == "unclear").all()
assert full.drop("no_teacher")["mean"].idxmax() == "attention"
assert full["mean"]["fitnets"] > full["mean"][list(together)].max()

# %% [markdown]
# **With more images, steps and seeds most questions have an answer.** Soft targets alone beat each feature term alone and both
# baselines. They beat FitNets in two stages, too, and so does every mixture. Added to soft targets, the terms make no difference that eight seeds
# could show; their intervals hold 0. And the widely read text's tip is to start with attention transfer, as the most forgiving: of all methods here
# it made the most errors.
#
# Would features help more with fewer images or shorter training? They tell the student *how* to see, and with enough images it may find out by itself, guided by the soft
# answers. That is a guess; to test it, raise `SEEDS` in the small run until the interval of the mixtures against soft targets decides. Digits are easy. But in
# public tables on CIFAR-100, small colour photographs of a hundred kinds, too, plain soft targets are ahead of most feature methods (Tian et al., tables 1 and 2).
#
# ## Summary
#
# - A hook sees what a layer hands on. Remove it, copy what it keeps, empty what it filled, and insist on names that exist: `capture` does.
# - FitNets: squared error between the teacher's hint and a *learned* regression of the student's guided layer. Unscaled features; the
#   regressor belongs into the optimizer, and its maps into the same height and width.
# - Attention transfer: where a layer is active, without channels, so that no regressor is needed. Its loss is small by construction; what
#   its weight means depends on the number of positions.
# - Contrastive features: pick the same image out of the batch, in both directions, through projections that learn, and do not push away
#   images of the same class.
# - Before you believe in a weight, measure the push of its term beside the others; then choose on held-out images.
# - Start with soft targets: a table of logits against megabytes of maps. With 2,000 images everything without soft targets was worse, and no term
#   added to them made a difference that showed. FitNets' first stage was not worth its steps, in the small run or at full size.
# - A few seeds of a small student decide little. Look at the width of an interval before you look at its place.
#
# ## Think, then try
#
# 1. Guide `stage1` or `stage3` instead of `stage2`. Which hint is easiest to reach, and does the easiest help most?
# 2. Give attention transfer `stage1` as well. What does its push say about the weight that stage needs?
# 3. Let FitNets' first stage run on 5,000 images *without labels*, and the second on the 1,000. Is the hint stage worth its steps now?
# 4. Put the attention of a *wrong* digit to the student, by shuffling the teacher's maps. How much of the gain is left, and what follows from
#    that?
#
# More, with checks that know the usual slips: `exercises/ex03_feature_distillation`.
#
# ## References
#
# - Romero, Ballas, Kahou, Chassang, Gatta, Bengio (2015). *FitNets: hints for thin deep nets.*
#   [arXiv:1412.6550](https://arxiv.org/abs/1412.6550): section 2.2 and equation 3 (hint and regressor), section 2.3 and algorithm 1 (two stages).
# - Zagoruyko, Komodakis (2017). *Paying more attention to attention.* [arXiv:1612.03928](https://arxiv.org/abs/1612.03928): section 3.1 and
#   equation 2 (maps, their power, the loss).
# - van den Oord, Li, Vinyals (2018). *Representation learning with contrastive predictive coding.*
#   [arXiv:1807.03748](https://arxiv.org/abs/1807.03748): equation 4 (InfoNCE).
# - Khosla et al. (2020). *Supervised contrastive learning.* [arXiv:2004.11362](https://arxiv.org/abs/2004.11362): what labels do for positives and
#   negatives.
# - Tian, Krishnan, Isola (2020). *Contrastive representation distillation.* [arXiv:1910.10699](https://arxiv.org/abs/1910.10699): tables 1 and 2
#   (many methods beside plain soft targets); its own loss is chapter 05.
