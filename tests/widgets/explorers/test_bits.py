"""The bits explorer without a front end: errors, file sizes and levels are those of the models."""

import pytest
import torch

from kdcourse.data import load_mnist
from kdcourse.models import make_mlp, make_student_cnn, quantise_model, saved_size_in_bytes
from kdcourse.training import count_errors
from kdcourse.widgets import BitsExplorer


@pytest.fixture(scope="module")
def data():
    return load_mnist().test.take(300)


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    return make_mlp(6)


@pytest.fixture
def explorer(student, data):
    methods = {
        name: {bits: quantise_model(student, bits=bits, per_row=per_row) for bits in (4, 2)}
        for name, per_row in {"one scale": False, "a scale a row": True}.items()
    }
    return BitsExplorer(student, methods, data)


def test_errors_and_sizes_are_those_of_the_models(explorer, student, data):
    packed = quantise_model(student, bits=2)
    explorer.method.value, explorer.bits.value = "a scale a row", 2
    assert explorer.error_counts["a scale a row", 2] == count_errors(packed, *data)
    assert explorer.sizes["a scale a row", 2] == saved_size_in_bytes(packed)
    assert (
        explorer.error_counts["one scale", 32]
        == explorer.error_counts["a scale a row", 32]
        == count_errors(student, *data)
    )
    explorer.close()


@pytest.mark.parametrize(("bits", "most"), [(4, 15), (2, 3)])
def test_a_unit_has_as_many_levels_as_its_bits_allow(explorer, frame_of, bits, most):
    explorer.bits.value, explorer.unit.value = bits, 3
    shown = frame_of(explorer).text
    assert (shown["bits"], shown["unit"]) == (str(bits), "3")
    levels = int(explorer.status.value.split("have ")[1].split()[0])
    assert 2 < levels <= most
    explorer.close()


def test_models_that_cannot_be_shown_are_refused(student, data):
    packed = quantise_model(student, bits=4)
    for methods in ({}, {"a": {4: packed}, "b": {3: packed}}, {str(number): {4: packed} for number in range(6)}):
        with pytest.raises(ValueError, match="same bits"):
            BitsExplorer(student, methods, data)
    with pytest.raises(ValueError, match="784 pixels"):
        BitsExplorer(make_student_cnn(), {"a": {4: quantise_model(make_student_cnn(), bits=4)}}, data)
