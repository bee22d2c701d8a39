# %% [markdown]
# # Modern distillation
#
# Since 2022 new losses have come out nearly every month, and language models have brought problems of their own: a vocabulary is too large to keep
# every answer, a student writes texts that its teacher never saw, and the two may not even cut a text into the same pieces.
#
# This chapter puts six ideas of these years to the test on data that you know. In the fifth a small network **writes definitions**, its teacher says at
# every word what it would have said, and the student learns from its own sentences. What one idea gains another often pays for. So each of the six
# demonstrations says what it shows, what it does not, and which mistake public code has made.
#
# **You will be able to**
# - choose between forward and reverse KL, and say what each does to a student that is too small;
# - judge a new loss against a plain one that was tuned as long;
# - keep a teacher's answers in less than a hundredth of the space without a bias;
# - write the loop of on-policy distillation, and measure texts by more than one number;
# - recognise traps 84 to 91 of `docs/traps.md` in the libraries of 2026.
#
# **You need** chapter 02. **Time** about 90 minutes; the machine needs about one and a half.
#
# Symbols: $p$ the teacher's and $q$ the student's probabilities; $\beta$ the teacher's share of a mixture; $T$ [temperature](glossary:temperature); $V$ words of a
# vocabulary.

# %%
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F

from kdcourse import plots, zoo
from kdcourse.checks import check
from kdcourse.data import load_mnist
from kdcourse.data.alignment import aligned_spans
from kdcourse.data.definitions import load_definitions
from kdcourse.data.tokens import LengthBatches, encode, load_tokenizer, train_tokenizer
from kdcourse.data.views import shifted_views

# %%
from kdcourse.losses import (
    decoupled_kd_loss,
    dist_loss,
    generalized_jsd_loss,
    kd_loss,
    sampled_kd_loss,
    sampled_targets,
    sorted_probability_loss,
    standardize_logits,
    top_targets,
)
from kdcourse.models import make_mlp
from kdcourse.models.language import predict_kinds
from kdcourse.models.words import BagOfWords
from kdcourse.models.writer import make_writer, next_tokens, start_with_kind, write

# %%
from kdcourse.objectives import label_objective, soft_target_objective
from kdcourse.plots import show
from kdcourse.plots.drawings import draw_kept_answers, draw_on_policy
from kdcourse.recipes import make_adam
from kdcourse.recipes.judging import as_words, judge_texts
from kdcourse.recipes.writing import WrittenTexts, make_writer_objective, text_objective
from kdcourse.records import read_record
from kdcourse.sweeps import compare, in_words, sweep
from kdcourse.training import count_errors, fit, predict_logits, train
from kdcourse.widgets import ModesExplorer, guess

draw_on_policy()

# %% [markdown]
# That is the fifth of the six ideas, *on-policy distillation*. The student writes, the frozen teacher reads along, and the gap between their two answers at each word
# is the loss. No gradient passes through the writing. We build what it needs one piece after the other, and the first piece is the gap itself.

# %%
FULL = False  # True: more texts, more images, more seeds
SEEDS, TEXTS, TESTED, IMAGES = (5, 4000, 2000, 2000) if FULL else (3, 1500, 800, 500)

# %% tags=["plumbing"]
record = read_record("modern")
recorded = pd.DataFrame(record["runs"])


def means(block, *columns):
    """Return the means over seeds of the recorded full-size runs."""
    return recorded[recorded.block == block].groupby("arm", sort=False)[list(columns)].mean()


def what_holds(*words):
    """Print the claims whose text has one of the words, with their verdicts."""
    for claim in record["claims"]:
        if any(word in claim["claim"] for word in words):
            print(f"{claim['claim']}: {claim['verdict']}.")


# %% [markdown]
# The experiment `python -m experiments.modern` repeats this chapter at full size, which here means minutes of one processor core. Its
# rules were written before the runs, and they are printed with all results in `docs/results.md`.
#
# ## 1. Which way round?
#
# $\mathrm{KL}(p\,\|\,q) = \sum_i p_i (\log p_i - \log q_i)$ is called **forward** KL: every class counts as much as the *teacher* believes in it.
# $\mathrm{KL}(q\,\|\,p)$ is called
# **reverse** KL: every class counts as much as the *student* believes in it. If both agree, both are 0. The difference matters when the student cannot agree.
#
# Between the two lies the [generalised Jensen-Shannon divergence](glossary:generalised-jensen-shannon-divergence). It compares both sides with a mixture of
# them, in which the teacher has the share $\beta$:
#
# $$m = \beta p + (1-\beta) q, \qquad D_\beta = \beta\,\mathrm{KL}(p\,\|\,m) + (1-\beta)\,\mathrm{KL}(q\,\|\,m)$$
#
# For example, $p = (1, 0)$, $q = (0, 1)$ and $\beta = \frac12$ give $m = (\frac12, \frac12)$ and $D = \log 2 = 0.69$. Both KLs are infinite there.
#
# ### Your turn: the divergence
#
# `p` and `q` have shape (B, K), all entries are positive. The result has shape (B,).


# %%
def jsd(p, q, beta):  # teacher, student, a number between 0 and 1
    ...


jsd = check("11.jsd", jsd)

# %% [markdown]
# At $\beta = 0$ and $\beta = 1$ the formula itself is 0, whatever the two say: then the mixture *is* one of them, and the other has no weight. So the ends are defined by
# limits: $D_\beta/\beta$ tends to forward KL for $\beta \to 0$, and $D_\beta/(1-\beta)$ to reverse KL for $\beta \to 1$.

# %%
p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.3, 0.3, 0.4]])
forward = (p * (p.log() - q.log())).sum()
print(f"forward KL {forward:.4f}")
for beta in (0.5, 0.1, 0.01, 0.001):
    value = float(jsd(p, q, beta))
    print(f"β = {beta:5}   divergence {value:.5f}   divided by β {value / beta:.4f}")

# %% tags=["claims"]
assert abs(value / beta - float(forward)) < 0.005
assert value < 0.001
torch.testing.assert_close(jsd(p, q, 0.3).mean(), generalized_jsd_loss(q.log(), p.log(), beta=0.3))

