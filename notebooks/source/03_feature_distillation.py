# %% [markdown]
# # Feature distillation
#
# A teacher's ten probabilities are the last line of a long calculation. The teacher can also show its work: the numbers inside a
# layer, the places in the image where it is active, the images that it finds alike. A student that learns from these is
# *distilled by features*. Further down you see a student with a fifteenth of the teacher's parameters **look much more where its
# teacher looks**, because one line was added to its loss.
#
# Does it then also make fewer errors? At full size, with 2,000 images, this student alone makes 434 errors on 10,000 test images,
# and soft targets bring that down to 290. At the end each kind of feature has to compete with soft targets, alone and together
# with them. You will run a smaller version, and see the full size beside it.
#
# **You will be able to**
# - read any layer of any model with a hook, and name four ways in which that goes wrong;
# - write a hook, the hint loss of FitNets and an attention map, and recognise traps 18 to 30 of
#   [docs/traps.md](../docs/traps.md) by what they leave behind;
# - measure what a weight is worth before you choose it, and choose it on held-out images;
# - judge whether a feature term adds something to soft targets.
#
# **You need** chapter 02. **Time** about 75 minutes, of which about 2 minutes are computing.
#
# Symbols: $F$ is the output of a layer, a [feature map](glossary:feature-map) with $C$ channels and $H \times W$ positions. A
# raised $s$ means the student's, a raised $t$ the teacher's. $B$ is the number of images in a batch.

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
from kdcourse.checks import check
from kdcourse.data import load_mnist
from kdcourse.losses import HintRegressor, attention_transfer_loss, hint_loss, info_nce_loss

# %%
from kdcourse.models import capture, count_parameters, make_student_cnn
from kdcourse.objectives import soft_target_objective
from kdcourse.plots import COLORS, show
from kdcourse.plots.drawings import draw_attention_transfer, draw_fitnets, draw_hooks
from kdcourse.recipes import fitnets, make_adam
from kdcourse.records import read_record
from kdcourse.sweeps import compare, in_words, sweep
from kdcourse.training import count_errors, evaluating, fit, gradient_length, pick_device, train
from kdcourse.widgets import AttentionExplorer, guess

draw_fitnets()

# %% [markdown]
# The drawing shows the oldest method of this chapter, FitNets. The student's middle layer learns to produce what the teacher's middle layer
# produces. A small extra layer, the regressor, stands between the two. The teacher is frozen.
#
# ## The cast
#
# Both networks are convolutional: three *stages* and a head. A stage is two 3 × 3 convolutions, each followed by
# [batch normalisation](glossary:batch-normalisation) and a ReLU. Stages 2 and 3 halve height and width. The head averages each
# channel over all positions and turns the averages into ten logits. The teacher's stages have 16, 32 and 64 channels, the
# student's 4, 8 and 16.
#
# The student gets few images. With all of MNIST it would hardly need a teacher, and the difference between two methods would be
# smaller than the luck of one run. With few images there is something to gain, and so something to see.

# %%
FULL = False  # True: twice the images, five times the steps, eight seeds, all test images
SAMPLES, EPOCHS, SEEDS, CHOICE_SEEDS = (2000, 10, 8, 3) if FULL else (1000, 4, 3, 1)
device = pick_device()
mnist = load_mnist(device=device)
few = mnist.train.take(SAMPLES)
teacher = zoo.load("teacher_cnn", device=device)
sizes = count_parameters(teacher), count_parameters(make_student_cnn())
print("parameters: teacher {:,}, student {:,}".format(*sizes))
errors = count_errors(teacher, *mnist.held_out)
print(f"the teacher makes {errors} errors on {len(mnist.held_out.labels):,} held-out images")

# %% tags=["claims"]
assert 14 < sizes[0] / sizes[1] < 16

# %% [markdown]
# ## What a hook sees
#
# `teacher(images)` returns logits, and everything that came before them is gone. A [hook](glossary:hook) is a function that
# PyTorch calls each time a module has run. It gets the module, its inputs and its output. So we put a hook on each
# stage and store what it puts out.

# %%
draw_hooks()

# %%
images, labels = mnist.held_out.take(256)
seen = {}
for name, module in teacher.named_children():
    module.register_forward_hook(
        # name=name: each hook keeps the name of its own module
        lambda module, inputs, output, name=name: seen.update({name: output})
    )
with torch.no_grad():
    logits = teacher(images)
for name, output in seen.items():
    print(f"{name:7} {tuple(output.shape)}")

# %% tags=["claims"]
assert seen["stage2"].shape == (256, 32, 14, 14)

# %% [markdown]
# From stage to stage there are fewer positions and more channels. At `stage2` there are 14 × 14 positions, and each holds 32
# numbers about its neighbourhood. A few lines were enough to read them. But these lines have left something behind.
#
# ### The same cell twice

# %%
guess("03.hooks-twice")

# %%
handles = [module.register_forward_hook(lambda *ignored: None) for module in teacher.children()]
count = len(teacher.stage2._forward_hooks)
print(f"{count} hooks on stage2")
for handle in handles:
    handle.remove()

# %% tags=["claims"]
assert count == 2
assert len(teacher.stage2._forward_hooks) == 1  # of the first we have no handle
assert seen["stage2"].numel() == 256 * 32 * 14 * 14  # the last batch is still held

# %% [markdown]
# `register_forward_hook` returns a *handle*, and `handle.remove()` takes the hook off. The cell above added a second hook to each
# module, as a second run would, and took it off again. The first hooks cannot be taken off: nobody kept their handles.
#
# <details><summary><b>Trap 24: hooks left behind</b></summary>
#
# A common way to write this is a class that registers hooks in its constructor and never removes them. Wrap a model twice and
# everything is captured twice, for as long as the model lives. The features of the last batch stay in memory. If they have
# gradients, everything that led to them stays too.
#
# </details>
#
# ### A name that matches nothing
#
# Here is such a class. In the call below it, one of the names is misspelt.


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


# %%
teacher = zoo.load("teacher_cnn", device=device)  # a fresh one, without hooks
wrapped = FeatureExtractingModel(teacher, ["stage2", "stage_3"])
_, features = wrapped(images)
print("captured:", *features)

# %% tags=["claims"]
assert list(features) == ["stage2"]

# %% [markdown]
# There is no error. `stage_3` matches no module, so nothing is captured for it.
#
# The dictionary is also kept from call to call. Suppose that a layer does not run this time, as in a network that may leave at an
# [early exit](glossary:early-exit). Then the dictionary still holds what that layer put out for an *earlier* batch.

# %%
_, features = wrapped(images)
teacher.stage1(images[:64])  # 64 images, and the model is left after its first stage
print(f"64 images went in; the dictionary holds stage2 of {len(features['stage2'])}")

# %% tags=["claims"]
assert len(features["stage2"]) == 256

# %% [markdown]
# <details><summary><b>Trap 25: a name that matches nothing</b></summary>
#
# Nothing is captured, and there is no warning. Features of an earlier batch survive and are taken for new ones. A loss on them
# compares different images.
#
# </details>
#
# ### The numbers before a ReLU
#
# Many models save memory with `nn.ReLU(inplace=True)`. Below, we hook the convolution in front of such a ReLU. A convolution gives
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
print(f"smallest number of the captured output: {kept['output'].min():.3f}")
print(f"smallest number of a copy made in the hook: {kept['copy'].min():.3f}")

