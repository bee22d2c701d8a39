# %% [markdown]
# # Language
#
# A language model is usually too large for where it has to answer, and much of what is known about making it smaller comes from one family: BERT and its
# students, DistilBERT, TinyBERT and MiniLM. They do not only copy the teacher's answers. They look **inside** it: at the vectors of its words, at its layers, at
# which word looks at which.
#
# Here a teacher that reads dictionary definitions hands over its knowledge in several ways. One way costs no training at all: half of the teacher's own layers
# are put together into a student with half of the blocks. You see where both of them look, you write three of the losses, and at the end a recorded experiment
# says which of the ways was worth it.
#
# **You will be able to**
# - compare two transformers at five places: embeddings, attention, hidden states, relations of values, answers;
# - keep padding out of a loss, and say what it does there;
# - say which block of a student learns from which of its teacher's, and start it from the teacher's layers;
# - recognise traps 63 to 69 and 91 of `docs/traps.md`, and read the verdict on *attention matching is the most impactful*.
#
# **You need** chapters 02 and 03, and a rough idea of what a transformer is. **Time** about 80 minutes; the machine needs about one and a half.
#
# Symbols: $B$ texts, $L$ [tokens](glossary:token) in a text, $D$ width, $V$ words of the vocabulary; $T$ [temperature](glossary:temperature). A raised $s$ means
# the student's, a raised $t$ the teacher's.

# %%
import tempfile

import pandas as pd
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from kdcourse import plots, zoo
from kdcourse.checks import check
from kdcourse.data.definitions import load_definitions
from kdcourse.data.masking import mask_words
from kdcourse.data.tokens import SPECIAL, VOCABULARY, LengthBatches, encode, load_tokenizer

# %%
from kdcourse.losses import (
    HiddenProjection,
    attention_loss,
    attention_scores_loss,
    distilbert_loss,
    embedding_loss,
    hidden_state_loss,
    kd_loss,
    map_layers,
    value_relation_loss,
)

# %% tags=["plumbing"]
from kdcourse.models import evaluating
from kdcourse.models.language import (
    BertForDefinitions,
    body_and_embedding_parameters,
    count_kind_errors,
    make_bert,
    predict_kinds,
)
from kdcourse.models.self_attention import watch_attention
from kdcourse.plots import show
from kdcourse.plots.drawings import draw_language
from kdcourse.recipes.student_layers import init_student_from_teacher
from kdcourse.records import read_record
from kdcourse.sweeps import compare, in_words
from kdcourse.training import choose_threads, fit, gradient_length
from kdcourse.widgets import HeadsExplorer, guess

threads = choose_threads()
disable_progress_bar()  # of loading and saving models

# %%
draw_language()

# %% [markdown]
# Teacher and student are BERTs. A text is cut into *tokens*, and each token becomes a vector, its [embedding](glossary:embedding). Then come *blocks*. In each
# block every token looks at
# the others ([attention](glossary:self-attention)) and takes over what it finds there. This happens several times side by side; each of these is an *attention
# head*. What leaves a block is called a [hidden state](glossary:hidden-state). At the end the mean of the last
# states gives an answer. The student has half of the blocks, so its block 1 is compared with the teacher's block 2, and its block 2 with block 4.
#
# ## The cast
#
# The data are 79,795 definitions of nouns from WordNet. Each belongs to one of 24 *kinds*, such as *animal*, *food* or *act*. The noun itself is never shown. All
# definitions of a noun are in the same split, so no test definition has been seen under another name.

# %%
definitions, tokenizer = load_definitions(), load_tokenizer()
kinds = definitions.kinds
rows = zip(definitions.test.texts[:6], definitions.test.labels[:6], strict=True)
pd.DataFrame([(text, kinds[label]) for text, label in rows], columns=["definition", "kind"])

# %% [markdown]
# The tokenizer knows 6,000 pieces of words. A rare word is cut into several of them; a piece that continues a word begins with `##`. Two special tokens say where a text
# begins and ends.

# %%
ids, real = encode(tokenizer, ["a large wild cat of the rainforest"])
print(tokenizer.convert_ids_to_tokens(ids[0].tolist()))
print(f"{len(tokenizer):,} pieces")

# %% [markdown]
# The teacher has 4 blocks of width 256. It was trained to tell the kind, and on the same text to guess hidden words. Its recipe, and when its training ended, were chosen on
# 4,000 held-out definitions. How good is it? A simple model beside it says more than a number alone: one that only counts words and pairs of words.

# %%
teacher = zoo.load("definitions_teacher")
made = zoo.provenance("definitions_teacher")
record = read_record("language")
linear, settings = record["linear_model"], record["settings"]
scores = {"teacher": made, "counts words and pairs": linear}
table = {
    name: {
        "test errors": row["test_errors"],
        "right": 1 - row["test_errors"] / row["test_definitions"],
    }
    for name, row in scores.items()
}
pd.DataFrame(table).T.style.format({"test errors": "{:,.0f}", "right": "{:.1%}"})