# %% [markdown]
# Near the ends the loss is small, and so is its gradient. That is the first trap of this chapter.
#
# <details><summary><b>Trap 84: β = 1 that does nothing</b></summary>
#
# Code that uses the formula at the ends returns 0. A student trained with it learns nothing, and no error is raised. TRL is a library for training language
# models. Its first trainer for GKD, *generalised knowledge distillation*, also had the shares of the mixture swapped; both were
# mended in March 2025 ([trl#3043](https://github.com/huggingface/trl/pull/3043)). Other code clamps β to [0.000001, 0.999999]: then β = 1 has a loss near
# 0.000002, and no warning
# ([verl-recipe#151](https://github.com/verl-project/verl-recipe/issues/151), September 2026). Inside, near an end, β mostly scales the learning rate.
#
# </details>
#
# ### See it
#
# The teacher's answer has two bumps. The student may have only one. Left: for each $\beta$ the best of all such students. Right: the size of the gradient for a
# student in the middle.

# %%
guess("11.small-beta")

# %% [markdown]
# Run the notebook **up to the next cell** and move $\beta$ from 0 to 1. Look at where the student stands, and at the gradient's two lonely points at the ends:
# there the divergence jumps.

# %%
explorer = ModesExplorer(beta=0.0)
explorer

# %% [markdown]
# Without a running kernel, this is the explorer at reverse KL:

# %%
still = ModesExplorer(beta=1.0)
show(still.canvas.figure, alt="11.reverse-kl")
still.close()

# %% tags=["claims"]
assert -2.5 < still.mean < -1.5  # on the larger bump, at -2
assert still.width < 0.8
with_forward = ModesExplorer(beta=0.0)
assert with_forward.width > 1.5
with_forward.close()

# %% [markdown]
# Forward KL **covers**: the student is wide, and puts much of its probability between the bumps, where the teacher has next to none. Reverse KL **seeks**: the student takes the
# larger bump, and the other is lost. Neither is right. The student is too small, and the divergence decides what it gives up.
#
# ### Does it matter for classes?
#
# The dictionary definitions of the course have 24 kinds, such as *animal* or *act*. The classifier is as simple as it gets: a *bag of words* averages one
# vector for each word, has no idea of order, and
# has one layer on top. The teacher has vectors of 64 numbers and reads all 67,734 training definitions with their labels, which takes seconds. The student has
# vectors of **four** numbers. So all of its 24 logits
# must lie in four dimensions. It learns from the teacher's answers to fewer definitions, without labels.

# %%
definitions, tokenizer = load_definitions(), load_tokenizer()
all_ids = encode(tokenizer, definitions.train.texts).input_ids
torch.manual_seed(0)
bag = BagOfWords(64)
optimizer = torch.optim.Adam(bag.parameters(), lr=3e-3, fused=True)
data = (all_ids, definitions.train.labels)
fit(bag, data, label_objective, optimizer, epochs=3, batch_size=256, progress=False)

few_ids, tested = all_ids[:TEXTS], definitions.test.take(TESTED)
test_ids = encode(tokenizer, tested.texts).input_ids
answers, of_bag = predict_logits(bag, few_ids), predict_logits(bag, test_ids)  # (N, 24), once
wrong = int((of_bag.argmax(dim=1) != tested.labels).sum())
print(f"the teacher: {wrong} errors of {TESTED:,} test definitions")

# %% tags=["claims"]
assert wrong < 0.3 * TESTED
assert len(all_ids) == 67_734

# %%
guess("11.entropy")


# %%
def learn_kinds(seed, beta, width=4):
    torch.manual_seed(seed)
    student = BagOfWords(width)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)

    def objective(model, ids, logits):
        return {"kd": generalized_jsd_loss(model(ids), logits, beta=beta)}

    fit(student, (few_ids, answers), objective, optimizer, epochs=12, seed=seed, progress=False)
    return predict_logits(student, test_ids)


# %%
ruled_out = of_bag.softmax(dim=1) < 0.01  # kinds to which the teacher gives less than 1 %
rows = []
for name, beta in {"forward": 0.0, "Jensen-Shannon": 0.5, "reverse": 1.0}.items():
    for seed in range(SEEDS):
        log_q = learn_kinds(seed, beta).log_softmax(dim=1)
        errors = int((log_q.argmax(dim=1) != tested.labels).sum())
        entropy = float(-(log_q.exp() * log_q).sum(dim=1).mean())
        tail = float((log_q.exp() * ruled_out).sum(dim=1).mean())
        rows.append(
            {"arm": name, "seed": seed, "test_errors": errors, "entropy": entropy, "tail": tail}
        )

# %%
kinds = pd.DataFrame(rows)
print(f"{'':16} errors  entropy  probability of what the teacher rules out")
for name, row in kinds.groupby("arm", sort=False).mean().iterrows():
    print(f"{name:16}{row.test_errors:7.0f} {row.entropy:8.2f} {100 * row['tail']:10.1f} %")
print(in_words(compare(kinds, baseline="forward")))

# %% tags=["claims"]
by_name = kinds.groupby("arm").entropy.mean()
assert by_name["reverse"] < by_name["forward"]

# %% [markdown]
# The same at full size, errors of 2,000 definitions, for this narrow student and for one of width 32:

# %%
for shape in ("narrow", "wide"):
    print(shape)
    columns = ["test_errors", "entropy", "tail"]
    print(means(f"divergences, {shape}", *columns).round(3).to_string(), "\n")
what_holds("forward, reverse", "reverse KL gives")

# %% tags=["claims"]
for shape in ("narrow", "wide"):
    by_arm = means(f"divergences, {shape}", "entropy", "tail")
    assert by_arm.entropy["reverse"] < by_arm.entropy["forward"] - 0.05
    assert by_arm["tail"]["reverse"] < by_arm["tail"]["forward"]
    errors = means(f"divergences, {shape}", "test_errors").test_errors
    assert errors["reverse"] > errors["forward"]
    assert by_arm.entropy["JS"] < by_arm.entropy["forward"] - 0.05
    assert errors["JS"] < errors["forward"] + 20  # 1 % of the test definitions

