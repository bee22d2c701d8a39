"""The losses inside the Trainer of transformers and inside Lightning: the same steps as in the course's own loop."""

import copy

import pytest
import torch
from made_data import CLOSE, EXACT, Pictures, assert_same, make_network, weights
from torch.utils.data import DataLoader

from kdcourse.recipes import distill

pytestmark = pytest.mark.slow


@pytest.fixture
def trainers():
    for name in ("lightning", "transformers", "accelerate"):
        pytest.importorskip(name)
    from uses import trainers

    return trainers


def classifiers():
    """A student and a teacher without dropout, so that two ways to the same step can be compared."""
    import transformers

    tiny = {"vocab_size": 30, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 3}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(0)
    return [
        transformers.BertForSequenceClassification(transformers.BertConfig(num_hidden_layers=n, **tiny, **quiet))
        for n in (1, 2)
    ]


def rows(count=8):
    ids = torch.randint(1, 30, (count, 5), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([1, 1, 1, 1, 0])
    return [{"input_ids": one, "attention_mask": mask, "labels": index % 3} for index, one in enumerate(ids)]


def arguments(folder, **more):
    from transformers import TrainingArguments

    steady = {"optim": "sgd", "learning_rate": 0.5, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
    quiet = {"report_to": "none", "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}
    return TrainingArguments(str(folder), use_cpu=True, num_train_epochs=3, **steady, **quiet, **more)


@pytest.mark.trap(100)
@pytest.mark.parametrize(("batch", "pieces"), [(8, 1), (2, 4)], ids=["whole batches", "accumulated"])
def test_the_trainer_of_transformers_takes_the_steps_of_distill(batch, pieces, trainers, tmp_path):
    student, teacher = classifiers()
    alone, before = copy.deepcopy(student), weights(teacher)
    teacher.train()
    sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": pieces}
    found = trainers.huggingface(student, teacher, rows(), rows(5), arguments(tmp_path, **sizes))
    step = {"temperature": 2, "alpha": 0.5, "make_optimizer": lambda learned: torch.optim.SGD(learned, lr=0.5)}
    distill(alone, teacher, DataLoader(rows(), batch_size=8), epochs=3, **step)  # the order inside a batch is free
    assert_same(student, alone, **CLOSE)
    torch.testing.assert_close(weights(teacher), before, **EXACT)
    assert teacher.training
    assert found["eval_loss"] > 0


@pytest.mark.parametrize("pieces", [1, 2])
def test_lightning_takes_the_steps_of_distill(pieces, trainers, tmp_path):
    import lightning

    student, teacher, alone = make_network(seed=1), make_network(16, seed=2, dropout=0.5), make_network(seed=1)
    loader = DataLoader(Pictures(64), batch_size=16 // pieces)
    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        accumulate_grad_batches=pieces,
        default_root_dir=tmp_path,
        **dict.fromkeys(silent, False),
    )
    before = weights(teacher)
    trainers.lightning(student, teacher, loader, trainer)
    whole = DataLoader(Pictures(64), batch_size=16)
    distill(alone, teacher, whole, epochs=2, temperature=2.0, make_optimizer=torch.optim.Adam)
    assert_same(student, alone, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(weights(teacher), before, **EXACT)
    assert set(trainer.callback_metrics) == {"kd", "ce"}