# %% [markdown]
# The transformer is better, and not by much. Definitions are short, and one word often gives the kind away. Keep that in mind: what a student can gain here lies between a
# student that has seen few labels and this teacher. One more thing to know: the teacher learned from smoothed labels, which made it better on held-out
# definitions. Such a teacher may be a worse one to
# learn *answers* from; the ledger has a [row on that](../docs/ledger.md#label-smoothed-teacher).
#
# The students have 2 blocks. Where are the parameters of a small student?

# %%
guess("09.vocabulary")

# %%
sizes = {}
for layers, width in ((4, 256), (2, 256), (2, 128), (2, 64)):
    body, embeddings = body_and_embedding_parameters(make_bert(layers=layers, width=width))
    sizes[f"{layers} × {width}"] = {"blocks and heads": body, "embeddings": embeddings}
sizes = pd.DataFrame(sizes).T
sizes["share of embeddings"] = sizes["embeddings"] / sizes.sum(axis=1)
sizes.style.format(
    {"blocks and heads": "{:,.0f}", "embeddings": "{:,.0f}", "share of embeddings": "{:.0%}"}
)

# %% tags=["claims"]
assert sizes["share of embeddings"].iloc[-1] > 0.7
assert sizes["share of embeddings"].iloc[0] < 0.4

# %% [markdown]
# A block has about $12\,D^2$ parameters, and the table of the vocabulary $6000\,D$. So the narrower a model is, the more of it is table. Whoever says "ten times smaller"
# has to say what was counted.
#
# ## Where do they look?
#
# The first student is not trained at all. It takes the teacher's embeddings, its blocks 2 and 4, and its output layers, which are also called heads. DistilBERT
# began in this way. Nothing in it has ever been used without
# blocks 1 and 3. How many definitions does it get right?

# %%
guess("09.untrained")

# %%
copied = make_bert(layers=2, width=256)
layer_map = init_student_from_teacher(copied, teacher)
torch.manual_seed(0)
random_start = make_bert(layers=2, width=256)
TESTED = 1000
test = definitions.test.take(TESTED)
test = (*encode(tokenizer, test.texts, max_length=32), test.labels)
untrained = {
    "teacher": count_kind_errors(teacher, *test),
    "its blocks 2 and 4": count_kind_errors(copied, *test),
    "random weights": count_kind_errors(random_start, *test),
}
for name, errors in untrained.items():
    print(f"{name:18} {1 - errors / TESTED:6.1%} right")

# %% tags=["claims"]
assert untrained["its blocks 2 and 4"] < 300  # of 1,000
assert untrained["teacher"] < untrained["its blocks 2 and 4"]
assert untrained["random weights"] > 850

# %% [markdown]
# Move the sliders, and type a definition of your own. A row of a map says where its token looks. Three things to look for. Does the student's head look where the teacher's head
# does? Is a head the same in block 1 and in block 2? And what do both believe: at $T = 1$ one kind, at $T = 5$ its relatives too?

# %%
for model in (teacher, copied):
    model.set_attn_implementation("eager")  # the fast way of computing attention keeps no map
explorer = HeadsExplorer(
    teacher, copied, tokenizer, kinds, text="a large wild cat of the rainforest"
)
explorer

# %% [markdown]
# The copied student still tells most kinds. Each block *adds* something to the vectors that it gets, so where a block is missing much of them is as it was. And
# yet its second block looks elsewhere: it was
# made to follow block 3, and block 3 is gone. How far are the maps apart, on average over 64 definitions? We come to the measure in a moment; 0 means equal.

# %%
texts = definitions.train.texts[:64]
ids, real = encode(tokenizer, texts, max_length=32)
with torch.no_grad(), watch_attention(teacher) as teacher_attention:
    teacher(ids, real)
with torch.no_grad(), watch_attention(copied) as copied_attention:
    copied.eval()(ids, real)
apart = {}
for mine, other in layer_map.items():
    maps = copied_attention.probabilities(mine, real), teacher_attention.probabilities(other, real)
    apart[mine] = attention_loss(*maps, attention_mask=real)
    print(f"block {mine} and the teacher's block {other}: {apart[mine]:.2f}")

# %% tags=["claims"]
assert apart[2] > 2 * apart[1]

# %% [markdown]
# So a student can look elsewhere and still be right. Keep that in mind for the end of the chapter.
#
# ## Attention as knowledge
#
# In one head, token $i$ looks at token $j$ with the share $A_{ij}$, and the shares of a row sum to 1. So a row is a distribution, and we know how to compare two of them:
# by their [divergence](glossary:kullback-leibler-divergence), row by row, and then the mean over rows and heads.
#
# For example, a teacher's row $(\frac34, \frac14)$ and a student's $(\frac12, \frac12)$ are $\frac34\log\frac32 + \frac14\log\frac12 = 0.13$ apart.
#
# Two things go wrong in nearly all code that is written for the first time. Here is the first. `attentions` of `transformers` are probabilities already. Somebody takes
# a softmax again, as one does with logits. What becomes of the loss?

