# %% [markdown]
# # Exercise 08: detection
#
# In chapter 08 the labels said which anchors are foreground. Here you write a class term for scenes *without* labels. Then you repair a
# pyramid loss, decide yourself which anchor belongs to which digit, read three tables, and measure what your term does.
#
# **You need** chapter 08. **Time** about 60 minutes, 17 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with
# `kdcourse grade ex08_detection.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
import torch
import torch.nn.functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator

from kdcourse import zoo
from kdcourse.checks import (
    check_class_term_verdict,
    check_detection_questions,
    check_foreground,
    check_overlaps,
    check_pyramid_loss,
    check_teacher_weighted_loss,
)
from kdcourse.data import load_mnist
from kdcourse.data.scenes import load_scenes, make_scenes
from kdcourse.models.detection import detector_losses, make_student_detector, match_anchors, run_detector
from kdcourse.sweeps import mean_interval
from kdcourse.training import evaluating

scenes, teacher = load_scenes(train=64, held_out=32, test=1), zoo.load("scenes_teacher")

# %% [markdown] locked="task1_text"
# ## Task 1: a class term without labels
#
# **Minutes** 15 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Let the teacher say which anchors matter, so that scenes without labels can teach too.
#
# Without labels nobody knows the foreground. But the teacher has an opinion: the probability of its most likely class is close to 1
# where it sees a digit and close to 0 everywhere else. Let $w_a = \max_k \sigma(z^t_{ak})$ be the weight of anchor $a$, and
# soften both sides with a temperature:
#
# $$L = T^2 \cdot \frac{\sum_a w_a \sum_k \mathrm{KL}\big(\sigma(z^t_{ak}/T)\,\|\,\sigma(z^s_{ak}/T)\big)}{\sum_a w_a}$$
#
# The sums over $a$ run over all anchors of all pictures of the batch. The weight is read at $T = 1$. KL is the divergence of yes and no, as in the chapter.
#
# Write `teacher_weighted_loss(student_logits, teacher_logits, *, temperature)`: two tensors (B, A, K), and one number comes back. It is 0
# for a student that equals its teacher. The teacher gets no gradient. Logits of ±100 must give the right number.
#
# <details><summary>Hint 1</summary>
#
# `F.binary_cross_entropy_with_logits(logits, target, reduction="none")` takes logits on the student's side. What has to be subtracted so
# that a perfect student pays 0?
# </details>
# <details><summary>Hint 2</summary>
#
# Three things are divided by T or multiplied by it, and one is not touched by it.
# </details>
#
# **Reference** Chapter 08, the class term; traps 57 to 60.


# %% solution="task1_teacher_weighted_loss" asks="detection_classification_loss"
def teacher_weighted_loss(student_logits, teacher_logits, *, temperature):
    ### BEGIN SOLUTION
    teacher_logits = teacher_logits.detach()
    weight = teacher_logits.sigmoid().amax(dim=-1)  # (B, A)
    student, teacher = student_logits / temperature, teacher_logits / temperature
    target = teacher.sigmoid()  # (B, A, K)
    cross_entropy = F.binary_cross_entropy_with_logits(student, target, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher, target, reduction="none")
    divergence = (cross_entropy - entropy).sum(dim=-1)  # (B, A)
    return temperature**2 * (weight * divergence).sum() / weight.sum()
    ### END SOLUTION
    raise NotImplementedError("Task 1: teacher_weighted_loss is not written yet")


# %% check="task1_check" points=4
check_teacher_weighted_loss(teacher_weighted_loss)
### BEGIN HIDDEN TESTS
check_teacher_weighted_loss(teacher_weighted_loss, seed=2017)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: repair a pyramid loss
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Find mistakes that raise no error.
#
# `student_levels` and `teacher_levels` are dicts of maps (B, C, H, W) by level. `adapters` is a dict of modules that bring the student's channels to the
# teacher's. Somebody found that the shapes did not fit, and took the mean over the student's channels. The function has **three**
# mistakes in its loop.
#
# ```python
# def broken_pyramid_loss(student_levels, teacher_levels, adapters):
#     total = 0
#     for name in student_levels:
#         mine = student_levels[name].mean(dim=1, keepdim=True)
#         theirs = teacher_levels[name].detach()
#         importance = theirs.abs().mean(dim=1, keepdim=True)
#         importance = importance / importance.max()
#         total = total + ((mine * importance - theirs * importance) ** 2).mean()
#     return total / len(student_levels)
# ```
#
# It should be: at each level the squared error, averaged over the channels, weighted by an importance that sums to 1 over the positions of
# *each* scene; then the mean over the scenes, and over the levels. If the two dicts have different levels, it raises a `ValueError`.
#
# <details><summary>Hint 1</summary>
#
# How often does the importance enter, if both maps are multiplied by it before the square?
# </details>
# <details><summary>Hint 2</summary>
#
# When the importances of a scene sum to 1, the weighted errors of its positions are added up. A mean would divide a second time.
# </details>
#
# **Reference** Chapter 08, the pyramid term; traps 61 and 62; Wang et al. (2019), arXiv:1906.03609.