# %% [markdown]
# **Reverse KL makes surer students**, narrow and wide, and they give less to kinds that the teacher rules out. That is what the explorer showed.
#
# But at full size the errors are not equal; the small run above does not show it. We had expected differences below one per cent of the definitions. Reverse KL
# makes **more** errors than forward KL, in both students. Jensen-Shannon, too, makes
# surer students than forward KL, and it does not pay with errors.
#
# <details><summary><b>What it shows, and what it does not</b></summary>
#
# It shows that the choice of divergence is a choice of *what a too small student gives up*. It does not show that one of them is better. A classifier is asked
# for its largest class, so
# the rest of its answer hardly matters. A writer draws from its answer word by word, so there it matters much: see section 5.
#
# </details>
#
# ## 2. Newer losses
#
# Three losses are often named as better than plain distillation:
# - **DKD** (*decoupled*) splits KL into two terms: target class against the rest, and how the rest is spread. The second gets its own weight, printed below as
#   beta; it is not the $\beta$ of section 1. In plain KL a sure teacher makes it tiny.
# - **DIST** asks for correlation instead of equality, along each row (the classes of one sample) and along each column (the samples of one class).
# - **Standardised logits** give each row of logits mean 0 and standard deviation 1 before the softmax. Then the student need not match the teacher's size.
#
# Published tables compare them with *one* row of plain KD, whose $T = 4$ and $\alpha = 0.9$ were set in 2019 and never tuned. Here each method has six
# settings, plain KD too, and the best is chosen on held-out
# data.


# %%
def tuned(method):
    """Return the settings that the full-size run chose for a method on ten digits."""
    row = recorded[(recorded.block == "newer, ten digits") & (recorded.arm == method)].iloc[0]
    return {
        name: float(row[name])
        for name in ("temperature", "alpha", "beta", "weight")
        if row[name] == row[name]
    }


for method in ("KD", "DKD", "DIST", "standardised"):
    print(f"{method:13}", ", ".join(f"{name} {value:g}" for name, value in tuned(method).items()))


# %%
def dkd(student, images, labels, teacher_logits):
    logits, chosen = student(images), tuned("DKD")
    kd = decoupled_kd_loss(logits, teacher_logits, labels, **chosen)
    return {"kd": kd, "ce": F.cross_entropy(logits, labels)}


def dist(student, images, labels, teacher_logits):
    logits, chosen = student(images), tuned("DIST")
    kd = dist_loss(logits, teacher_logits, temperature=chosen["temperature"])
    return {"kd": chosen["weight"] * kd, "ce": F.cross_entropy(logits, labels)}


def standardised(student, images, labels, teacher_logits):
    logits, chosen = student(images), tuned("standardised")
    pair = standardize_logits(logits), standardize_logits(teacher_logits)
    kd = kd_loss(*pair, temperature=chosen["temperature"])
    return {
        "kd": chosen["alpha"] * kd,
        "ce": (1 - chosen["alpha"]) * F.cross_entropy(logits, labels),
    }


# %%
mnist = load_mnist()
images = mnist.train.take(IMAGES)
hinton = zoo.load("hinton_teacher")
objectives = {
    "KD": partial(soft_target_objective, **tuned("KD")),
    "DKD": dkd,
    "DIST": dist,
    "standardised": standardised,
}

# %%
runs = sweep(
    make_student=partial(make_mlp, 300, 300),
    data={"train": tuple(images), "test": tuple(mnist.test.take(3000))},
    teacher=hinton,
    objective=objectives,
    epochs=12,
    batch_size=64,
    seeds=range(SEEDS),
    progress=False,
)
runs["arm"] = runs.arm.str.replace("objective=", "")
small = compare(runs[~runs.arm.isin(["no_teacher", "label_smoothing"])], baseline="KD")
print(in_words(small))

# %% tags=["claims"]
averages = runs.groupby("arm").test_errors.mean()
assert averages["standardised"] < averages["no_teacher"]
assert len(small) == 3

# %% [markdown]
# Did it hold, at full size and on the 24 kinds?

# %%
full = pd.DataFrame(record["comparisons"])
of_digits, of_kinds = (
    full[(full.block == f"newer, {where}") & (full.baseline == "KD")]
    for where in ("ten digits", "24 kinds")
)
show(
    plots.did_it_hold(
        {
            "this run, of 3,000": small,
            "digits, of 10,000": of_digits,
            "24 kinds, of 2,000": of_kinds,
        }
    ),
    alt="11.held-newer",
)
what_holds("was tuned as long")

# %% tags=["claims"]
assert len(of_digits) == len(of_kinds) == 3

# %% [markdown]
# **On ten digits all three are better than the tuned plain KD. On the 24 kinds all three are worse.** Nobody who has seen only one of these two tables would guess the other.
#
# One difference is how sure the teachers are. Hinton's teacher has been trained on these very images:

# %%
for name, logits in {"digits": predict_logits(hinton, images.images), "kinds": answers}.items():
    sure = logits.softmax(dim=1).max(dim=1).values
    size = logits.std(dim=1)
    print(
        f"{name:7} mean probability of the teacher's answer {sure.mean():.3f}, "
        f"size of the logits {size.mean():.1f}, from {size.min():.1f} to {size.max():.1f}"
    )

# %% tags=["claims"]
assert (
    predict_logits(hinton, images.images).softmax(1).amax(1).mean()
    > answers.softmax(1).amax(1).mean()
)
higher = full[(full.block == "newer, ten digits") & (full.baseline == "KD, higher T")]
assert set(higher.verdict) == {"better"}
assert set(of_digits.verdict) == {"better"}
assert set(of_kinds.verdict) == {"worse"}

# %% [markdown]
# One temperature for all images leaves the size of each teacher's answer in the target. Standardising takes it out, a correlation ignores it, and DKD lifts the
# part that a sure teacher makes tiny. When the first results
# were seen we let plain KD try $T$ up to 160: it did not help. So our *reading* is that these losses mend a teacher that is too sure, and that there is nothing
# to mend for the kinds. The experiment does not prove it.
#
# <details><summary><b>What it shows, what it does not, and the mistake of public code</b></summary>
#
# It shows how much of a new loss is left when the old one is tuned as long. It does not show what happens with 100 classes and convolutional networks. On
# CIFAR-100 the authors' tables report for DKD 1.0 to 3.0 points over plain KD and for
# standardised logits .2 to 3.3, all against that one row of plain KD.
#
# With **two classes** DKD's second term is always 0, because there is only one other class; its weight does nothing. And losses that take the softmax along the
# last axis are wrong without any error for maps of shape (B, K, H, W):
# trap 70.
#
# </details>
#
# ## 3. A patient and consistent teacher
#
# Beyer and others (2022) took a plain method, KL without labels, and asked what makes it work. Their answer has two words. *Consistent*: teacher and student
# look at the **same** randomly
# shifted image. *Patient*: train very long. Here an image has 25 shifts of up to two pixels, and all of the teacher's answers fit into a cache, if its key is
# the sample **and** the shift.