# %%
guess("09.softmax-twice")

# %%
with torch.no_grad(), watch_attention(random_start) as student_attention:
    random_start.eval()(ids, real)
ours = student_attention.probabilities(2, real)  # (B, heads, L, L)
theirs = teacher_attention.probabilities(4, real)
once = attention_loss(ours, theirs, attention_mask=real)
twice = attention_loss(ours.softmax(dim=-1), theirs.softmax(dim=-1), attention_mask=real)
print(f"probabilities: {once:.3f}    softmax again: {twice:.4f}")

# %% tags=["claims"]
assert twice < once / 10

# %% [markdown]
# <details><summary><b>Trap 63: a softmax over probabilities</b></summary>
#
# Numbers between 0 and 1 are nearly equal for a softmax: $e^1$ is only 2.7 times $e^0$. So both sides become nearly uniform, and the loss says that all is well.
# No error is raised. `attention_loss` takes probabilities, and `attention_scores_loss` takes what stands before the softmax.
#
# </details>
#
# ### What a longer neighbour does
#
# The second thing is [padding](glossary:padding). Texts of a batch have different lengths, so short ones are filled up. The model is told not to look there.
# The loss has to be told too.
#
# Take one short definition, alone and beside longer ones, and take the mean over all cells of its maps. What happens to it when its neighbour is twice as long?

# %%
guess("09.neighbour")


# %%
def mean_over_all_cells(student, teacher, real):  # (1, heads, L, L) twice
    divergence = teacher * (teacher.clamp(min=1e-12).log() - student.clamp(min=1e-12).log())
    keys_only = divergence * real[:, None, None, :]  # columns of padding are out
    return keys_only.mean()


short = "a large wild cat"
rows = []
for longest in (6, 12, 24, 48):
    ids, mask = encode(tokenizer, [short, "word " * (longest - 2)], max_length=longest)
    pair = []
    for model, block in ((random_start, 2), (teacher, 4)):
        with torch.no_grad(), watch_attention(model) as attention:
            model(ids, mask)
            pair.append(attention.probabilities(block, mask)[:1])
    wrong = mean_over_all_cells(*pair, mask[:1])
    rows.append(
        (mask.shape[1], float(wrong), float(attention_loss(*pair, attention_mask=mask[:1])))
    )
diluted = pd.DataFrame(rows, columns=["padded to", "mean over all cells", "mean over real rows"])
diluted.set_index("padded to").round(4)

# %% tags=["claims"]
assert diluted["mean over all cells"].iloc[0] > 4 * diluted["mean over all cells"].iloc[-1]
assert diluted["mean over real rows"].max() < 1.001 * diluted["mean over real rows"].min()

# %% [markdown]
# The text is the same, and so are its maps. Only the right column knows that.
#
# <details><summary><b>Trap 64: keys masked, rows not, and the mean over everything</b></summary>
#
# Most code masks the keys, because the model does. The rows of padded tokens stay: each of them has a softmax of its own, over the real keys, which nobody needs. And
# the mean divides by cells of padding. So the loss of a text depends on who else is in the batch, and texts in short batches count more.
#
# </details>
#
# ### Your turn: the attention term
#
# Both sides have shape (B, heads, L, L) and hold probabilities. `real` is the tokenizer's mask, (B, L). Write the mean, over heads and rows of real tokens, of the
# divergence of the student's row from the teacher's. A share of exactly 0 on the teacher's side adds 0. The teacher gets no gradient.


# %%
def attention_term(student_attention, teacher_attention, real):  # (B, h, L, L) twice, (B, L) -> ()
    ...


attention_term = check("09.attention", attention_term)

# %%
print(f"attention term of the untrained student: {attention_term(ours, theirs, real):.3f}")

# %% tags=["claims"]
torch.testing.assert_close(attention_term(ours, theirs, real), once)

# %% [markdown]
# TinyBERT compares the *scores* instead, $QK^\top/\sqrt d$ before the softmax, by squared error. Scores say a little more than probabilities, and also
# something that means nothing: a
# constant added to a whole row changes no probability and every score.
#
# `output_attentions=True` gives the probabilities *after* dropout in training mode, and fast attention kernels do not give them at all. `watch_attention` reads
# queries and keys by
# [hooks](glossary:hook), and computes both from them.
#
# ## Which block learns from which?
#
# `hidden_states` of `transformers` is a tuple: the embeddings at place 0, then one entry for each block. A teacher of four blocks has five entries, a student
# of two has three. A common
# line computes the step between layers as `len(teacher_states) // len(student_states)`. Which of its teacher's places does the student then learn from?

