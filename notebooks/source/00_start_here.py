# %% [markdown]
# # Start here
#
# Welcome. A large network is often more accurate, and a small one is cheaper to run. In this course the small one, the student, learns from the
# large one, its teacher. Below you see a student that makes fewer errors with a teacher, whether it has 300 images or 55,000. In the next chapters you
# see it happen: you move a slider and the curve bends. This first notebook takes about 15 minutes. It checks your machine, shows how a chapter works,
# and trains a network.
#
# **You will be able to**
# - run a chapter, write your first line in it, and know what your machine can do;
# - tell whether the sliders work here, and what to do if not;
# - load the digits and the teachers that the course works with.
#
# **You need** a little Python and PyTorch: tensors, `nn.Module`, `loss.backward()`. **Time** about 15 minutes; the machine needs a few seconds.
#
# ## How to work
#
# Cells run from top to bottom: click a cell and press **Shift + Enter**. The cell below is the same in every chapter.
# It installs the course where that is needed and says what it found.
#
# Collapsed cells check that the numbers in the text are right. You can skip them.

# %%
import math

import pandas as pd
import torch
import torch.nn.functional as F

from kdcourse import plots, zoo
from kdcourse.checks import check
from kdcourse.commands.when_it_helps import Study, draw_study
from kdcourse.data import load_mnist, minibatches
from kdcourse.models import count_parameters, make_student_mlp
from kdcourse.plots import show
from kdcourse.plots.drawings import draw_teacher_and_student
from kdcourse.records import read_record
from kdcourse.training import accuracy, count_errors, pick_device, predict_logits, train
from kdcourse.widgets import guess, hello_slider

# %% [markdown]
# Each chapter has a drawing of its method. This one shows what the course is about:

# %%
draw_teacher_and_student()

# %% [markdown]
# The two networks see the same image. The student's answer is compared with the teacher's ten probabilities and with the label, which names one digit.
# The dashed arrow is the gradient. It changes the student, so that both differences become smaller. The teacher is *frozen*: nothing changes it.
#
# The first cell of this notebook names your **device**. You need no GPU: two cores are enough. On Colab,
# *Runtime → Change runtime type* gives you a GPU. *threads* says how many cores PyTorch uses. One is on purpose: these networks are
# too small for two. `kdcourse doctor` in a terminal says more.
#
# ## The data
#
# MNIST: 70,000 handwritten digits of 28 by 28 grey values. They come inside the package, so you need no network. We keep three
# parts apart: **train** to learn from, [held-out](glossary:held-out-images) to choose settings by, and **test** to report, once
# all is chosen. A word that is a link, such as "held-out", leads to the course's glossary.

# %%
device = pick_device()
mnist = load_mnist(device=device)
for name, split in mnist._asdict().items():
    print(f"{name:<9} {tuple(split.images.shape)}")

# %% tags=["claims"]
assert [len(split.labels) for split in mnist] == [55_000, 5_000, 10_000]

# %%
images, labels = mnist.test.take(20)
ax = plots.digit_grid(images, columns=10)
show(ax, alt="00.twenty-handwritten-digits")

# %% [markdown]
# ## Guess first
#
# Chapters ask you to **guess** before they show. Run the cell and click an answer, then go on. A wrong guess costs nothing, and
# what surprised you is what you will remember. The stored outputs below would give the answer away. In JupyterLab choose
# *Edit → Clear Outputs of All Cells* first.

# %%
guess("00.one-pass")

# %% [markdown]
# The whole course uses one training loop. `train` takes a network, batches, an [objective](glossary:objective) and an optimizer. It is
# a generator: each turn of the `for` takes one training step on 128 images and hands back what happened. Here we keep the loss.
#
# The objective is a function that you can read: it returns the terms of the loss, by name. Here there is one, the
# [cross-entropy](glossary:cross-entropy), which is large where the network gives the right digit a small probability.


# %%
def objective(student, images, labels):
    return {"ce": F.cross_entropy(student(images), labels)}


torch.manual_seed(0)
student = make_student_mlp().to(device)
optimizer = torch.optim.Adam(student.parameters())
losses = [step.loss for step in train(student, minibatches(*mnist.train), objective, optimizer)]

# %%
share = accuracy(student, *mnist.test)
print(f"{share:.1%} of the test images are right after {len(losses)} steps")

# %% tags=["claims"]
assert 0.92 < share < 0.945

