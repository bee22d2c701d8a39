# %% [markdown]
# # Exercise 11: modern distillation
#
# In chapter 11 a student wrote and its teacher read along. Here the teacher is behind a server and tells only the probability of the words that were drawn.
# You also find out what gradient accumulation does to a mean, repair a step that never learns to stop, and measure what renormalising does to digits.
#
# **You need** chapter 11. **Time** about 60 minutes, 18 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with
# `kdcourse grade ex11_modern_distillation.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
import torch

from kdcourse import zoo
from kdcourse.checks import (
    check_drawn_kl,
    check_kept_verdict,
    check_modern_questions,
    check_token_mean,
    check_writing_step,
)
from kdcourse.data import load_mnist
from kdcourse.losses import generalized_jsd_loss, top_kd_loss, top_targets
from kdcourse.models import make_mlp
from kdcourse.recipes import make_adam
from kdcourse.sweeps import mean_interval
from kdcourse.training import fit, predict_logits

PAD, END = 0, 3
mnist = load_mnist()

# %% [markdown] locked="task1_text"
# ## Task 1: KL from drawn words
#
# **Minutes** 15 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 5
#
# **Objective** Estimate reverse KL when the teacher tells only the probability of the words that the student drew.
#
# A teacher behind a server does not send 150,000 numbers for each word. It sends one: the log-probability of the word that came. If the words
# were drawn by the student, reverse KL can still be estimated. With
#
# $$d = \log p(\text{word}) - \log q(\text{word})$$
#
# each word gives the estimate $e^d - 1 - d$. It is never negative, it is 0 where both agree, and its mean over words that $q$ has drawn is $\mathrm{KL}(q\,\|\,p)$.
#
# Write `my_drawn_kl(student_logits, teacher_logits, tokens, real)`. Logits have shape (B, L, V), `tokens` and `real` have shape (B, L). The logits at a place
# speak about the word **at that place**: they are aligned already. Return the mean of the estimates over all places that are `real`. The gradient reaches the student's logits
# only.
#
# For example, one word with $q = 0.5$ and $p = 0.25$ has $d = -0.69$ and gives $0.5 - 1 + 0.69 = 0.19$.
#
# <details><summary>Hint 1</summary>
#
# Logits become log-probabilities by `log_softmax`. Then `gather` picks the drawn words.
# </details>
# <details><summary>Hint 2</summary>
#
# `log_q.gather(-1, tokens[..., None])[..., 0]` has shape (B, L).
# </details>
#
# **Reference** Chapter 11, the student writes; [TorchRL's DistillationLoss](https://docs.pytorch.org/rl/0.15/reference/generated/torchrl.objectives.llm.DistillationLoss.html) uses this estimate.


# %% solution="task1_drawn_kl" asks="kd_loss generalized_jsd_loss"
def my_drawn_kl(student_logits, teacher_logits, tokens, real):
    ### BEGIN SOLUTION
    log_q = student_logits.log_softmax(dim=-1)  # (B, L, V)
    log_p = teacher_logits.detach().log_softmax(dim=-1)  # (B, L, V)
    d = (log_p - log_q).gather(-1, tokens[..., None])[..., 0]  # (B, L)
    return (d.exp() - 1 - d)[real].mean()
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_drawn_kl is not written yet")


# %% check="task1_check" points=5
check_drawn_kl(my_drawn_kl)
### BEGIN HIDDEN TESTS
check_drawn_kl(my_drawn_kl, seed=2306)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: every token counts the same
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 3
#
# **Objective** Keep a mean right when a batch is cut into pieces.
#
# A batch that does not fit into memory is cut into pieces, and gradients are added up. Each piece has its own number of texts, its own length, and its
# own number of real tokens.
#
# Write `my_token_mean(parts)`. `parts` is a list of pairs `(losses, real)`, both of shape (B, L), where B and L differ from pair to pair. Return the mean loss over all real tokens of the
# *whole* batch. A piece without any real token adds nothing.
#
# <details><summary>Hint 1</summary>
#
# How often may you divide?
# </details>
# <details><summary>Hint 2</summary>
#
# `(losses * real).sum()` and `real.sum()` can both be added up over the pieces.
# </details>
#
# **Reference** Chapter 11, trap 85.