# %%
guess("09.places")

# %%
with torch.no_grad():
    states = {
        "teacher": teacher(ids, mask, output_hidden_states=True).hidden_states,
        "student": copied.eval()(ids, mask, output_hidden_states=True).hidden_states,
    }
common_step = len(states["teacher"]) // len(states["student"])
common_line = {place: place * common_step for place in range(3)}
table = pd.DataFrame({"a common line": common_line, "ours": {0: 0, **map_layers(2, 4)}})
table.rename_axis("student's place").add_prefix("teacher's place, ", axis=1)

# %% tags=["claims"]
assert common_step == 1

# %% [markdown]
# <details><summary><b>Trap 66: the whole quotient of two lengths</b></summary>
#
# 5 // 3 is 1: the student's last block learns from the teacher's second, and the upper half of the teacher is never used. For a student that is deeper than its
# teacher the quotient
# is 0, and every layer learns to be an embedding. Count blocks, and let the last learn from the last.
#
# </details>
#
# ### Your turn: the places
#
# The teacher is $k$ times as deep as the student. Write `places(student_blocks, teacher_blocks)`, a dict from a place in the student's `hidden_states` to the place in the
# teacher's that it learns from. Embeddings learn from embeddings, block $i$ from block $i \cdot k$. If the teacher's depth is not a multiple of the student's, raise a
# `ValueError`; the exercise has an answer for that case.


# %%
def places(student_blocks, teacher_blocks):  # two numbers of blocks -> dict
    ...


places = check("09.places", places)

# %% [markdown]
# The map says more than who is compared with whom: it also chooses the blocks that a student starts from. Here are four choices, again without any training.

# %%
for chosen in ({1: 2, 2: 4}, {1: 3, 2: 4}, {1: 1, 2: 4}, {1: 1, 2: 2}):
    student = make_bert(layers=2, width=256)
    init_student_from_teacher(student, teacher, chosen)
    print(
        f"blocks {list(chosen.values())}: {count_kind_errors(student, *test)} errors of {TESTED:,}"
    )

# %% tags=["claims"]
assert count_kind_errors(student, *test) < untrained["teacher"] + 30

# %% [markdown]
# The teacher's **lower half alone** tells the kinds nearly as well as the whole teacher. So for kinds the upper half was hardly needed, and no comparison of
# losses would have told us. Look at the simple
# cut before you distil. (Everything below keeps to blocks 2 and 4, as the papers do: then the last block learns from the last.)
#
# ## Hidden states
#
# A hidden state has shape (B, L, D), and the simplest loss is the mean squared error over real tokens. A student of another width needs a *projection*: a
# learned linear map from its
# width to the teacher's. It is trained with the student, and thrown away afterwards, as in chapter 03. There the map was part of the method too, and the mistake is the same: a
# projection that is not among the optimizer's parameters stays random.

# %%
narrow = make_bert(layers=2, width=64, heads=4)
projection = HiddenProjection(64, 256)
ids, real = encode(tokenizer, texts, max_length=32)
outputs = {
    name: model(ids, real, output_hidden_states=True).hidden_states
    for name, model in (("narrow", narrow), ("copied", copied), ("teacher", teacher))
}
layer_places = places(2, 4)
for name, needed in (("narrow", projection), ("copied", None)):
    loss = hidden_state_loss(
        outputs[name],
        outputs["teacher"],
        attention_mask=real,
        layer_map=layer_places,
        projection=needed,
    )
    print(f"{name:6} {loss:.2f}")

# %% [markdown]
# The embeddings alone can be compared as well (`embedding_loss`). For the copied student that term is 0 at the start: it has the same table.
#
# ## MiniLM: relations instead of numbers
#
# Matching block by block ties the student to the teacher's depth, width and number of heads. MiniLM asks for less. It looks at the *last* block only, and there
# at two relations between
# tokens: who looks at whom, and whose *values* are alike. The relation of values of a head is $\mathrm{softmax}(VV^\top/\sqrt d)$, again one distribution for
# each token. Widths may differ,
# because inner products have none.

# %%
with watch_attention(narrow) as narrow_attention:
    narrow(ids, real)
with torch.no_grad(), watch_attention(teacher) as teacher_attention:
    teacher(ids, real)
values = narrow_attention.values(2), teacher_attention.values(4)
print("values:", *(tuple(side.shape) for side in values))
print(f"value relation: {value_relation_loss(*values, attention_mask=real):.3f}")

# %% [markdown]
# <details><summary><b>Trap 65: other numbers of heads</b></summary>
#
# A student with two heads and a teacher with four cannot be compared head by head. In the best case that is an error. In the worst, a student with *one* head is broadcast
# against all four. Give the student as many heads as the teacher, if its width allows, or compare the mean over heads (`average_heads=True`). In exercise 09
# you write a relation that
# does not mind.
#
# </details>
#
# ## Hidden words and the triple loss
#
# DistilBERT was not trained on kinds. Its task was BERT's own: 15 % of the words are chosen, most of these are hidden, and the model guesses them from the
# others. Its loss has three terms: the divergence
# from the teacher's answers over the vocabulary, softened by $T$ and multiplied by $T^2$; the cross-entropy with the hidden words; and one minus the cosine between the
# hidden states of both.