# %% tags=["claims"]
assert kept["output"].min() == 0
assert kept["copy"].min() < -0.1

# %% [markdown]
# <details><summary><b>Trap 26: the tensor itself</b></summary>
#
# You asked for the numbers before the ReLU and got those after it. A method made for the numbers before the ReLU then runs on those
# after it. The shapes are the same, so nothing gives it away.
#
# </details>
#
# ### Your turn: keep what a layer put out
#
# Write what the hook does each time a layer has run: put the layer's output into the dictionary `features`, under the layer's
# name. Three things matter. The next layer must not be able to change what you kept. A loss on what you kept must be
# able to train the layer (so do not detach). And a hook returns nothing, because whatever it returns replaces the layer's output.


# %%
def keep(features, name, output):  # a dict, the layer's name, its output (B, C, H, W)
    ...


keep = check("03.keep", keep)

# %% [markdown]
# Now with your function: hook the convolution again, and see that what you kept is what the convolution gave.

# %%
kept = {}
hook = net[0].register_forward_hook(lambda module, inputs, output: keep(kept, "conv", output))
net(images)
hook.remove()
print(f"smallest number kept: {kept['conv'].min():.3f}")

# %% tags=["claims"]
assert kept["conv"].min() < -0.1
assert kept["conv"].requires_grad

# %% [markdown]
# From here on we use `kdcourse.models.capture`, which does the same for any layers of any model. It is a
# [context manager](glossary:context-manager): when its block ends, every hook is removed, after an error too. It empties the
# dictionary at the start of each pass, so no earlier batch survives. And it refuses a name that no layer has. Below it refuses two
# things: the misspelt name, and a way to go wrong that we have not met yet.

# %%
teacher = zoo.load("teacher_cnn", device=device)
with torch.no_grad(), capture(teacher, "stage1", "stage2", "stage3") as teacher_features:
    teacher_logits = teacher(images)
for model, layer in [(teacher, "stage_3"), (nn.DataParallel(teacher), "module.stage3")]:
    try:
        with capture(model, layer):
            model(images)
    except ValueError as error:
        print(f"{layer}: {error}\n")

# %% tags=["claims"]
assert list(teacher_features) == ["stage1", "stage2", "stage3"]
assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())

# %% [markdown]
# <details><summary><b>Trap 27: `DataParallel`</b></summary>
#
# This is the second refusal. `nn.DataParallel` copies a model to several GPUs. All copies would write into one dictionary, each
# over the other.
#
# </details>
#
# ## FitNets: learn the numbers
#
# The first idea is the plainest. The student's middle layer, called the *guided* layer, should produce what the teacher's middle
# layer, the [hint](glossary:hint), produces. But the two do not have the same shape.

# %%
torch.manual_seed(0)
student = make_student_cnn().to(device)
with capture(student, "stage1", "stage2", "stage3") as student_features:
    student_logits = student(images)
for name, features in {"student": student_features, "teacher": teacher_features}.items():
    print(name, tuple(features["stage2"].shape))

# %% [markdown]
# At each position the student has 8 numbers and the teacher 32. So the paper puts a learned layer between them, the
# [regressor](glossary:regressor) $r$. At each position it is a linear map from 8 numbers to 32, that is, a 1 × 1 convolution. It is
# trained with the student and thrown away afterwards.
#
# ### Your turn: the hint loss
#
# The loss is the mean of the squared differences, over images, channels and positions:
#
# $$L_\text{hint} = \frac{1}{B\,C\,H\,W} \left\| r(F^s) - F^t \right\|^2$$
#
# (The paper's equation 3 has half the sum. Later code takes the mean, and then often gives it a weight of 100.) For example, if the
# regressor gives the two numbers 1 and 3 where the teacher has 2 and 1, the squared differences are 1 and 4, so the
# loss is 2.5. The teacher is a fixed target, so no gradient may reach its features.


# %%
def hint(student_features, teacher_features, regressor):  # (B, 8, H, W), (B, 32, H, W), a module
    ...


hint = check("03.hint", hint)

# %%
regressor = HintRegressor(8, 32).to(device)
student_maps, teacher_maps = student_features["stage2"], teacher_features["stage2"]
print(f"the regressor has {count_parameters(regressor)} parameters")
print(f"hint loss of the untrained student: {hint(student_maps, teacher_maps, regressor):.3f}")

# %% tags=["claims"]
assert count_parameters(regressor) == 8 * 32 + 32
torch.testing.assert_close(
    hint(student_maps, teacher_maps, regressor), hint_loss(regressor(student_maps), teacher_maps)
)

# %% [markdown]
# The course's loss, `hint_loss`, takes the regressed features and gives the same number.
#
# A regressor changes channels and nothing else. If the hint has fewer positions, say 7 × 7, the maps still do not fit. And if
# one side was pooled to a single position, PyTorch compares that one position with all of the other side. It prints no more than a warning (switched off
# here).

# %%
to_64 = nn.Conv2d(8, 64, 1).to(device)
pooled = to_64(student_maps).mean(dim=(2, 3), keepdim=True)  # (256, 64, 1, 1)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    broadcast = F.mse_loss(pooled, teacher_features["stage3"])  # against (256, 64, 7, 7)
print(f"F.mse_loss gives {broadcast:.3f}: one position was compared with all 49")
pooling = HintRegressor(8, 64, size=7).to(device)  # 14 × 14 to 7 × 7, then a convolution
fitting = pooling(student_maps)
fitted = hint_loss(fitting, teacher_features["stage3"])
print(f"with pooling to 7 x 7: shape {tuple(fitting.shape)}, hint loss {fitted:.3f}")

# %% tags=["claims"]
assert fitting.shape == teacher_features["stage3"].shape
assert abs(fitted / broadcast - 1) < 0.2

# %% [markdown]
# The two losses look alike, so the value does not betray the mistake.
#
# <details><summary><b>Trap 19: channels fit, maps do not</b></summary>
#
# A 1 × 1 convolution fixes channels only. Height and width need pooling, or another layer. `hint_loss` refuses shapes that differ
# instead of broadcasting.
#
# </details>
#
# ### Another loss under the same name
#
# A loss that is often called FitNets first scales the 32 numbers of each position to length 1, on both sides. Then it takes the mean
# of the squared differences. Here are both losses, once as they are and once with the regressed features times 10.


# %%
def normalised_loss(guided, target):
    return F.mse_loss(F.normalize(guided, dim=1), F.normalize(target, dim=1))


guided = regressor(student_maps)  # (256, 32, 14, 14)
for name, loss in {"hint loss": hint_loss, "normalised": normalised_loss}.items():
    plain, larger = loss(guided, teacher_maps), loss(10 * guided, teacher_maps)
    print(f"{name:10} {plain:.4f}   features × 10: {larger:.4f}")

# %% tags=["claims"]
torch.testing.assert_close(
    normalised_loss(10 * guided, teacher_maps), normalised_loss(guided, teacher_maps)
)

