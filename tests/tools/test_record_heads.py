"""The recorder of the site's explorer ``heads``, with small random models."""

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("jupytext", reason='notebooks are not built here: pip install "kdcourse[dev]"')
import record_heads

from experiments._language_plan import Settings
from kdcourse.data.definitions import load_definitions
from kdcourse.data.tokens import load_tokenizer
from kdcourse.models.language import make_bert
from kdcourse.widgets.explorers.heads import HeadsExplorer

SMALL = Settings(labelled=8, copies=1, unlabelled=8, batch_size=8, test=8, test_words=8, held_out=8)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    teacher = make_bert(layers=4, width=32, heads=2)
    return teacher, record_heads.train_student(teacher, SMALL)


def test_recorded_attention_and_logits_are_what_the_notebooks_explorer_shows(models):
    definitions = load_definitions()
    record = record_heads.compare(*models, definitions.test.take(400), definitions.kinds)
    assert record["blocks"] == [[2, 4], [1, 2]]
    row = record["definitions"][0]
    explorer = HeadsExplorer(*models, load_tokenizer(), record["kinds"], text=row["text"])
    for layer, head in ((1, 2), (2, 1)):
        explorer.layer.value, explorer.head.value = layer, head
        for side, name in enumerate(("teacher", "student")):
            maps = torch.tensor(row["maps"][side][layer - 1][head - 1]) / 1000
            torch.testing.assert_close(maps, explorer.maps[name], atol=6e-4, rtol=0)
            answers = torch.tensor(row["logits"][side]).softmax(dim=0)
            torch.testing.assert_close(answers, explorer.answers[name], atol=1e-4, rtol=0)
    explorer.close()


def test_a_definition_is_chosen_by_who_is_right_and_no_kind_comes_twice():
    labels = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    teacher = torch.tensor([0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 0])
    student = torch.tensor([0, 0, 1, 2, 3, 0, 0, 6, 7, 0, 0])
    fitting = torch.ones(11, dtype=torch.bool)
    assert record_heads.choose(labels, [teacher, student], fitting) == [0, 2, 3, 5, 6, 7, 9, 10]
    fitting[2] = False
    assert record_heads.choose(labels, [teacher, student], fitting) == [0, 3, 4, 5, 6, 7, 9, 10]
