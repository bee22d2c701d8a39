# %% [markdown]
# # Your own project
#
# You have a model that works, and it is too large: for the phone, for the bill, or for the time that an answer may take. You have data in a folder,
# a loop that you know, and no wish to learn another framework. Here you go the whole way once, from "my model is too large" to a file that you
# can ship: a folder of images, a student with **a four-hundredth of its teacher's weights**, [intervals](glossary:confidence-interval), a
# budget, and an exported file that answers as the student does.
#
# On the way you meet three mistakes that raise no error. Then the teacher is a forest, then a model of `transformers`, and at the end the loop is somebody else's.
#
# **You will be able to**
# - distil on a folder of images with random augmentation, in your own loop or in this one;
# - use anything as a teacher that answers: a network, a forest, a service;
# - choose a student under a budget, and export it;
# - put the loss into the `Trainer` of `transformers` and into Lightning, and recognise trap 100 of `docs/traps.md`.
#
# **You need** chapter 02. **Time** about 60 minutes; the machine needs about one and a half.
#
# Symbols: $T$ [temperature](glossary:temperature); $\alpha$ the teacher's share of the loss; $K$ classes; $B$ samples in a
# batch.

# %%
import importlib.util
import tempfile
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.datasets import ImageFolder
from torchvision.io import write_png
from torchvision.transforms import v2

from kdcourse import plots, zoo
from kdcourse.checks import check
from kdcourse.data import jitter, load_mnist
from kdcourse.losses import distillation_loss  # noqa: F401 - for your third turn
from kdcourse.models import export_onnx, make_mlp, measure_models

# %% tags=["plumbing"]
from kdcourse.objectives import label_objective, soft_target_objective
from kdcourse.plots import show
from kdcourse.plots.drawings import draw_own_project
from kdcourse.recipes import as_teacher, distill, make_adam
from kdcourse.sweeps import compare, in_words
from kdcourse.training import count_errors, fit, predict_logits
from kdcourse.widgets import guess


def is_there(*names):
    return all(importlib.util.find_spec(name) is not None for name in names)


# %%
draw_own_project()

# %% [markdown]
# Everything in this picture is yours, but for the loss. The teacher is frozen, and it sees **the same random view** as the student. At the end only the
# student is left, as a file.
#
# ## A folder of images
#
# Most image projects begin with a folder for each class, and with many more files that nobody has labelled. The next cells make such a folder out of MNIST, as PNG
# files. After that, forget MNIST: all that follows reads files, as it would read yours.

# %%
FULL = False  # True: more files, five seeds, all test images
LABELLED, UNLABELLED, EPOCHS, SEEDS, TESTED = (
    (100, 2900, 4, 5, 10_000) if FULL else (100, 900, 4, 3, 1000)
)
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
folder = Path(tempfile.mkdtemp())


def write(part, images, names):
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        file = folder / part / name / f"{number:05}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_png((255 * image).round().byte(), str(file))


# %%
mnist = load_mnist()
labelled, held, tested = (
    mnist.train.take(LABELLED),
    mnist.held_out.take(500),
    mnist.test.take(TESTED),
)
for part, split in {"train": labelled, "held_out": held, "test": tested}.items():
    write(part, split.images, [NAMES[label] for label in split.labels])
write("more", mnist.train.images[LABELLED:][:UNLABELLED], ["unknown"] * UNLABELLED)
for part in sorted(folder.iterdir()):
    files = sorted(part.rglob("*.png"))
    print(f"{part.name:9} {len(files):6,} files, for example {files[-1].relative_to(folder)}")

# %% [markdown]
# `train` has labels, and is learned from. `more` has none: its one folder is called *unknown*. `held_out` chooses: temperature, epochs, the student. `test`
# chooses nothing; it says how good something is. If your folder has
# one part only, split it *before* anything else, and by what belongs together: by patient, by camera, by day. Two photographs of one
# cat, one in each part, are a test that you have trained on.
#
# torchvision's `ImageFolder` reads such a folder. The transforms turn, shift and scale each training image anew every time that it is read.

