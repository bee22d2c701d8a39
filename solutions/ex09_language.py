# %% [markdown]
# # Exercise 09: language
#
# In chapter 09 two transformers with different numbers of heads could not be compared head by head. Here you write a loss that does not mind. Then you repair
# a triple loss, map blocks of any two depths, read what padding does to three formulas, and test a control that papers leave out: a teacher that knows nothing.
#
# **You need** chapter 09. **Time** about 55 minutes, 17 points.
#
# Below each task stands a cell that checks it. Run it as often as you like: when something is wrong it says which mistake
# it probably is. When all is done, save, and grade the file in a terminal with
# `kdcourse grade ex09_language.ipynb`; on Colab put an exclamation mark in front.

# %% locked="setup"
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    check_control_verdict,
    check_layer_map,
    check_padding_table,
    check_relation_loss,
    check_triple_loss,
)
from kdcourse.data.definitions import load_definitions
from kdcourse.data.tokens import encode, load_tokenizer
from kdcourse.losses import attention_loss
from kdcourse.models.language import body_and_embedding_parameters, count_kind_errors, make_bert
from kdcourse.models.self_attention import watch_attention
from kdcourse.sweeps import mean_interval
from kdcourse.training import evaluating, fit

definitions, tokenizer = load_definitions(), load_tokenizer()

# %% [markdown] locked="task1_text"
# ## Task 1: relations between models with other heads
#
# **Minutes** 15 · **Difficulty** 4/5 · **Importance** 4/5 · **Points** 5
#
# **Objective** Compare two blocks that agree neither in width nor in their number of heads.
#
# MiniLM's relation of values, $\mathrm{softmax}(VV^\top/\sqrt d)$, needs equally many heads on both sides. But before the values are split into heads they are one vector for each token. So
# split *both* into a number of heads of your own choice: then every head of one side has a partner on the other.
#
# Write `my_relation_loss(student_values, teacher_values, real, heads)`. The values have shapes (B, L, D_s) and (B, L, D_t), and `heads` divides both widths. `real` is
# the tokenizer's mask, (B, L), 1 for real tokens. Split each side into `heads` parts of d features. The first head has the first d features, and d is another number on each side. For each head and
# each token take the softmax, over real tokens, of its inner products with all tokens, divided by $\sqrt d$. The loss is the divergence of the student's rows from the teacher's, $\mathrm{KL}(\text{teacher} \,\|\, \text{student})$,
# as a mean over heads and rows of real tokens. What stands in padding has no effect, a text of padding only changes nothing, and the teacher gets no gradient.
#
# <details><summary>Hint 1</summary>
#
# `values.unflatten(-1, (heads, -1))` gives (B, L, heads, d). Which axes have to be exchanged before `@`?
# </details>
# <details><summary>Hint 2</summary>
#
# A text of padding only has rows in which nothing is real. What is the softmax of a row of `-inf`, and of a row of `-1e9`?
# </details>
#
# **Reference** Chapter 09, "MiniLM: relations instead of numbers"; Wang et al. (2020), arXiv:2002.10957, equations 6 to 8; traps 64 and 65.


# %% solution="task1_relation_loss" asks="value_relation_loss"
def my_relation_loss(student_values, teacher_values, real, heads):
    ### BEGIN SOLUTION
    sides = []
    for values in (student_values, teacher_values.detach()):
        split = values.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, L, d)
        scores = split @ split.mT / split.shape[-1] ** 0.5  # (B, heads, L, L)
        sides.append(scores.masked_fill(~real.bool()[:, None, None, :], -1e9).log_softmax(dim=-1))
    student, teacher = sides
    apart = (teacher.exp() * (teacher - student)).sum(dim=-1)  # (B, heads, L)
    return apart.transpose(1, 2)[real.bool()].mean()
    ### END SOLUTION
    raise NotImplementedError("Task 1: my_relation_loss is not written yet")


# %% check="task1_check" points=5
check_relation_loss(my_relation_loss)
### BEGIN HIDDEN TESTS
check_relation_loss(my_relation_loss, seed=2020)
### END HIDDEN TESTS