# %% [markdown]
# The normalised loss does not see how strongly a position is active. It is also small, because it takes the *mean* over the 32 channels.
# The squares of a vector of length 1 add up to 1. So two such vectors are at most 2 apart, their squared distance is at most 4, and
# the mean over 32 channels at most 0.125.
#
# But a student does not feel the value of a loss. It feels the **push**: the length of the loss's gradient in the student's
# weights.

# %%
guess("03.normalised-push")


# %%
def push(loss):
    return gradient_length(loss, student.parameters()).item()


pushes = push(hint_loss(guided, teacher_maps)), push(normalised_loss(guided, teacher_maps))
print("push of the hint loss {:.3f}, of the normalised loss {:.3f}".format(*pushes))
print(f"the first is {pushes[0] / pushes[1]:.0f} times as strong")

# %% tags=["claims"]
difference = F.normalize(guided, dim=1) - F.normalize(teacher_maps, dim=1)
distance = difference.square().sum(dim=1).mean()  # of unit vectors
torch.testing.assert_close(distance / 32, normalised_loss(guided, teacher_maps))
assert 10 < pushes[0] / pushes[1] < 25

# %% [markdown]
# <details><summary><b>Trap 18: normalised, averaged, and called FitNets</b></summary>
#
# It may be a useful loss, but it is another one. It does not see magnitudes, and its mean is smaller by the number of channels. So
# a weight that was found for one of the two says nothing about the other.
#
# </details>
#
# ### The regressor must learn, too
#
# The regressor starts as a random matrix. Its parameters do not belong to the student, so somebody has to give them to the
# optimizer. What happens if nobody does? Here is a loop as many people write it, with and without them.


# %%
def hint_stage(*, remember, steps=80):
    torch.manual_seed(0)
    student, regressor = make_student_cnn().to(device), HintRegressor(8, 32).to(device)
    learned = [*student.parameters(), *(regressor.parameters() if remember else [])]
    optimizer, losses = torch.optim.Adam(learned, lr=1e-2), []
    for step in range(steps):
        batch = slice(32 * (step % 8), 32 * (step % 8 + 1))
        with capture(student, "stage2") as features:
            student(images[batch])
        loss = hint(features["stage2"], teacher_maps[batch], regressor)
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
show(ax, alt="03.forgotten-regressor")
ends = learned[-8:].mean().item(), forgotten[-8:].mean().item()
print(f"hint loss at the start {learned[0]:.3f}")
print("after 80 steps: regressor learns {:.3f}, forgotten {:.3f}".format(*ends))

# %% tags=["claims"]
assert ends[1] > 1.2 * ends[0]
assert ends[1] < 0.9 * learned[0]

# %% [markdown]
# Both losses fall, so nothing looks wrong. The student with the forgotten regressor adapts to a random matrix, and ends clearly
# higher.
#
# The course's loop notices. Before its first step it looks for parameters that the loss reaches and the optimizer does not have:


# %%
def forgetful(student, images, labels):
    with capture(student, "stage2") as features:
        student(images)
    return {"hint": hint(features["stage2"], teacher_maps[: len(images)], regressor)}


try:
    batches = [(images[:32], labels[:32])]
    next(train(student, batches, forgetful, torch.optim.Adam(student.parameters())))
except ValueError as error:
    print(error)

# %% [markdown]
# <details><summary><b>Trap 21: a regressor that nobody trains</b></summary>
#
# The loss falls because the student adapts, so the mistake stays hidden. Hand both to the optimizer:
# `[*student.parameters(), *regressor.parameters()]`.
#
# </details>
#
# ### Two stages
#
# FitNets is a *recipe*, not only a loss. In stage one the hint loss alone trains all layers up to the guided one, without any
# label. In stage two soft targets and labels train the whole student from there. `recipes.fitnets` does both.

# %%
torch.manual_seed(0)
two_stage_student = make_student_cnn().to(device)
history = fitnets(
    two_stage_student, teacher, mnist.train.take(500), student_layer="stage2",
    teacher_layer="stage2", hint_epochs=4, epochs=8, batch_size=25, temperature=4.0, alpha=0.5,
    make_optimizer=partial(make_adam, lr=1e-2),
)  # fmt: skip

# %% tags=["claims"]
# it has learned; how well, the comparison at the end says
assert count_errors(two_stage_student, *mnist.held_out.take(1000)) < 400

# %%
first, kd, ce = history.hint.terms["hint"], history.kd.terms["kd"], history.kd.terms["ce"]
switch = len(first)
ax = plots.curve(range(switch), first, color=COLORS["fork"], label="stage one: hint", linestyle="-")
for role, values in {"kd": kd, "ce": ce}.items():
    name = {"kd": "soft targets", "ce": "labels"}[role]
    steps = range(switch, switch + len(values))
    plots.curve(steps, values, role=role, label=f"stage two: {name}", ax=ax, markevery=20)
ax.axvline(switch, color=plots.INK, linewidth=0.8, linestyle=":")
ax.set(xlabel="step", ylabel="term of the loss", yscale="log")
ax.legend(loc="upper left", frameon=False, fontsize=8)
show(ax, alt="03.two-stages")

# %% tags=["claims"]
assert (switch, len(kd)) == (80, 160)
assert first[-8:].mean() < 0.5 * first[0]

# %% [markdown]
# In stage one only the hint falls. At step 80 it stops, and the two terms of stage two begin. The three are in different units, so
# compare each curve with itself only.
#
# The paper's student was *thinner and deeper* than its teacher. It was so deep that in 2015 it could hardly be trained at all, and a
# hint in the middle got it started. Our student is shallow, has batch normalisation and needs no help to start. So a question remains
# for the end of the chapter: are the steps of stage one well spent here?
#
# ## Attention transfer: learn the places
#
# Must the student copy 32 numbers at each position? Perhaps it is enough to know *where* the teacher is active.

# %%
draw_attention_transfer()

# %% [markdown]
# ### Your turn: an attention map
#
# Square the features and add up the channels. That gives one number for each position. Then write the positions of an image as one
# vector and scale it to length 1:
#
# $$A = \frac{a}{\|a\|_2}, \qquad a_{hw} = \sum_c F_{chw}^2$$
#
# For example, take two channels and two positions. At the first position the channels hold 1 and 1, at the second 0 and -2. Then
# $a = (2, 4)$, its length is $\sqrt{20} = 4.47$, and $A = (0.45, 0.89)$. From `features` of shape (B, C, H, W) return the
# maps, of shape (B, H·W). (The drawing takes the mean over the channels. Once scaled to length 1, mean and sum are the same.)


# %%
def attention(features):  # (B, C, H, W) -> (B, H·W)
    ...


attention = check("03.attention", attention)

# %% tags=["claims"]
from kdcourse.losses import attention_map

example = torch.tensor([[1.0, 0.0], [1.0, -2.0]]).reshape(1, 2, 1, 2)
torch.testing.assert_close(attention(example), torch.tensor([[0.45, 0.89]]), rtol=0, atol=0.01)
torch.testing.assert_close(attention(teacher_maps), attention_map(teacher_maps))

# %% [markdown]
# The channels are gone, so a map of 8 channels and one of 32 can be compared without any regressor. Look at the teacher's maps
# over ten digits. Each map is scaled to its own brightest position. Yellow is most active, dark blue least. The white line is the
# outline of the digit.