# %%
to_tensor = [v2.Grayscale(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
moved = v2.RandomAffine(degrees=12, translate=(0.1, 0.1), scale=(0.9, 1.1))
train = ImageFolder(folder / "train", v2.Compose([moved, *to_tensor]))
more = ImageFolder(folder / "more", v2.Compose([moved, *to_tensor]))
with_labels = DataLoader(train, batch_size=10, shuffle=True)
all_files = DataLoader(ConcatDataset([train, more]), batch_size=10, shuffle=True)


def read(part):  # without augmentation, read once
    dataset = ImageFolder(folder / part, v2.Compose(to_tensor))
    return next(iter(DataLoader(dataset, batch_size=len(dataset))))


held_out, test = read("held_out"), read("test")
views = torch.stack([train[7][0] for _ in range(10)])
show(plots.digit_grid(views), alt="13.views")

# %% [markdown]
# That is one file, read ten times.
#
# ## A teacher that knows everything
#
# The model that is too large is the course's trained network with two layers of 1,200 units. It has 2.4 million weights. Of the 10,000 test images of MNIST it gets more than
# 99 % right. You load it and ask it about the images of your folder.

# %%
guess("13.classes")

# %%
network = zoo.load("hinton_teacher")
wrong = count_errors(network, *test)
print(f"the teacher, on the test folder: {100 - 100 * wrong / TESTED:.1f} % right")

# %% tags=["claims"]
assert wrong > 0.7 * TESTED

# %% [markdown]
# Nothing has failed. The files are there, the shapes fit, the network is a good one. So look at what the labels mean:

# %%
print("label 0 to 9 in the folder:  ", *train.classes)
print("column 0 to 9 of the teacher:", *NAMES)

# %% [markdown]
# `ImageFolder` sorts the names of folders, as most libraries do: *eight* comes first. The teacher's first column is *zero*. Only *six* is in the same place in
# both lists. A student would learn this faithfully: with a large $\alpha$ it would be told nine times in ten that the label is wrong, and the loss
# would still fall.
#
# So the first question to any teacher is how often it is right **on your loader, with your labels**.
#
# ### Your turn: whose column is it?
#
# Write the function that moves the teacher's columns, so that column $i$ is our class $i$. `teacher_classes` and `our_classes` are lists
# of the same $K$ names. For example, with `["cat", "dog"]` and `["dog", "cat"]` the two columns change places.


# %%
def in_our_order(logits, teacher_classes, our_classes):  # (B, K), K names, K names -> (B, K)
    ...


in_our_order = check("13.in-our-order", in_our_order)

# %% [markdown]
# `as_teacher` makes a teacher of anything that answers, here of a function. It asks without gradients.

# %%
network.eval()
teacher = as_teacher(lambda images: in_our_order(network(images), NAMES, train.classes))
wrong = count_errors(teacher, *test)
print(f"the teacher, its columns in order: {100 - 100 * wrong / TESTED:.1f} % right")

# %% tags=["claims"]
assert wrong < 0.03 * TESTED

# %% [markdown]
# ## One view for both
#
# The teacher could answer once for each file, and its answers could be kept. That is what the earlier chapters did, and it is much faster. With random
# views it is a mistake. The answer that was kept belongs to the image as it was, and not to the view that the student sees. The package refuses:

# %%
plain = read("train")
kept = predict_logits(teacher, plain[0])  # (N, K), once
try:
    distill(make_mlp(32), kept, plain, augment=jitter, epochs=1)
except ValueError as error:
    print(error)

# %% [markdown]
# With a loader there is nothing to do. `distill` asks the teacher at each step about the batch that the student gets. If the teacher is too expensive for
# that, make a fixed set of views, ask once for each, and keep the answer beside its own view; docs/your-own-project.md has the three lines.
#
# ## A student with error bars
#
# The student is a small convolutional network, written here as you would write yours. Three ways to train it are compared. Two use the 100 labels, plain and
# smoothed. The third asks the teacher about all 1,000 files. All begin with the same weights in each seed, see random views, and take **the same number of steps**.
#
# `ImageFolder` gives each file of `more` the label 0, because *unknown* is its first class. That is no label. So the third way has $\alpha = 1$: the teacher's
# term alone. The temperature, 8, was chosen on held-out images in a trial with labels (300 files, $\alpha = 0.9$), with two seeds that are not used again.

# %%
guess("13.effect")


# %%
def make_student():  # two convolutions with stride 2: 28 -> 12 -> 4 pixels
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2),  # (B, 8, 12, 12)
        nn.ReLU(),
        nn.Conv2d(8, 16, 5, stride=2),  # (B, 16, 4, 4)
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


# %%
label_ways = {
    "labels": label_objective,
    "smoothed labels": partial(label_objective, label_smoothing=0.1),
}
ways = [*label_ways, "teacher"]
faster = partial(make_adam, lr=0.003)
longer = (LABELLED + UNLABELLED) // LABELLED  # as many steps with labels as with all files


def train_student(make, way, seed):
    torch.manual_seed(seed)
    student, options = make(), dict(seed=seed, progress=False)
    if way == "teacher":
        knobs = dict(temperature=8.0, alpha=1.0, make_optimizer=faster)
        distill(student, teacher, all_files, epochs=EPOCHS, **knobs, **options)
    else:
        optimizer = faster(list(student.parameters()))
        fit(student, with_labels, label_ways[way], optimizer, epochs=EPOCHS * longer, **options)
    return student


# %%
students = {
    (way, seed): train_student(make_student, way, seed) for seed in range(SEEDS) for way in ways
}
runs = pd.DataFrame(
    {"arm": way, "seed": seed, "test_errors": count_errors(student, *test)}
    for (way, seed), student in students.items()
)
print(runs.pivot(index="arm", columns="seed", values="test_errors").to_string())

# %%
table = compare(runs, baseline=["labels", "smoothed labels"])
table = table[table.arm == "teacher"]
show(plots.intervals(table), alt="13.intervals")
print(in_words(table))

# %% tags=["claims"]
assert (table.difference < -0.03 * TESTED).all()

# %% [markdown]
# The teacher has answered for 900 files that nobody had to label. (It knows them well: the course's teacher has learned from all 60,000 training images. Yours will be less
# sure of files that it has not seen.) The sentence above is the one for your report: paired by seed, with its interval, against both
# [baselines](glossary:baseline). A single pair of numbers is no result. If the
# interval holds 0, the honest word is *unclear*, and more seeds cost less than a wrong decision.
#
# ## What does it cost?
#
# The student has a four-hundredth of the teacher's weights. What does it have of the work? One [multiply-add](glossary:multiply-add) is one product, added to
# a sum.

# %%
guess("13.work")

# %%
slim = partial(make_mlp, 32)
measured = {
    "teacher": network,
    "student, convolutional": students["teacher", 0],
    "student, 784-32-10": slim(),
}


def multiply_adds(model):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(test[0][:1])
    return counter.get_total_flops() // 2


# %%
costs = measure_models(measured, test[0][:50])
work = {name: multiply_adds(model) for name, model in measured.items()}
rows = {
    name: {
        "weights": f"{cost.parameters:,}",
        "kB": f"{cost.bytes / 1000:,.0f}",
        "multiply-adds": f"{work[name]:,}",
        "ms for 50 images": f"{cost.milliseconds:.2f} ± {cost.spread / 2:.2f}",
    }
    for name, cost in costs.items()
}
print(pd.DataFrame(rows).T.to_string())

# %% tags=["claims"]
large, convolutional, narrow = costs.values()
assert 390 < large.parameters / convolutional.parameters < 410
assert 25 < work["teacher"] / work["student, convolutional"] < 35
assert 4 < narrow.parameters / convolutional.parameters < 4.5
assert work["student, convolutional"] > 3 * work["student, 784-32-10"]

# %% [markdown]
# Weights are not work. A convolution uses each weight at many places of the image. So the student has a four-hundredth of the weights and a twenty-ninth of the
# work. The third row has four times the weights of the second, and a third of its work, because each weight is used once. And work is not time: `measure_models` times
# a forward pass of each model in turn, and says how much the times spread. Which student is *smaller* depends on what you are short of: a download, memory, or
# milliseconds. Measure on the machine where it will run, when it is quiet, with the batch size that it will see.
#
# ## Under a budget
#
# Say the file may have 150 kB. Now there is a choice: three ways of training, and another shape.

# %%
narrow_students = {seed: train_student(slim, "teacher", seed) for seed in range(SEEDS)}
candidates = {"the teacher itself": (costs["teacher"].bytes, [count_errors(teacher, *held_out)])}
for way in ways:
    errors = [count_errors(students[way, seed], *held_out) for seed in range(SEEDS)]
    candidates[f"convolutional, {way}"] = costs["student, convolutional"].bytes, errors
errors = [count_errors(student, *held_out) for student in narrow_students.values()]
candidates["784-32-10, teacher"] = costs["student, 784-32-10"].bytes, errors
for name, (size, errors) in candidates.items():
    print(f"{name:32} {size / 1000:8,.0f} kB, errors of 500 held-out: {errors}")

# %% [markdown]
# The teacher's own number flatters it, because it has learned from these images. That is one more question to a teacher: what has it seen?
#
# ### Your turn: choose
#
# `candidates` is a dict from name to (size in bytes, list of held-out errors, one for each seed). Return the name of the candidate that has the fewest held-out
# errors **as a mean over its
# seeds**, among those whose size is at most `budget`. Two mistakes are common here. One is to take the best single seed, because with many seeds somebody is
# always lucky. The other is to look at
# the test images while choosing; here they are not even handed over.


# %%
def pick(candidates, budget):  # a dict as above, a number of bytes -> a name
    ...


pick = check("13.pick", pick)

# %%
chosen = pick(candidates, budget=150_000)
print("chosen on held-out images:", chosen)
made_by = chosen.removeprefix("convolutional, ")
best = students[made_by, 0] if (made_by, 0) in students else narrow_students[0]

# %% tags=["claims"]
assert chosen == "convolutional, teacher"

# %% [markdown]
# The test images were not asked about this choice. What they say of the chosen student is the row *teacher* of the table above.
#
# ## A file to ship
#
# Export is a step in which a student can change without anybody noticing: a layer in training mode, a batch size that is frozen, a preprocessing
# that stays behind in Python. So `export_onnx` writes ONNX, a format that runs without Python and torch, runs the file with `onnxruntime` and returns the
# largest difference to torch's logits, over a batch and over
# a single image.

# %%
if is_there("onnx", "onnxscript", "onnxruntime"):
    file = folder / "student.onnx"
    difference = export_onnx(best, test[0][:8], file)
    print(f"{file.stat().st_size / 1000:.0f} kB, largest difference of a logit {difference:.1e}")
else:
    print('Needs pip install "kdcourse[export]": nothing to do here.')

# %% tags=["claims"]
if is_there("onnx", "onnxscript", "onnxruntime"):
    assert difference < 1e-3

# %% [markdown]
# The file knows nothing of the folder. Write down beside it what it needs: one grey channel, 28 × 28, values from 0 to 1, and the order of the classes. That
# order has cost us one
# mistake already.

# %% [markdown]
# ## A forest as a teacher
#
# Tables are the home of forests and boosted trees. Here is one of scikit-learn: 1,797 rows, 64 columns, ten classes. A forest of 100 trees learns from 300
# rows. It can teach a network with one hidden layer: `distill` asks its `predict_proba`, with $T = 1$, because these are probabilities and
# not logits.

# %%
guess("13.own-rows")

# %%
if is_there("sklearn"):
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    rows, classes = load_digits(return_X_y=True)
    rows, classes = torch.as_tensor(rows / 16).float(), torch.as_tensor(classes)
    mixed = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    learned, fresh = mixed[:300], mixed[300:]
    forest = RandomForestClassifier(100, oob_score=True, random_state=0)
    forest.fit(rows[learned].numpy(), classes[learned].numpy())
    on_own = forest.score(rows[learned].numpy(), classes[learned].numpy())
    print(f"right on the rows it learned from:                  {100 * on_own:.1f} %")
    print(f"right on them, by trees that have not seen the row: {100 * forest.oob_score_:.1f} %")

# %% tags=["claims"]
if is_there("sklearn"):
    assert on_own > 0.99
    assert forest.oob_score_ < 0.97

# %% [markdown]
# Each tree has seen about two thirds of the rows and remembers them. So on its own rows the forest's answer is close to the label, and says little
# that the label does not say. The second number is honest: for each row it asks only the trees that have not seen it. `oob_decision_function_` has these
# probabilities.
#
# Is this forest worth listening to? Before you distil, compare it with what the student reaches **alone**.


# %%
def errors_on_fresh_rows(way, seed):
    torch.manual_seed(seed)
    student = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    table, options = (rows[learned], classes[learned]), dict(epochs=60, seed=seed, progress=False)
    if way == "forest":
        knobs = dict(temperature=1.0, alpha=0.9, make_optimizer=partial(make_adam, lr=0.003))
        distill(student, forest, table, **knobs, **options)
    else:
        fit(
            student,
            table,
            label_ways[way],
            make_adam(list(student.parameters()), lr=0.003),
            **options,
        )
    return count_errors(student, rows[fresh], classes[fresh])


# %%
if is_there("sklearn"):
    table_runs = pd.DataFrame(
        {"arm": way, "seed": seed, "test_errors": errors_on_fresh_rows(way, seed)}
        for seed in range(SEEDS)
        for way in ("labels", "smoothed labels", "forest")
    )
    by_forest = count_errors(as_teacher(forest), rows[fresh], classes[fresh])
    alone = table_runs[table_runs.arm == "labels"].test_errors.mean()
    print(
        f"errors on {len(fresh):,} fresh rows: the forest {by_forest}, a network alone {alone:.0f}"
    )
    found = compare(table_runs, baseline=["labels", "smoothed labels"])
    print(in_words(found[found.arm == "forest"]))

# %% tags=["claims"]
if is_there("sklearn"):
    assert 0.5 * alone < by_forest < 1.8 * alone

# %% [markdown]
# The forest is not much better than the network is alone, and here it was asked about its own rows. So it has little to teach, and a temperature cannot add
# what it does not say. This is the check that
# saves the most time in practice: **a teacher must know something that your student does not**. Where trees are far ahead, try the same call of `distill`.
#
# There may still be a reason to distil: a forest is large, and the network is a small file that runs anywhere. Then the question is another one, how often the
# student says what the
# forest says. The word for it is *fidelity*.
#
# ## Inside a `Trainer`
#
# Perhaps your models come from `transformers`, and your loop is its `Trainer`. You keep both. The next cell makes two models from their configuration, as you would with
# yours, and tokenises definitions of nouns. Nothing is downloaded. Neither model is trained: here we look at the wiring only. What such
# students learn is chapter 09.

# %%
if is_there("transformers", "accelerate"):
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        PrinterCallback,
        Trainer,
        TrainingArguments,
    )

    from kdcourse.data.definitions import load_definitions
    from kdcourse.data.tokens import encode, load_tokenizer

    definitions = load_definitions().train.take(48)
    tokens = encode(load_tokenizer(), definitions.texts)
    keys = ("input_ids", "attention_mask", "labels")
    samples = [
        dict(zip(keys, row, strict=True)) for row in zip(*tokens, definitions.labels, strict=True)
    ]