# %% [markdown] locked="task2_text"
# ## Task 2: repair a triple loss
#
# **Minutes** 14 · **Difficulty** 3/5 · **Importance** 5/5 · **Points** 4
#
# **Objective** Find what a loss counts that it should not count, and what it does not train.
#
# This is DistilBERT's loss as it is often written. It has **five** mistakes. It should be $5 \cdot \text{kd} + 2 \cdot \text{mlm} + 1 \cdot \text{cosine}$. Here kd is $T^2$ times the divergence from the teacher, a mean over *real tokens*; mlm the cross-entropy, a mean over
# *hidden words*; and cosine 1 minus the cosine of the hidden states, a mean over *real tokens*.
#
# ```python
# def broken_triple_loss(
#     student_logits, teacher_logits, words, student_hidden, teacher_hidden, real, *, temperature
# ):
#     q = F.log_softmax(student_logits / temperature, dim=-1)
#     p = F.softmax(teacher_logits.detach() / temperature, dim=-1)
#     kd = F.kl_div(q, p, reduction="batchmean") * temperature**2
#     mlm = F.cross_entropy(student_logits.flatten(0, 1), words.flatten())
#     cosine = 1 - F.cosine_similarity(student_hidden, teacher_hidden.detach(), dim=-1).mean()
#     return 5 * kd + 2 * mlm + 0 * cosine
# ```
#
# Logits have shape (B, L, K), hidden states (B, L, D), `words` and `real` (B, L). `words` holds -100 where no word was hidden. A batch without a hidden word is legal, and its mlm is 0. The teacher's side gets no gradient.
#
# <details><summary>Hint 1</summary>
#
# `tensor[real.bool()]` picks the rows of real tokens: (B, L, K) becomes (tokens, K). What does `batchmean` divide by then?
# </details>
# <details><summary>Hint 2</summary>
#
# The sum over nothing is 0. So divide a sum by the number of hidden words, and by 1 if there are none.
# </details>
#
# **Reference** Chapter 09, "Hidden words and the triple loss"; Sanh et al. (2019), arXiv:1910.01108, section 2; traps 67 to 69.


# %% solution="task2_triple_loss" asks="distilbert_loss distilbert_terms hidden_cosine_loss"
def repaired_triple_loss(student_logits, teacher_logits, words, student_hidden, teacher_hidden, real, *, temperature):
    ### BEGIN SOLUTION
    real, hidden = real.bool(), words != -100
    q = F.log_softmax(student_logits[real] / temperature, dim=-1)  # (tokens, K)
    p = F.log_softmax(teacher_logits[real].detach() / temperature, dim=-1)  # (tokens, K)
    kd = F.kl_div(q, p, reduction="batchmean", log_target=True) * temperature**2
    total = F.cross_entropy(student_logits[hidden], words[hidden], reduction="sum")
    mlm = total / hidden.sum().clamp(min=1)
    alike = F.cosine_similarity(student_hidden[real], teacher_hidden[real].detach(), dim=-1)
    return 5 * kd + 2 * mlm + (1 - alike).mean()
    ### END SOLUTION
    raise NotImplementedError("Task 2: repaired_triple_loss is not written yet")


# %% check="task2_check" points=4
check_triple_loss(repaired_triple_loss)
### BEGIN HIDDEN TESTS
check_triple_loss(repaired_triple_loss, seed=2019)
### END HIDDEN TESTS

# %% [markdown] locked="task3_text"
# ## Task 3: a map of blocks for any two depths
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Use all of a teacher's depth, also where the student's depth does not divide it.
#
# In the chapter the teacher was $k$ times as deep. Now $k$ = teacher / student may be any number from 1. Write `my_layer_map(student_blocks, teacher_blocks)`. It returns a dict: block $i$ of the student, counted from 1,
# learns from the teacher block nearest to $i \cdot k$, and halves are rounded upwards. A student that is deeper than its teacher is a `ValueError`.
#
# For example, `my_layer_map(4, 6)` is `{1: 2, 2: 3, 3: 5, 4: 6}`.
#
# <details><summary>Hint 1</summary>
#
# Python's `round(2.5)` is 2, because it rounds halves to even numbers. What does `int(x + 0.5)` do?
# </details>
# <details><summary>Hint 2</summary>
#
# Multiply first and divide afterwards: a rounded $k$ times $i$ is not the same as $i \cdot k$ rounded.
# </details>
#
# **Reference** Chapter 09, "Which block learns from which?"; Jiao et al. (2020), arXiv:1909.10351, its map of layers; trap 66.


# %% solution="task3_layer_map" asks="map_layers"
def my_layer_map(student_blocks, teacher_blocks):
    ### BEGIN SOLUTION
    if student_blocks > teacher_blocks:
        raise ValueError(f"the student has {student_blocks} blocks, the teacher {teacher_blocks}")
    k = teacher_blocks / student_blocks
    return {block: int(block * k + 0.5) for block in range(1, student_blocks + 1)}
    ### END SOLUTION
    raise NotImplementedError("Task 3: my_layer_map is not written yet")


# %% check="task3_check" points=3
check_layer_map(my_layer_map)
### BEGIN HIDDEN TESTS
check_layer_map(my_layer_map, seed=2020)
### END HIDDEN TESTS

