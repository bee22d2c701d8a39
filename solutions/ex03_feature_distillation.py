# %% [markdown]
# # Exercise 03: feature distillation
#
# In chapter 03 attention transfer refused maps of different sizes. Here you write one that takes them. Then you repair a hint stage that
# teaches nothing, read maps of a network that was never trained, and measure what a weight is worth.
#
# **You need** chapter 03. **Time** about 55 minutes, 17 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with
# `kdcourse grade ex03_feature_distillation.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
import torch
import torch.nn.functional as F

from kdcourse import plots, zoo
from kdcourse.checks import (
    check_attention_map,
    check_attention_picture,
    check_attention_transfer_loss,
    check_balancing_weight,
    check_gradient_length,
    check_hint_stage,
    check_hint_verdict,
)
from kdcourse.data import load_mnist
from kdcourse.losses import HintRegressor, attention_map, attention_transfer_loss, hint_loss
from kdcourse.models import capture, make_student_cnn
from kdcourse.plots import show
from kdcourse.sweeps import mean_interval
from kdcourse.training import evaluating

mnist, teacher = load_mnist(), zoo.load("teacher_cnn")

# %% [markdown] locked="task1_text"
# ## Task 1: attention transfer between layers of any size
#
# **Minutes** 15 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Compare *where* two networks are active, whatever their channels, and whatever their resolution.
#
# The map of a 14 × 14 layer and that of a 7 × 7 layer cannot be subtracted. But each position of the smaller one stands for a
# block of 2 × 2 positions of the larger one, so the larger map can be brought to the smaller size.
#
# Write `my_attention_map(features, size)`: from (B, C, H, W) to one vector per image, (B, h·w), where `size` is (h, w), and H and W are
# multiples of them. Square the activations and add up the channels. Then replace each block of positions by its mean. At the
# end scale each image's map to length 1.
#
# Then write `my_attention_transfer_loss(student_layers, teacher_layers)`: two lists of feature maps, as many of each. In each pair
# the larger map is brought to the size of the smaller one, on whichever side it is. For every pair take the mean, over batch
# and positions, of the squared difference of the two maps. Add the pairs up. The teacher gets no gradient, and lists of different
# lengths are a `ValueError`.
#
# <details><summary>Hint 1</summary>
#
# `F.adaptive_avg_pool2d(maps, size)` takes the mean of each block. What cancels if you give it the features instead of the map
# of squares?
# </details>
# <details><summary>Hint 2</summary>
#
# The smaller of two sizes is that of the layer with fewer rows. `zip(a, b, strict=True)` raises where the lengths differ.
# </details>
#
# **Reference** Chapter 03, attention transfer; Zagoruyko and Komodakis (2017), arXiv:1612.03928, section 3.1; traps 20 and 22.


# %% solution="task1_attention_map" asks="attention_map"
def my_attention_map(features, size):
    ### BEGIN SOLUTION
    energy = features.square().sum(dim=1)  # (B, H, W)
    blocks = F.adaptive_avg_pool2d(energy, size)  # (B, h, w)
    return F.normalize(blocks.flatten(1), dim=1)  # (B, h·w)
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_attention_map is not written yet")


# %% check="task1_map_check" points=2
check_attention_map(my_attention_map, pooled=True)
### BEGIN HIDDEN TESTS
check_attention_map(my_attention_map, pooled=True, seed=2017)
### END HIDDEN TESTS


# %% solution="task1_attention_transfer_loss" asks="attention_transfer_loss"
def my_attention_transfer_loss(student_layers, teacher_layers):
    ### BEGIN SOLUTION
    loss = 0
    for student, teacher in zip(student_layers, teacher_layers, strict=True):
        size = min(student.shape[2:], teacher.shape[2:])  # (h, w) of the layer with fewer rows
        difference = my_attention_map(student, size) - my_attention_map(teacher.detach(), size)  # (B, h·w)
        loss = loss + difference.square().mean()
    return loss
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_attention_transfer_loss is not written yet")


