"""Out of the package."""

import torch
from safetensors.torch import load_model, save_model

from kdcourse.models import export_onnx, measure_models


def state_dict(student, make_student, path):
    """A file of weights"""
    torch.save(student.state_dict(), path)
    again = make_student()
    again.load_state_dict(torch.load(path, weights_only=True))
    return again


def safetensors(student, make_student, path):
    """safetensors"""
    save_model(student, path)
    again = make_student()
    load_model(again, path)
    return again


def torch_export(student, images, path):
    """torch.export"""
    program = torch.export.export(student.eval(), (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)
    return torch.export.load(path).module()


def onnx(student, images, path):
    """ONNX, checked with onnxruntime (`pip install "kdcourse[export]"`)"""
    return export_onnx(student, images, path)  # the largest difference of the logits


def costs(teacher, student, images):
    """Size and latency of teacher, student, and the student quantised"""
    quantised = torch.ao.quantization.quantize_dynamic(student, {torch.nn.Linear}, dtype=torch.qint8)
    models = {"teacher": teacher, "student": student, "quantised": quantised}
    return measure_models(models, images)  # parameters, bytes, milliseconds and their spread