# %%
def pictures_of(features):  # (B, C, H, W) -> (10, H, W), a map for the first of each digit
    return attention(features)[first_of_each].unflatten(1, features.shape[2:]).cpu()


first_of_each = [int((labels == digit).nonzero()[0]) for digit in range(10)]
rows = {f"teacher, {name}": pictures_of(maps) for name, maps in teacher_features.items()}
show(plots.attention_grid(images[first_of_each], rows), alt="03.attention-of-the-teacher")

# %% [markdown]
# Stage 1 traces the strokes. Stage 2 has half the resolution. It lights up around the strokes, and in hollows too. At stage 3 a
# few of 49 patches are left, such as the crossing of the 4 and the upper bow of the 9. Nobody taught the teacher where to be active. It
# came with the labels.
#
# Why squares? The paper tries several powers $p$ of $|F|$ and takes 2. The larger $p$ is, the more the strongest features
# decide.

# %%
powers, bright = {}, {}
for p in (0.5, 2, 8):
    strength = teacher_features["stage3"].abs().pow(p).sum(dim=1)[first_of_each]  # (10, 7, 7)
    powers[f"p = {p:g}"] = strength.cpu()
    strongest = strength.amax(dim=(1, 2), keepdim=True)
    bright[p] = (strength > 0.5 * strongest).float().mean().item()
show(plots.attention_grid(images[first_of_each], powers), alt="03.powers")
for p, share in bright.items():
    print(f"p = {p:3}: {share:3.0%} of the positions are at least half as bright as the brightest")

# %% tags=["claims"]
assert bright[0.5] > bright[2] > bright[8]

# %% [markdown]
# ### The loss, and what a weight is worth
#
# The loss is the mean squared difference of the two maps, added up over the layers. (That is the form of the authors' code. Equation 2
# of the paper has the length of the difference, without the square.)

# %%
layers = ["stage2", "stage3"]
students = [student_features[name] for name in layers]
teachers = [teacher_features[name] for name in layers]
terms = [attention_transfer_loss(s, t) for s, t in zip(students, teachers, strict=True)]
print("stage 2: {:.4f}, stage 3: {:.4f}".format(*terms))

# %% tags=["claims"]
for s, t, term in zip(students, teachers, terms, strict=True):
    torch.testing.assert_close((attention(s) - attention(t)).square().mean(), term)
torch.testing.assert_close(sum(terms), attention_transfer_loss(students, teachers))

# %% [markdown]
# These are small numbers, although the student has learned nothing yet. (The exercise asks why.) The term is often added at weight 1. The
# authors' code has 1000.

# %%
guess("03.attention-push")

# %%
ce = push(F.cross_entropy(student_logits, labels))
per_stage = {
    name: push(attention_transfer_loss(student_features[name], teacher_features[name])) / ce
    for name in ("stage1", "stage2", "stage3")
}
both = push(attention_transfer_loss(students, teachers)) / ce
print("push of the attention term, as a share of the push of the cross-entropy:")
for name, share in per_stage.items():
    print(f"{name}: {share:.3f}")
print(f"stages 2 and 3 together: {both:.3f}; at weight 1000: {1000 * both:.0f}")

# %% tags=["claims"]
assert 0.05 < both < 0.25
assert per_stage["stage1"] < per_stage["stage3"]

# %% [markdown]
# <details><summary><b>Trap 23: attention transfer at weight 1</b></summary>
#
# In the paper's networks the maps have up to 32 × 32 positions, and the authors' code takes the weight 1000. There a method at weight 1 "does nothing". Here 1
# is weak, and 1000 would drown the labels. **A weight belongs to maps of one size.** For
# other maps, measure the push first. Then choose on held-out images, as we do below.
#
# </details>
#
# Two more mistakes are about shapes. Attention transfer is often recommended because teacher and student layers "need not have the
# same dimensions". And the loop over the two lists of layers is often a plain `zip`, which stops at the end of the shorter list.


# %%
def loss_with_zip(students, teachers):
    pairs = zip(students, teachers, strict=False)  # what zip does by default
    return sum(attention_transfer_loss(s, t) for s, t in pairs) / len(students)


print(f"two layers against one: {loss_with_zip(students, teachers[:1]):.4f}, and no error")
different_sizes = student_features["stage2"], teacher_features["stage3"]
for wrong in [(students, teachers[:1]), ([], []), different_sizes]:
    try:
        attention_transfer_loss(*wrong)
    except ValueError as error:
        print("-", error)

# %% tags=["claims"]
torch.testing.assert_close(loss_with_zip(students, teachers[:1]), terms[0] / 2)

# %% [markdown]
# With `zip`, the result is half of the first term: the second layer is gone, and the mean still divides by two.
#
# <details><summary><b>Traps 20 and 22: sizes that must match, and a list that is cut</b></summary>
#
# Trap 22: `zip` drops a layer silently, and a mean over no layer divides by zero. Trap 20: "no matching sizes needed" is true of
# channels only. Maps of 14 × 14 and 7 × 7 cannot be subtracted.
#
# </details>
#
# ### See it
#
# Two students learn from the same few images. One learns from labels alone, the other with attention transfer on top, at weight 30, so
# that the eye sees it. Then we look at their maps beside the teacher's. One student of each kind is enough for a picture. Who
# makes fewer errors is a question for many students, and comes later.
#
# First the teacher's answers and features, once, for all images.


# %%
def ask(model, images):
    with evaluating(model), capture(model, *layers) as features:
        logits = model(images)
    return logits, *[features[name] for name in layers]


chunks = [ask(teacher, part) for part in few.images.split(250)]
cached = [torch.cat(parts) for parts in zip(*chunks, strict=True)]  # logits, stage2, stage3
for name, tensor in zip(["logits", *layers], cached, strict=True):
    print(f"{name:7} {tuple(tensor.shape)!s:21} {tensor.nbytes / 2**20:6.2f} MiB")

# %% [markdown]
# Feature maps are large. At this rate all of MNIST would take gigabytes, while the logits take two megabytes. For large data, or for
# images that are augmented, the teacher runs inside the loop instead, as it does in `recipes.fitnets`.
#
# The collapsed cell below makes the optimizer. Its learning rate rises and then falls (`OneCycleLR`). This uses a hook as well: one
# of the optimizer, called after each step.

# %% tags=["plumbing"]
STEPS = EPOCHS * math.ceil(SAMPLES / 25)  # batches of 25


def make_optimizer(parameters):
    optimizer = torch.optim.Adam(parameters, lr=0.03, fused=True)
    schedule = OneCycleLR(optimizer, max_lr=0.03, total_steps=STEPS + 1)
    optimizer.register_step_post_hook(lambda *ignored: schedule.step())
    return optimizer


# %%
def attention_objective(student, images, labels, teacher_logits, *teachers, weight):
    with capture(student, *layers) as features:
        logits = student(images)
    term = attention_transfer_loss([features[name] for name in layers], teachers)
    return {"ce": F.cross_entropy(logits, labels), "attention": weight * term}


trained = {"untrained": student}
for name, weight in {"labels only": 0.0, "labels and attention": 30.0}.items():
    torch.manual_seed(0)
    trained[name] = make_student_cnn().to(device)
    optimizer = make_optimizer(trained[name].parameters())
    bound = partial(attention_objective, weight=weight)
    data = (*few, *cached)
    fit(trained[name], data, bound, optimizer, epochs=EPOCHS, batch_size=25, progress=False)