# %% solution="task2_token_mean"
def my_token_mean(parts):
    ### BEGIN SOLUTION
    total = sum((losses * real).sum() for losses, real in parts)
    return total / sum(real.sum() for _, real in parts)
    ### END SOLUTION
    raise NotImplementedError("Task 2: my_token_mean is not written yet")


# %% check="task2_check" points=3
check_token_mean(my_token_mean)
### BEGIN HIDDEN TESTS
check_token_mean(my_token_mean, seed=2306)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: repair a step on the student's texts
#
# **Minutes** 15 · **Difficulty** 4/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Find mistakes in on-policy distillation that raise no error.
#
# `student` and `teacher` take token ids (B, L) and return logits (B, L, V). The logits at a place speak about the **next** token. `ids` are texts that the student has written, padded with `PAD`, number 0;
# a text that has ended closes with `END`, number 3. The step should lower **reverse** KL, as a mean over all places whose next token is real. It returns the loss. There are **three** mistakes. Nothing is wrong with the optimizer, and the places are aligned.
#
# ```python
# def broken_writing_step(student, teacher, ids, optimizer):
#     log_q = student(ids)[:, :-1].log_softmax(dim=-1)
#     with torch.no_grad():
#         log_p = teacher(ids)[:, :-1].log_softmax(dim=-1)
#     real = (ids[:, 1:] != PAD) & (ids[:, 1:] != END)
#     kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
#     loss = (kl * real).mean()
#     optimizer.zero_grad()
#     loss.backward()
#     optimizer.step()
#     return loss.item()
# ```
#
# <details><summary>Hint 1</summary>
#
# Who teaches the student to stop? And what does padding do to the last mean?
# </details>
# <details><summary>Hint 2</summary>
#
# In reverse KL every word counts as much as the *student* believes in it.
# </details>
#
# **Reference** Chapter 11, where does a text count; traps 85 and 86.


# %% solution="task3_writing_step" asks="make_writer_objective text_objective"
def writing_step(student, teacher, ids, optimizer):
    ### BEGIN SOLUTION
    log_q = student(ids)[:, :-1].log_softmax(dim=-1)  # (B, L - 1, V)
    with torch.no_grad():
        log_p = teacher(ids)[:, :-1].log_softmax(dim=-1)  # (B, L - 1, V)
    real = ids[:, 1:] != PAD  # the closing token counts
    kl = (log_q.exp() * (log_q - log_p)).sum(dim=-1)  # (B, L - 1)
    loss = kl[real].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
    ### END SOLUTION
    raise NotImplementedError("Task 3: writing_step is not written yet")


# %% check="task3_check" points=4
check_writing_step(writing_step)
### BEGIN HIDDEN TESTS
check_writing_step(writing_step, seed=2306)
### END HIDDEN TESTS

# %% [markdown] locked="task4_text"
# ## Task 4: explain what is measured
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 5/5 · **Points** 3
#
# **Objective** Read numbers on divergences and on texts with their question in mind.
#
# The cell below prints two things. First, how far two students are from a teacher with two favourites: one student is spread over both, the other is sure of one. Then what four writers wrote, with their
# likelihood by one teacher.
#
# 1. Which divergence prefers the student that is sure of one favourite?
#    (a) forward KL  (b) reverse KL  (c) Jensen-Shannon with β = ½
# 2. A student was trained on renormalised top-8 answers, and it is surer than it is right. What mends it?
#    (a) more steps  (b) a higher temperature after cutting  (c) a bucket, or sampled words
# 3. Writer D has the best likelihood. Is it the best writer?
#    (a) no: it repeats itself, which variety would show  (b) no: likelihood measures nothing  (c) yes
# 4. A teacher of another family reads the student's token ids as they are. What happens?
#    (a) an error says that the vocabularies differ  (b) nothing is read, so nothing is learned  (c) it reads other words, silently
#
# Write the four letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# In the first table compare the two students within each column.
# </details>
# <details><summary>Hint 2</summary>
#
# Read the texts of the second table, not only its numbers.
# </details>
#
# **Reference** Chapter 11, which way round, and a page of it; traps 88 and 90.