# %% solution="task2_repaired_pyramid_loss" asks="fpn_feature_loss"
def repaired_pyramid_loss(student_levels, teacher_levels, adapters):
    ### BEGIN SOLUTION
    if set(student_levels) != set(teacher_levels):
        raise ValueError(f"levels differ: {list(student_levels)} and {list(teacher_levels)}")
    total = 0
    for name in student_levels:
        mine = adapters[name](student_levels[name])
        theirs = teacher_levels[name].detach()
        importance = theirs.abs().mean(dim=1)  # (B, H, W)
        importance = importance / importance.sum(dim=(1, 2), keepdim=True)
        error = (mine - theirs).square().mean(dim=1)  # (B, H, W)
        total = total + (importance * error).sum(dim=(1, 2)).mean()
    return total / len(student_levels)
    ### END SOLUTION
    raise NotImplementedError("Task 2: repaired_pyramid_loss is not written yet")


# %% check="task2_check" points=4
check_pyramid_loss(repaired_pyramid_loss)
### BEGIN HIDDEN TESTS
check_pyramid_loss(repaired_pyramid_loss, seed=2019)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: which anchors are foreground?
#
# **Minutes** 15 · **Difficulty** 3/5 · **Importance** 4/5 · **Points** 4
#
# **Objective** Know what a detector means by *this anchor shows that digit*.
#
# Two boxes are compared by the share of their union that they have in common. A box is its corners x1, y1, x2, y2 in pixels; it is x2 - x1 wide and y2 - y1 high.
# For example, (0, 0, 4, 4) and (2, 0, 6, 4) have 8 pixels in common and 24 in their union, so their overlap is 1/3.
#
# Write `overlaps(boxes, others)`: from (N, 4) and (M, 4) to (N, M), every box with every other one. Boxes that lie apart have 0.
#
# Then write `foreground(anchors, boxes)`: from anchors (A, 4) and the true boxes of one scene (objects, 4) to a mask (A,) of bool. An anchor is
# foreground if its overlap with *some* box is at least one half. A scene without a digit has no foreground: `boxes` then has shape (0, 4).
#
# <details><summary>Hint 1</summary>
#
# The common part begins at the larger of the two x1 and ends at the smaller of the two x2. What if it ends before it begins?
# </details>
# <details><summary>Hint 2</summary>
#
# `boxes[:, None, :2]` and `others[None, :, :2]` broadcast to (N, M, 2). And `.any(dim=1)` works for no columns too.
# </details>
#
# **Reference** Chapter 08, "What a detector says before it decides".


# %% solution="task3_overlaps" asks="overlaps box_iou"
def overlaps(boxes, others):
    ### BEGIN SOLUTION
    near = torch.maximum(boxes[:, None, :2], others[None, :, :2])  # (N, M, 2)
    far = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = (far - near).clamp(min=0).prod(dim=-1)  # (N, M)
    areas, other_areas = ((part[:, 2:] - part[:, :2]).prod(dim=-1) for part in (boxes, others))
    return common / (areas[:, None] + other_areas[None] - common)
    ### END SOLUTION
    raise NotImplementedError("Task 3: overlaps is not written yet")


# %% check="task3_overlaps_check" points=2
check_overlaps(overlaps)
### BEGIN HIDDEN TESTS
check_overlaps(overlaps, seed=2014)
### END HIDDEN TESTS


# %% solution="task3_foreground" asks="foreground"
def foreground(anchors, boxes):
    ### BEGIN SOLUTION
    return (overlaps(anchors, boxes) >= 0.5).any(dim=1)
    ### END SOLUTION
    raise NotImplementedError("Task 3: foreground is not written yet")


# %% check="task3_foreground_check" points=2
check_foreground(foreground)
### BEGIN HIDDEN TESTS
check_foreground(foreground, seed=2014)
### END HIDDEN TESTS

# %% [markdown] locked="task4_text"
# ## Task 4: explain three tables
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Recognise three mistakes by what they leave behind.
#
# The cell below prints a class term of a new student in scenes with one digit and with five, then what anchors of 32 to 203 pixels do,
# then the mAP of two students as a paper might report them.
#
# 1. The masked mean is much larger for scenes with five digits than for scenes with one. Why?
#    (a) five digits are harder to tell apart  (b) the mask leaves more terms in the sum, and the divisor stays
#    (c) the scenes with five digits have more clutter
# 2. The loss on boxes is no larger with large anchors. Why is that no good news?
#    (a) it is good news, they fit as well  (b) a smaller learning rate was used  (c) from most digits nothing is learned
# 3. Two students, 0.31 with a teacher and 0.29 without. What must be known first?
#    (a) whether both began with the same weights and had the same steps  (b) nothing, a seed decides only the order
#    (c) whether there were enough test scenes, for the rest cancels
#
# Write the three letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# Compare the columns: what is the quotient of five digits and one in each of them?
# </details>
# <details><summary>Hint 2</summary>
#
# An anchor without a digit is background, and background has no true box.
# </details>
#
# **Reference** Chapter 08; traps 60, 94 and 96.