# %% check="task1_loss_check" points=3
check_attention_transfer_loss(my_attention_transfer_loss, pooled=True)
### BEGIN HIDDEN TESTS
check_attention_transfer_loss(my_attention_transfer_loss, pooled=True, seed=2017)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: repair a hint stage
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Find mistakes in a stage whose loss falls, so that nothing looks wrong.
#
# This is the first stage of FitNets. `student` and `teacher` are the networks up to the guided layer and up to the hint. The
# `regressor` carries the student's channels to the teacher's, and `batches` holds images. The function has **three** mistakes. The
# loss should be the mean squared error to the teacher's features as they are, and the optimizer stays plain SGD.
#
# ```python
# def broken_hint_stage(student, regressor, teacher, batches, *, lr):
#     optimizer = torch.optim.SGD(student.parameters(), lr=lr)
#     losses = []
#     for images in batches:
#         hint = F.normalize(teacher.train()(images), dim=1)
#         guided = F.normalize(regressor(student.train()(images)), dim=1)
#         loss = F.mse_loss(guided, hint.detach())
#         optimizer.zero_grad()
#         loss.backward()
#         optimizer.step()
#         losses.append(loss.item())
#     return losses
# ```
#
# <details><summary>Hint 1</summary>
#
# Who learns? Follow each module's parameters to the optimizer.
# </details>
# <details><summary>Hint 2</summary>
#
# The teacher has batch normalisation. What does its output depend on, beside the image?
# </details>
#
# **Reference** Chapter 03, FitNets; Romero et al. (2015), arXiv:1412.6550, equation 3; traps 13, 18 and 21.


# %% solution="task2_repaired_hint_stage" asks="fitnets hint_objective"
def repaired_hint_stage(student, regressor, teacher, batches, *, lr):
    ### BEGIN SOLUTION
    optimizer = torch.optim.SGD([*student.parameters(), *regressor.parameters()], lr=lr)
    losses = []
    for images in batches:
        with torch.no_grad():
            hint = teacher.eval()(images)
        loss = F.mse_loss(regressor(student.train()(images)), hint)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
    ### END SOLUTION
    raise NotImplementedError("Task 2: repaired_hint_stage is not written yet")


# %% check="task2_check" points=4
check_hint_stage(repaired_hint_stage)
### BEGIN HIDDEN TESTS
check_hint_stage(repaired_hint_stage, seed=2015)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: explain a picture
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Know what a map that looks right proves, and what the loss on it can see.
#
# The cell below draws attention maps of the trained teacher and of a student with **random weights**. Then it multiplies the student's
# features by a factor and prints the two feature losses to the teacher.
#
# 1. The student's map follows the digit. Why?
#    (a) the teacher's attention was transferred to it  (b) it does not, the bright positions have nothing to do with the digit
#    (c) the image itself is empty wherever there is no ink
# 2. Which of the two losses notices that all of the student's activations are too large?
#    (a) the hint loss only  (b) both  (c) neither
# 3. The attention loss is small beside the labels' 2.3, even for this student. Why?
#    (a) the student already imitates the teacher  (b) it is bounded: a map has length 1 and is averaged over 196 positions
#    (c) 256 images are too few, on one image it would be larger
#
# Write the three letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# A convolution without bias gives 0 where its whole window is 0.
# </details>
# <details><summary>Hint 2</summary>
#
# How large can the squared distance of two vectors of length 1 without negative entries be?
# </details>
#
# **Reference** Chapter 03, attention transfer; traps 20 and 23.

# %% locked="task3_picture"
images, labels = mnist.train.take(256)
torch.manual_seed(0)
student = make_student_cnn()
regressor = HintRegressor(8, 32)
with evaluating(student, teacher):
    with capture(student, "stage1", "stage2") as seen:
        student(images)
    with capture(teacher, "stage1", "stage2") as hints:
        teacher(images)
ax = plots.attention_grid(
    images[:8],
    {
        f"{name}, {layer}": attention_map(features[layer][:8]).unflatten(1, features[layer].shape[2:])
        for layer in ("stage1", "stage2")
        for name, features in {"teacher": hints, "untrained": seen}.items()
    },
)
show(ax, alt="Eight digits and, below them, attention maps of teacher and untrained student: all follow the strokes.")
print("factor   hint loss   attention loss")
for factor in (1, 3, 10):
    guided = factor * regressor(seen["stage2"]).detach()
    print(
        f"{factor:6} {hint_loss(guided, hints['stage2']):11.2f} "
        f"{attention_transfer_loss(factor * seen['stage2'], hints['stage2']):16.5f}"
    )

# %% solution="task3_answers"
answers = [None, None, None]
### BEGIN SOLUTION
answers = ["c", "a", "b"]
### END SOLUTION

# %% check="task3_check" points=3
check_attention_picture(answers)