# %%
if is_there("transformers", "accelerate"):

    def flat(model):
        return torch.cat([part.flatten() for part in model.parameters()]).detach()

    def make_bert(width, layers):
        torch.manual_seed(layers)
        sizes = dict(hidden_size=width, num_attention_heads=2, intermediate_size=2 * width)
        quiet = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        config = BertConfig(
            vocab_size=6000, num_hidden_layers=layers, num_labels=24, **sizes, **quiet
        )
        return BertForSequenceClassification(config)

# %% [markdown]
# ### Your turn: the loss
#
# A `Trainer` asks its method `compute_loss` for the loss of each batch. `inputs` is a dict with `input_ids`, `attention_mask` and `labels`. `ask(tokens)` returns the
# teacher's logits. Return two things: the loss, by `distillation_loss` with $T = 2$ and $\alpha = 0.5$, and what the model returned. Student and
# teacher must read the same tokens, with the same mask, and neither needs the labels.


# %%
def loss_and_outputs(model, ask, inputs):  # -> loss, outputs; outputs.logits has shape (B, K)
    ...


loss_and_outputs = check("13.trainer", loss_and_outputs)

# %% [markdown]
# Now the `Trainer` takes three steps, each on a batch of 48 that comes in four pieces of twelve. `distill` takes three steps on the whole batch of 48, from the same
# first weights.

