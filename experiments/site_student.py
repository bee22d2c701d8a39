"""The student on the site's page where a visitor draws a digit: 784-300-300-10, distilled from the teacher that ships.

Run ``python -m experiments.site_student``, then ``make site``. It takes minutes on one core, continues where it was
stopped, and writes ``site/recorded/digit_student.safetensors`` and its record.

Settings, written before the run: temperature and alpha that ``experiments/distill.py`` had chosen on held-out images;
images shifted by up to two pixels, as the teacher saw them, because nobody draws in the middle. The teacher answers
each shifted image. Held-out images stay unseen; test errors are recorded and nothing is chosen by them.
"""

import hashlib
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from kdcourse import zoo
from kdcourse.data import jitter, load_mnist
from kdcourse.models import count_parameters, make_hinton_student
from kdcourse.objectives import soft_target_objective
from kdcourse.records import write_record
from kdcourse.training import choose_threads, count_errors, fit

FOLDER = Path(__file__).resolve().parents[1] / "site" / "recorded"
NAME, TEACHER, SEED = "digit_student", "hinton_teacher", 0
TEMPERATURE, ALPHA = 20.0, 0.9
EPOCHS, BATCH_SIZE, LEARNING_RATE = 12, 500, 2e-3


def main(checkpoint: Path = Path("runs/site_student.pt")) -> None:
    """Distil the student and write its weights, in half precision, and its record."""
    choose_threads()
    mnist, teacher = load_mnist(), zoo.load(TEACHER)
    torch.manual_seed(SEED)
    student = make_hinton_student(300)
    optimizer = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)
    steps = EPOCHS * math.ceil(len(mnist.train.labels) / BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)

    def objective(student: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            answers = teacher(images)  # (B, 10), of the shifted images
        return soft_target_objective(student, images, labels, answers, temperature=TEMPERATURE, alpha=ALPHA)

    start = time.perf_counter()
    checkpoint.parent.mkdir(exist_ok=True)
    fit(
        student, mnist.train, objective, optimizer, epochs=EPOCHS, batch_size=BATCH_SIZE, seed=SEED, augment=jitter,
        after_step=lambda step: scheduler.step(), parts={"scheduler": scheduler}, checkpoint=checkpoint, progress=False,
    )  # fmt: skip
    content = save({name: value.half().contiguous() for name, value in student.state_dict().items()})
    student.half().float()  # measured as stored
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{NAME}.safetensors").write_bytes(content)
    record = {
        "command": "python -m experiments.site_student",
        "about": "784-300-300-10, distilled from " + TEACHER,
        "temperature": TEMPERATURE, "alpha": ALPHA, "epochs": EPOCHS, "batch_size": BATCH_SIZE, "seed": SEED,
        "training_images": len(mnist.train.labels),
        "parameters": count_parameters(student),
        "held_out_errors": count_errors(student, *mnist.held_out), "held_out_images": len(mnist.held_out.labels),
        "test_errors": count_errors(student, *mnist.test), "test_images": len(mnist.test.labels),
        "seconds": round(time.perf_counter() - start, 1),
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    print(f"recorded in {write_record(FOLDER, NAME, record)}: {record['test_errors']} test errors")


if __name__ == "__main__":
    main()
