"""Weights on a grid: levels, gradients, packed bits, and how large a model really is."""

import numpy as np
import pytest
import torch
from torch import nn

from kdcourse.hashing import content_hash
from kdcourse.models import (
    FakeQuantisedLinear,
    QuantisedLinear,
    count_parameters,
    fake_quantise,
    fake_quantise_model,
    make_mlp,
    make_student_cnn,
    quantise,
    quantise_model,
    saved_size_in_bytes,
    size_in_bytes,
)
from kdcourse.models.quantised import pack_bits, unpack_bits

ALL_BITS = range(2, 9)


@pytest.fixture
def weights():
    return torch.randn(6, 11, generator=torch.Generator().manual_seed(0)) * torch.tensor([[3, 1, 0.3, 0.1, 0.01, 9]]).T


def nearest_level(weights, bits):
    """Try every level of every row and take the nearest: an oracle without rounding."""
    n = 2 ** (bits - 1) - 1
    rows = []
    for row in weights.double().numpy():
        levels = np.arange(-n, n + 1) * np.abs(row).max() / n
        rows.append(levels[np.abs(row[:, None] - levels).argmin(axis=1)])
    return torch.tensor(np.array(rows), dtype=torch.float32)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_each_weight_goes_to_the_nearest_level_of_its_row(weights, bits):
    codes, scale = quantise(weights, bits=bits)
    torch.testing.assert_close(codes * scale, nearest_level(weights, bits), rtol=1e-4, atol=1e-6)
    assert scale.shape == (6, 1)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_no_weight_moves_by_more_than_half_a_step_and_the_largest_stays(weights, bits):
    codes, scale = quantise(weights, bits=bits)
    assert ((weights - codes * scale).abs() <= 0.5001 * scale).all()
    torch.testing.assert_close((codes * scale).abs().amax(dim=1), weights.abs().amax(dim=1))


@pytest.mark.parametrize("bits", ALL_BITS)
def test_a_second_rounding_changes_nothing_and_a_factor_only_the_scale(weights, bits):
    codes, scale = quantise(weights, bits=bits)
    assert torch.equal(quantise(codes * scale, bits=bits)[0], codes)
    assert torch.equal(quantise(-4 * weights, bits=bits)[0], -codes)


@pytest.mark.trap(98)
def test_one_scale_for_the_whole_matrix_rounds_rows_of_small_weights_to_0(weights):
    by_row, by_tensor = (quantise(weights, bits=4, per_row=per_row)[0] for per_row in (True, False))
    assert (by_row.abs().amax(dim=1) == 7).all()
    assert (by_tensor[[3, 4]] == 0).all()  # the mistake: rows that are a hundredth of the largest are gone


@pytest.mark.trap(98)
def test_the_gradient_passes_straight_through_to_every_weight(weights):
    push = torch.randn(weights.shape, generator=torch.Generator().manual_seed(1))
    weights.requires_grad_()
    rounded = fake_quantise(weights, bits=2)
    codes, scale = quantise(weights, bits=2)
    assert torch.equal(rounded, codes * scale)  # to the last bit, as the packed layer computes
    (push * rounded).sum().backward()
    assert torch.equal(weights.grad, push)