# %%
guess("13.accumulate")

# %%
if is_there("transformers", "accelerate"):

    class DistillationTrainer(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **ignored):
            loss, outputs = loss_and_outputs(model, self.ask, inputs)
            return (loss, outputs) if return_outputs else loss

    pieces = dict(per_device_train_batch_size=12, gradient_accumulation_steps=4, max_steps=3)
    steady = dict(optim="sgd", learning_rate=0.1, lr_scheduler_type="constant", max_grad_norm=0.0)
    quiet = dict(report_to="none", disable_tqdm=True, save_strategy="no", logging_strategy="no")
    arguments = TrainingArguments(str(folder), use_cpu=True, **pieces, **steady, **quiet)

    def train_with_trainer(student, *, divide):
        trainer = DistillationTrainer(student, arguments, train_dataset=samples)
        trainer.remove_callback(PrinterCallback)
        trainer.ask = as_teacher(make_bert(64, 2))
        if divide:
            trainer.model_accepts_loss_kwargs = False
        trainer.train()


# %%
if is_there("transformers", "accelerate"):
    start, ours = make_bert(32, 1), make_bert(32, 1)
    sgd = partial(torch.optim.SGD, lr=0.1)
    whole = DataLoader(samples, batch_size=48)
    knobs = dict(temperature=2.0, alpha=0.5, make_optimizer=sgd)
    distill(ours, make_bert(64, 2), whole, epochs=3, **knobs, progress=False)
    moves = {"distill, the whole batch": flat(ours) - flat(start)}
    for name, divide in {"Trainer, as it is": False, "Trainer, with one more line": True}.items():
        theirs = make_bert(32, 1)
        train_with_trainer(theirs, divide=divide)
        moves[name] = flat(theirs) - flat(start)
    for name, move in moves.items():
        print(f"{name:28} moved the weights by {move.norm():.4f}")
    apart = (flat(theirs) - flat(ours)).abs().max()
    print(f"largest difference between the first and the last: {apart:.1e}")