# %% locked="task4_tables"
torch.manual_seed(0)
student = make_student_detector()
print("digits   masked, mean over all   mean over the foreground")
for count in (1, 5):
    part = make_scenes(load_mnist().train, 32, objects=(count, count), seed=count)
    with evaluating(student, teacher):
        mine, theirs = (run_detector(model, list(part.images), part.targets) for model in (student, teacher))
    inside = match_anchors(student, mine) >= 0
    target = theirs.class_logits.sigmoid()
    loss = F.binary_cross_entropy_with_logits(mine.class_logits, target, reduction="none").sum(dim=-1)
    print(f"{count:6} {(loss * inside).mean():23.4f} {loss[inside].mean():26.3f}")
usual = make_student_detector()
usual.load_state_dict(student.state_dict())
bases = [[base * 2 ** (third / 3) for third in range(3)] for base in (32, 64, 128)]
usual.anchor_generator = AnchorGenerator(bases, ((1.0, 2.0),) * 3)
usual.proposal_matcher.allow_low_quality_matches = False  # the best anchor of a digit, however bad, does not count
for name, model in {"anchors 12 to 76": student, "anchors 32 to 203": usual}.items():
    with evaluating(model):
        outputs = run_detector(model, list(part.images), part.targets)
    digits = sum(len(row[row >= 0].unique()) for row in match_anchors(model, outputs))
    print(f"{name:18} made for {digits} of {32 * 5} digits,", end=" ")
    print(f"loss on boxes {detector_losses(model, outputs)['bbox_regression']:.3f}")
print("mAP with a teacher 0.31, without 0.29")

# %% solution="task4_answers"
answers = [None, None, None]
### BEGIN SOLUTION
answers = ["b", "c", "a"]
### END SOLUTION

# %% check="task4_check" points=3
check_detection_questions(answers)

# %% [markdown] locked="task5_text"
# ## Task 5: a small experiment
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 2
#
# **Objective** Judge by held-out scenes and paired seeds what a term has done.
#
# The next cell trains four pairs of new students for a few steps. In each pair one learns from labels only, the other from labels and
# *your* class term with weight 10. Both begin with the same weights and see the same scenes. It reports your loss at T = 1, the distance to the teacher,
# on 32 held-out scenes. So few steps make no detector: the question is only whether the student comes closer to its teacher.
#
# Set `verdict` to `"better"`, `"worse"` or `"unclear"` for the students with the term, against those without.
#
# <details><summary>Hint 1</summary>
#
# A distance is better when it is lower. `mean_interval` of the four differences gives their mean and the ends of its interval.
# </details>
# <details><summary>Hint 2</summary>
#
# Look at whether 0 is inside.
# </details>
#
# **Reference** Chapter 08, "A short lesson, live"; chapter 02 on paired differences.


# %% locked="task5_runs"
def run(seed, *, listens):
    torch.manual_seed(seed)
    student = make_student_detector()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
    for part in [*order.split(8), *order.split(8)]:
        images, targets = [scenes.train.images[i] for i in part], [scenes.train.targets[i] for i in part.tolist()]
        outputs = run_detector(student.train(), images, targets)
        loss = sum(detector_losses(student, outputs).values())
        if listens:
            with evaluating(teacher):
                theirs = run_detector(teacher, images).class_logits
            loss = loss + 10 * teacher_weighted_loss(outputs.class_logits, theirs, temperature=1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held_out = list(scenes.held_out.images)
    with evaluating(student, teacher):
        mine, theirs = (run_detector(model, held_out).class_logits for model in (student, teacher))
        return float(teacher_weighted_loss(mine, theirs, temperature=1.0))


taught = [run(seed, listens=True) for seed in range(4)]
plain = [run(seed, listens=False) for seed in range(4)]
print("with the term", [round(x, 3) for x in taught], "\nlabels only  ", [round(x, 3) for x in plain])
differences = [a - b for a, b in zip(taught, plain, strict=True)]
print("difference and interval", [round(x, 3) for x in mean_interval(differences)])

# %% solution="task5_verdict"
verdict = None
### BEGIN SOLUTION
_, low, high = mean_interval(differences)
verdict = "better" if high < 0 else "worse" if low > 0 else "unclear"
### END SOLUTION

# %% check="task5_check" points=2
check_class_term_verdict(verdict, taught, plain)
