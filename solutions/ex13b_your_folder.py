# %% [markdown]
# # Exercise 13b: your folder
#
# In chapter 13 a folder of images became a student. Here you do it with **your own folder**: you split it, train a teacher and nine
# students, say how sure the difference is, export the student, and write a report that somebody can rely on. The checks look at what every good answer
# has, because nobody knows your images.
#
# A folder has a folder for each class, with two classes or more and about 200 images or more: `birds/jay/001.png`, `birds/wren/002.png` and so on. If you have none, or while a class is graded, the
# exercise makes one out of MNIST.
#
# **You need** chapter 13. **Time** about 55 minutes, 18 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with `kdcourse grade ex13b_your_folder.ipynb`; on
# Colab put an exclamation mark in front.

# %% locked="setup"
import random
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_model, save_model
from torch import nn
from torchvision.io import write_png
from torchvision.transforms import v2

from kdcourse.checks import (
    check_folder_verdicts,
    check_paired_differences,
    check_report,
    check_split,
    check_three_ways,
)
from kdcourse.data import load_mnist
from kdcourse.losses import kd_loss
from kdcourse.models import saved_size_in_bytes
from kdcourse.objectives import label_objective
from kdcourse.recipes import make_adam
from kdcourse.results import mean_interval, verdict
from kdcourse.training import count_errors, fit, predict_logits

# %% [markdown] locked="folder_text"
# ## Your folder
#
# Write the path of your folder between the quotation marks, and how a file's *group* is read from its name. A group holds files that are nearly copies of each
# other: frames of one video, photographs of one visit, one patient. In `wren/visit07_0003.png` the group is what stands before the underscore. If
# every file stands for itself, return `file.stem`. With an empty path the exercise makes a folder of digits, in visits of five images.

# %% solution="folder_choice"
my_folder = ""
### BEGIN SOLUTION
my_folder = ""
### END SOLUTION


def group_of(file):
    return file.stem.split("_")[0]


# %% locked="folder_reading"
def make_digit_folder(root, count=900):
    images, labels = load_mnist().train.take(count)
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        file = root / f"digit {label}" / f"visit{number // 5:03}_{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_png((255 * image).round().byte(), str(file))
    return root


def find_images(root):
    return sorted(file for file in root.glob("*/*") if file.suffix.lower() in (".png", ".jpg", ".jpeg"))


folder = Path(my_folder) if my_folder and Path(my_folder).is_dir() else make_digit_folder(Path(tempfile.mkdtemp()))
found = find_images(folder)
classes = sorted({file.parent.name for file in found})
files = [str(file.relative_to(folder)) for file in found]
groups = [group_of(file) for file in found]
print(f"{len(files)} images, {len(classes)} classes, {len(set(groups))} groups, for example {files[0]}")

# %% [markdown] locked="task1_text"
# ## Task 1: split what belongs together
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Cut a folder into three parts so that the test measures what you want to know.
#
# Write `my_split(files, groups, *, seed)`. `groups[i]` is the group of `files[i]`. Return three lists of files: train, held-out, test.
# - All files of a group are in the same part.
# - Held-out and test have `round(number of groups / 5)` groups each, train has the rest.
# - The groups are mixed at random by the seed: the same seed gives the same split, and another seed another one.
#
# <details><summary>Hint 1</summary>
#
# Mix the *different* groups, cut that list twice, and then collect the files.
# </details>
# <details><summary>Hint 2</summary>
#
# `sorted(set(groups))` is the same list every time, and `set(groups)` alone is not. `random.Random(seed).shuffle(names)` mixes a list in place.
# </details>
#
# **Reference** Chapter 13, a folder of images.


# %% solution="task1_split"
def my_split(files, groups, *, seed):
    ### BEGIN SOLUTION
    names = sorted(set(groups))
    random.Random(seed).shuffle(names)
    fifth = round(len(names) / 5)
    parts = names[2 * fifth :], names[:fifth], names[fifth : 2 * fifth]
    return tuple([file for file, group in zip(files, groups, strict=True) if group in set(part)] for part in parts)
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_split is not written yet")