# %% tags=["claims"]
if is_there("transformers", "accelerate"):
    exact, summed, _ = (move.norm() for move in moves.values())
    assert 3 < summed / exact < 5
    assert apart < 1e-4

# %% [markdown]
# <details><summary><b>Trap 100: a loss of one's own in the Trainer, with accumulated batches</b></summary>
#
# The `Trainer` takes a model whose `forward` has `**kwargs` for one that divides its loss by the number of samples in *all* the pieces. So it adds the pieces up. Our
# loss is a mean over one piece, and the gradient becomes four times too long. Adam hides most of it, because it divides by the gradient's size. The line is
# `trainer.model_accepts_loss_kwargs = False`.
#
# </details>
#
# In Lightning the loss stands in `training_step`. The terms of any objective go in as they are; the ten lines are in docs/your-own-project.md, and the tests of this
# course run them. In both, keep the teacher **outside** the module that learns: else it goes to the optimizer, into each checkpoint, and back into training mode. Then
# put it on the right device yourself.

# %% tags=["plumbing"]
if is_there("lightning"):
    from lightning import LightningModule
    from lightning import Trainer as Lightning

    class Distillation(LightningModule):
        def training_step(self, batch, index):
            taught = teacher(batch[0])
            terms = soft_target_objective(self.student, *batch, taught, temperature=4.0)
            self.log_dict(terms)
            return sum(terms.values())

        def configure_optimizers(self):
            return torch.optim.Adam(self.student.parameters())

    module = Distillation()
    module.student = slim()
    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quick = Lightning(max_epochs=1, accelerator="cpu", **dict.fromkeys(silent, False))
    quick.fit(module, with_labels)
    print(", ".join(f"{name} {value:.2f}" for name, value in quick.callback_metrics.items()))
