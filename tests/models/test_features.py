"""Reading features with hooks: what is captured, and that nothing stays behind."""

import copy

import pytest
import torch
from torch import nn

from kdcourse.losses import hint_loss
from kdcourse.models import capture, make_student_cnn

IMAGES = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def make_small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 2))


def count_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_captured_features_are_the_named_layers_outputs():
    model = make_student_cnn().eval()
    with capture(model, "stage1", "stage2", "head") as features:
        logits = model(IMAGES)
    assert list(features) == ["stage1", "stage2", "head"]
    torch.testing.assert_close(features["stage1"], model.stage1(IMAGES))
    torch.testing.assert_close(features["stage2"], model.stage2(model.stage1(IMAGES)))
    torch.testing.assert_close(features["head"], logits)


def test_capturing_changes_neither_the_output_nor_the_model():
    model = make_student_cnn().eval()
    before = copy.deepcopy(model.state_dict())
    expected = model(IMAGES)
    with capture(model, "stage1"):
        torch.testing.assert_close(model(IMAGES), expected, rtol=0, atol=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.state_dict().keys() == before.keys()


def test_a_loss_on_captured_features_trains_the_layers_up_to_there_and_no_other():
    model = make_student_cnn()
    with capture(model, "stage2") as features:
        model(IMAGES)
    hint_loss(features["stage2"], torch.zeros_like(features["stage2"])).backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"stage1", "stage2"}


def test_a_layer_deep_inside_is_found_by_its_dotted_name():
    model = make_student_cnn().eval()
    with capture(model, "stage1.0") as features:
        model(IMAGES)
    torch.testing.assert_close(features["stage1.0"], model.stage1[0](IMAGES))


@pytest.mark.trap(24)
def test_no_hook_stays_behind_after_the_block():
    model = make_student_cnn()
    with capture(model, "stage1", "stage2") as features:
        assert count_hooks(model) == 3
        model(IMAGES)
    assert count_hooks(model) == 0
    held = features["stage1"]
    model(IMAGES + 1)  # after the block nothing is captured any more
    assert features["stage1"] is held


@pytest.mark.trap(24)
def test_no_hook_stays_behind_after_an_error_in_the_block_in_the_model_or_in_the_names():
    model = make_student_cnn()
    with pytest.raises(KeyError, match="mine"), capture(model, "stage1"):
        raise KeyError("mine")
    assert count_hooks(model) == 0
    with pytest.raises(RuntimeError), capture(model, "stage1"):
        model(torch.rand(3, 7))
    assert count_hooks(model) == 0
    with pytest.raises(ValueError, match="no layer"), capture(model, "stage1", "stag2"):
        pass
    assert count_hooks(model) == 0


@pytest.mark.trap(24)
def test_capturing_twice_gives_two_independent_dictionaries_each_filled_once():
    model = make_student_cnn().eval()
    with capture(model, "stage1") as outer:
        with capture(model, "stage1", "stage2") as inner:
            model(IMAGES)
        assert inner["stage1"] is not outer["stage1"]
        torch.testing.assert_close(inner["stage1"], outer["stage1"])
        first = inner["stage1"].clone()
        model(IMAGES + 1)  # the inner block has ended
        assert torch.equal(inner["stage1"], first)
        assert not torch.equal(outer["stage1"], first)
        assert "stage2" not in outer
    assert count_hooks(model) == 0


@pytest.mark.trap(24)
def test_hooks_that_were_there_before_stay():
    model, calls = make_student_cnn(), []
    model.stage1.register_forward_hook(lambda *_: calls.append(1))
    with capture(model, "stage1"):
        model(IMAGES)
    model(IMAGES)
    assert len(calls) == 2
    assert count_hooks(model) == 1


@pytest.mark.trap(25)
@pytest.mark.parametrize(
    ("wrong", "near"), [("stag1", "stage1"), ("Stage2", "stage2"), ("stage1.00", r"stage1\.0"), ("xyz", "stage1")]
)
def test_an_unknown_layer_is_refused_with_near_matches(wrong, near):
    model = make_student_cnn()
    message = rf"the model has no layer '{wrong}'. Did you mean one of \[.*'{near}'.*\]\? See model.named_modules"
    with pytest.raises(ValueError, match=message), capture(model, wrong):
        pass


@pytest.mark.trap(25)
def test_no_name_and_the_models_own_empty_name_are_refused():
    with pytest.raises(ValueError, match="capture needs the name of at least one layer"), capture(make_student_cnn()):
        pass
    with pytest.raises(ValueError, match="the model has no layer ''"), capture(make_student_cnn(), ""):
        pass