# %% check="task1_check" points=4
check_split(my_split)
### BEGIN HIDDEN TESTS
check_split(my_split, seed=2013)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: three ways, one function
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Let arms of a comparison differ by the target alone.
#
# Write `my_loss(logits, labels, teacher_logits, *, way, temperature, alpha)`, the loss of a batch as one number:
# - `way="plain"`: the cross-entropy with the labels,
# - `way="smoothed"`: the same with labels smoothed by 0.1,
# - `way="distilled"`: $\alpha$ times the distillation loss at the temperature, plus $1 - \alpha$ times the plain cross-entropy.
#
# <details><summary>Hint 1</summary>
#
# `F.cross_entropy` has an argument `label_smoothing`, and `kd_loss` has $T^2$ inside.
# </details>
# <details><summary>Hint 2</summary>
#
# The distilled way has no smoothing. Otherwise a gain could be that of the second baseline.
# </details>
#
# **Reference** Chapter 02, the objective; chapter 13, a student with error bars.


# %% solution="task2_loss" asks="soft_target_objective label_objective distillation_loss"
def my_loss(logits, labels, teacher_logits, *, way, temperature, alpha):
    ### BEGIN SOLUTION
    if way == "smoothed":
        return F.cross_entropy(logits, labels, label_smoothing=0.1)
    hard = F.cross_entropy(logits, labels)
    if way == "plain":
        return hard
    return alpha * kd_loss(logits, teacher_logits, temperature=temperature) + (1 - alpha) * hard
    ### END SOLUTION
    raise NotImplementedError("Task 2: my_loss is not written yet")


# %% check="task2_check" points=4
check_three_ways(my_loss)
### BEGIN HIDDEN TESTS
check_three_ways(my_loss, seed=2013)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: how sure is the difference?
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 3
#
# **Objective** Compare seed by seed, against two baselines.
#
# Write `my_differences(errors)`. `errors` is a dict from way to a list of test errors, one for each seed, in the same order. Return a dict with the
# keys `"plain"` and `"smoothed"`. Each value is `(mean, low, high)` of the paired differences, **distilled minus that baseline**, with their 95 %
# interval.
#
# <details><summary>Hint 1</summary>
#
# Pair first: one difference for each seed. Then one interval for these differences.
# </details>
# <details><summary>Hint 2</summary>
#
# `mean_interval(differences)` returns the three numbers.
# </details>
#
# **Reference** Chapter 02 on pairs; the glossary on the confidence interval.


# %% solution="task3_differences" asks="compare"
def my_differences(errors):
    ### BEGIN SOLUTION
    return {
        other: mean_interval([one - base for one, base in zip(errors["distilled"], errors[other], strict=True)])
        for other in ("plain", "smoothed")
    }
    ### END SOLUTION
    raise NotImplementedError("Task 3: my_differences is not written yet")


# %% check="task3_check" points=3
check_paired_differences(my_differences)
### BEGIN HIDDEN TESTS
check_paired_differences(my_differences, seed=2013)
### END HIDDEN TESTS

# %% [markdown] locked="task4_text"
# ## Task 4: your images
#
# **Minutes** 12 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 3
#
# **Objective** Run the comparison on data that nobody has prepared for you, and say what it shows.
#
# The cells below read the images in 32 × 32 pixels, split them with *your* function, and train a teacher on the training part. If you have a
# teacher, hand its logits over instead: put a function from images to logits in the place of `teacher`. Three students for each way
# are trained with *your* loss, at $T = 4$ and $\alpha = 0.7$. The last cell exports one of them as
# a file of weights, loads it into a fresh network, and compares the logits. For a file that needs no Python, add `export_onnx` of chapter 13 in a cell of your own.
#
# Set the two verdicts to `"better"`, `"worse"` or `"unclear"` for the distilled student, measured against each baseline.
#
# <details><summary>Hint 1</summary>
#
# Fewer errors are better, so a difference below 0 is a gain.
# </details>
# <details><summary>Hint 2</summary>
#
# Look at where 0 is: below both ends, above both ends, or between them.
# </details>
#
# **Reference** Chapter 13, a student with error bars, and a file to ship.