# %%
views = shifted_views(images.images)  # (25, N, 1, 28, 28)
of_views = torch.stack([predict_logits(hinton, view) for view in views])  # (25, N, 10)
print(f"{of_views.numel() * 4 / 1e6:.1f} MB of logits for {IMAGES} images and 25 shifts")


# %%
def learn_from_views(seed, asked, epochs):
    torch.manual_seed(seed)
    student, generator = make_mlp(32), torch.Generator().manual_seed(seed)

    def objective(model, index):
        seen, other = torch.randint(25, (2, len(index)), generator=generator)  # (B,), (B,)
        middle = torch.full_like(seen, 12)  # the image as it is
        place = {"same view": seen, "another view": other, "stale": middle}[asked]
        kd = kd_loss(model(views[seen, index]), of_views[place, index], temperature=8.0)
        return {"kd": kd}

    optimizer = make_adam(list(student.parameters()))
    data = (torch.arange(IMAGES),)
    fit(
        student, data, objective, optimizer, epochs=epochs, batch_size=64, seed=seed, progress=False
    )
    return count_errors(student, *mnist.test.take(3000))


# %%
rows = [
    {
        "arm": f"{asked}, {epochs} epochs",
        "seed": seed,
        "test_errors": learn_from_views(seed, asked, epochs),
    }
    for asked in ("same view", "another view", "stale")
    for epochs in (5, 20)
    for seed in range(SEEDS)
]
by_view = pd.DataFrame(rows)
print(by_view.groupby("arm", sort=False).test_errors.mean().round(0).to_string())
long = by_view[by_view.arm.str.endswith("20 epochs")]
print(in_words(compare(long, baseline="same view, 20 epochs")))

# %% tags=["claims"]
averages = by_view.groupby("arm").test_errors.mean()
assert averages["same view, 20 epochs"] < averages["same view, 5 epochs"]

# %% [markdown]
# That is a small student, on few images and for a short time. At full size there are 1,000 images, 15 epochs (*short*) or 120 (*long*), five seeds, and a
# student of 2×800 units beside the small one.

# %%
blocks = {shape: means(f"patience, {shape}", "test_errors") for shape in ("32 units", "2×800")}
print(pd.concat(blocks, axis=1).droplevel(1, axis=1).round(0).to_string())
what_holds("long schedule", "long run")

# %% tags=["claims"]
large, little = blocks["2×800"].test_errors, blocks["32 units"].test_errors
assert large["same view, long"] < 0.3 * large["same view, short"]
assert large["same view, long"] < large["label_smoothing, long"]
assert little["same view, long"] > 1.4 * little["label_smoothing, long"]
for errors in (large, little):
    assert 10 < errors["stale targets, long"] - errors["same view, long"] < 40

# %% [markdown]
# For the large student patience pays: the long schedule makes a quarter of the errors of the short one, and there the teacher beats smoothed labels. The
# student of 32 units gains from a long schedule too,
# and yet smoothed labels alone make far fewer errors. It is too small to follow its teacher, and without labels nothing else holds it. The view matters less
# than the time here: against stale targets the same view gains some
# twenty to thirty errors of 10,000.
#
# <details><summary><b>What it shows, what it does not, and the mistake of public code</b></summary>
#
# It shows how a cache stays right under augmentation, and that time helps both students, but beats smoothed labels only with the large one. It does not show
# what very long runs do: in the paper fixed targets fall behind after 600 epochs of ImageNet,
# and it goes on to 9,600.
#
# The mistake is the **stale cache**: logits that were computed once meet images that are augmented anew in every epoch. Nothing fails, the loss even goes down.
# `fit` of this course refuses it (trap 75), and
# trap 6 says the same of every cache: what changes the input belongs to its key.
#
# </details>
#
# ## 4. Answers that were kept
#
# A large teacher is asked once and its answers are kept. For ten digits that is nothing. For a vocabulary it is too much: the course's writer knows 6,024 (the
# 6,000 pieces, and one token such as `[animal]` for each of the 24 kinds), a language model 150,000. One token takes
# 12 kB here and 300 kB there. So only a part is kept.

# %%
draw_kept_answers()

# %% [markdown]
# ### Your turn: a bucket for the rest
#
# Keep the teacher's most probable classes, and count **all others together as one more class**, the *bucket*. `p` and `q` have shape (B, K), `kept` has shape
# (B, n) and holds class numbers. The result has shape (B,).
# For example, $p = (0.6, 0.4)$, $q = (0.9, 0.1)$, and only class 0 is kept: $0.6 \log\frac{0.6}{0.9} + 0.4 \log\frac{0.4}{0.1} = 0.31$. Without the bucket it would be $-0.24$.


# %%
def with_bucket(p, q, kept):  # p.gather(-1, kept) picks each row's own classes
    ...


with_bucket = check("11.bucket", with_bucket)

# %%
p, q = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.9, 0.1]])
kept = torch.tensor([[0]])
print(
    f"with a bucket {float(with_bucket(p, q, kept)):.3f}, "
    f"without {0.6 * torch.tensor(0.6 / 0.9).log():.3f}"
)

# %% tags=["claims"]
torch.testing.assert_close(with_bucket(p, q, kept), torch.tensor([0.3112]), atol=1e-3, rtol=0)

# %% [markdown]
# Now a real answer. The writer, a GPT of the course's zoo, says what may follow after `[animal] a`. A student that can learn *anything*, a free row of 6,024
# logits, is trained on what was kept, until nothing changes.

# %%
gpt = zoo.load("writing_teacher")
animal = definitions.kinds.index("animal")
begun = torch.tensor([[6000 + animal, tokenizer.convert_tokens_to_ids("a")]])
with torch.no_grad():
    answer = gpt(begun, attention_mask=torch.ones_like(begun)).logits[:, -1]  # (1, V)
probabilities = answer.softmax(dim=-1)[0]
best = probabilities.topk(6)
for probability, word in zip(
    best.values, tokenizer.convert_ids_to_tokens(best.indices), strict=True
):
    print(f"{probability:6.1%}  {word}")

# %%
guess("11.renormalised")

