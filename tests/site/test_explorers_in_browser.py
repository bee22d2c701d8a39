"""Explorers without a kernel: they move by keys and by finger, and their numbers are those of the package."""

import math
from collections import Counter

import pytest
import torch
from chapter_page import ROOT, needs_browser

pytest.importorskip("sphinx", reason='the site is not built here: pip install "kdcourse[site]"')
from site_parts.assets import networks

from kdcourse.data import load_mnist
from kdcourse.losses import gram_loss, kd_loss, rkd_angle_loss, rkd_distance_loss, similarity_preserving_loss, soften
from kdcourse.training import predict_logits
from kdcourse.widgets.explorers.boxes import find_pairs
from kdcourse.widgets.explorers.modes import ModesExplorer

pytestmark = needs_browser
EXPLORERS = sorted({path.stem for path in (ROOT / "site" / "pages" / "explorers").glob("*.md")} - {"index"})
TOUCH = """([selector, share]) => {
  const part = document.querySelector(selector), box = part.getBoundingClientRect();
  const at = {clientX: box.left + share * box.width, clientY: box.top + box.height / 2, bubbles: true, pointerId: 1};
  for (const kind of ['pointerdown', 'pointermove', 'pointerup']) part.dispatchEvent(new PointerEvent(kind, at));
}"""


def put(reader, place, position):
    """Move a slider of the explorer on the page, and wait until it is drawn."""
    slider = reader.page.locator(".kd-live input[type=range]").nth(place)
    slider.evaluate(
        "(part, at) => { part.value = at; part.dispatchEvent(new Event('input', {bubbles: true})); }", position
    )
    reader.settle()
    return float(slider.input_value())


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_moves_by_the_keyboard_and_says_what_is_seen(reader, name):
    page = reader.open(f"explorers/{name}.html")
    slider, says = page.locator(".kd-live input[type=range]").last, page.locator(".kd-says")
    before, words = says.inner_text(), slider.get_attribute("aria-valuetext")
    slider.focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    reader.settle()
    assert slider.get_attribute("aria-valuetext") != words
    assert says.inner_text() != before
    assert len(says.inner_text()) > 40


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_moves_by_the_pointer(reader, name):
    page = reader.open(f"explorers/{name}.html", width=360)
    slider = page.locator(".kd-live input[type=range]").last
    slider.scroll_into_view_if_needed()
    before, box = reader.explorer(name), slider.bounding_box()
    right = slider.evaluate("part => (part.value - part.min) / (part.max - part.min) > 0.5")
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + (0.1 if right else 0.9) * box["width"], box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    reader.settle()
    assert reader.explorer(name) != before
    assert box["height"] >= 24  # a finger must find it


@pytest.mark.parametrize("name", [*EXPLORERS, "digit"])
def test_a_still_with_a_text_stands_in_print(reader, name):
    page = reader.open("draw.html" if name == "digit" else f"explorers/{name}.html")
    page.emulate_media(media="print")
    still = page.locator(".kd-still img")
    assert still.is_visible()
    assert len(still.get_attribute("alt")) > 40
    assert not page.locator(".kd-live").is_visible()
    page.emulate_media(media="screen")
    assert not still.is_visible()


def test_softened_probabilities_are_those_of_the_package(reader, recorded):
    reader.open("explorers/temperature.html")
    samples = recorded("temperature")["samples"]
    for digit, example, position in ((3, 1, 0), (8, 3, 22), (0, 2, 43)):
        for place, value in enumerate((digit, example, position)):
            put(reader, place, value)
        temperature = min(20, 0.5 * 2 ** (position / 8))
        logits = torch.tensor(samples[3 * digit + example - 1]["logits"], dtype=torch.float64)
        p = soften(logits, temperature=temperature)
        shown = reader.explorer("temperature")
        torch.testing.assert_close(torch.tensor(shown["p"], dtype=torch.float64), p, atol=1e-6, rtol=0)
        torch.testing.assert_close(
            torch.tensor(shown["pushes"], dtype=torch.float64), temperature * (p - 0.1), atol=1e-5, rtol=0
        )