# %%
generator = torch.Generator().manual_seed(0)
special = {"mask_id": tokenizer.mask_token_id, "vocabulary_size": VOCABULARY}
masked, words = mask_words(
    ids, real, special_ids=range(len(SPECIAL)), generator=generator, **special
)
place = int((masked[5] == tokenizer.mask_token_id).nonzero()[0])
shown = tokenizer.decode(masked[5][real[5].bool()])
print(shown)

# %%
with torch.no_grad():
    guesses = teacher.word_logits(teacher(masked, real)["last_hidden_state"][5, place]).softmax(
        dim=-1
    )
top = guesses.topk(4)
best = tokenizer.convert_ids_to_tokens(top.indices.tolist())
print("the first hidden word:", tokenizer.convert_ids_to_tokens([words[5, place].item()])[0])
print("teacher:", ", ".join(f"{word} {p:.0%}" for word, p in zip(best, top.values, strict=True)))

# %% tags=["claims"]
assert shown.count("[MASK]") == 2
assert "statesman" in shown

# %% [markdown]
# Two words became `[MASK]`, and one became *statesman*. Of the chosen words 80 % are hidden, 10 % replaced by any other word and 10 % left in place, so that
# the model has to think about
# words that it can see too.

# %% [markdown]
# ### Your turn: the soft targets of a text
#
# Write the first of the three terms. Logits have shape (B, L, V), `real` is the tokenizer's mask. It is $T^2$ times the divergence of the student's softened
# distribution from the
# teacher's, and the mean runs over **real tokens**. A batch without any real token gives 0. The teacher gets no gradient.


# %%
def word_term(student_logits, teacher_logits, real, temperature):  # (B, L, V) twice, (B, L) -> ()
    ...


word_term = check("09.words", word_term)

# %% tags=["claims"]
logits = [torch.randn(3, 5, 11, generator=generator) for _ in range(2)]
some = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
expected = kd_loss(*(side[some.bool()] for side in logits), temperature=2.0)
torch.testing.assert_close(word_term(*logits, some, 2.0), expected)

# %% [markdown]
# The course's `distilbert_loss` has all three terms, with weights 5, 2 and 1. They stand in the authors' example command; the paper does not give them.
#
# <details><summary><b>Traps 67 to 69 and 91: what a triple loss counts</b></summary>
#
# Trap 67: a weight of 0 for the cosine makes two terms of three, and the name stays. Trap 68: divergence and cosine over padding teach the student what follows
# the end of a text.
# `batchmean` divides by texts, not by tokens. Trap 69: a batch in which no word was hidden has a mean over nothing, which is NaN, and one such batch spoils
# every weight; and `view(-1)` fails on logits that are not
# contiguous. Trap 91: a masked model speaks at its place about the token *there*, a causal one about the *next*. Compared place by place, the student learns to be a word late.
#
# </details>
#
# Does padding matter? Here is the whole loss, without and with the padding of this batch.

# %%
with torch.no_grad():
    hidden = {}
    for name, model in (("student", copied), ("teacher", teacher)):
        last = model(masked, real)["last_hidden_state"]
        hidden[name] = last, model.word_logits(last)
sides = [hidden[name][1] for name in hidden], [hidden[name][0] for name in hidden]
for name, mask in (("real tokens", real), ("padding too", torch.ones_like(real))):
    triple = distilbert_loss(*sides[0], words, *sides[1], attention_mask=mask)
    print(f"triple loss, {name}: {triple:.2f}")

# %% [markdown]
# ### What a weight is worth
#
# A student feels the *gradient* of a term and not its value. These are the value and the length of the gradient (*push*) of each term alone, on one batch, for
# the narrow student.

# %%
labels = definitions.train.labels[:64]
with watch_attention(narrow) as attention:
    out = narrow(ids, real, output_hidden_states=True)
with torch.no_grad(), watch_attention(teacher) as taught:
    target = teacher(ids, real, output_hidden_states=True)
pairs = list(map_layers(2, 4).items())
attended = [(attention.probabilities(s, real), taught.probabilities(t, real)) for s, t in pairs]
scored = [(attention.scores(s), taught.scores(t)) for s, t in pairs]
states = (out.hidden_states, target.hidden_states)

