"""The relation explorer without a front end: what each movement does to each loss, and to the picture."""

import pytest
import torch

from kdcourse.widgets import RelationExplorer
from kdcourse.widgets.explorers.relations import GAP, LOSSES, RELATIONS

LABELS = torch.arange(4).repeat_interleave(3)


@pytest.fixture
def explorer():
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(4, 8, generator=generator)
    return RelationExplorer(centres[LABELS] + 0.3 * torch.randn(12, 8, generator=generator), LABELS)


def moving(explorer):
    return {name for name, share in explorer.shares.items() if share > 0.005}


def test_a_student_that_is_the_teacher_has_no_loss(explorer):
    assert moving(explorer) == set()
    assert "every loss is 0" in explorer.status.value


def test_no_loss_sees_rotation_and_scale(explorer):
    explorer.rotation.value, explorer.scale.value = 137, 0.4
    assert moving(explorer) == set()
    assert "turned by 137°, scaled by 0.40: <b>no loss moves</b>" in explorer.status.value
    assert not torch.allclose(explorer.student, explorer.teacher)
    torch.testing.assert_close(torch.pdist(explorer.student), 0.4 * torch.pdist(explorer.teacher), rtol=0.05, atol=0.01)


def test_only_the_losses_of_inner_products_see_a_shift(explorer):
    explorer.shift.value = 1
    assert moving(explorer) == {"Gram", "similarity-preserving"}
    assert "distance and angle stay at 0" in explorer.status.value
    torch.testing.assert_close((explorer.student - explorer.teacher).norm(dim=1), torch.ones(12))


def test_every_loss_sees_an_outlier_the_distances_more_than_the_angles(explorer):
    explorer.outlier.value = 2
    assert moving(explorer) == set(LOSSES)
    assert explorer.shares["distance"] > explorer.shares["angle"]
    assert int((explorer.student != explorer.teacher).any(dim=1).sum()) == 1


def test_the_order_of_the_batch_matters_only_where_the_two_sides_differ_in_it(explorer):
    explorer.outlier.value = 1
    before = dict(explorer.losses)
    explorer.batch.value = "both in another order"
    assert explorer.losses == pytest.approx(before, rel=1e-4)
    explorer.outlier.value = 0
    explorer.batch.value = "only the student in another order"
    assert moving(explorer) == set(LOSSES)
    assert all(share > 0.5 for share in explorer.shares.values())


def test_a_batch_twice_halves_the_similarity_preserving_loss_alone(explorer):
    explorer.outlier.value = 1
    expected = dict(explorer.losses)
    expected["similarity-preserving"] /= 2
    explorer.batch.value = "every sample twice"
    assert explorer.losses == pytest.approx(expected, rel=1e-4)


def test_the_losses_are_those_of_the_points_shown(explorer):
    explorer.shift.value, explorer.outlier.value = 0.5, 1
    for name, loss in LOSSES.items():
        assert explorer.losses[name] == float(loss(explorer.student, explorer.teacher))


def test_every_kind_of_matrix_and_every_movement_changes_the_picture(explorer, frame_of):
    seen = {frame_of(explorer).tobytes()}
    for kind in list(RELATIONS)[1:]:
        explorer.relation.value = kind
        seen.add(frame_of(explorer).tobytes())
    for control, value in ((explorer.rotation, 30), (explorer.scale, 2), (explorer.shift, -1), (explorer.outlier, 1)):
        control.value = value
        seen.add(frame_of(explorer).tobytes())
    assert len(seen) == len(RELATIONS) + 4
    assert frame_of(explorer).text["shift"] == "-1.0"
    assert len(explorer.canvas.widget.value) < 60_000
    explorer.close()