def test_the_change_of_a_digits_logits_is_minus_the_gradient_of_the_loss(reader, recorded):
    reader.open("explorers/gradient.html")
    record = recorded("gradient")
    student, teacher = (torch.tensor([record[name]], dtype=torch.float64) for name in ("student", "teacher"))
    student.requires_grad_()
    for place in (0, 12, 24):
        put(reader, 0, place)
        kd = kd_loss(student, teacher, temperature=record["temperatures"][place])
        (gradient,) = torch.autograd.grad(kd, student)
        change = torch.tensor(reader.explorer("gradient")["change"], dtype=torch.float64)
        torch.testing.assert_close(change, -gradient[0], atol=1e-6, rtol=0)


def test_the_recorded_lengths_of_the_gradient_differ_by_the_square_of_the_temperature(recorded):
    record = recorded("gradient")
    for temperature, without, with_t2 in zip(record["temperatures"], record["without"], record["with_t2"], strict=True):
        assert math.isclose(without * temperature**2, with_t2, rel_tol=1e-3)


def test_the_four_losses_are_those_of_the_package(reader, recorded):
    reader.open("explorers/relations.html")
    points = torch.tensor(recorded("relations")["points"])
    for turn, scale, shift, outlier in ((40, 0.6, 0, 0), (-90, -1, 0.5, 0), (10, 0.2, -1, 1.5)):
        for place, value in enumerate((turn, scale, shift, outlier)):
            put(reader, place, value)
        angle, moved = math.radians(turn), points.clone()
        moved[0] += outlier * points[0] / points[0].norm()
        rotation = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        student = 2**scale * moved @ rotation + shift * math.sqrt(0.5)
        losses = [
            float(loss(student, points))
            for loss in (rkd_distance_loss, rkd_angle_loss, gram_loss, similarity_preserving_loss)
        ]
        assert reader.explorer("relations")["values"] == pytest.approx(losses, abs=2e-5)


def test_exits_add_up_and_the_deepest_exit_alone_is_what_full_confidence_costs(reader, recorded):
    record = recorded("exits")
    assert all(sum(shares) == pytest.approx(1, abs=2e-4) for shares in record["shares"])
    assert record["shares"][0] == [1, 0, 0]
    assert record["accuracy"][0] == pytest.approx(record["single"][0][1], abs=1e-4)
    for index in (0, 60, 100):
        mean = sum(share * cost for share, (cost, _) in zip(record["shares"][index], record["single"], strict=True))
        assert record["compute"][index] == pytest.approx(mean, abs=1e-3)
    reader.open("explorers/exits.html")
    put(reader, 0, 37)
    assert reader.explorer("exits")["accuracy"] == record["accuracy"][37]


def test_boxes_that_count_are_those_that_the_package_counts(reader, recorded):
    record = recorded("boxes")
    reader.open("explorers/boxes.html")
    for scene, score in ((1, 30), (7, 62), (10, 10)):
        put(reader, 0, scene)
        put(reader, 1, score)
        row = record["scenes"][scene - 1]
        truth = torch.tensor(row["truth"])
        target = {"boxes": truth[:, :4], "labels": truth[:, 4].long()}
        shown = reader.explorer("boxes")
        for counts, boxes in zip(shown["counts"], row["found"], strict=True):
            kept = torch.tensor([box for box in boxes if box[5] >= score / 100]).reshape(-1, 7)
            pairs = find_pairs({"boxes": kept[:, :4], "labels": kept[:, 4].long()}, target)
            hits = sum(pair >= 0 for pair in pairs)
            assert counts == [hits, len(truth) - hits, len(pairs) - hits]
        found, wrong = (record[name][1][score - record["lowest"]] for name in ("found", "wrong"))
        assert shown["all"][1] == pytest.approx([wrong / record["count"], 100 * found / record["digits"]])


def test_a_higher_score_finds_no_more_digits_and_draws_no_more_wrong_boxes(recorded):
    record = recorded("boxes")
    for rows in (record["found"], record["wrong"]):
        assert all(row == sorted(row, reverse=True) and len(row) == 96 - record["lowest"] for row in rows)
    assert all(row[0] <= record["digits"] for row in record["found"])


def test_the_best_bump_and_what_it_covers_are_those_of_the_widget(reader, recorded):
    record = recorded("modes")
    reader.open("explorers/modes.html")
    explorer = ModesExplorer()
    for gap, beta in ((8, 0), (8, 50), (12, 20), (3, 47)):
        put(reader, 0, gap)
        put(reader, 1, beta)
        explorer.gap.value, explorer.beta.value = record["gaps"][gap], record["betas"][beta]
        shown = reader.explorer("modes")
        assert (shown["middle"], shown["width"]) == pytest.approx((explorer.mean, explorer.width), abs=1e-4)
        assert shown["covered"] == pytest.approx(explorer.covered, abs=1e-3)
        assert shown["between"] == pytest.approx(explorer.between, abs=1e-3)
    explorer.close()