# %% [markdown] locked="task4_text"
# ## Task 4: what is a weight worth?
#
# **Minutes** 10 · **Difficulty** 3/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Compare two terms of a loss by what the student feels of them.
#
# A student feels the *gradient* of a term, not its value. The chapter measured it with `gradient_length`; here you write that
# yourself. `push(loss, parameters)` returns the Euclidean length of the gradient of `loss` in all `parameters` together, as one number.
# Parameters that the loss does not reach count 0. The graph must stay usable for the next loss. Nothing may be left
# behind in `.grad`.
#
# The cell after it takes a fresh student and one batch. Set `weight` so that the attention term pushes as hard as the labels.
#
# <details><summary>Hint 1</summary>
#
# `torch.autograd.grad` returns gradients instead of storing them. It has an argument for losses that miss a parameter, and
# one that keeps the graph.
# </details>
# <details><summary>Hint 2</summary>
#
# The gradient of `weight * loss` is `weight` times the gradient of `loss`.
# </details>
#
# **Reference** Chapter 03, on weights; trap 23.


# %% solution="task4_push" asks="gradient_length"
def push(loss, parameters):
    ### BEGIN SOLUTION
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat([gradient.flatten() for gradient in found if gradient is not None]).norm()
    ### END SOLUTION
    raise NotImplementedError("Task 4: push is not written yet")


# %% check="task4_push_check" points=2
check_gradient_length(push)
### BEGIN HIDDEN TESTS
check_gradient_length(push, seed=2017)
### END HIDDEN TESTS

# %% locked="task4_terms"
torch.manual_seed(1)
student = make_student_cnn()
with capture(student, "stage2") as seen:
    logits = student(images)
labels_term = F.cross_entropy(logits, labels)
attention_term = attention_transfer_loss(seen["stage2"], hints["stage2"])
weights = list(student.parameters())
print(f"values: labels {labels_term.item():.3f}, attention {attention_term.item():.5f}")

# %% solution="task4_weight"
weight = None
### BEGIN SOLUTION
weight = push(labels_term, weights) / push(attention_term, weights)
### END SOLUTION

# %% check="task4_weight_check" points=1
check_balancing_weight(weight, labels_term, attention_term, weights)

# %% [markdown] locked="task5_text"
# ## Task 5: a small experiment
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 2
#
# **Objective** Judge by held-out images and paired seeds whether a regressor has to learn.
#
# The chapter compared a learning and a forgotten regressor on the training images, once. The next cell runs *your* hint stage with
# four seeds. In each pair one regressor may learn and the other is frozen. Both start from the same weights and see the same
# images. It reports the hint loss on 200 held-out images.
#
# Set `verdict` to `"better"`, `"worse"` or `"unclear"` for the learning regressor, measured against the frozen one.
#
# <details><summary>Hint 1</summary>
#
# A loss is better when it is lower. `mean_interval` of the four differences gives their mean and the ends of its interval.
# </details>
# <details><summary>Hint 2</summary>
#
# Look at whether 0 is inside.
# </details>
#
# **Reference** Chapter 03, "The regressor must learn, too"; chapter 02 on paired differences.


# %% locked="task5_runs"
def run(seed, *, learns):
    torch.manual_seed(seed)
    front, regressor = make_student_cnn()[:2], HintRegressor(8, 32).requires_grad_(learns)
    order = torch.randperm(240, generator=torch.Generator().manual_seed(seed))
    repaired_hint_stage(front, regressor, teacher[:2], mnist.train.images[order].split(12), lr=0.15)
    held_out = mnist.held_out.images[:200]
    with evaluating(front, teacher):
        return hint_loss(regressor(front(held_out)), teacher[:2](held_out)).item()


learning = [run(seed, learns=True) for seed in range(4)]
frozen = [run(seed, learns=False) for seed in range(4)]
print("learning", [round(x, 4) for x in learning], "\nfrozen  ", [round(x, 4) for x in frozen])
differences = [a - b for a, b in zip(learning, frozen, strict=True)]
print("difference and interval", [round(x, 4) for x in mean_interval(differences)])

# %% solution="task5_verdict"
verdict = None
### BEGIN SOLUTION
_, low, high = mean_interval(differences)
verdict = "better" if high < 0 else "worse" if low > 0 else "unclear"
### END SOLUTION

# %% check="task5_check" points=2
check_hint_verdict(verdict, learning, frozen)
