"""What the live trainer can start with: students by name, and numbers of training images.

Chapter 02. No widgets in here: ``LiveTrainer`` has the switches.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from ...data.mnist import MNIST, Split
from ...training import MakeOptimizer
from .race import Track
from .training_data import add_teacher_logits


class Choices:
    """Students and numbers of images. The teacher is asked about images when they are first chosen.

    Parameters
    ----------
    student : nn.Module, or mapping from str to callable
        One student, or factories of students by name.
    images : sequence of int
        Numbers of training images; empty for all of them.
    teacher : nn.Module
    data : MNIST
    measured : Split
        Images that errors are counted on.
    teacher_logits : Tensor, shape (N, 10), optional
        Logits for all training images, if they are known already.
    make_optimizer : callable
    batch_size : int

    Attributes
    ----------
    students : dict from str to nn.Module
        Students as they start, in the order given. One that came without a name has the name "".
    images : dict from str to int
        Numbers of images by their description, such as "2,000 images".

    Raises
    ------
    ValueError
        If there is no student, or more images are wanted than there are.
    """

    def __init__(
        self,
        student: nn.Module | Mapping[str, Callable[[], nn.Module]],
        images: Sequence[int],
        *,
        teacher: nn.Module,
        data: MNIST,
        measured: Split,
        teacher_logits: Tensor | None,
        make_optimizer: MakeOptimizer,
        batch_size: int,
    ) -> None:
        self._teacher, self._data, self._measured = teacher, data, measured
        self._logits, self._make_optimizer, self._batch_size = teacher_logits, make_optimizer, batch_size
        total = len(data.train.labels)
        self.images = {describe_count(count, total): count for count in images or [total]}
        if isinstance(student, nn.Module):
            self.students = {"": student}
        else:
            self.students = {name: make().to(data.train.images.device) for name, make in student.items()}
        if not self.students:
            raise ValueError("there is no student to train: student is an empty mapping.")
        # A switch must not be the first to find out that a student does not fit.
        sample = data._replace(train=data.train.take(2))
        for model in self.students.values():
            add_teacher_logits(model, teacher, sample)
        self._tracks: dict[str, Track] = {}

    def take_student(self, name: str) -> nn.Module:
        """Return a student as it starts: the one that came without a name itself, or else a copy."""
        return self.students[name] if name == "" else copy.deepcopy(self.students[name])

    def take_track(self, images: str) -> Track:
        """Return images, labels and teacher's logits for a number of images, and how to train on them."""
        if images not in self._tracks:
            count = self.images[images]
            logits = self._logits
            if logits is not None and len(logits) == len(self._data.train.labels):
                logits = logits[:count]
            few = self._data._replace(train=self._data.train.take(count))
            student = next(iter(self.students.values()))
            aligned = add_teacher_logits(student, self._teacher, few, logits)
            self._tracks[images] = Track(aligned, self._measured, self._make_optimizer, self._batch_size)
        return self._tracks[images]


def describe_count(count: int, total: int) -> str:
    """Return a number of training images in words.

    Examples
    --------
    >>> describe_count(2000, 55_000), describe_count(55_000, 55_000)
    ('2,000 images', 'all 55,000 images')
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= total:
        raise ValueError(
            f"images must be whole numbers from 1 to {total}, the count of training images, got {count!r}."
        )
    return f"all {count:,} images" if count == total else f"{count:,} images"