# %%
indices, log_probs, log_rest = top_targets(answer, 3)
drawn = sampled_targets(answer.expand(3000, -1), 8, generator=torch.Generator().manual_seed(0))
together = drawn.indices.flatten()[None], drawn.weights.flatten()[None] / 3000  # of 3,000 texts
ways = {
    "all logits": lambda z: kd_loss(z, answer, temperature=1.0),
    "top 3, renormalised": lambda z: -(log_probs.softmax(-1) * z.log_softmax(-1)[0, indices]).sum(),
    "top 3 and a bucket": lambda z: with_bucket(answer.softmax(-1), z.softmax(-1), indices).sum(),
    "8 sampled": lambda z: sampled_kd_loss(z, *together),
}


# %%
def rest_of(loss):
    """Train free logits by a loss, and return what they give to all but the three words."""
    z = torch.zeros_like(answer, requires_grad=True)
    optimizer = torch.optim.Adam([z], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        loss(z).backward()
        optimizer.step()
    return float(1 - z.detach().softmax(dim=-1)[0, indices].sum())


print(f"{'teacher':20} {float(log_rest.exp()):6.1%} for the other words")
rest = {name: rest_of(loss) for name, loss in ways.items()}
for name, share in rest.items():
    print(f"{name:20} {share:6.1%} for the other words")

# %% tags=["claims"]
of_teacher = float(log_rest.exp())
assert rest["top 3, renormalised"] < 0.02 < of_teacher
assert abs(rest["top 3 and a bucket"] - of_teacher) < 0.03
assert abs(rest["8 sampled"] - of_teacher) < 0.05

# %% [markdown]
# **Renormalising is biased**: the target itself says 0 for every word that was not kept, so a student that learns it well is surer than its teacher. **The
# bucket** says how much the others have together, and leaves
# open how they share it. **Sampling** keeps eight words that were *drawn* from the teacher's answer. One draw of eight says little. But on average over many
# texts it says the truth, for
# rare words too.
#
# What a token costs on disk, with two bytes for a word's number and two for a logit:

# %%
for name, size in {
    "all logits": 2 * 6024,
    "top 8 and a bucket": 4 * 8 + 2,
    "8 sampled, equal weights": 2 * 8,
}.items():
    print(f"{name:25} {size:6,} bytes a token, {size * 1e9 / 1e12:7.3f} TB for a billion tokens")

# %% [markdown]
# This shows the bias where nothing else is in the way. How much of it is left in a student that must generalise? At full size a writer of 2×64 learns the next
# token of 2,000 definitions from what was kept, with five
# seeds. *Overconfidence* is how sure it is on average, minus how often it is right, in percentage points.

# %%
of_kept = means("cached", "test_loss", "overconfidence")
print(of_kept.round(2).to_string())
what_holds("top-8", "bucket", "sampled classes")

# %% tags=["claims"]
sure = of_kept.overconfidence
assert sure["top-8 renormalised"] > sure["all logits"] + 4
assert sure["all logits"] < sure["top-8 with a bucket"] < sure["top-8 renormalised"] - 2
assert of_kept.test_loss["all logits"] < of_kept.test_loss["8 sampled"] - 0.1
assert of_kept.test_loss["8 sampled"] < of_kept.test_loss["top-8 with a bucket"] - 0.2

# %% [markdown]
# The bias is there in a student that must generalise: renormalised targets make it several points surer than it is right. A bucket takes away about half of
# that, and hardly changes the loss. Sampling does best of
# the three, as the paper says. But here it does **not** teach as much as all logits: eight draws a token and four epochs are few.
#
# <details><summary><b>Traps 89 and 90: the mistakes of public code</b></summary>
#
# A *truncated* sum without a bucket is no divergence. It is negative where the student gives the kept words more than the teacher does. verl cut it off at 0,
# where there is no gradient: in one report that happened to some token in 415 of 467
# training steps ([verl#7855](https://github.com/verl-project/verl/pull/7855), September 2026, which proposes the bucket). DistillKit's README asks which of two
# ways a missing probability is to be handled, `zero` or `uniform`; `zero` is the biased one.
#
# A temperature must be chosen **before** the logits are cut: what was left out cannot be softened later.
#
# </details>
#
# ## 5. The student writes
#
# A writer that has learned from given texts meets at its first odd word a beginning that it has never seen. Nobody has told it how to go on from there.
# *On-policy distillation* (Agarwal and others, 2024) therefore lets the student
# write, and asks the teacher about **these** texts.
#
# A text here is the token of a kind, the words, and a closing token, then padding: `[animal] a large dog [SEP] [PAD] [PAD]`.
#
# ### Your turn: where does a text count?
#
# At each place but the last a writer says what comes next. Mark the places whose next token is real. `ids` has shape (B, L); padding is number 0, the closing
# token number 3. The result is a tensor of bool, of shape (B, L - 1).


# %%
def counts(ids): ...


counts = check("11.counts", counts)

# %%
text = torch.tensor([[6000 + animal, 9, 8, 3, 0, 0]])
print("next tokens", text[0, 1:].tolist(), "count", counts(text)[0].int().tolist())

# %% tags=["claims"]
tokens, real = next_tokens(text, (text != 0).long())
assert counts(text).tolist() == real.tolist() == [[True, True, True, False, False]]

# %% [markdown]
# Now a student: **one** block where the teacher has three. It starts from the teacher's embeddings and first block, as DistilBERT does: from nothing it would
# need hours to write words at all. Then it
# reads some definitions from the dictionary.

# %%
READ, STEPS = (64, 25) if FULL else (30, 8)
rows = torch.randperm(len(all_ids), generator=torch.Generator().manual_seed(0))[
    : 32 * READ
].tolist()
ids, mask = encode(tokenizer, [definitions.train.texts[row] for row in rows], max_length=24)
read = (start_with_kind(ids, definitions.train.labels[rows]), mask)
torch.manual_seed(0)
student = make_writer(layers=1, width=192)
student.load_state_dict(gpt.state_dict(), strict=False)  # what the one block has in common
optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4, weight_decay=0.01)

# %%
options = dict(epochs=1, batch_size=32, make_batches=LengthBatches, progress=False)
history = fit(student, read, text_objective, optimizer, **options)
losses = history.terms["ce"]
print(
    f"cross-entropy of the next token: {losses[:3].mean():.2f} at first, "
    f"{losses[-3:].mean():.2f} after {len(losses)} steps"
)

# %% tags=["claims"]
assert losses[-3:].mean() < losses[:3].mean() - 0.5