else:
    print("Needs pip install lightning: nothing to do here.")

# %% [markdown]
# ## Read the ledger for your own case
#
# [The ledger of claims](../docs/ledger.md) has one row for each piece of advice on distillation, with what was run and what came out. No row is about your
# data. Read it with four
# questions.
#
# 1. **What is like my case?** Read the column *what was run* before the verdict. A gain with 1,000 labels need not be there with 55,000. If you have few labels and
#    many unlabelled samples, look at the rows on unlabelled images first.
# 2. **What would I notice?** Each row has a smallest effect of interest. If yours is smaller, *too small to matter* is not your verdict; take the interval.
# 3. **Who was the opponent?** Much advice was only ever compared with plain labels. Look at the comparison with smoothed labels: it is the one that says whether the
#    *teacher* did anything.
# 4. **Is it unclear, or is it not run yet?** Neither means *no effect*. An unclear row tells you how many seeds were too few.
#
# Then take the two or three knobs whose rows changed something in a case like yours, and try those on **your** held-out samples, with three seeds. Leave the
# others where they are.
#
# ## The checklist
#
# Before you train
# - The teacher's errors on *your* loader, with *your* labels, are what they should be. Its columns are in your order.
# - You know what the teacher has learned from. Samples that it has seen do not measure it.
# - The teacher gets the preprocessing that it was trained with, and the student the same view.
# - The teacher is better than your student alone, on held-out samples. If it is not, it has nothing to teach.
# - Train, held-out and test are apart by what belongs together.
# - The budget is written down: bytes, milliseconds on the machine that counts, and the smallest gain that is worth the trouble.
#
# While you train
# - The teacher is in evaluation mode, gets no gradient, and is in no optimizer.
# - Both terms of the loss are recorded, each for itself. If the gradient of one is a hundred times that of the other, the other does next to nothing (chapter 09).
# - With $T$ there is $T^2$ (chapter 02). With a mask, both models get it (chapter 09).
# - With accumulated batches, one step equals the step of the whole batch.
#
# Afterwards
# - Three seeds or more, paired, with an interval, against plain and against smoothed labels, all with the same number of steps.
# - The choice was made on held-out samples; the test set chose nothing.
# - The exported file was run, in an empty process, on a batch and on a single sample, and gave the student's answers.
# - Beside the file stands what it needs: preprocessing, order of the classes, version, seed, and the sentence with the interval.
#
# ## Summary
#
# - Anything that answers can teach. `as_teacher` makes one of a network, a function, a forest or an ONNX session.
# - The mistakes that cost most raise no error: classes in another order, kept answers for views that have changed, and pieces
#   that are added and not averaged.
# - With few labels, many files without any, and a good teacher, the student made fewer errors than with labels and than with smoothed labels.
# - Size, time and errors are three things. Choose under a budget, on held-out samples, by the mean over seeds.
# - A teacher that knows no more than the student alone has nothing to teach. Look before you distil.
# - The loss fits into any loop, and a step must come out the same there.
#
# ## Think, then try
#
# 1. Two of your ten class folders are renamed, so that their order changes, after the student was trained and exported. What happens?
#
#    <details><summary>Answer</summary>
#
#    To the file nothing: its columns stay. But a test that reads the folders anew sees both classes as wrong, nearly always. Write the order of the classes
# into the file, or beside it.
#
#    </details>
#
# 2. Your teacher takes 80 % of each step. Name two ways out, and what each costs.
#
#    <details><summary>Answer</summary>
#
#    No augmentation, or a fixed set of views, each with its own answer: then the teacher is asked once for each view. It costs variety and disk. Or ask
#    the teacher in half precision, `autocast=torch.bfloat16`. It costs a few digits of its logits.
#
#    </details>
#
# 3. How much of the gain is the teacher's, and how much is that of the 900 other files? Let the teacher teach with the 100 labelled files alone.
#
#    <details><summary>What to expect</summary>
#
#    `distill(student, teacher, with_labels, epochs=EPOCHS * longer, temperature=8.0, alpha=0.9, make_optimizer=faster)`. A part of the gain stays, because the teacher
#    also says something about each random view. The larger part is gone. *More files* is the cheapest knob of distillation.
#
#    </details>
#
# More, with checks that know the usual slips: `exercises/ex13b_your_folder`.
#
# ## References
#
# - Hinton, Vinyals, Dean (2015). *Distilling the knowledge in a neural network.* [arXiv:1503.02531](https://arxiv.org/abs/1503.02531): section 2 (the loss).
# - Beyer et al. (2022). *Knowledge distillation: a good teacher is patient and consistent.* [arXiv:2106.05237](https://arxiv.org/abs/2106.05237): the same view
#   for both, and a long schedule.
# - Buciluǎ, Caruana, Niculescu-Mizil (2006). *Model compression.* KDD 2006: an ensemble into one network, with unlabelled data.
# - Breiman (2001). *Random forests.* Machine Learning 45: section 3.1 (out-of-bag estimates).
# - The documentation of [`Trainer`](https://huggingface.co/docs/transformers/main_classes/trainer) and of
#   [Lightning](https://lightning.ai/docs/pytorch/stable/).