# %% tags=["claims"]
for name in ("labels only", "labels and attention"):
    assert count_errors(trained[name], *mnist.held_out.take(1000)) < 400

# %%
rows, distances = {"teacher": pictures_of(teacher_features["stage3"])}, {}
for name, model in trained.items():
    _, *maps = ask(model, images)
    rows[name] = pictures_of(maps[-1])
    pairs = zip(layers, maps, teachers, strict=True)
    distances[name] = {layer: attention_transfer_loss(s, t).item() for layer, s, t in pairs}
show(plots.attention_grid(images[first_of_each], rows), alt="03.looks-where-the-teacher-looks")
distances = pd.DataFrame(distances).T  # over all 256 images
way = 1 - distances / distances.loc["untrained"]
way.drop("untrained").map("{:.0%}".format).rename_axis("way from untrained to the teacher's maps")

# %% tags=["claims"]
assert (distances.loc["labels and attention"] < 0.6 * distances.loc["labels only"]).all()
assert (way.loc["labels and attention"] > 0.4).all()
assert 0.1 < way.stage3["labels only"] < 0.7
assert way.stage2["labels only"] < 0.3

# %% [markdown]
# The student with attention transfer looks much more where its teacher looks, at both layers. The student with labels only came a
# part of the way at stage 3, by itself. At stage 2 it did not come much nearer. A minus sign means that it is even further from the
# teacher than a student that was never trained. So learning the task is not the same as becoming like the teacher.
#
# Now you. Run the notebook **up to the next cell**, because a kernel that is busy answers no slider. Move the layer, pick digits, choose a
# student. There is one thing to find out. At which layer is the untrained student's distance smallest, and does it agree best with the teacher there? (The
# line below the maps gives the share of the largest possible distance.)

# %%
last_first = dict(reversed(trained.items()))  # opens on the student with attention transfer
explorer = AttentionExplorer(teacher, last_first, mnist.held_out.take(500))
explorer

# %% [markdown]
# Here is the answer for all 256 images. Two maps of length 1 that share no position have a squared distance of 2. So the largest
# possible mean is 2 divided by the number of positions.

# %%
with evaluating(student), capture(student, "stage1", "stage2", "stage3") as untrained_features:
    student(images)
shares = {}
for name, maps in untrained_features.items():
    distance, positions = attention_transfer_loss(maps, teacher_features[name]), maps[0, 0].numel()
    shares[name] = (distance * positions / 2).item()
    of_largest = f"{shares[name]:.0%} of the largest possible"
    print(f"{name}: {positions:3} positions, distance {distance:.5f}, {of_largest}")

# %% tags=["claims"]
assert shares["stage1"] > shares["stage3"] + 0.1 > shares["stage2"] + 0.1

# %% [markdown]
# The smallest distance is at stage 1. But a distance is a mean over positions, 784 at stage 1 and 49 at stage 3. As a share of the largest
# possible distance, the untrained student agrees best at stage 2, and worst at stage 1, where the number was smallest. So compare
# students at one layer, not one student at two.
#
# ### Another image's map
#
# In a training as short as this one, students with attention transfer make fewer errors than students without a teacher. Is that
# *because* they look where the teacher looks at this image? A control can tell, and it is easily forgotten. Shuffle the teacher's maps within each batch, so that each image comes with the map of *another* image. Everything else
# stays: the same term, the same weight, the same number of steps.

# %%
guess("03.another-image")

# %% [markdown]
# This comparison needs more seeds than a chapter has time for, so it is a recorded run: 24 seeds, 1,000 images, 5 epochs, weight 10.

# %%
other_maps = read_record("other_maps")["comparisons"]
rows = pd.DataFrame([*other_maps["against the baselines"], *other_maps["the right map"]])
rows = rows[rows.baseline.isin(["no_teacher", "another image's map"])]
rows["arm"] = rows.arm.str.replace("_", " ") + " against " + rows.baseline.str.replace("_", " ")
ax = plots.intervals(rows.drop(columns="baseline"), smallest_effect=15)
ax.set(xlabel="difference in errors of 10,000 test images")
show(ax, alt="03.another-image")

# %% tags=["claims"]
of_maps = rows.set_index("arm")
assert of_maps.verdict.tolist()[:2] == ["better", "better"]
assert of_maps.difference.round().tolist() == [-92, -111, -63, 19]
assert of_maps.baseline_mean.iloc[0].round() == 1002
assert of_maps.verdict.iloc[-1] == "unclear"
assert of_maps[["low", "high"]].iloc[-1].round().tolist() == [-24, 62]
each = pd.DataFrame(read_record("other_maps")["runs"])
each = each.pivot(index="seed", columns="arm", values="test_errors")
ahead = each["own image's map"] - each["another image's map"]
assert (ahead.min(), ahead.max()) == (-177, 212)

# %% [markdown]
# Without a teacher these students make 1,002 errors. Attention transfer spares 92 of them, and with the maps of *other* images 111. Whether
# the right map is better or worse than a wrong one is unclear: between 24 errors fewer and 62 more. So in so short a training nothing shows that the gain
# comes from *where the teacher looks at this image*. Perhaps any such map keeps the student's features from concentrating on a few
# positions, as a penalty would. A control like this one belongs beside every feature method.
#
# Many seeds are needed here: from one seed to the next the right map was up to 177 errors ahead of the other one, and up to 212 behind.
# One command makes the record: `python -m experiments.other_maps`.
#
# ## Contrastive features: learn who is alike
#
# The third idea drops the numbers and the places. Average the last stage over its positions. That gives one vector for each
# image, an [embedding](glossary:embedding). What matters is which images lie close together. Scale each embedding to length 1.
# The inner product of two of them, the *cosine*, is then 1 if they point the same way. Here are the cosines between the teacher's
# embeddings of thirty digits.

# %%
by_digit = torch.cat([(labels == digit).nonzero().flatten()[:3] for digit in range(10)])
embeddings = teacher_features["stage3"].mean(dim=(2, 3))  # (256, 64)
unit = F.normalize(embeddings, dim=1)
cosines = unit @ unit.T  # (256, 256)
ax = plots.matrix(cosines[by_digit][:, by_digit].cpu(), label="cosine")
ax.set_xticks(range(1, 30, 3), range(10))
ax.set_yticks(range(1, 30, 3), range(10))
ax.set(xlabel="digit", ylabel="digit")
show(ax, alt="03.cosines-of-the-teacher")

# %% [markdown]
# [InfoNCE](glossary:infonce) turns this into a puzzle. Given the student's embedding of image $i$, pick the teacher's embedding of
# the *same* image out of the batch. A puzzle with $B$ possible answers is a classification. So its loss is a cross-entropy, over
# cosines divided by a temperature $\tau$. With $s_i$ and $t_i$ the embeddings of student and teacher, scaled to length 1:
#
# $$L = -\frac1B \sum_i \log \frac{\exp(\langle s_i, t_i \rangle / \tau)}{\sum_j \exp(\langle s_i, t_j \rangle / \tau)}$$
#
# You write it yourself in chapter 05, which is about such losses. Here we only use it. The student's 16 numbers have
# no cosine with the teacher's 64, so a learned linear layer, the projection, stands between them.