# %%
seen = {"attention_mask": real}
terms = {
    "labels": F.cross_entropy(out.logits, labels),
    "logits, T = 2": kd_loss(out.logits, target.logits, temperature=2.0),
    "embeddings": embedding_loss(*(side[0] for side in states), **seen, projection=projection),
    "attention": torch.stack([attention_term(*pair, real) for pair in attended]).mean(),
    "attention scores": torch.stack([attention_scores_loss(*p, **seen) for p in scored]).mean(),
    "hidden states": hidden_state_loss(
        *states, **seen, layer_map=layer_places, projection=projection
    ),
    "value relations": value_relation_loss(attention.values(2), taught.values(4), **seen),
}

# %%
table = {
    name: {"value": float(term.detach()), "push": float(gradient_length(term, narrow.parameters()))}
    for name, term in terms.items()
}
pd.DataFrame(table).T.round(3).rename_axis("narrow student, untrained")

# %% [markdown]
# ## A short lesson, live
#
# The attention scores have by far the largest value, and do not push harder than the labels. Now two questions at once: does it matter where a student
# *starts*, and what can a teacher add? There are labels for 400 definitions. Another 560 have none, and only the teacher
# can say something about them. Each arm reads the same 960 definitions in the same order, and there are three seeds for each of two starts. Baselines read the definitions
# without a label too, and learn nothing from them: their label is −100, which `cross_entropy` skips.

# %%
FULL = False  # True: more labels, more definitions, five seeds, more test definitions
LABELLED, READ, SEEDS = (1000, 4000, 5) if FULL else (400, 960, 3)
train = definitions.train.take(READ)
ids, real = encode(tokenizer, train.texts, max_length=24)
known = torch.where(torch.arange(READ) < LABELLED, train.labels, -100)
taught_kinds = predict_kinds(teacher, ids, real)  # asked once: texts do not change
data = ids, real, known, taught_kinds


# %%
def objective(student, ids, real, labels, taught, *, alpha=0.0, smoothing=0.0):
    logits = student(ids, real).logits
    total = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
    ce = total / (labels != -100).sum().clamp(min=1)
    return {"ce": (1 - alpha) * ce, "kd": alpha * kd_loss(logits, taught, temperature=2.0)}


RATES = {"random start": 1e-3, "teacher's layers": 3e-4}
ARMS = {"no_teacher": {}, "label_smoothing": {"smoothing": 0.1}, "logits": {"alpha": 0.9}}


# %%
def lesson(seed, start, knobs):
    torch.manual_seed(seed)
    student = make_bert(layers=2, width=256)
    if start == "teacher's layers":
        init_student_from_teacher(student, teacher)
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATES[start], fused=True)
    fit(
        student, data, lambda *batch: objective(*batch, **knobs), optimizer,
        epochs=1, batch_size=32, seed=seed, make_batches=LengthBatches, progress=False,
    )  # fmt: skip
    return count_kind_errors(student, *test)


runs = pd.DataFrame(
    [
        {"start": start, "arm": arm, "seed": seed, "errors": lesson(seed, start, knobs)}
        for start in ("random start", "teacher's layers")
        for arm, knobs in ARMS.items()
        for seed in range(SEEDS)
    ]
)

# %%
live = {}
for start, part in runs.groupby("start", sort=False):
    live[start] = compare(part, metric="errors", baseline=["no_teacher", "label_smoothing"])
    print(f"{start}. {in_words(live[start], unit=f'errors of {TESTED:,}')}")
runs.pivot_table(index="arm", columns="start", values="errors", sort=False).round(0).astype(int)

# %% tags=["claims"]
errors = runs.groupby(["start", "arm"]).errors.mean()
assert errors["teacher's layers"].max() < errors["random start"].min()

# %% [markdown]
# In thirty steps the start is worth more than anything that is said to the student on the way. Mind what it hands over: the classifier among the copied layers has seen
# 67,000 labels. A student that starts there does not begin with 400.
#
# ## The verdict on the saying
#
# One often reads that *attention matching is the most impactful technique for language models*. The experiment in `experiments/language.py` trained all arms
# with five seeds, with
# 1,000 labels and 5,600 definitions without one; every arm also guesses hidden words, as the teacher did. Learning rates and weights were chosen on held-out
# definitions. The rule was written before it ran: a
# difference counts if its 95 % interval leaves out 0, and one below 30 errors of 3,000 is too small to matter
# (the [smallest effect of interest](glossary:smallest-effect-of-interest)).
#
# *Full size* is about an hour of one core: 300 steps for a student. It is full size for this course, and not for the literature.

# %%
guess("09.which-term")

# %%
tables = {name: pd.DataFrame(rows) for name, rows in record["comparisons"].items()}
options = {"smallest_effect": record["smallest_effect"], "unit": "errors"}


def against_no_teacher(start):
    full = tables[f"1,000 labels, {start}"]
    full.attrs = {"metric": "test_errors", "lower_is_better": True}
    return plots.intervals(full[full.baseline == "no_teacher"], **options)


show(against_no_teacher("random start"), alt="09.random")
show(against_no_teacher("teacher's layers"), alt="09.copied")

