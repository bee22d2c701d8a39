"""Teachers and students of the course, networks with exits, and ``capture``, which reads any model's features.

Chapters 01 to 06; weights of few bits, chapter 12; what a model returns, costs and exports, chapter 13.
"""

from .digits import (
    make_cnn,
    make_hinton_student,
    make_hinton_teacher,
    make_mlp,
    make_student_cnn,
    make_student_mlp,
    make_teacher_cnn,
    make_teacher_mlp,
)
from .exits import ExitNet, make_exit_cnn, make_exit_head, predict_early
from .exporting import export_onnx
from .features import capture
from .modes import evaluating
from .outputs import logits_of
from .quantised import (
    FakeQuantisedLinear,
    QuantisedLinear,
    fake_quantise,
    fake_quantise_model,
    quantise,
    quantise_model,
)
from .size import ModelCost, count_parameters, measure_models, saved_size_in_bytes, size_in_bytes

__all__ = [
    "ExitNet",
    "FakeQuantisedLinear",
    "ModelCost",
    "QuantisedLinear",
    "capture",
    "count_parameters",
    "evaluating",
    "export_onnx",
    "fake_quantise",
    "fake_quantise_model",
    "logits_of",
    "make_cnn",
    "make_exit_cnn",
    "make_exit_head",
    "make_hinton_student",
    "make_hinton_teacher",
    "make_mlp",
    "make_student_cnn",
    "make_student_mlp",
    "make_teacher_cnn",
    "make_teacher_mlp",
    "measure_models",
    "predict_early",
    "quantise",
    "quantise_model",
    "saved_size_in_bytes",
    "size_in_bytes",
]