# %%
student_embeddings = student_features["stage3"].mean(dim=(2, 3))  # (256, 16)
projection = nn.Linear(16, 64).to(device)
projected = projection(student_embeddings)  # (256, 64)
print("student", tuple(student_embeddings.shape), "projected", tuple(projected.shape))
print(f"whoever guesses among 256 images pays log 256 = {math.log(256):.2f}")

# %% [markdown]
# The formula is one direction: the student's embedding finds the teacher's of the same image. `info_nce_loss` takes the mean of this one and of its reverse.
# Both are needed. Take two
# images. As angles in degrees, the teacher's embeddings point to 0 and 50, the student's to -40 and 30.


# %%
def at(*degrees):
    radians = torch.deg2rad(torch.tensor(degrees, dtype=torch.float))
    return torch.stack([radians.cos(), radians.sin()], dim=1)  # (2, 2)


similarity = at(-40, 30) @ at(0, 50).T  # a row for each student, a column for each teacher
print("each student's nearest teacher:", *similarity.argmax(dim=1).tolist())
print("each teacher's nearest student:", *similarity.argmax(dim=0).tolist())

# %% tags=["claims"]
assert similarity.argmax(dim=1).tolist() == [0, 1]
assert similarity.argmax(dim=0).tolist() == [1, 1]

# %% [markdown]
# Each student finds its own teacher, 0 finds 0 and 1 finds 1. But for both teachers student 1 is the nearest. Teacher 0 is 40
# degrees from its own student and 30 degrees from student 1.
#
# <details><summary><b>Trap 30: one direction only</b></summary>
#
# Every student finds its teacher, so the puzzle of the rows is solved. But student 1 is closer to teacher 0 than student 0 is. Only the
# other direction sees that.
#
# </details>
#
# A second mistake: the projections are built in the constructor, and then the loss is called without them.

# %%
try:
    info_nce_loss(student_embeddings, embeddings, temperature=0.1)
except ValueError as error:
    print(error)

# %% [markdown]
# <details><summary><b>Trap 28: projections that are built and not used</b></summary>
#
# If the widths differ, there is an error, and that is the lucky case. If they are equal, it runs, and the projections never learn.
#
# </details>
#
# ### Who is a negative?
#
# All other images of the batch are *negatives*: they are pushed away. On MNIST one in ten of them shows the *same digit*. (Push here:
# how strongly the loss drives one pair apart, not the gradient in the weights.)

# %%
guess("03.share-of-the-push")

# %%
others = ~torch.eye(256, dtype=torch.bool, device=device)
same_digit = (labels[:, None] == labels) & others
weights = (cosines / 0.1).softmax(dim=1) * others  # the gradient's weight of each negative
share, pushed = same_digit.sum() / others.sum(), (weights * same_digit).sum() / weights.sum()
print(f"{share:.1%} of the negatives show the same digit; they get {pushed:.0%} of the push")
every = info_nce_loss(embeddings, embeddings, temperature=0.1)
without = info_nce_loss(embeddings, embeddings, temperature=0.1, labels=labels)
print(f"loss of a perfect student: {every:.2f}; without negatives of its own digit: {without:.2f}")

# %% tags=["claims"]
assert 0.08 < share < 0.12
assert pushed > 0.8
assert every > 2 * without

# %% [markdown]
# <details><summary><b>Trap 29: every other image is a negative</b></summary>
#
# A teacher that has learned its digits well puts equal digits close together. The loss then spends nearly all of its push on
# tearing them apart. With `labels=` they are left out.
#
# </details>
#
# ## All against plain soft targets
#
# Now every method meets plain soft targets. A method is a set of weights, and one objective holds them all:
#
# | method | terms of the loss |
# |---|---|
# | soft targets | labels and soft targets at $T = 4$ |
# | hint, attention, contrastive | labels and that feature term |
# | FitNets | stage one: hint alone, for a fifth of the steps; stage two: as soft targets |
# | soft targets + hint, soft targets + attention, soft targets + contrastive: the *mixtures* | labels, soft targets and that feature term, at every step |
#
# `sweep` adds the two baselines, no teacher and label smoothing. All get the same number of steps. The regressor and the projection are learned with
# the student, and each student has its own: `parts` builds them, and the sweep hands their parameters to the optimizer. The objective's keyword `progress` says how far the training is, from 0 to 1; the `progress=False` below only hides a bar.


# %%
def feature_term(name, features, labels, teachers, regressor, projection):
    if name == "hint":
        return hint_loss(regressor(features["stage2"]), teachers[0])
    if name == "attention":
        return attention_transfer_loss([features[layer] for layer in layers], teachers)
    pooled, target = projection(features["stage3"].mean(dim=(2, 3))), teachers[1].mean(dim=(2, 3))
    return info_nce_loss(pooled, target, temperature=0.1, labels=labels)


def objective(student, images, labels, teacher_logits, *teachers, weights, progress, **parts):
    with capture(student, *layers) as features:
        alpha = weights.get("kd", 0.0)
        answers = soft_target_objective(student, images, labels, teacher_logits, alpha=alpha)
    if progress < weights.get("hint stage", 0):  # stage one: no label, no soft target
        return {"hint": feature_term("hint", features, labels, teachers, **parts)}
    names = [name for name in ("hint", "attention", "contrastive") if name in weights]
    terms = [feature_term(name, features, labels, teachers, **parts) for name in names]
    return answers | {name: weights[name] * term for name, term in zip(names, terms, strict=True)}


# %% [markdown]
# ### Weights first
#
# At full size each term alone was trained at two weights and judged by 1,000 *held-out* images, with three seeds that the
# comparison does not use. The test images stay out of it. It chose 0.5 for soft targets, 1 for the hint, 10 for attention and 2 for
# the contrastive term. Here we take these weights, and make the choice anew for attention transfer, with one seed.
# `executor="processes"` trains as many students at a time as the machine has cores.

# %%
grid = {"attention": (10, 1000)}
if FULL:
    grid |= {"kd": (0.5, 0.9), "hint": (1, 10), "contrastive": (0.5, 2)}
parts = {"regressor": lambda: HintRegressor(8, 32), "projection": lambda: nn.Linear(16, 64)}
budget = dict(
    make_student=make_student_cnn, parts=parts, epochs=EPOCHS, batch_size=25,
    make_optimizer=make_optimizer, progress=False, executor="processes",
)  # fmt: skip


def methods(named):
    return {name: partial(objective, weights=weights) for name, weights in named.items()}


# %%
choice = sweep(
    data={"train": (*few, *cached), "held_out": mnist.held_out.take(1000)},
    seeds=range(100, 100 + CHOICE_SEEDS), baselines=[],
    objective=methods({f"{term} {w:g}": {term: w} for term in grid for w in grid[term]}), **budget,
)  # fmt: skip
held_out = choice.groupby("arm", sort=False).held_out_errors.mean()
chosen = {"kd": 0.5, "hint": 1, "attention": 10, "contrastive": 2}  # by the run at full size
chosen |= {term: min(grid[term], key=lambda w: held_out[f"{term} {w:g}"]) for term in grid}
weights_in_words = ", ".join(f"{term} {weight:g}" for term, weight in chosen.items())
print("weights:", weights_in_words.replace("kd", "soft targets"))
held_out.rename("held-out errors of 1,000").rename_axis("term and weight").to_frame()

