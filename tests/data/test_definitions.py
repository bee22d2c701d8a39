"""Dictionary definitions and their tokens: apart by noun, verified, padded, in batches of similar length."""

import gzip
from collections import Counter

import pytest
import torch

from kdcourse.data import definitions as module
from kdcourse.data.definitions import load_definitions
from kdcourse.training import fit

pytest.importorskip("transformers")

from kdcourse.data.tokens import SPECIAL, VOCABULARY, LengthBatches, encode, load_tokenizer


@pytest.fixture(scope="module")
def definitions():
    return load_definitions()


def test_the_splits_hold_every_definition_once(definitions):
    sizes = [len(split.texts) for split in definitions[:3]]
    assert sum(sizes) == 79_795
    assert sizes[2] == 8061
    assert sizes[1] >= 4000


def test_no_noun_is_in_two_splits(definitions):
    train, held_out, test = (set(split.lemmas) for split in definitions[:3])
    assert not train & held_out
    assert not train & test
    assert not held_out & test


def test_a_split_is_aligned_and_every_kind_is_in_it(definitions):
    for split in definitions[:3]:
        assert len(split.texts) == len(split.labels) == len(split.lemmas)
        assert split.labels.unique().tolist() == list(range(24))


def test_the_largest_kind_has_14_percent_of_the_test_definitions(definitions):
    kind, count = Counter(definitions.test.labels.tolist()).most_common(1)[0]
    assert definitions.kinds[kind] == "artifact"
    assert 0.135 < count / 8061 < 0.145


def test_a_prefix_is_a_fair_sample(definitions):
    small = definitions.train.take(2000)
    shares = [torch.bincount(split.labels, minlength=24) / len(split.labels) for split in (small, definitions.train)]
    assert (shares[0] - shares[1]).abs().max() < 0.02
    assert len(set(small.lemmas)) > 1900  # not all meanings of a few nouns


def test_without_held_out_definitions_all_are_for_training():
    assert len(load_definitions(held_out=0).train.texts) == 71_734


@pytest.mark.parametrize("held_out", [-1, 60_001])
def test_too_many_held_out_definitions_are_refused(held_out):
    with pytest.raises(ValueError, match=f"from 0 to 60000, got {held_out}"):
        load_definitions(held_out=held_out)


@pytest.mark.parametrize("count", [0, 8062])
def test_a_prefix_must_be_inside_the_split(definitions, count):
    with pytest.raises(ValueError, match=f"from 1 to 8061, the size of this split, got {count}"):
        definitions.test.take(count)


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "is missing"), (b"no gzip", "is damaged"), (gzip.compress(b"split\tcategory\n"), "has been altered")],
    ids=["missing", "no gzip", "altered"],  # a gzip holds the second it was made in, and names must agree
)
def test_a_file_that_is_not_the_original_is_named(content, told, tmp_path, monkeypatch):
    (tmp_path / "wordnet").mkdir()
    if content is not None:
        (tmp_path / "wordnet" / "noun-definitions.tsv.gz").write_bytes(content)
    monkeypatch.setattr(module.resources, "files", lambda package: tmp_path)
    module._rows.cache_clear()
    try:
        with pytest.raises(ValueError, match=rf"noun-definitions\.tsv\.gz {told}"):
            load_definitions()
    finally:
        module._rows.cache_clear()


def test_the_tokenizer_knows_its_special_pieces_and_its_size():
    tokenizer = load_tokenizer()
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == [0, 1, 2, 3, 4]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 4)


def test_definitions_have_about_18_tokens_and_hardly_any_is_unknown(definitions):
    tokens = encode(load_tokenizer(), definitions.test.texts[:2000])
    assert 17 < tokens.attention_mask.sum(dim=1).float().mean() < 20
    assert (tokens.input_ids == 1).sum() < 1e-4 * tokens.attention_mask.sum()


def test_an_unknown_letter_becomes_the_unknown_token():
    assert 1 in encode(load_tokenizer(), ["a 猫"]).input_ids


def test_a_text_longer_than_the_model_is_cut_and_keeps_its_end():
    tokens = encode(load_tokenizer(), ["word " * 100], max_length=10)
    assert tokens.input_ids.shape == (1, 10)
    assert tokens.input_ids[0, -1] == 3  # [SEP]


@pytest.mark.parametrize("texts", [[], "a string"])
def test_texts_must_be_a_list_with_something_in_it(texts):
    with pytest.raises(ValueError, match="texts must be a list of at least one string"):
        encode(load_tokenizer(), texts)


def made_up(lengths, width=12):
    real = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    return torch.arange(len(lengths))[:, None] * real + real, real, torch.arange(len(lengths))


def test_batches_by_length_hold_every_sample_once_and_stay_aligned():
    lengths = torch.randint(1, 13, (1003,), generator=torch.Generator().manual_seed(0)).tolist()
    seen = []
    for ids, real, place in LengthBatches(*made_up(lengths), batch_size=16):
        assert real.sum(dim=1).tolist() == [lengths[p] for p in place]
        assert ids.shape[1] == real.sum(dim=1).max()
        seen += place.tolist()
    assert sorted(seen) == list(range(1003))


def test_batches_by_length_pad_less(definitions):
    tokens = encode(load_tokenizer(), definitions.train.texts[:6400])
    cells = sum(ids.numel() for ids, _ in LengthBatches(*tokens, batch_size=64))
    whole = sum(int(real.sum(dim=1).max()) * len(real) for real in tokens.attention_mask.split(64))
    assert cells < 0.6 * whole


def test_batches_by_length_continue_exactly_from_where_they_stopped():
    data = made_up([1 + i % 12 for i in range(100)])

    def new():
        return LengthBatches(*data, batch_size=8, epochs=2, generator=torch.Generator().manual_seed(3))

    whole = [batch[2].tolist() for batch in new()]
    first = new()
    iterator = iter(first)
    start = [next(iterator)[2].tolist() for _ in range(5)]
    rest = new()
    rest.load_state_dict(first.state_dict())
    assert start + [batch[2].tolist() for batch in rest] == whole
    assert whole[:13] != whole[13:]  # another order in the next epoch


def test_fit_trains_on_batches_by_length():
    data = made_up([1 + i % 12 for i in range(40)])
    student = torch.nn.Embedding(50, 2)

    def objective(student, ids, real, place):
        return {"size": student(ids).square().mean()}

    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    history = fit(
        student, data, objective, optimizer, epochs=2, batch_size=8, make_batches=LengthBatches, progress=False
    )
    assert history.steps == 10
