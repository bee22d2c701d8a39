"""A writer's own texts: drawn from its own distribution, with and without the cache."""

import pytest
import torch

from kdcourse.data.tokens import encode, load_tokenizer
from kdcourse.models.writer import END, PAD, VOCABULARY, make_writer, next_tokens, start_with_kind, write


@pytest.fixture(scope="module")
def writer():
    torch.manual_seed(0)
    return make_writer(layers=2, width=16, kinds=3, vocabulary=VOCABULARY)


class Scripted(torch.nn.Module):
    """A writer that says the same pieces for each text, then ends it."""

    def __init__(self, *tokens):
        super().__init__()
        self.config = make_writer(layers=1, width=4, heads=1).config
        self.tokens, self.calls = tokens, []

    def forward(self, input_ids, **options):
        self.calls.append(input_ids.shape)
        logits = torch.full((len(input_ids), 1, self.config.vocab_size), -1e9)
        logits[..., self.tokens[min(len(self.calls), len(self.tokens)) - 1]] = 0
        return type("Out", (), {"logits": logits})


@pytest.mark.trap(86)
def test_the_closing_token_counts_and_padding_does_not():
    assert PAD != END
    texts = write(Scripted(9, 8, END), torch.tensor([0, 1]), max_length=8)
    assert texts.input_ids.tolist() == [[6000, 9, 8, END], [6001, 9, 8, END]]
    assert texts.attention_mask.all()
    tokens, real = next_tokens(torch.tensor([[6000, 9, END, PAD]]), torch.tensor([[1, 1, 1, 0]]))
    assert tokens[real].tolist() == [9, END]


def test_a_text_that_ends_early_is_padded_while_others_go_on(writer):
    torch.manual_seed(0)
    with torch.no_grad():
        writer.transformer.wte.weight[END] = 6 * writer.transformer.wte.weight[:10].mean(0)
    texts = write(writer, torch.tensor([0] * 40), max_length=20)
    for row, mask in zip(texts.input_ids.tolist(), texts.attention_mask.tolist(), strict=True):
        length = sum(mask)
        assert mask == [1] * length + [0] * (len(mask) - length)
        assert END not in row[: length - 1]
        assert all(token == PAD for token in row[length:])


def test_one_new_token_is_asked_for_at_each_step():
    scripted = Scripted(9, 8, 7, END)
    write(scripted, torch.tensor([0, 1]), max_length=8)
    assert scripted.calls == [(2, 1)] * 4


@pytest.mark.trap(87)
def test_texts_are_drawn_from_the_whole_distribution_of_the_writer(writer):
    kinds = torch.zeros(4000, dtype=torch.long)
    with torch.no_grad():
        expected = writer.eval()(torch.tensor([[VOCABULARY]])).logits[0, 0].softmax(-1)
    drawn = write(writer, kinds, max_length=2, generator=torch.Generator().manual_seed(0)).input_ids[:, 1]
    rare = expected.argsort()[: len(expected) // 2]  # what top-k or top-p would leave out
    share = torch.isin(drawn, rare).double().mean()
    assert abs(share - expected[rare].sum()) < 4 * (0.25 / 4000) ** 0.5
    assert len(drawn.unique()) > 1000


def test_the_cache_changes_no_distribution(writer):
    text = write(writer, torch.tensor([1, 2]), max_length=6, generator=torch.Generator().manual_seed(1)).input_ids
    with torch.no_grad():
        whole = writer.eval()(text).logits

    class Recording(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config, self.seen = writer.config, []

        def forward(self, input_ids, **options):
            out = writer(input_ids, **options)
            self.seen.append(out.logits[:, -1])
            return out

    recording = Recording()
    write(recording, torch.tensor([1, 2]), max_length=6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        torch.stack(recording.seen, dim=1), whole[:, : len(recording.seen)], atol=1e-4, rtol=1e-4
    )


def test_writing_leaves_the_mode_as_it_was(writer):
    writer.train()
    write(writer, torch.tensor([0]), max_length=3)
    assert writer.training


def test_encoded_definitions_start_with_their_kind():
    ids, _ = encode(load_tokenizer(), ["a large cat", "an act of kindness"])
    started = start_with_kind(ids, torch.tensor([4, 0]))
    assert started[:, 0].tolist() == [6004, 6000]
    assert torch.equal(started[:, 1:], ids[:, 1:])
    with pytest.raises(ValueError, match="one number per text"):
        start_with_kind(ids, torch.tensor([4]))


@pytest.mark.parametrize(
    ("kinds", "options", "message"),
    [
        (torch.tensor([3]), {}, "kinds must have shape"),
        (torch.tensor([], dtype=torch.long), {}, "kinds must have shape"),
        (torch.tensor([0]), {"max_length": 65}, "max_length must be from 2 to 64"),
        (torch.tensor([0]), {"max_length": 1}, "max_length must be from 2 to 64"),
        (torch.tensor([0]), {"temperature": 0}, "temperature positive"),
    ],
)
def test_what_cannot_be_written_is_refused(writer, kinds, options, message):
    with pytest.raises(ValueError, match=message):
        write(writer, kinds, **options)


def test_a_width_that_its_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="multiple of heads, got 10 and 4"):
        make_writer(layers=1, width=10, heads=4)