def choose(reader, position):
    """Choose from the explorer's list, and wait until it is drawn."""
    reader.page.locator(".kd-live select").select_option(index=position)
    reader.settle()


def test_heads_show_attention_and_answers_as_torch_computes_them(reader, recorded):
    record = recorded("heads")
    page = reader.open("explorers/heads.html")
    for definition, *places in ((0, 2, 1, 3, 8), (3, 1, 4, 1, 0), (5, 2, 3, 7, 24), (7, 1, 2, 5, 43)):
        choose(reader, definition)
        for place, value in enumerate(places):
            put(reader, place, value)
        layer, head, token, temperature = places
        row, shown = record["definitions"][definition], reader.explorer("heads")
        logits = torch.tensor(row["logits"], dtype=torch.float64)
        answers = soften(logits, temperature=min(20, 0.5 * 2 ** (temperature / 8)))
        torch.testing.assert_close(torch.tensor(shown["answers"], dtype=torch.float64), answers, atol=1e-6, rtol=0)
        maps = torch.tensor(row["maps"])[:, layer - 1, head - 1] / 1000  # (teacher and student, L, L)
        assert shown["moved"] == pytest.approx(float((maps[0] - maps[1]).abs().sum(dim=1).mean()) / 2, abs=1e-6)
        drawn = page.locator(".kd-chart rect[fill-opacity]").evaluate_all(
            "all => all.map(one => one.getAttribute('fill-opacity'))"
        )
        assert list(map(float, drawn)) == pytest.approx(maps.flatten().tolist())
        says = page.locator(".kd-says").inner_text()
        seen = [f"“{row['tokens'][line.index(max(line))]}” (" for line in maps[:, token - 1].tolist()]
        assert f"From “{row['tokens'][token - 1]}” the teacher's head looks most at {seen[0]}" in says
        assert f"the student's at {seen[1]}" in says
        kinds = [record["kinds"][place] for place in answers.argmax(dim=1).tolist()]
        assert f"the teacher says {kinds[0]} (" in says
        assert f"and the student {kinds[1]} (" in says
        assert f"right is {record['kinds'][row['kind']]}" in says


def test_a_definition_is_chosen_by_keys_and_no_token_is_left_outside_it(reader, recorded):
    definitions = recorded("heads")["definitions"]
    page = reader.open("explorers/heads.html")
    for position, row in enumerate(definitions):
        if position:
            page.locator(".kd-live select").focus()
            page.keyboard.press("ArrowDown")
            reader.settle()
        token = page.locator(".kd-live input[type=range]").nth(2)
        assert int(token.get_attribute("max")) == reader.explorer("heads")["tokens"] == len(row["tokens"])
        token.focus()
        page.keyboard.press("End")
        reader.settle()
        assert token.get_attribute("aria-valuetext") == "[SEP]"
        assert "From “[SEP]”" in page.locator(".kd-says").inner_text()


def test_a_finger_on_a_map_chooses_the_token_of_its_row(reader, recorded):
    words = recorded("heads")["definitions"][0]["tokens"]
    page = reader.open("explorers/heads.html", width=360)
    square = page.locator(".kd-chart rect[fill-opacity]").nth(4 * len(words) + 1)
    square.dispatch_event("pointerdown", {"clientY": square.bounding_box()["y"] + 5, "bubbles": True})
    reader.settle()
    assert page.locator(".kd-says").inner_text().startswith(f"From “{words[4]}”")


def test_the_teachers_numbers_in_heads_are_those_of_the_zoo(recorded):
    from kdcourse import zoo
    from kdcourse.data.tokens import encode, load_tokenizer

    record = recorded("heads")
    teacher = zoo.load("definitions_teacher")
    teacher.set_attn_implementation("eager")
    for row in record["definitions"]:
        with torch.no_grad():
            output = teacher(*encode(load_tokenizer(), [row["text"]]), output_attentions=True)
        torch.testing.assert_close(torch.tensor(row["logits"][0]), output.logits[0], atol=1e-3, rtol=0)
        maps = torch.stack([output.attentions[block - 1][0] for block in record["blocks"][0]])
        torch.testing.assert_close(torch.tensor(row["maps"][0]) / 1000, maps, atol=1e-3, rtol=0)