# %%
ax = plots.curve(
    range(len(losses)), torch.stack(losses).cpu(), label="cross-entropy", color=plots.COLORS["ce"]
)
ax.set(xlabel="training step", ylabel="cross-entropy loss")
show(ax, alt="00.loss-falls-steeply")

# %% [markdown]
# That was your first learning curve. The cross-entropy is the mean of $-\log p$, where $p$ is the probability that the network gave to the right
# digit. With the natural logarithm its unit is the [nat](glossary:nat). A network that gives every digit the same probability has a loss of
# $\log 10 \approx 2.3$ nats. There the curve begins. In the other direction, $e^{-\text{loss}}$ is the probability that the right digit
# gets, in the geometric mean.

# %%
start, end = losses[0].item(), torch.stack(losses[-50:]).mean().item()
print(f"first batch: {start:.2f} nats; log 10 is {math.log(10):.2f}")
print(f"last fifty batches: {end:.2f} nats, or {math.exp(-end):.0%} for the right digit")

# %% tags=["claims"]
assert abs(start - math.log(10)) < 0.3
assert 0.2 < end < 0.4

# %% [markdown]
# ## Your turn
#
# In each chapter you write a few lines yourself, those that matter. Put yours in place of the `...` and run the cell. A check says whether they are
# right, and names the usual mistakes. The solution is folded below the cell. If you write nothing, the chapter goes on all the same.
#
# Here you count errors, because this course compares networks by their number. `logits` has shape (N, 10): ten numbers for each of N images, one for
# each digit. The network answers the digit with the largest number. `labels` has shape (N,) and holds the right digits. Return how many
# answers are wrong. For example, the answers 4, 9 and 9 to images with the labels 4, 4 and 9 hold one error.


# %%
def count_wrong(logits, labels):  # (N, 10), (N,) -> a whole number
    ...


count_wrong = check("00.count-wrong", count_wrong)

# %% [markdown]
# ## A teacher is waiting
#
# Some networks come trained. `zoo.provenance("teacher_mlp")` shows how one was made. They are the [teachers](glossary:teacher) of this
# course, and small networks such as ours will be their [students](glossary:student). We load one teacher.

# %%
guess("00.teacher-errors")

# %%
teacher = zoo.load("teacher_mlp", device=device)
for name, network in {"teacher": teacher, "student": student}.items():
    errors = count_wrong(predict_logits(network, mnist.test.images), mnist.test.labels)
    print(f"{name}: {count_parameters(network):>9,} weights and biases, {errors:>3} errors")

# %% tags=["claims"]
assert 0.14 < count_errors(teacher, *mnist.test) / count_errors(student, *mnist.test) < 0.26
assert 13 < count_parameters(teacher) / count_parameters(student) < 15
assert zoo.provenance("teacher_mlp")["epochs"] == 20

# %% [markdown]
# The comparison is not fair: the teacher is larger, *and* it saw each image twenty times, ours once. But a teacher can say more than
# a label. Here is one test digit with both answers, chosen because the two networks disagree about it.

# %%
digit, label = mnist.test.images[740], int(mnist.test.labels[740])
answers = {
    name: predict_logits(network, digit[None]).softmax(dim=1)[0]  # (10,) probabilities
    for name, network in {"teacher": teacher, "student": student}.items()
}
ax = plots.probability_bars({"teacher": answers["teacher"]})
dots = {"linestyle": "", "markersize": 9}
plots.curve(range(10), answers["student"], role="student", label="student", ax=ax, **dots)
beside = ax.inset_axes([1.0, 0.25, 0.2, 0.6])
plots.digit_grid(digit[None], captions=[f"label {label}"], ax=beside)
show(ax, alt="00.one-digit-two-answers")

# %% tags=["claims"]
assert label == 4
assert answers["teacher"].topk(2).indices.tolist() == [4, 9]
assert 0.6 < answers["teacher"][4] < 0.9
assert answers["student"].argmax() == 9

# %% [markdown]
# The label says "4" and nothing else. The teacher gives ten probabilities: probably a 4, perhaps a 9, and no other digit. Our student
# takes it for a 9. Training a small network on a large one's answers is called **knowledge distillation**.
#
# ## When does a teacher help?
#
# The command `kdcourse distill` asks this question, in about a minute. It trains students of two shapes. A name
# such as 784-128-10 says how many numbers go in, how many units are in between, and how many answers come out. *Plain* students learn
# from labels, *smoothed* ones from labels that give the right digit a little less than 1 and share the rest, *distilled* ones from a
# teacher too. This teacher is larger than ours: it makes 61 errors, and you meet it in chapter 02. You need not run the command, for this picture is a recorded run:

