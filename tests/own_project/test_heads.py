"""A user's head: maps, tokens, sigmoids, class weights, soft labels: the right loss, or an error that names it."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from made_data import CLASSES, CLOSE, Pictures, Wrapped, make_network, make_pictures
from torch import nn
from torch.utils.data import DataLoader
from uses import heads

from kdcourse.heads import rows_of
from kdcourse.losses import kd_loss
from kdcourse.objectives import label_objective, sigmoid_objective, soft_target_objective
from kdcourse.recipes import distill


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def terms_of(logits, labels, teacher_logits, **knobs):
    """The terms for given logits: the student returns its input."""
    return soft_target_objective(nn.Identity(), logits, labels, teacher_logits, **knobs)


# Class maps and tokens


def by_position(student, teacher, labels, *, temperature=4.0, alpha=0.7):
    """An oracle: position after position, with what is ignored left out."""
    kd, ce = [], []
    for z_s, z_t, label in zip(student, teacher, labels, strict=True):
        if label == -100:
            continue
        p, q = F.softmax(z_t / temperature, dim=0), F.softmax(z_s / temperature, dim=0)
        kd.append(temperature**2 * (p * (p / q).log()).sum())
        ce.append(-F.log_softmax(z_s, dim=0)[label])
    return {"kd": alpha * torch.stack(kd).mean(), "ce": (1 - alpha) * torch.stack(ce).mean()}


@pytest.mark.parametrize("kind", ["class maps", "tokens", "signals"])
def test_every_position_that_counts_is_a_sample_and_no_other(kind):
    shape = {"class maps": (2, 3, 4, 5), "tokens": (2, 6, 3), "signals": (2, 3, 6)}[kind]
    student, teacher = draw(*shape), draw(*shape, seed=1)
    labels = torch.randint(3, shape[:-1] if kind == "tokens" else (shape[0], *shape[2:]))
    labels.flatten()[::4] = -100
    last = (lambda z: z) if kind == "tokens" else (lambda z: z.movedim(1, -1))
    expected = by_position(last(student).reshape(-1, 3), last(teacher).reshape(-1, 3), labels.flatten())
    torch.testing.assert_close(terms_of(student, labels, teacher), expected, **CLOSE)
    torch.testing.assert_close(label_objective(nn.Identity(), student, labels)["ce"] * 0.3, expected["ce"], **CLOSE)


def test_what_an_ignored_position_holds_reaches_neither_loss_nor_gradient():
    student, teacher = draw(1, 4, 3).requires_grad_(), draw(1, 4, 3, seed=1)
    labels = torch.tensor([[0, -100, 2, 1]])
    teacher[0, 1] = float("nan")
    sum(terms_of(student, labels, teacher).values()).backward()
    assert student.grad.isfinite().all()
    assert (student.grad[0, 1] == 0).all()
    assert (student.grad[0, 0] != 0).any()


def test_a_batch_in_which_nothing_counts_costs_nothing_and_keeps_its_graph():
    student = draw(2, 3, 3).requires_grad_()
    terms = terms_of(student, torch.full((2, 3), -100), draw(2, 3, 3, seed=1))
    assert [term.item() for term in terms.values()] == [0, 0]
    sum(terms.values()).backward()


def test_maps_of_another_size_and_labels_of_another_shape_are_refused_with_the_way_out():
    maps, labels = draw(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"got \(2, 3, 4, 4\) and \(2, 3, 2, 2\).*F\.interpolate"):
        terms_of(maps, labels, draw(2, 3, 2, 2))
    with pytest.raises(ValueError, match=r"have shape \(2, 4, 4\) for class maps .* got \(2,\).*\.logits\[:, 0\]"):
        rows_of(maps, maps, torch.zeros(2, dtype=torch.long))


def make_segmenter(width):
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2, 1))


def test_a_segmenter_is_distilled_and_measured_in_pixels():
    torch.manual_seed(0)
    wrap = lambda logits: {"out": logits}  # as torchvision's segmenters return
    student, teacher = Wrapped(make_segmenter(4), wrap), Wrapped(make_segmenter(16), wrap)
    images, _ = make_pictures(8)
    masks = (images[:, 0] > 0).long()
    masks[:, 0] = -100
    loader = list(zip(images.split(4), masks.split(4), strict=True))
    history, accuracy = heads.segmentation(student, teacher, loader)
    assert history.steps == 4
    right = (student.network(images).argmax(dim=1) == masks)[:, 1:]
    assert accuracy == pytest.approx(right.float().mean().item())


@pytest.mark.slow
def test_a_segmenter_of_torchvision_is_distilled():
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    torch.manual_seed(0)
    teacher = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)
    student = nn.Conv2d(3, 2, 1)
    images = draw(2, 3, 64, 64)
    history, _ = heads.segmentation(student, teacher, [(images, (images[:, 0] > 0).long())])
    assert history.steps == 2


def test_a_tagger_of_transformers_is_distilled():
    transformers = pytest.importorskip("transformers")
    tiny = {"vocab_size": 30, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 4}
    torch.manual_seed(0)
    student, teacher = (
        transformers.BertForTokenClassification(transformers.BertConfig(num_hidden_layers=n, **tiny)) for n in (1, 2)
    )
    ids = torch.randint(1, 30, (4, 6))
    labels = (ids % 4).masked_fill(torch.arange(6) > 3, -100)
    batch = {"input_ids": ids, "attention_mask": (torch.arange(6) <= 3).long().expand(4, 6), "labels": labels}
    history, accuracy = heads.tokens(student, teacher, [batch] * 2)
    assert history.steps == 4
    assert accuracy * 16 == pytest.approx(round(accuracy * 16))  # of 16 tokens that count


# Sigmoids


def test_one_logit_teaches_as_two_classes_of_a_softmax_do():
    z_s, z_t, labels = draw(8, 1), draw(8, 1, seed=1), torch.arange(8) % 2
    two = [torch.cat([torch.zeros_like(z), z], dim=1) for z in (z_s, z_t)]
    expected = terms_of(two[0], labels, two[1], temperature=3.0)
    found = sigmoid_objective(nn.Identity(), z_s, labels, z_t, temperature=3.0)
    torch.testing.assert_close(found, expected, **CLOSE)
    flat = sigmoid_objective(nn.Identity(), z_s[:, 0], labels, z_t[:, 0], temperature=3.0)
    torch.testing.assert_close(flat, expected, **CLOSE)


def test_several_labels_and_one_logit_are_distilled():
    make = lambda image, label: (image, F.one_hot(torch.tensor(label), CLASSES).float())
    history = heads.several_labels(make_network(), make_network(16, seed=1), DataLoader(Pictures(make=make), 32))
    assert history.steps == 6
    make = lambda image, label: (image, label % 2)
    students = [make_network(classes=1) for _ in range(2)]
    for student in students:
        heads.one_logit(student, make_network(16, seed=1, classes=1), DataLoader(Pictures(make=make), 32))
    torch.testing.assert_close(*(dict(student.state_dict()) for student in students), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (1, torch.zeros(4, dtype=torch.long), r"binary_kd_loss"),
        (3, torch.zeros(4, 3), r"Several labels at once, or one logit with a sigmoid: objective=sigmoid_objective"),
        (3, torch.full((4, 3), 1 / 3), r"Soft labels, such as mixup's: objective=partial\(soft_target_objective"),
        (1, torch.zeros(4), r"objective=sigmoid_objective"),
    ],
)
def test_the_wrong_loss_for_a_head_is_an_error_that_names_the_right_one(classes, labels, message):
    student, teacher = (make_network(classes=classes, seed=seed) for seed in (0, 1))
    with pytest.raises(ValueError, match=message):
        distill(student, teacher, [(make_pictures(4)[0], labels)])


def test_class_indices_or_a_softmax_teacher_for_a_sigmoid_are_refused():
    with pytest.raises(
        ValueError, match=r"got labels \(4,\) for logits \(4, 3\).*soft_target_objective, or F\.one_hot"
    ):
        sigmoid_objective(nn.Identity(), draw(4, 3), torch.zeros(4), draw(4, 3))
    with pytest.raises(ValueError, match=r"Two classes of a softmax are one logit of a sigmoid: as_teacher"):
        sigmoid_objective(nn.Identity(), draw(4, 1), torch.zeros(4), draw(4, 2))


# The label term


def test_class_weights_and_smoothing_reach_the_label_term_alone():
    logits, teacher, labels = draw(6, 3), draw(6, 3, seed=1), torch.arange(6) % 3
    weight = torch.tensor([1.0, 5.0, 0.5])
    label_loss = nn.CrossEntropyLoss(weight=weight, label_smoothing=0.1)
    terms = terms_of(logits, labels, teacher, label_loss=label_loss)
    torch.testing.assert_close(terms["kd"], 0.7 * kd_loss(logits, teacher, temperature=4.0))
    torch.testing.assert_close(terms["ce"], 0.3 * label_loss(logits, labels))
    student = make_network()
    history = heads.class_weights(student, make_network(16, seed=1), DataLoader(Pictures(), 32), weight)
    with torch.no_grad():
        first = 0.3 * label_loss(make_network()(make_pictures()[0][:32]), make_pictures()[1][:32])
    torch.testing.assert_close(history.terms["ce"][0], first, **CLOSE)


def test_mixup_gives_both_the_mixed_images_and_learns_from_soft_labels():
    student, teacher, seen = make_network(), make_network(16, seed=1), [[], []]
    for model, views in zip((student, teacher), seen, strict=True):
        model.register_forward_pre_hook(lambda module, args, views=views: views.append(args[0]))
    history = heads.mixup(student, teacher, Pictures(), CLASSES)
    assert history.steps == 6
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))
    plain = {tuple(image.flatten().tolist()) for image in Pictures().images}
    assert not all(tuple(image.flatten().tolist()) in plain for image in seen[0][0])
    soft, logits = torch.tensor([[0.25, 0.75, 0.0]]), draw(1, 3)
    objective = partial(soft_target_objective, label_loss=F.cross_entropy)
    expected = -(soft * logits.log_softmax(dim=1)).sum() * 0.3
    torch.testing.assert_close(objective(nn.Identity(), logits, soft, logits)["ce"], expected)