# %%
for row in record["verdicts"]:
    where = ", ".join(row[key] for key in ("block", "start") if key in row)
    print(f"{row['claim']} ({where}): {row['verdict']}.")

# %% tags=["claims"]
plain = (
    pd.DataFrame(record["means"]).set_index(["block", "start", "arm"]).test_errors["1,000 labels"]
)
fresh, halved = plain["random start"], plain["teacher's layers"]
attention = ["attention scores", "attention probabilities", "MiniLM"]
assert fresh["logits"] < fresh["hidden states"] < fresh[attention].min()
assert fresh[[arm for arm in fresh.index if arm != "no_teacher"]].max() < fresh["no_teacher"]
single = [arm for arm in halved.index if arm != "all together"]
assert halved[single].idxmin() == "logits"
assert halved["no_teacher"] < fresh["logits"] / 2

# %% [markdown]
# With random weights, every term of the teacher's helps against no teacher, and attention does too. Against smoothed labels, MiniLM and the triple loss are
# unclear. But the **logits** of the kinds do more than attention, and so do the hidden states. For 5,600 of the definitions the logits are the only
# thing that says the kind at all; where the teacher looks says it only to somebody who can read it. With the teacher's layers as a start little is left to
# gain, and what is left comes from the logits again.
# **The start** does more than any term: the plain student that begins with the teacher's layers makes less than half of the errors of the best single term with a random start.
#
# In DistilBERT's own ablation a random start costs most too: 3.7 points of GLUE, a collection of language tasks, more than any term. Papers that find attention
# best compare it with other losses *inside* the network, and train far longer than
# 300 steps.
# And mind what is small here: one data set, 300 steps, a teacher that learned from smoothed labels.
#
# What do these terms do to the guessing of words? [Perplexity](glossary:perplexity) is the number of words among which a model hesitates, on average: lower is better.

# %%
means = pd.DataFrame(record["means"])
means["right"] = 1 - means.test_errors / settings["test"]
wide = means[means.block == "1,000 labels"].pivot(index="arm", columns="start")[
    ["right", "perplexity"]
]
order = list(dict.fromkeys(means.arm))
wide.loc[order].style.format({c: "{:.1%}" if c[0] == "right" else "{:.0f}" for c in wide.columns})

# %% [markdown]
# Of the single terms the triple loss, which is about words, helps the guessing of words most. And with more labels, or with a narrower student?

# %%
others = means[means.block != "1,000 labels"].copy()
others["students"] = others.block + ", " + others.start
others.pivot(index="arm", columns="students", values="right").style.format("{:.1%}", na_rep="–")

# %% tags=["claims"]
narrow_blocks = ["student of width 128", "narrow student"]
by_width = others[others.block.isin(narrow_blocks)].pivot(
    index="arm", columns="block", values="test_errors"
)
for column in narrow_blocks:
    errors = by_width[column]
    assert (
        errors[["logits", "hidden states"]].max()
        < errors[["attention probabilities", "MiniLM"]].min()
    )

# %% [markdown]
# With all labels the logits still help a random start; from the teacher's layers nothing is left that matters. In narrower students too (*narrow* is width 64),
# logits and hidden states gain more than attention.
#
# Did the small run of this chapter show the same?


# %%
def in_points(table, start, of):
    """Return what the logits change against no teacher, in percentage points of the definitions."""
    rows = table[(table.baseline == "no_teacher") & (table.arm == "logits")].copy()
    rows[["difference", "low", "high"]] *= 100 / of
    return rows.assign(arm=start)


starts = ("random start", "teacher's layers")
small = pd.concat([in_points(live[start], start, TESTED) for start in starts])
full = [in_points(tables[f"1,000 labels, {start}"], start, settings["test"]) for start in starts]
both = {"logits in this run": small, "at full size": pd.concat(full)}
show(plots.did_it_hold(both, unit="points of errors"), alt="09.held")

# %% [markdown]
# ## Your own text, and a model of your own
#
# Nothing above depends on this teacher. With a network, set `NAME = "bert-base-uncased"`, or any BERT-like model of a hub: the next cells then compare its
# attention with that of a student of half
# its depth, on a text of yours. Without a network they do the same with a model that was saved to disk a moment ago.

# %%
NAME = None  # for example "bert-base-uncased"
TEXT = "a student learns from the answers of its teacher"
if NAME is None:
    NAME = tempfile.mkdtemp()
    teacher.save_pretrained(NAME)
    tokenizer.save_pretrained(NAME)
    large = BertForDefinitions.from_pretrained(NAME)
else:
    from transformers import AutoModel

    large = AutoModel.from_pretrained(NAME)
reader = AutoTokenizer.from_pretrained(NAME)