# %% locked="task4_images"
to_tensor = v2.Compose([v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def read(part):
    images = torch.stack([to_tensor(Image.open(folder / file).convert("RGB")) for file in part])
    return images, torch.tensor([classes.index(Path(file).parent.name) for file in part])


def make_network(width):
    return nn.Sequential(
        nn.Conv2d(3, width, 5, stride=2),  # (B, width, 14, 14)
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 5, stride=2),  # (B, 2 · width, 5, 5)
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(50 * width, len(classes)),
    )


train, held_out, test = (read(part) for part in my_split(files, groups, seed=0))
torch.manual_seed(100)
teacher = make_network(32)
options = dict(batch_size=25, progress=False)
fit(teacher, train, label_objective, make_adam(list(teacher.parameters()), lr=2e-3), epochs=12, **options)
print(f"teacher: {count_errors(teacher, *held_out)} errors of {len(held_out[1])} held-out images")


# %% locked="task4_runs"
def objective(student, images, labels, teacher_logits, *, way):
    loss = my_loss(student(images), labels, teacher_logits, way=way, temperature=4.0, alpha=0.7)
    return {way: loss}


def train_student(way, seed):
    torch.manual_seed(seed)
    student = make_network(4)
    data = (*train, predict_logits(teacher, train[0]))
    optimizer = make_adam(list(student.parameters()), lr=2e-3)
    fit(student, data, partial(objective, way=way), optimizer, epochs=10, seed=seed, **options)
    return student


students = {(way, seed): train_student(way, seed) for way in ("plain", "smoothed", "distilled") for seed in range(3)}
errors = {
    way: [count_errors(students[way, seed], *test) for seed in range(3)] for way in ("plain", "smoothed", "distilled")
}
differences = my_differences(errors)
for way, counts in errors.items():
    print(f"{way:10} {counts} errors of {len(test[1])} test images")
for other, (mean, low, high) in differences.items():
    print(f"distilled minus {other}: {mean:+.1f}, interval from {low:+.1f} to {high:+.1f}")

# %% locked="task4_export"
student = students["distilled", 0].eval()
file = Path(tempfile.mkdtemp()) / "student.safetensors"
save_model(student, str(file))
again = make_network(4)
load_model(again, str(file))
apart = (again(test[0][:9]) - student(test[0][:9])).abs().max()
print(f"exported: {file.stat().st_size:,} bytes, largest difference of a logit {apart:.1e}")

# %% solution="task4_verdicts"
verdicts = {"plain": None, "smoothed": None}
### BEGIN SOLUTION
for other, (_, low, high) in differences.items():
    verdicts[other] = "better" if high < 0 else "worse" if low > 0 else "unclear"
### END SOLUTION

# %% check="task4_check" points=3
check_folder_verdicts(verdicts, errors)

# %% [markdown] locked="task5_text"
# ## Task 5: a report
#
# **Minutes** 10 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Write what was found so that somebody who was not there can rely on it.
#
# Write `my_report(facts)`. It returns a text of at most eight lines, in your words. `facts` is a dict, as the last cell shows. The text has
# - the number of test images and the number of seeds,
# - for each baseline **one line** that names it (`plain`, `smoothed`), has the word `better`, `worse` or `unclear`, and both ends of the interval,
# - the student's bytes as a share of the teacher's, in per cent.
#
# Round to one decimal place where you like. A line on a comparison whose interval holds 0 does not claim that there is no difference.
#
# <details><summary>Hint 1</summary>
#
# `facts["differences"]` has what your third function returned. `verdict(low, high)` gives the word.
# </details>
# <details><summary>Hint 2</summary>
#
# `f"{low:.1f}"` writes one decimal place, and `"\n".join(lines)` makes a text of lines.
# </details>
#
# **Reference** Chapter 13, the checklist; chapter 02: unclear is not equal.


# %% solution="task5_report"
def my_report(facts):
    ### BEGIN SOLUTION
    lines = [f"Errors of {facts['test_images']} test images, {facts['seeds']} seeds, paired."]
    for other, (mean, low, high) in facts["differences"].items():
        word = verdict(low, high)
        lines.append(f"Against {other}: {word}, {mean:+.1f} errors, 95 % interval from {low:+.1f} to {high:+.1f}.")
    share = 100 * facts["student_bytes"] / facts["teacher_bytes"]
    lines.append(f"The student takes {share:.1f} % of the teacher's bytes.")
    return "\n".join(lines)
    ### END SOLUTION
    raise NotImplementedError("Task 5: my_report is not written yet")


# %% locked="task5_facts"
facts = {
    "test_images": len(test[1]),
    "seeds": 3,
    "differences": differences,
    "teacher_bytes": saved_size_in_bytes(teacher),
    "student_bytes": saved_size_in_bytes(student),
}
print(my_report(facts))

# %% check="task5_check" points=4
check_report(my_report)
### BEGIN HIDDEN TESTS
check_report(my_report, seed=2013)
### END HIDDEN TESTS