# %% [markdown] locked="task4_text"
# ## Task 4: explain two tables
#
# **Minutes** 10 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 3
#
# **Objective** Read from numbers alone what a formula counts.
#
# The next cell takes the attention of two untrained transformers on two short texts. It computes three losses of the same two texts: alone, and beside a longer text, so that they are padded. Formula A is the mean over all cells, formula
# B the mean over rows of real tokens, formula C the mean over all cells with the columns of padding set to 0. Then it prints the parameters of four students.
#
# 1. Which formula gives a text the same loss whatever stands beside it?
#    (a) A  (b) B  (c) C
# 2. Why do the other two get smaller and smaller?
#    (a) they divide by a number of cells in which padding is counted  (b) longer texts are more alike  (c) a softmax was taken twice
# 3. Which of the four students is mostly vocabulary?
#    (a) the widest  (b) none, blocks always have more parameters  (c) the narrowest
#
# Write the three letters into `answers`.
#
# <details><summary>Hint 1</summary>
#
# The numerator of A and C hardly changes. What is in the denominator?
# </details>
# <details><summary>Hint 2</summary>
#
# Divide the second column of the lower table by the first.
# </details>
#
# **Reference** Chapter 09, "What a longer neighbour does" and "The cast"; trap 64.

# %% locked="task4_tables"
torch.manual_seed(0)
pair = [make_bert(layers=1, width=32, heads=2).eval() for _ in range(2)]
print("padded to      A        B        C")
for longest in (9, 18, 36):
    ids, real = encode(tokenizer, ["a large wild cat", "a kind act", "word " * (longest - 2)])
    rows = []
    for model in pair:
        with evaluating(model), watch_attention(model) as attention:
            model(ids, real)
            rows.append((8 * attention.scores(1)).masked_fill(real[:, None, None] == 0, -1e9).softmax(dim=-1)[:2])
    student, teacher = (side.clamp(min=1e-12) for side in rows)
    cells = teacher * (teacher.log() - student.log())
    by_rows = attention_loss(*rows, attention_mask=real[:2])
    print(f"{longest:9} {cells.mean():8.5f} {by_rows:8.5f} {(cells * real[:2, None, None]).mean():8.5f}")
print("\nstudent   blocks and heads   embeddings")
for width in (64, 128, 256, 512):
    body, embeddings = body_and_embedding_parameters(make_bert(layers=2, width=width))
    print(f"2 × {width:3} {body:19,} {embeddings:12,}")

# %% solution="task4_answers"
answers = [None, None, None]
### BEGIN SOLUTION
answers = ["b", "a", "c"]
### END SOLUTION

# %% check="task4_check" points=3
check_padding_table(answers)

# %% [markdown] locked="task5_text"
# ## Task 5: a teacher that knows nothing
#
# **Minutes** 8 · **Difficulty** 2/5 · **Importance** 4/5 · **Points** 2
#
# **Objective** Compare a method with the control that tells what it is made of.
#
# If a student gets better by imitating attention, is it the teacher's *knowledge* that helps? A control: the teacher is a transformer with **random weights**. The next cell trains four pairs of small students on
# 600 definitions. In each pair one learns from labels only, the other also matches the random teacher's attention. Both start from the same weights and see the same batches. It prints their errors on 1,000 held-out definitions.
#
# Set `verdict` to `"better"`, `"worse"` or `"unclear"` for the students with the random teacher, measured against labels only.
#
# <details><summary>Hint 1</summary>
#
# Fewer errors are better. The last line shows the mean of the four differences and the ends of its interval.
# </details>
# <details><summary>Hint 2</summary>
#
# Look at whether 0 is inside.
# </details>
#
# **Reference** Chapter 09, "The verdict on the saying"; chapter 02 on paired differences.

# %% locked="task5_runs"
ids, real = encode(tokenizer, definitions.train.texts[:600], max_length=20)
held_out = (*encode(tokenizer, definitions.held_out.texts[:1000], max_length=20), definitions.held_out.labels[:1000])


def run(seed, *, weight):
    torch.manual_seed(1000 + seed)
    teacher = make_bert(layers=1, width=32, heads=2).eval()
    with evaluating(teacher), watch_attention(teacher) as attention:
        teacher(ids, real)
        rows = attention.probabilities(1, real)
    torch.manual_seed(seed)
    student = make_bert(layers=1, width=32, heads=2)

    def objective(student, ids, real, labels, rows):
        with watch_attention(student) as attention:
            logits = student(ids, real).logits
        term = attention_loss(attention.probabilities(1, real), rows, attention_mask=real)
        return {"ce": F.cross_entropy(logits, labels), "attention": weight * term}

    data = ids, real, definitions.train.labels[:600], rows
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    fit(student, data, objective, optimizer, epochs=4, batch_size=30, seed=seed, progress=False)
    return count_kind_errors(student, *held_out)


labels_only = [run(seed, weight=0.0) for seed in range(4)]
random_teacher = [run(seed, weight=3.0) for seed in range(4)]
print("labels only   ", labels_only, "\nrandom teacher", random_teacher)
differences = [a - b for a, b in zip(random_teacher, labels_only, strict=True)]
print("difference and interval", [round(x, 1) for x in mean_interval(differences)])

# %% solution="task5_verdict"
verdict = None
### BEGIN SOLUTION
_, low, high = mean_interval(differences)
verdict = "better" if high < 0 else "worse" if low > 0 else "unclear"
### END SOLUTION

# %% check="task5_check" points=2
check_control_verdict(verdict, random_teacher, labels_only)