def test_the_definitions_in_heads_are_those_that_the_page_names(recorded):
    record = recorded("heads")
    counts = Counter(
        tuple(row.index(max(row)) == definition["kind"] for row in definition["logits"])
        for definition in record["definitions"]
    )
    assert counts == {(True, True): 3, (True, False): 2, (False, True): 1, (False, False): 2}
    assert len({definition["kind"] for definition in record["definitions"]}) == 8
    assert all(7 <= len(definition["tokens"]) <= 11 for definition in record["definitions"])


def test_the_networks_in_the_page_answer_as_in_torch(reader):
    page = reader.open("draw.html")
    page.evaluate("document.querySelector('[data-explorer=digit]').explorer.wake()")
    page.wait_for_function("document.querySelector('[data-explorer=digit]').explorer.networks.student", timeout=120_000)
    images = load_mnist().test.images[:1000]
    pixels = (images.flatten(1) * 255).round().int().tolist()
    ask = """([name, images]) => {
      const {answer} = document.querySelector('[data-explorer=digit]').explorer;
      return images.map(image => answer(name, Float32Array.from(image, value => value / 255)));
    }"""
    for name, network in networks().items():
        rows = [row for start in range(0, 1000, 100) for row in page.evaluate(ask, [name, pixels[start : start + 100]])]
        there, here = torch.tensor(rows), predict_logits(network, images)
        assert (there.argmax(dim=1) == here.argmax(dim=1)).float().mean() >= 0.999, name
        for temperature in (1, 4, 20):
            difference = soften(there, temperature=temperature) - soften(here, temperature=temperature)
            assert difference.abs().max() <= 1e-2, (name, temperature)
    assert reader.elsewhere() == []


def test_a_drawn_digit_is_centred_like_mnist_and_both_networks_answer(reader):
    page = reader.open("draw.html", width=360)
    assert "digit" in page.locator(".kd-says").inner_text()
    pad = page.locator(".kd-pad canvas")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.22 * box["width"], box["y"] + 0.7 * box["height"], steps=12)  # a one, in a corner
    page.mouse.up()
    page.wait_for_function("document.querySelector('[data-explorer=digit]').explorer.read().student", timeout=120_000)
    shown = reader.explorer("digit")
    for row in (shown["teacher"], shown["student"]):
        assert sum(row) == pytest.approx(1, abs=1e-5)
        assert row.index(max(row)) == 1
    middle = page.evaluate("""() => {
      const canvas = document.querySelectorAll('.kd-digit canvas')[0];
      const {data} = canvas.getContext('2d').getImageData(0, 0, 28, 28);
      let mass = 0, x = 0, y = 0, top = 28, bottom = 0;
      for (let i = 0; i < 784; i++) {
        const ink = 255 - data[4 * i];
        mass += ink; x += ink * (i % 28 + .5); y += ink * (Math.floor(i / 28) + .5);
        if (ink > 20) { top = Math.min(top, Math.floor(i / 28)); bottom = Math.max(bottom, Math.floor(i / 28)); }
      }
      return [x / mass, y / mass, bottom - top + 1];
    }""")
    assert abs(middle[0] - 14) <= 0.6
    assert abs(middle[1] - 14) <= 0.6
    assert 18 <= middle[2] <= 20  # a box of twenty pixels
    assert "teacher says 1" in page.locator(".kd-says").inner_text()


def test_a_finger_draws_too(reader):
    page = reader.open("draw.html", width=360)
    assert page.locator(".kd-pad canvas").evaluate("part => getComputedStyle(part).touchAction") == "none"
    page.evaluate("HTMLElement.prototype.setPointerCapture = () => {}")  # a made-up pointer cannot be captured
    page.evaluate(TOUCH, [".kd-pad canvas", 0.5])
    page.wait_for_function("document.querySelector('[data-explorer=digit]').explorer.read().student", timeout=120_000)


def test_weights_are_loaded_only_when_they_are_asked_for(reader):
    page = reader.open("draw.html")
    assert not any("teacher.js" in url for url in reader.asked)
    page.get_by_role("button", name="Show a test image").click()
    page.wait_for_function("document.querySelector('[data-explorer=digit]').explorer.read().student", timeout=120_000)
    assert any("teacher.js" in url for url in reader.asked)