# %% [markdown]
# The sampling loop is short; this is its core. It asks for one new token at a time, because keys and values of the earlier ones are kept in a cache. It draws
# from the student's **whole** distribution: no top-k, no top-p.
#
# ```python
# while len(rows) < max_length and open_.any():
#     logits = writer(token[:, None], use_cache=True, **cache).logits[:, -1]            # (B, V)
#     token = torch.multinomial((logits / temperature).softmax(dim=-1), 1)[:, 0]        # (B,)
#     token = token.where(open_, PAD)
#     rows.append(token)
#     open_ = open_ & (token != END)
# ```
#
# The training loop is still the one of chapter 01. Only the batches are new: `WrittenTexts` writes each of them when it is asked for, with the student as it is then.

# %%
batches = WrittenTexts(
    student, definitions.train.labels, steps=STEPS, batch_size=32, max_length=24, seed=0
)
objective = make_writer_objective(gpt, beta=1.0)  # reverse KL at each real token
optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4, weight_decay=0.01)
gaps = [float(step.terms["kd"]) for step in train(student, batches, objective, optimizer)]
print(f"reverse KL a token: {gaps[0]:.2f} at first, {sum(gaps[-3:]) / 3:.2f} at the end")

# %%
asked = torch.arange(24)
texts = write(student, asked, max_length=24, generator=torch.Generator().manual_seed(0))
judge = zoo.load("definitions_teacher")  # chapter 09's classifier
marks = judge_texts(texts, asked, teacher=gpt, classifier=partial(predict_kinds, judge))
print(f"the teacher needs {marks.teacher_loss:.2f} nats a token")
print(f"{marks.recognised:.0%} recognised as their kind, {marks.ended:.0%} ended")
print("\n".join(as_words(texts, tokenizer)[:3]))

# %% tags=["claims"]
assert sum(gaps[-3:]) / 3 < gaps[0]

# %% [markdown]
# One student and a few steps show only that the loop runs. At full size each of five students has read 64 batches of the dictionary, and learns on for 25 batches in four ways.

# %%
guess("11.writes")

# %%
columns = ["teacher_loss", "recognised", "distinct", "ended", "dictionary_loss"]
judged = means("writers", *columns)
of_teacher = pd.DataFrame(record["references"]).T.reindex(["teacher", "dictionary"])
table = pd.concat([judged, of_teacher.reindex(columns=columns).astype(float)])
print(f"{'':22}{'teacher,':>9}{'recog-':>8}{'distinct':>10}{'ended':>7}{'dictionary,':>13}")
print(f"{'':22}{'nats':>9}{'nised':>8}{'pairs':>10}{'':>7}{'nats':>13}")
for name, row in table.iterrows():
    print(
        f"{name:22}{row.teacher_loss:9.2f}{row.recognised:6.0f} %{row.distinct:8.0f} %"
        f"{row.ended:5.0f} %"
        f"{row.dictionary_loss:13.2f}"
    )
what_holds("Learning from its own", "recognised", "variety", "model of the dictionary")

# %% tags=["claims"]
assert judged.teacher_loss["on-policy, β = 1"] < judged.teacher_loss["start"]
assert judged.dictionary_loss["on-policy, β = 1"] > judged.dictionary_loss["teacher's texts, KL"]
assert 63 < of_teacher.recognised["teacher"] < 69 < 82 < of_teacher.recognised["dictionary"] < 90

# %% [markdown]
# - *teacher, nats*: the teacher's mean cross-entropy for the student's texts. Lower means that it would have written such texts itself.
# - *recognised*: the share of texts that the classifier of chapter 09 takes for the kind that was asked for.
# - *distinct pairs*, also called [distinct-2](glossary:distinct-2): the number of different pairs of neighbouring tokens, divided by the number of all such
#   pairs. 192 texts each.
# - *dictionary, nats*: the student's cross-entropy for real test definitions (`nan` for the dictionary, which is no model).
#
# **Learning from its own texts by reverse KL, the student writes what its teacher finds likelier**: better than both students that learned from the teacher's
# texts. **It pays as a model of the dictionary**, which it finds less likely
# than the student of the KL does. Whether its texts are recognised more often, and whether they repeat themselves more, is *unclear* after so few steps: both
# intervals hold 0. Note what the teacher itself reaches: two of three of its texts are recognised, against six of seven
# from the dictionary. No student can be expected to pass it.
#
# ### A page of it
#
# The first text that each writer wrote about each kind, unedited, of one student before and after, and of its teacher. Same seed for the draws.

# %%
pages = record["pages"]
for title in ("start", "teacher's texts, KL", "on-policy, β = 1", "teacher"):
    print(f"--- {title}")
    for kind, line in zip(definitions.kinds[:12], pages[title], strict=False):
        print(f"[{kind}] {line}")

# %% tags=["claims"]
assert len(pages["start"]) == len(pages["on-policy, β = 1"]) == 24

# %% [markdown]
# <details><summary><b>What it shows, and what it does not</b></summary>
#
# It shows that *one* number would have told half of the story. It does not show what happens with large models: there a student starts from fine-tuning and
# knows the language, and its teacher is right about nearly everything that
# it is asked. Our teacher has read 67,000 definitions and nothing else.
#
# </details>
#
# <details><summary><b>Traps 85, 86, 87 and 91: the mistakes of public code</b></summary>
#
# - 85: the mean of micro-batch means. With gradient accumulation a token of a short batch weighs more than one of a long batch. TRL's three distillation
#   trainers did this until June 2026
#   ([trl#6006](https://github.com/huggingface/trl/pull/6006)); an earlier `batchmean` divided by tokens × vocabulary
# ([trl#4105](https://github.com/huggingface/trl/pull/4105), September 2025).
# - 86: padding and closing token have one number. The mask removes both, and the student never learns to stop. `ended` above would show it.
# - 87: "on-policy" texts that were not drawn from the policy. Since transformers 5 an unset `top_p` is inherited from the *model's* generation config, and
#   models ship with .95. So texts were cut off silently, until TRL set it
#   ([trl#6337](https://github.com/huggingface/trl/pull/6337), July 2026).
# - 91: a masked model's logits speak about the place itself, a causal model's about the next one. Shifted by one, a loss still goes down.
#
# </details>
#
# ## 6. Another tokenizer
#
# Until now student and teacher cut a text into the same pieces. Two models of different families do not. Here is a second tokenizer, trained on the same
# definitions, with 1,500 pieces instead of 6,000.