# %% locked="task4_tables"
teacher_says = torch.tensor([[0.49, 0.49, 0.02]]).log()
of_students = {"spread over both": [0.30, 0.30, 0.40], "sure of one": [0.96, 0.02, 0.02]}
print(f"{'':18} forward KL   β = 0.5   reverse KL")
for name, probabilities in of_students.items():
    says = torch.tensor([probabilities]).log()
    values = [float(generalized_jsd_loss(says, teacher_says, beta=beta)) for beta in (0.0, 0.5, 1.0)]
    print(f"{name:18}" + "".join(f"{value:11.3f}" for value in values))
print()
for writer, nats, text in (
    ("A", 3.9, "a person who repairs roofs"),
    ("B", 4.6, "the act of a large green"),
    ("C", 3.6, "someone who sells fish"),
    ("D", 1.8, "a person who is a person who is a person who is a person"),
):
    print(f"writer {writer}   teacher: {nats} nats a token   {text}")

# %% solution="task4_answers"
answers = [None, None, None, None]
### BEGIN SOLUTION
answers = ["b", "c", "a", "c"]
### END SOLUTION

# %% check="task4_check" points=3
check_modern_questions(answers)

# %% [markdown] locked="task5_text"
# ## Task 5: a small experiment
#
# **Minutes** 12 · **Difficulty** 3/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Judge by paired seeds what a bucket changes.
#
# Five students, 784-64-10, learn 500 images from a large teacher's answers at $T = 8$. Of each answer only the **two** most probable digits were kept. One student gets them with a bucket for the rest, the other gets them
# renormalised. Then `wrong_rests` asks, about the same 500 images and at the same $T$: how much probability has the student for all digits but the teacher's two? It counts the images for which that is more than 0.1 away
# from what the teacher has for them.
#
# Set `verdict` to `"better"`, `"worse"` or `"unclear"` for the bucket, measured against renormalising. Fewer images are better.
#
# <details><summary>Hint 1</summary>
#
# `mean_interval` of the five differences gives their mean and the ends of its interval.
# </details>
# <details><summary>Hint 2</summary>
#
# Look at whether 0 is inside.
# </details>
#
# **Reference** Chapter 11, answers that were kept; chapter 02 on paired differences.

# %% locked="task5_runs"
TEMPERATURE = 8.0
images, hinton = mnist.train.take(500).images, zoo.load("hinton_teacher")
kept = top_targets(predict_logits(hinton, images), 2, temperature=TEMPERATURE)


def wrong_rests(bucket, seed):
    indices, log_probs, log_rest = kept
    if not bucket:
        log_probs, log_rest = log_probs.log_softmax(dim=1), torch.full_like(log_rest, -torch.inf)

    def objective(student, images, *answers):
        return {"kd": top_kd_loss(student(images), *answers, temperature=TEMPERATURE)}

    torch.manual_seed(seed)
    student = make_mlp(64)
    optimizer = make_adam(list(student.parameters()))
    data = (images, indices, log_probs, log_rest)
    fit(student, data, objective, optimizer, epochs=40, batch_size=50, seed=seed, progress=False)
    says = (predict_logits(student, images) / TEMPERATURE).softmax(dim=1)
    rest = 1 - says.gather(1, kept.indices).sum(dim=1)  # (N,)
    return int(((rest - kept.log_rest.exp()).abs() > 0.1).sum())


bucket = [wrong_rests(True, seed) for seed in range(5)]
renormalised = [wrong_rests(False, seed) for seed in range(5)]
print("with a bucket", bucket, "\nrenormalised ", renormalised)
differences = [a - b for a, b in zip(bucket, renormalised, strict=True)]
print("difference and interval", [round(x, 1) for x in mean_interval(differences)])

# %% solution="task5_verdict"
verdict = None
### BEGIN SOLUTION
_, low, high = mean_interval(differences)
verdict = "better" if high < 0 else "worse" if low > 0 else "unclear"
### END SOLUTION

# %% check="task5_check" points=3
check_kept_verdict(verdict, renormalised, bucket)