@pytest.mark.trap(25)
def test_features_of_an_earlier_forward_pass_do_not_survive_into_the_next():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.always, self.rarely = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x, both=True):
            x = self.always(x)
            return self.rarely(x) if both else x

    model = Sometimes()
    with capture(model, "always", "rarely") as features:
        model(torch.zeros(1, 2))
        assert set(features) == {"always", "rarely"}
        model(torch.ones(1, 2), both=False)
        assert set(features) == {"always"}  # a stale tensor would be of another batch
    torch.testing.assert_close(features["always"], model.always(torch.ones(1, 2)))


@pytest.mark.trap(26)
def test_an_in_place_activation_after_the_layer_does_not_rewrite_what_was_captured():
    model, inputs = make_small(), torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    expected = model[0](inputs).detach()
    assert (expected < 0).any()
    naive = {}
    handle = model[0].register_forward_hook(lambda m, i, output: naive.update(first=output))
    with capture(model, "0") as features:
        model(inputs)
    handle.remove()
    torch.testing.assert_close(features["0"].detach(), expected)
    assert (naive["first"] >= 0).all()  # the mistake: kept by reference, rewritten by the activation
    features["0"].square().sum().backward()  # and the graph still knows the values
    torch.testing.assert_close(model[0].bias.grad, 2 * expected.sum(0))


@pytest.mark.trap(26)
def test_changing_the_captured_tensor_does_not_change_what_the_model_goes_on_with():
    model, inputs = make_small().eval(), torch.randn(2, 4)
    expected = model(inputs)
    with capture(model, "0") as features:
        output = model(inputs)
        with torch.no_grad():
            features["0"].zero_()
    torch.testing.assert_close(output, expected)


@pytest.mark.trap(27)
def test_a_model_under_data_parallel_is_refused_and_its_inner_model_is_not():
    inner = make_student_cnn().eval()
    wrapped = nn.DataParallel(inner)
    for model in (wrapped, nn.Sequential(wrapped)):
        with (
            pytest.raises(ValueError, match=r"under nn.DataParallel: its replicas .*Capture the inner model"),
            capture(model, "module.stage1"),
        ):
            pass
    with capture(wrapped.module, "stage1") as features:
        inner(IMAGES)
    assert features["stage1"].shape == (3, inner.stage1[0].out_channels, 28, 28)


def test_a_layer_that_does_not_return_a_tensor_is_refused_by_name():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            return self.pair(x)[0]

    model = Model()
    with (
        pytest.raises(ValueError, match=r"layer 'pair' returns tuple, not a tensor. Capture a layer inside"),
        capture(model, "pair"),
    ):
        model(torch.zeros(1))
    assert count_hooks(model) == 0


def test_capturing_works_without_gradients_and_for_student_and_teacher_side_by_side():
    student, teacher = make_student_cnn(), make_student_cnn().eval()
    with capture(student, "stage1") as seen, capture(teacher, "stage1") as shown:
        with torch.no_grad():
            teacher(IMAGES)
        student(IMAGES)
    assert seen["stage1"].requires_grad
    assert not shown["stage1"].requires_grad


def test_a_layer_that_runs_twice_in_one_pass_leaves_its_last_output():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Linear(3, 3)

        def forward(self, x):
            return self.shared(self.shared(x))

    model, x = Twice(), torch.randn(2, 3)
    with capture(model, "shared") as features:
        output = model(x)
    torch.testing.assert_close(features["shared"], output, rtol=0, atol=0)


class UsesWeights(nn.Module):
    """Its second layer is never called; its weights are."""

    def __init__(self):
        super().__init__()
        self.called, self.used = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs):
        return nn.functional.linear(self.called(inputs), self.used.weight)


@pytest.mark.trap(82)
def test_a_captured_layer_that_never_ran_is_named():
    with capture(UsesWeights(), "called") as features:
        features_of_nothing = features
    with pytest.raises(ValueError, match="layer 'called' did not run as a module in the last forward pass"):
        features_of_nothing["called"]
    with pytest.raises(ValueError, match="layer 'elsewhere' is not captured here; these are: called"):
        features_of_nothing["elsewhere"]
    model = UsesWeights()
    with capture(model, "called", "used") as features:
        model(torch.rand(2, 4))
    assert features["called"].shape == (2, 4)
    with pytest.raises(ValueError, match=r"layer 'used' did not run .* as in F\.linear\(x, layer\.weight\)"):
        features["used"]


@pytest.mark.trap(82)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_traced_model_runs_its_layers_without_hooks_and_that_is_said():
    traced = torch.jit.trace(make_small().eval(), torch.rand(2, 4))
    with capture(traced, "0") as features:
        traced(torch.rand(2, 4))
    with pytest.raises(ValueError, match="layer '0' did not run as a module"):
        features["0"]