# %%
import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast

path = Path(tempfile.mkdtemp()) / "small.json"
train_tokenizer(definitions.train.take(20_000).texts, path, vocabulary=1500)
small_tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
sentence = "a nocturnal marsupial of australia"
for each in (tokenizer, small_tokenizer):
    print(" | ".join(each.tokenize(sentence)))

# %% [markdown]
# Both know where in the text each piece ends. Where both have a cut, both have read the same text, and their answers about **what follows** may be compared.


# %%
def ends(each, text):
    offsets = each(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [end for _, end in offsets]


for span in aligned_spans(ends(small_tokenizer, sentence), ends(tokenizer, sentence)):
    student_piece = small_tokenizer.tokenize(sentence)[span.student]
    print(f"{' '.join(student_piece):34} {' '.join(tokenizer.tokenize(sentence)[span.teacher])}")

# %%
cuts = pieces = 0
for text in definitions.test.take(500).texts:
    both = ends(small_tokenizer, text), ends(tokenizer, text)
    cuts += len(aligned_spans(*both))
    pieces += len(both[0])
print(f"{cuts / pieces:.0%} of the student's pieces end where a piece of the teacher ends")

# %% tags=["claims"]
assert 0.4 < cuts / pieces < 1

# %% [markdown]
# The places are aligned. The words of the answer are not: number 700 of one vocabulary is another piece than number 700 of the other. A way out that needs no
# dictionary is to **sort** both rows of probabilities and to compare the largest with
# the largest, and so on (*universal logit distillation*, 2024).

# %%
right, swapped = torch.tensor([[4.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, 4.0]])
teacher_says = torch.tensor([[4.0, 1.0, 0.0]])
for name, logits in {"agrees": right, "is sure of another word": swapped}.items():
    print(f"student {name:24} sorted {float(sorted_probability_loss(logits, teacher_says)):.2f}")

# %% tags=["claims"]
assert float(sorted_probability_loss(swapped, teacher_says)) == 0

# %% [markdown]
# Sorting forgets *which* word is meant. How much is left?

# %%
guess("11.sorted")

# %%
for name, errors in means("sorted", "test_errors").test_errors.items():
    print(f"{name:18} {errors:6,.0f} errors of 10,000")
what_holds("Sorted")

# %% tags=["claims"]
of_sorted = means("sorted", "test_errors").test_errors
assert of_sorted["sorted alone"] > 8500
assert of_sorted["labels and sorted"] > of_sorted["label_smoothing"] + 100

# %% [markdown]
# **Alone, sorted probabilities teach nothing about which digit is which**: nine of ten answers are wrong. **Beside the labels they did not help here**, on
# 2,000 images, with the best of four settings. Smoothed labels did more.
# In the paper the loss helps language models, where a teacher's sureness says something at each word.
#
# <details><summary><b>Trap 88: the teacher reads the student's numbers</b></summary>
#
# A teacher of another family gets the student's token ids as they are. They are in range, so nothing fails, and the teacher reads nonsense. Equal *sizes* prove
# nothing either: vocabularies are padded to multiples of 64 or 128. Decode the student's text and encode it anew. TRL's GOLD trainer
# aligns by byte offsets since June 2026 ([trl#5885](https://github.com/huggingface/trl/pull/5885)); NVIDIA's NeMo RL learns a sparse projection between vocabularies.
#
# </details>
#
# ## Map to practice
#
# What libraries do of this chapter, read in their documentation, code and issues. Such tables age quickly, so each row says what was read and when. Look again
# before you rely on a default.
#
# | tool | read | what it does | defaults | watch out |
# |---|---|---|---|---|
# | [TRL](https://huggingface.co/docs/trl/en/distillation_trainer) `DistillationTrainer` | main, autumn 2026; stable since 1.11 | on-policy only; generalised JSD of the whole vocabulary, in chunks | β 1 (reverse KL), T 1 for drawing *and* loss, top-p 1, no top-k, 512 tokens, learning rate 0.000001 | β = 1 seeks: measure variety too |
# | TRL `GKDTrainer`, experimental | August 2026, [#6847](https://github.com/huggingface/trl/pull/6847) | given texts and own texts, mixed | own texts λ ½, β ½, T .9 for drawing only | traps 84, 85, 87 until 2025 and 2026: take a new version |
# | TRL `GOLDTrainer`, experimental | June 2026, [#5885](https://github.com/huggingface/trl/pull/5885) | another tokenizer: byte offsets, sorted probabilities | – | identity is lost where it sorts |
# | [ms-swift](https://swift.readthedocs.io/en/latest/Megatron-SWIFT/GKD.html) GKD | 3.12 and autumn 2026 | as GKD, at scale, also with a teacher behind a server | β ½, λ ½, T .9 | 3.12: without vLLM λ > 0 falls back to given texts; near the ends of β see [#10078](https://github.com/modelscope/ms-swift/issues/10078) |
# | [NeMo RL](https://docs.nvidia.com/nemo/rl/0.7.0/about/algorithms/on-policy-distillation.html) | 0.7, and the example configuration of main | on-policy, the teacher's top 64 logits | KL both ways, ½ each, top-p 1, T 1 | top 64 of a vocabulary is a choice: see section 4 |
# | verl | pull requests of 2026, [#5041](https://github.com/verl-project/verl/pull/5041) | on-policy; forward KL of the teacher's top k, or reverse KL estimated from the drawn word | – | truncated sum clamped at 0 ([#7855](https://github.com/verl-project/verl/pull/7855)); top-k reverse KL was unstable and left out |
# | [DistillKit](https://github.com/arcee-ai/DistillKit) | README, main | kept answers: 16 exact, a polynomial up to 128 | about 300 bytes a token as recommended | missing probability `zero` is the biased choice |
# | [Megatron Core](https://docs.nvidia.com/megatron-core/developer-guide/nightly/user-guide/features/offline_logits_distillation.html) | nightly, 2026 | kept top-k log-probabilities, forward KL | – | as above |
# | [vLLM](https://docs.vllm.ai/en/stable/training/prompt_token_id_logprobs/) | stable, 2026 | a teacher that scores given tokens, for reverse KL | – | text of the student, tokens of the teacher: trap 88 |
# | [TorchRL](https://docs.pytorch.org/rl/0.15/reference/generated/torchrl.objectives.llm.DistillationLoss.html) `DistillationLoss` | 0.15 | KL estimated from the drawn words only | reverse | reverse needs words that the *student* drew, forward the teacher's |
# | [Keras](https://keras.io/api/models/distillation/logits_distillation) `LogitsDistillation` | 3.15 | classifiers: soft targets, features | T 3 | – |
# | [torchtune](https://github.com/meta-pytorch/torchtune/issues/2883) | notice of 15 July 2025 | had recipes for KD with adapters | – | wound down: no new features; do not begin with it |
#
# ### If your task is …
#
# | your task | begin with | and measure |
# |---|---|---|
# | few labels, a good teacher, classes | plain KD, $T$ and $\alpha$ chosen on held-out data (chapter 02) | errors against no teacher *and* smoothed labels |
# | the same, and much time | the same random view for both, long, no labels (section 3) | at two lengths, with the student that you will use |
# | classes, and the probabilities will be used | forward KL at $T = 1$ | calibration, not only errors |
# | a detector | class and feature terms at labelled places (chapter 08) | mAP with the same start for all arms |
# | a BERT that shall be smaller | start from the teacher's layers, then logits (chapter 09) | against the same start without a teacher |
# | a writer, its teacher is far away or expensive | keep sampled words, or the top with a bucket (section 4) | test loss, and confidence minus accuracy |
# | a writer, its teacher is at hand | texts of the teacher first, then on-policy (section 5) | likelihood, a judge, distinct-2, ended texts: all four |
# | a teacher that hands over only texts | sequence-level distillation: cross-entropy on its texts | the same four |
# | a teacher of another family | decode and encode anew, align by offsets (section 6) | the share of places that align |
# | a model that learns new classes | old answers *and* a few old images (chapter 12) | with and without task labels |
# | a model of few bits | train while rounded (chapter 12) | bytes of the file as saved |
# | one student, no teacher yet | labels: a teacher must first be paid for | what teacher and student cost together |
#
# The last row is from a study of scaling: with a teacher at hand, or with many students to come, distillation wins up to an amount of computing that grows with
# the student. For one student and a teacher still to be trained,
# plain training wins (Busbridge and others, 2025, from the abstract).
#
# ## Summary
#
# - Forward KL covers what the teacher says, reverse KL seeks its favourite. At the ends of the generalised Jensen-Shannon divergence code is often wrong, and
#   near them it is nearly 0.
# - A newer loss must beat a plain one that was tuned as long. Here all three gained with a very sure teacher of ten digits, and lost with a less sure one of 24 kinds.
# - A consistent teacher looks at the same view as its student. The cache's key is sample and view.
# - Kept answers: never renormalise what was kept. A bucket costs one number, sampling none, and both are right about the rest.
# - On-policy distillation is the old loop with batches that the student writes. Reverse KL makes texts that the teacher finds likelier, and a worse model of
#   real texts than KL on the teacher's texts does.
# - Another tokenizer: places can be aligned, words cannot. Sorting them forgets which is which.
# - One number never tells the whole story of a writer.
#
# ## Think, then try
#
# 1. On-policy texts are written by the student as it is *now*. What would change if all batches were written before the first step?
#
#    <details><summary>What to expect</summary>
#
#    The texts would be those of the start. The student would learn to repair beginnings that it no longer writes. Try `list(batches)` before the loop: each
# batch is then written by the untrained student.
#
#    </details>
#
# 2. How many bytes does a token take if you keep 8 sampled words of a vocabulary of 6,024, and all weights are equal?
#
#    <details><summary>Answer</summary>
#
#    16: a number below 6,024 fits into two bytes, and equal weights need not be kept. All logits in half precision take 12,048.
#
#    </details>
#
# 3. The loss with a bucket is never larger than KL over all classes. Why?
#
#    <details><summary>Answer</summary>
#
#    Putting classes together throws away differences within the bucket. Two distributions can only look more alike. For example, if they differ inside the
# bucket alone, the loss is 0.
#
#    </details>
#
# More, with checks that know the usual slips: `exercises/ex11_modern_distillation`.
#
# ## References
#
# - Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist, Bachem (2024). *On-policy distillation of language models.*
#   [arXiv:2306.13649](https://arxiv.org/abs/2306.13649): equation 1, section 3.
# - Gu, Dong, Wei, Huang (2024). *MiniLLM: knowledge distillation of large language models.* [arXiv:2306.08543](https://arxiv.org/abs/2306.08543): reverse KL.
# - Kim, Rush (2016). *Sequence-level knowledge distillation.* [arXiv:1606.07947](https://arxiv.org/abs/1606.07947).
# - Zhao, Cui, Song, Qiu, Liang (2022). *Decoupled knowledge distillation.* [arXiv:2203.08679](https://arxiv.org/abs/2203.08679): equations 5 to 7.
# - Huang, You, Wang, Qian, Xu (2022). *Knowledge distillation from a stronger teacher.* [arXiv:2205.10536](https://arxiv.org/abs/2205.10536): equations 6 to 10.
# - Sun, Ren, Li, Wang, Cao (2024). *Logit standardization in knowledge distillation.* [arXiv:2403.01427](https://arxiv.org/abs/2403.01427): algorithm 1.
# - Beyer, Zhai, Royer, Markeeva, Anil, Kolesnikov (2022). *Knowledge distillation: a good teacher is patient and consistent.*
#   [arXiv:2106.05237](https://arxiv.org/abs/2106.05237): section 3.
# - Hao and others (2023). *Revisit the power of vanilla knowledge distillation: from small scale to large scale.*
#   [arXiv:2305.15781](https://arxiv.org/abs/2305.15781): the small data pitfall.
# - Anshumann and others (2025). *Sparse logit sampling.* [arXiv:2503.16870](https://arxiv.org/abs/2503.16870): sections 3 and 4.
# - Busbridge and others (2025). *Distillation scaling laws.* [arXiv:2502.08606](https://arxiv.org/abs/2502.08606): abstract.
# - Boizard, El Haddad, Hudelot, Colombo (2024). *Towards cross-tokenizer distillation: the universal logit distillation loss.*
#   [arXiv:2402.12030](https://arxiv.org/abs/2402.12030).
# - Li, Galley, Brockett, Gao, Dolan (2016). *A diversity-promoting objective function for neural conversation models.*
#   [arXiv:1510.03055](https://arxiv.org/abs/1510.03055): distinct-2.
