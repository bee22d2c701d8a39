"""The loop of another library."""

import torch
from lightning import LightningModule
from transformers import Trainer

from kdcourse.losses import distillation_loss
from kdcourse.objectives import soft_target_objective
from kdcourse.recipes import as_teacher


def huggingface(student, teacher, dataset, validation, arguments):
    """The `Trainer` of transformers: the teacher is asked in `compute_loss`"""

    class DistillationTrainer(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **ignored):
            labels = inputs.pop("labels")
            outputs, taught = model(**inputs), as_teacher(teacher)(inputs)
            loss = distillation_loss(outputs.logits, taught, labels, temperature=2.0, alpha=0.5)
            return (loss, outputs) if return_outputs else loss

    trainer = DistillationTrainer(student, arguments, train_dataset=dataset)
    trainer.model_accepts_loss_kwargs = False  # our loss is a mean: to accumulate, the Trainer must divide it
    trainer.train()
    return trainer.evaluate(validation)


def lightning(student, teacher, loader, trainer):
    """Lightning: the terms of an objective are the loss of a training step"""

    class Distillation(LightningModule):
        def training_step(self, batch, index):
            terms = soft_target_objective(self.student, *batch, as_teacher(teacher)(batch[0]), temperature=2.0)
            self.log_dict(terms)
            return sum(terms.values())

        def configure_optimizers(self):
            return torch.optim.Adam(self.student.parameters())

    module = Distillation()
    module.student = student  # the teacher stays outside: not trained, not in a checkpoint
    return trainer.fit(module, loader)