@pytest.mark.trap(98)
def test_without_the_straight_through_gradient_weights_do_not_move():
    torch.manual_seed(0)
    inputs, target = torch.randn(64, 5), torch.randn(64, 3)
    moved = {}
    for name, rounding in {
        "straight through": lambda w: fake_quantise(w, bits=2),
        "none": lambda w: (w / 0.1).round() * 0.1,
    }.items():
        layer = nn.Linear(5, 3)
        before = layer.weight.detach().clone()
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
        for _ in range(5):
            loss = (nn.functional.linear(inputs, rounding(layer.weight), layer.bias) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        moved[name] = float((layer.weight.detach() - before).abs().max())
    assert moved["none"] == 0
    assert moved["straight through"] > 0.05


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("count", [1, 7, 8, 100])
def test_codes_come_back_from_their_bytes(bits, count):
    n = 2 ** (bits - 1) - 1
    codes = torch.randint(-n, n + 1, (count,), generator=torch.Generator().manual_seed(count)).to(torch.int8)
    packed = pack_bits(codes, bits=bits)
    assert packed.shape == (-(-count * bits // 8),)
    assert torch.equal(unpack_bits(packed, bits=bits, count=count), codes)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_a_packed_model_answers_as_the_faked_one_and_after_a_trip_through_a_file(bits, tmp_path):
    torch.manual_seed(0)
    faked = fake_quantise_model(make_mlp(12, 9), bits=bits)
    packed = quantise_model(faked, bits=bits)
    images = torch.rand(5, 1, 28, 28)
    assert torch.equal(packed(images), faked(images))
    torch.save(packed.state_dict(), tmp_path / "student.pt")
    other = quantise_model(make_mlp(12, 9), bits=bits)
    other.load_state_dict(torch.load(tmp_path / "student.pt"))
    assert torch.equal(other(images), packed(images))
    assert saved_size_in_bytes(packed) == pytest.approx((tmp_path / "student.pt").stat().st_size, abs=600)


@pytest.mark.trap(81, 99)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_packed_model_counts_its_weights_and_the_bytes_that_it_really_holds(bits):
    model, weights = make_mlp(16), 784 * 16 + 16 * 10
    packed = quantise_model(model, bits=bits)
    assert count_parameters(packed) == count_parameters(model) == weights + 26
    assert size_in_bytes(packed) == weights * bits // 8 + 4 * 26 + 4 * 26  # codes, scales, biases
    assert not list(packed.parameters())
    assert content_hash(packed.state_dict()) != content_hash(quantise_model(make_mlp(16), bits=bits).state_dict())


@pytest.mark.trap(99)
def test_a_model_that_still_has_its_floats_is_not_called_small():
    model = make_mlp(64)
    faked = fake_quantise_model(model, bits=2)
    packed = quantise_model(faked, bits=2)
    both = nn.ModuleDict({"learning": faked, "packed": packed})
    assert size_in_bytes(faked) == size_in_bytes(model)
    assert size_in_bytes(both) == size_in_bytes(faked) + size_in_bytes(packed)
    assert saved_size_in_bytes(packed) < 0.09 * saved_size_in_bytes(model) < saved_size_in_bytes(both)


class Wrapping(torch.Tensor):
    """A tensor that holds codes and a scale, as torchao's do, and says that it has 32 bits."""

    @staticmethod
    def __new__(cls, codes, scale):
        return torch.Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)

    def __init__(self, codes, scale):
        self.codes, self.scale = codes, scale

    def __tensor_flatten__(self):
        return ["codes", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return cls(args[0].codes, args[0].scale)  # nn.Parameter asks for a detached one


@pytest.mark.trap(81)
def test_the_bytes_of_a_wrapping_tensor_are_those_inside_it():
    model = nn.Linear(10, 4, bias=False)
    codes = torch.zeros(4, 10, dtype=torch.int8)
    model.weight = nn.Parameter(Wrapping(codes, torch.ones(4, 1)), requires_grad=False)
    assert count_parameters(model) == 40
    assert size_in_bytes(model) == 40 + 4 * 4


def test_a_row_of_zeros_stays_0_and_halves_a_bias_away():
    weights = torch.tensor([[0.0, 0.0], [1.0, -0.5]])
    assert torch.equal(fake_quantise(weights, bits=3)[0], torch.zeros(2))
    packed = QuantisedLinear(nn.Linear(3, 2, bias=False), bits=3)
    assert packed.bias is None
    assert packed.parameter_count == 6


def test_the_original_stays_as_it_is_and_other_layers_stay_float():
    model = make_student_cnn()
    before = content_hash(model.state_dict())
    packed = quantise_model(model, bits=4)
    assert content_hash(model.state_dict()) == before
    assert count_parameters(packed) == count_parameters(model)
    assert sum(isinstance(module, nn.Conv2d) for module in packed.modules()) == sum(
        isinstance(module, nn.Conv2d) for module in model.modules()
    )


def test_half_precision_weights_are_packed_too():
    packed = QuantisedLinear(nn.Linear(8, 3).half(), bits=4)
    assert packed.scale.dtype == packed.bias.dtype == torch.float16
    assert FakeQuantisedLinear(nn.Linear(8, 3), bits=4)(torch.rand(2, 8)).shape == (2, 3)


@pytest.mark.parametrize("bits", [1, 0, 9, 2.0, True, "4"])
def test_bits_that_make_no_grid_are_refused(bits):
    for refuse in (quantise, fake_quantise):
        with pytest.raises(ValueError, match="bits must be a whole number from 2 to 8"):
            refuse(torch.ones(2, 2), bits=bits)
    with pytest.raises(ValueError, match="bits must be a whole number"):
        fake_quantise_model(make_mlp(4), bits=bits)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(3), "must be a matrix"),
        (torch.ones(2, 2, dtype=torch.int64), "must be a matrix"),
        (torch.ones(0, 2), "must be a matrix"),
        (torch.tensor([[1.0, torch.inf]]), "must be finite"),
        (torch.tensor([[1.0, torch.nan]]), "must be finite"),
    ],
)
def test_weights_that_have_no_grid_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        quantise(weights, bits=4)


def test_models_and_codes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"has no nn\.Linear layer"):
        quantise_model(nn.Sequential(nn.Flatten()), bits=4)
    with pytest.raises(ValueError, match="trained for 2 bits with per_row=True, got bits=3"):
        quantise_model(fake_quantise_model(make_mlp(4), bits=2), bits=3)
    with pytest.raises(ValueError, match="3 bits hold whole numbers from -3 to 3"):
        pack_bits(torch.tensor([4], dtype=torch.int8), bits=3)
    with pytest.raises(ValueError, match="5 codes of 3 bits take 2 bytes, got 1"):
        unpack_bits(torch.zeros(1, dtype=torch.uint8), bits=3, count=5)