# %%
config = large.config.__class__.from_dict(large.config.to_dict())
config.num_hidden_layers = large.config.num_hidden_layers // 2
small = large.__class__(config)
used = init_student_from_teacher(small, large)
inputs = reader(TEXT, return_tensors="pt")
inputs = inputs["input_ids"], inputs["attention_mask"]
for block, learned_from in used.items():
    with torch.no_grad(), evaluating(large), evaluating(small):
        with watch_attention(small, block) as mine, watch_attention(large, learned_from) as other:
            small(*inputs)
            large(*inputs)
        pair = mine.probabilities(block, inputs[1]), other.probabilities(learned_from, inputs[1])
    apart = attention_loss(*pair, attention_mask=inputs[1])
    print(f"block {block} from {learned_from}: attention {apart:.3f} apart")

# %% [markdown]
# ## Bad input
#
# Some inputs are legal and need care. A text that is longer than the model's 64 positions is cut, and its closing token is kept. A word that the tokenizer has
# never seen is cut into
# pieces, and a sign that it does not know becomes `[UNK]`. A text that is all padding adds nothing to the loss.

# %%
long, _ = encode(tokenizer, ["word " * 500])
print(long.shape, tokenizer.convert_ids_to_tokens(long[0, -1:].tolist()))
print(tokenizer.tokenize("a zyzzyva and a 猫"))
nothing = torch.ones(4, ours.shape[-1])
nothing[0] = 0
term = attention_loss(ours[:4], theirs[:4], attention_mask=nothing)
print(f"a row of padding only: {term:.3f}")

# %% [markdown]
# The next ones are mistakes, and would be silent without a check.

# %%
two_heads = ours[:, :2]
for attempt in (
    lambda: attention_loss(two_heads, theirs),
    lambda: attention_loss(scored[0][0], scored[0][1]),
    lambda: kd_loss(torch.zeros(2, 5000), torch.zeros(2, 6000), temperature=2.0),
    lambda: init_student_from_teacher(make_bert(layers=2, width=64, heads=4), teacher),
    lambda: map_layers(6, 4),
):
    try:
        attempt()
    except ValueError as error:
        print("-", str(error)[:150])

# %% [markdown]
# ## Summary
#
# - A transformer can be heard at five places. Attention and relations of values are distributions, row by row; embeddings and hidden states are vectors, and
#   need a projection if widths differ.
# - **Padding** belongs in no row, no column and no count. Otherwise a text's loss depends on its neighbours.
# - **Probabilities** need no softmax, **scores** do. Heads are compared one by one only if both sides have as many.
# - Count **blocks**, not entries of a tuple, and let the last block learn from the last.
# - The teacher's own layers are a start that costs no training, and in a short training nothing came near it.
# - A triple loss has three weights above 0, and its means run over real tokens and hidden words.
# - At full size the logits gained most of all single terms. From a random start attention helped too, but less than the logits and the hidden states.
#
# ## Think, then try
#
# 1. Blocks 1 and 2 tell the kinds nearly as well as the whole teacher. What would you measure before you throw the other two away?
# 2. Why can the loss on attention not be 0 for a narrow student with random embeddings, however long it trains on one batch?
# 3. A student of two blocks has half of the teacher's *blocks*. Does it need half of the time?
#
# <details><summary>1</summary>
#
# What else the model is for. This teacher also guesses hidden words, and its head for words was trained on what leaves block 4. Measure the perplexity of both
# halves. And look at the definitions that only the whole
# teacher gets right: are they of one kind, or long?
#
# </details>
#
# <details><summary>2</summary>
#
# On one batch it can come very near, because it can learn each text by heart, but not to 0; the reason is the last sentence here. On new texts it must tell
# from its own embeddings what the teacher tells from its own. A narrow student has
# fewer dimensions for queries and keys in a head, so not every map of scores can be formed: $QK^\top$ has at most rank $d$.
#
# </details>
#
# <details><summary>3</summary>
#
# A little more. Embeddings and heads cost the same in both, and the decoder of hidden words is the largest matrix of all, with 6,000 outputs: that is why only
# hidden places go through it.
#
# </details>
#
# ## References
#
# - Devlin, Chang, Lee, Toutanova (2019), *BERT*, [arXiv:1810.04805](https://arxiv.org/abs/1810.04805), section 3.1: hidden words.
# - Sanh, Debut, Chaumond, Wolf (2019), *DistilBERT*, [arXiv:1910.01108](https://arxiv.org/abs/1910.01108), section 3: the triple loss and the start from the teacher's layers.
# - Jiao et al. (2020), *TinyBERT*, [arXiv:1909.10351](https://arxiv.org/abs/1909.10351), equations 7 to 9 and section 4.1: scores, states, embeddings, the map of layers.
# - Wang et al. (2020), *MiniLM*, [arXiv:2002.10957](https://arxiv.org/abs/2002.10957), equations 5 to 8: attention and relations of values of the last block.
# - Fellbaum (ed., 1998), *WordNet: An Electronic Lexical Database*, MIT Press: the definitions.