# %% tags=["claims"]
assert held_out["attention 1000"] > 2 * held_out["attention 10"]

# %% [markdown]
# Attention transfer at 1000, the weight of the authors' code for their own maps, makes several times as many errors. You saw why: its
# push is about a hundred times that of the labels. A choice need not be perfect. It must only be made without the test images.
#
# ### Then the comparison
#
# Before the run we name the **smallest effect of interest**: 15 errors in 10,000 (here, of 2,000 images: 3). A feature term brings
# a second network, hooks and a weight to tune, and nobody would take that on for less. An interval that lies between 15 fewer and 15 more is called "too small to matter".

# %%
guess("03.fitnets-or-mixture")

# %%
single = {name: {name: chosen[name]} for name in chosen}
features_only = ("hint", "attention", "contrastive")
mixtures = {f"kd + {f}": {"kd": chosen["kd"], f: chosen[f]} for f in features_only}
two_stages = {"fitnets": {"kd": chosen["kd"], "hint stage": 0.2}}
runs = sweep(
    data={"train": (*few, *cached), "test": mnist.test if FULL else mnist.test.take(2000)},
    seeds=range(SEEDS), objective=methods(single | two_stages | mixtures), **budget,
)  # fmt: skip
against = {"against no teacher": "no_teacher", "against soft targets": "kd"}
SMALLEST = 0.0015 * runs.attrs["evaluated"]["test"]  # named before the run
judged = partial(compare, smallest_effect=SMALLEST)
comparisons = {title: judged(runs, baseline=baseline) for title, baseline in against.items()}
tested = f"{runs.attrs['evaluated']['test']:,} test images"
about_full = (
    f"{SAMPLES:,} images, {EPOCHS} epochs in batches of 25, {SEEDS} seeds, {tested}; "
    f"chosen on held-out images: {weights_in_words}"
)

# %% tags=["plumbing"]
WORDS = {f"kd + {feature}": f"soft targets + {feature}" for feature in features_only}
WORDS |= {"kd": "soft targets", "fitnets": "FitNets"}


def in_plain_words(table):
    return table.replace({"arm": WORDS, "baseline": WORDS})


# %%
table = in_plain_words(comparisons["against no teacher"])
ax = plots.intervals(table, smallest_effect=SMALLEST)
ax.set(xlabel=f"difference from no teacher, in errors of {tested}")
show(ax, alt="03.against-no-teacher")
print(in_words(table))

# %% tags=["claims"]
assert len(table) == 9  # eight methods and label smoothing
assert table.set_index("arm").difference["contrastive"] < 0
assert "kd" not in set(table.arm)
assert table.attrs["smallest_effect"] == SMALLEST

# %% [markdown]
# Most intervals are wide. A student that has so few images and steps depends much on its luck, and three seeds are few. On another
# machine, which rounds differently, some of these verdicts turn out differently.
#
# Three seeds can tell more about the *mean* of the three mixtures than about any one of them, because the luck of three students partly cancels. So
# we take that mean for each seed, and compare as before.

# %%
mean_of_three = runs[runs.arm.isin(mixtures)].groupby("seed", as_index=False).test_errors.mean()
pooled = judged(
    pd.concat([mean_of_three.assign(arm="mixtures"), runs]),
    baseline=["no_teacher", "label_smoothing", "kd", "fitnets"],
)
print(in_words(in_plain_words(pooled), "mixtures"))

# %% [markdown]
# The mixtures have the feature *and* the answer at every step. FitNets sees no answer in its first stage. The verdicts say how sure three
# seeds can be. At full size the three mixtures make 264 to 283 errors, FitNets makes 338, and students without a teacher make 434. What FitNets' first
# stage is worth is told against soft targets, further down: your guess is about that. Look at the line about
# label smoothing, too. It costs nothing and knows no teacher, and few seeds may not tell it from the mixtures.
#
# The harder question is whether a feature term adds anything *to soft targets*, which cost nothing but a table of logits. These three seeds
# say little about it. So we ask again, with more images, more steps and more seeds.
#
# ## Did it hold? The same at full size
#
# `python -m experiments.chapters 03` runs this chapter with `FULL = True`: 2,000 images, five times as many steps, eight seeds, all
# 10,000 test images. It leaves a record; its long table is in [docs/results.md](../docs/results.md). Here it stands beside the small run, both in errors of 10,000 test images.

# %%
record = read_record("chapter03")["comparisons"]
full = {title: pd.DataFrame(rows) for title, rows in record.items()}


def beside(title):
    both = {"this run": comparisons[title], "full size": full[title]}
    small, large = (table.set_index("arm").verdict for table in both.values())
    for arm in small.index[small != large[small.index]]:
        name = WORDS.get(arm, arm).replace("_", " ")
        print(f"{name}: {small[arm]} in this run, {large[arm]} at full size")
    images = {"this run": runs.attrs["evaluated"]["test"], "full size": 10_000}
    tables = {run: in_plain_words(table) for run, table in both.items()}
    return plots.did_it_hold(tables, images=images, smallest_effect=15)


show(beside("against no teacher"), alt="03.held-against-no-teacher")

# %% [markdown]
# **The teacher helps.** At full size soft targets make 145 errors fewer than no teacher, 95 % interval 114 to 176, and more than
# twice the gain of label smoothing (70). Alone, the contrastive term helps too: 94 fewer. The hint and
# attention transfer alone do not show any gain: their intervals hold 0.
#
# The lines above the picture name every row whose verdict turns out differently at the two sizes. A small run can miss an effect that is
# there, because its intervals are wide. It can also show one that is gone with more images, more steps and more seeds.
#
# Now the second question, against soft targets. Next to this run's intervals those at full size are almost too short to see, so
# they are drawn once more by themselves:

# %%
show(beside("against soft targets"), alt="03.held-against-soft-targets")
arms = [*features_only, *(WORDS[arm] for arm in ("fitnets", *mixtures))]
print(in_words(in_plain_words(comparisons["against soft targets"]), arms))

# %%
alone_at_full_size = in_plain_words(full["against soft targets"])
ax = plots.intervals(alone_at_full_size, smallest_effect=15)
ax.set(xlabel="difference from soft targets, in errors of 10,000")
show(ax, alt="03.full-size-against-soft-targets")