def test_no_digit_lies_on_another_or_on_a_dot_and_each_stands_beside_its_class(explorer):
    for rotation, shift, outlier in [(0, 0, 0), (40, 0, 0), (0, 0.6, 0), (90, -0.3, 1)]:
        explorer.rotation.value, explorer.shift.value, explorer.outlier.value = rotation, shift, outlier
        digits = torch.tensor([text.get_position() for text in explorer.plane.texts])
        assert len(digits) == 8  # a grey and a blue one for each class
        assert torch.pdist(digits).min() > 0.6 * GAP
        dots = torch.cat([explorer.teacher, explorer.student])
        assert torch.cdist(digits[4:], dots).min() > 0.3 * GAP
        middles = explorer.student.view(4, 3, 2).median(dim=1).values
        assert (digits[4:] - middles).norm(dim=1).max() < 2 * GAP


def test_a_line_leads_from_each_sample_of_the_teacher_to_that_of_the_student(explorer):
    explorer.shift.value = 0.5
    (ways,) = explorer.plane.collections
    starts, ends = (torch.tensor([way[end].tolist() for way in ways.get_segments()]) for end in (0, 1))
    torch.testing.assert_close(starts, explorer.teacher, check_dtype=False)
    torch.testing.assert_close(ends, explorer.student, check_dtype=False)


def test_the_full_length_of_a_bar_is_an_unrelated_students_loss(explorer):
    explorer.batch.value = "only the student in another order"
    axes = explorer.bars
    assert axes.get_xlim() == (0, 1)
    assert axes.get_xticklabels()[1].get_text() == "an unrelated\nstudent's"
    lengths = [bar.get_width() for bar in axes.patches]
    assert lengths == pytest.approx([min(share, 1) for share in explorer.shares.values()])


def test_the_colours_of_the_maps_have_a_key_with_their_numbers(explorer):
    explorer.relation.value = "Gram matrix ÷ its norm"
    low, middle, high, name = (text.get_text() for text in explorer.key.texts)
    limits = [image.get_clim() for image in explorer.maps]
    assert limits[0] == limits[1]
    assert (float(high[2:]), middle) == (pytest.approx(limits[0][1], abs=1e-3), "0")
    assert low == high.replace("≥ ", "≤ −")
    assert name == "Gram matrix ÷ its norm"


def test_points_outside_the_picture_are_told(explorer):
    explorer.scale.value, explorer.shift.value, explorer.outlier.value = 2, 1.5, 2
    assert "Points outside the picture, drawn at its edge" in explorer.status.value


def test_one_button_brings_the_teacher_back_with_one_frame(explorer):
    explorer.rotation.value, explorer.outlier.value, explorer.batch.value = 30, 1, "every sample twice"
    frames = explorer.canvas.frames
    explorer.reset.click()
    assert explorer.canvas.frames == frames + 1
    assert moving(explorer) == set()


def test_beside_each_bar_stands_its_share_and_below_it_the_loss(explorer):
    explorer.shift.value = 1
    texts = [text.get_text() for text in explorer.bars.texts]
    shares, losses = texts[:4], texts[4:]
    assert shares[:2] == ["0%", "0%"]
    assert shares[2].removeprefix("▸ ") == f"{explorer.shares['Gram']:.0%}"
    assert losses == ["", "", *(f"{explorer.losses[name]:.3f}" for name in ("Gram", "similarity-preserving"))]


@pytest.mark.parametrize(
    ("embeddings", "labels", "told"),
    [
        (torch.randn(6, 4, 2, 2), torch.zeros(6), "Feature maps"),
        (torch.randn(6, 4), torch.zeros(5), "one label each"),
        (torch.randn(6, 1), torch.zeros(6), "at least 2"),
        (torch.randn(3, 4), torch.zeros(3), "got 3: fewer"),
        (torch.randn(41, 4), torch.zeros(41), "got 41"),
        (torch.ones(6, 4), torch.zeros(6), "same embedding"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(embeddings, labels, told):
    with pytest.raises(ValueError, match=told):
        RelationExplorer(embeddings, labels)