# %%
record = read_record("distill")
study = Study(pd.DataFrame(record["runs"]), record["teacher_errors"])
show(draw_study(study), alt="00.when-a-teacher-helps")

# %% tags=["claims"]
words = {(row["student"], row["images"]): row["verdict"] for row in record["verdicts"]}
assert all(words["784-300-300-10", images] == "better" for images in (300, 10000, 55000))
assert [words["784-128-10", n] for n in (300, 10000, 55000)] == ["better", "worse", "unclear"]
assert record["teacher_errors"] == 61
alone = {
    (row["images"], row["baseline"]): row
    for row in record["comparison"]
    if row["student"] == "784-128-10"
}
assert round(alone[10000, "smoothed"]["difference"]) == 44
assert (round(alone[10000, "smoothed"]["low"]), round(alone[10000, "smoothed"]["high"])) == (13, 74)

# %% [markdown]
# A dot is the mean of three students (five of 784-128-10), a vertical line is its 95 % [interval](glossary:confidence-interval), the range in which the
# true mean may well lie, and lower is better; both axes are logarithmic. Students with the same random start (*seed*) are compared with each other. The word
# above says "better" if the distilled students clearly beat *both* others, "worse" if one of the others clearly beats them, and "unclear" if an interval
# holds 0. Each student had about 300 steps, and one pass over the images at least. Chapter 02 builds the method.
#
# The student with *two* hidden layers makes fewer errors with a teacher at all three sizes. The student with *one* is helped while images are few. With
# 10,000 the teacher does **harm**: smoothed labels, which cost nothing, make 44 errors fewer (13 to 74). With all images it is unclear. It is the same teacher each time:
# **the shape of the student decides.** A likely reason: one hidden layer cannot follow this teacher far.
#
# ## Do sliders work here?
#
# Run the cell and drag the slider. Ten images of that digit should follow, and a line below should say so. If you see text
# instead of a slider, run `kdcourse doctor`; in VS Code, choose *Reload Window* after installing. Without a running kernel, as on
# GitHub, there is no slider, only a picture of it at 3.

# %%
hello = hello_slider()
hello

# %% tags=["plumbing"]
hello.close()  # raises if anything went wrong in reaction to the slider

# %% [markdown]
# ## Summary
#
# - Cells run from top to bottom; the first is the same everywhere and changes nothing that is installed.
# - You guess, then the machine answers. You write a few lines, and a check names the mistake. A collapsed cell checks what the text claims.
# - `train` is the loop; an objective is a function that returns the terms of the loss.
# - Teachers come trained (`kdcourse zoo` lists them), data comes inside the package.
# - A teacher does not always help. Whether it does depends on the student's shape and on how many images it has.
#
# ## Try it yourself
#
# 1. Train for a second epoch (`minibatches(*mnist.train, epochs=2)`). How many errors are left?
# 2. Leave one digit out: `mnist.train.without(3)`. What does the network say when it sees a 3?
# 3. Change the [seed](glossary:seed) in `torch.manual_seed(0)`. How far do the errors move? Keep this number in mind whenever somebody
#    reports a gain of ten errors.
#
# <details><summary>What we measured</summary>
#
# 1. 483 errors instead of 666.
# 2. It never says 3. Of 1,010 threes it takes 486 for a 5, 284 for an 8 and 123 for a 2, which are the digits that look most like it.
# 3. The seeds 0 to 4 make 666, 710, 662, 702 and 679 errors: 48 errors lie between the best and the worst.
#
# </details>
#
# From chapter 01 on each chapter has an exercise of its own in the folder `exercises`, with cells that check your answer at once.
#
# ## References
#
# - Hinton, Vinyals, Dean (2015). *Distilling the knowledge in a neural network.* [arXiv:1503.02531](https://arxiv.org/abs/1503.02531): section 1
#   (why a small network learns from a large one's answers).
# - LeCun, Bottou, Bengio, Haffner (1998). *Gradient-based learning applied to document recognition.* Proceedings of the IEEE 86: the digits of MNIST.