# %% tags=["claims"]
none = full["against no teacher"].set_index("arm")
large = full["against soft targets"].set_index("arm")
assert (round(none.difference["kd"]), none.verdict["kd"]) == (-145, "better")
assert (round(none.low["kd"]), round(none.high["kd"])) == (-176, -114)
assert (round(none.baseline_mean["kd"]), round(none["mean"]["kd"])) == (434, 290)
assert [round(none.difference[arm]) for arm in ("label_smoothing", "contrastive")] == [-70, -94]
assert (none.verdict[["hint", "attention"]] == "unclear").all()
assert (round(none.difference["fitnets"]), none.verdict["fitnets"]) == (-96, "better")
alone = ["hint", "attention", "contrastive", "fitnets", "label_smoothing", "no_teacher"]
assert (large.verdict[alone] == "worse").all()
assert (large.verdict[list(mixtures)] == "unclear").all()
shown = large.loc[["contrastive", "fitnets", "attention"], ["difference", "low", "high"]]
assert shown.round().to_numpy().tolist() == [[51, 19, 84], [48, 20, 77], [131, 110, 151]]
gains = large.loc[list(mixtures)]
assert (round(gains.low.min()), round(gains.high.max())) == (-52, 20)
assert (round(gains.difference.min()), round(gains.difference.max())) == (-26, -7)
assert [round(large["mean"][arm]) for arm in (*mixtures, "fitnets")] == [283, 281, 264, 338]
weights_of_full = "'kd': 0.5, 'hint': 1, 'attention': 10, 'contrastive': 2"
assert weights_of_full in read_record("chapter03")["about"]

# %% [markdown]
# **At full size soft targets alone beat every feature term alone, and both baselines.** A small run cannot show all of this:
#
# - *The contrastive term alone* may look as good as soft targets in a small run, or better. At full size it makes 51 more, 95 %
#   interval 19 to 84. Perhaps soft targets need more steps than the small run has.
# - *The hint stage of FitNets is not worth its steps*, which was the guess. At full size FitNets makes 48 errors more
#   than soft targets that had all the steps, 95 % interval 20 to 77. It still makes 96 fewer than no teacher: its second stage learns from soft targets
#   too.
# - *Attention transfer alone* is often recommended as the first method to try, because it needs no regressor. Here it makes 131 errors more than soft
#   targets, 95 % interval 110 to 151.
#
# **Does a feature term add anything to soft targets?** That stays unclear. The three mixtures make 7 to 26 errors fewer, but all three intervals
# hold 0. Together they reach from 52 errors fewer to 20 more.
#
# Perhaps features help more with fewer images or shorter training: they tell the student *how* to see, and with enough images it may
# find out by itself. That is a guess. To test it, choose a larger number of `SEEDS` for the small run, 16 for example, before you look, and run it once. And
# digits are easy. But in public tables on CIFAR-100, small colour photographs of a hundred kinds, plain soft targets are also
# ahead of most feature methods (Tian et al., tables 1 and 2).
#
# ## Summary
#
# - A hook sees what a layer puts out. Remove it, copy what it keeps, empty what it filled, and insist on names that exist. `capture`
#   does all four.
# - FitNets: the mean squared difference between the teacher's hint and a *learned* regression of the student's guided layer. The features
#   are not scaled, the regressor belongs in the optimizer, and the maps need the same height and width.
# - Attention transfer: where a layer is active. Channels disappear, so no regressor is needed. The loss is small, and what its weight means
#   depends on the number of positions. In a short training it was unclear whether the right map helps more than that of another image.
# - Contrastive features: pick the same image out of the batch, in both directions, through projections that learn. Do not push away images
#   of the same class.
# - Before you believe in a weight, measure the push of its term beside the others. Then choose on held-out images.
# - Start with soft targets: a table of logits instead of megabytes of maps. With 2,000 images every feature term alone was worse, and so was
#   FitNets. No feature term added to soft targets made a difference that eight seeds could show.
# - Do features beat soft targets? Hints and maps from the middle of the network do not, here. Chapters 04 and 05 ask the same of features from its end.
# - A few seeds of a small student decide little. Look at the width of an interval before you look at its place.
#
# ## Think, then try
#
# The answers below were measured with 1,000 images, 5 epochs in batches of 25, 5 seeds, errors of 10,000 test images, paired, with 95 %
# intervals. `python -m experiments.think 03` in a clone of the repository measures them again.
#
# 1. Guide `stage1` or `stage3` instead of `stage2`. Which hint is easiest to reach, and does the easiest help most?
#
#    <details><summary>Answer</summary>
#
#    These students learn from labels and from one hint at weight 10. How near do they come to it? On 500 held-out
#    images we fit the best regressor, and take the share of the variance of the teacher's features that it leaves. The
#    errors are compared with those of students without a teacher, who make 1,038.
#
#    | hint at | variance left | compared with no teacher | errors, compared with no teacher |
#    |---|---|---|---|
#    | stage 1 | 42 % | 21 percentage points fewer (16 to 25) | between 269 errors fewer and 267 more |
#    | stage 2 | 53 % | 18 percentage points fewer (14 to 22) | 169 errors fewer (28 to 310) |
#    | stage 3 | 44 % | 24 percentage points fewer (20 to 28) | between 399 errors fewer and 316 more |
#
#    Stage 2 is the hardest to reach. The regressor leaves 11 percentage points fewer (8 to 14) at stage 1, and 9
#    percentage points fewer (8 to 11) at stage 3. Which of these two is the easiest is unclear: at stage 1 the
#    regressor leaves between 5 percentage points fewer and 2 more than at stage 3.
#
#    Only the hint at stage 2 shows a gain, the one that is hardest to reach. Whether it is better than the hint at
#    stage 1 is unclear, too: between 355 errors fewer and 20 more. So a hint that is easy to reach need not be one that
#    helps. (The weight was not chosen anew for each stage.)
#
#    </details>
#
# 2. Give attention transfer `stage1` as well. What does its push say about the weight that this stage needs?
#
#    <details><summary>Answer</summary>
#
#    Above, the push of stage 1 was 0.013 of the cross-entropy's, and that of stage 3 was 0.108. So stage 1 needs about
#    8 times the weight of stage 3 to be felt as much. Its maps have 784 positions, and the loss is a mean over them.
#
#    Does stage 1 then help? With stages 2 and 3 at weight 10 the students make 860 errors. Add stage 1 at the same
#    weight, and they make between 85 errors fewer and 91 more. Add it at weight 80, and they make between 86 errors
#    fewer and 96 more. Neither shows a gain. The push says which weight makes a term felt, not whether the term helps.
#
#    </details>
#
# 3. Stage one of FitNets needs no labels. Let it run on 5,000 images *without labels*, and then let stage two run on the 1,000 as before. Are
#    these steps worth it? And what else could learn from images without labels?
#
#    <details><summary>Answer</summary>
#
#    Stage two alone, with soft targets and labels for 5 epochs on the 1,000 images, makes 841 errors. One pass over
#    5,000 other images before it, with the hint loss alone, makes 207 errors fewer (105 to 309). But the pass takes 200
#    steps. Give these steps to stage two instead, on the same 1,000 images, and it makes 376 errors fewer (260 to 492)
#    than before. Against these students, who had as many steps, those with the hint pass make 169 errors more (131 to
#    206). So as a stage of its own the hint is not worth its steps.
#
#    Soft targets need no labels either. One pass over the same 5,000 images with soft targets alone makes 347 errors
#    fewer (239 to 455) than no pass, and 140 errors fewer (103 to 177) than the pass with the hint. Whether it is
#    better than as many more steps on the old images is unclear: between 10 errors fewer and 68 more.
#
#    </details>
#
# More, with checks that know the usual slips:
# [exercise 03](../exercises/ex03_feature_distillation/ex03_feature_distillation.ipynb) and
# [exercise 14](../exercises/ex14_feature_and_logits/ex14_feature_and_logits.ipynb).
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
