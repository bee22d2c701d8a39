"""DistilBERT's recipe on real, tiny, randomly initialised models of ``transformers``."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from kdcourse.data import mask_words
from kdcourse.losses import (
    HiddenProjection,
    attention_loss,
    attention_scores_loss,
    hidden_state_loss,
    map_layers,
    value_relation_loss,
)
from kdcourse.models import capture
from kdcourse.objectives import distilbert_objective
from kdcourse.recipes import distilbert, init_student_from_teacher
from kdcourse.training import train

transformers = pytest.importorskip("transformers")

WORDS, PAD, CLS, SEP, MASK = 40, 0, 1, 2, 3
ORDINARY = range(4, WORDS)


def make_bert(layers=4, *, width=16, heads=2, words=WORDS, seed=0, **settings):
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        max_position_embeddings=16,
        pad_token_id=PAD,
        **settings,
    )
    return spread(transformers.BertForMaskedLM(config)).eval()


def make_distilbert(layers=2, *, width=16, heads=2, words=WORDS, seed=1, **settings):
    torch.manual_seed(seed)
    config = transformers.DistilBertConfig(
        vocab_size=words,
        dim=width,
        n_layers=layers,
        n_heads=heads,
        hidden_dim=2 * width,
        max_position_embeddings=16,
        pad_token_id=PAD,
        **settings,
    )
    return spread(transformers.DistilBertForMaskedLM(config)).eval()


def spread(model):
    """Weights as far from 0 as trained ones: at the usual 0.02 every block is nearly the identity."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def make_text(batch=6, tokens=12, seed=0):
    """Sentences in which each word follows from the one before, of unequal lengths, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(len(ORDINARY), (batch, 1), generator=generator)
    input_ids = ORDINARY.start + (first + 5 * torch.arange(tokens)) % len(ORDINARY)  # (B, L)
    lengths = torch.randint(5, tokens + 1, (batch, 1), generator=generator)
    lengths[0] = tokens
    place = torch.arange(tokens)
    input_ids[:, 0] = CLS
    input_ids = torch.where(place == lengths - 1, SEP, input_ids)
    attention_mask = (place < lengths).long()
    return torch.where(attention_mask.bool(), input_ids, PAD), attention_mask


def make_batch(seed=0, **settings):
    input_ids, attention_mask = make_text(seed=seed, **settings)
    masked, labels = mask_words(
        input_ids,
        attention_mask,
        mask_id=MASK,
        vocabulary_size=WORDS,
        special_ids=(PAD, CLS, SEP),
        probability=0.3,
        generator=torch.Generator().manual_seed(seed),
    )
    return masked, attention_mask, labels


def outputs(model, input_ids, attention_mask, **settings):
    with torch.no_grad():
        return model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, **settings)


# Start from the teacher


@pytest.mark.parametrize("make_student", [make_bert, make_distilbert])
def test_a_student_of_full_depth_starts_as_its_teacher(make_student):
    teacher, student = make_bert(4), make_student(4, seed=5)
    assert init_student_from_teacher(student, teacher) == {1: 1, 2: 2, 3: 3, 4: 4}
    text = make_text()
    ours, theirs = outputs(student, *text), outputs(teacher, *text)
    real = text[1].bool()
    torch.testing.assert_close(ours.logits[real], theirs.logits[real])
    # places in the two tuples are the places that map_layers speaks of
    loss = hidden_state_loss(ours.hidden_states, theirs.hidden_states, attention_mask=text[1])
    assert loss.item() == pytest.approx(0, abs=1e-10)


def test_a_student_without_token_types_owes_its_embeddings_to_positions():
    teacher, student = make_bert(4), make_distilbert(2)
    init_student_from_teacher(student, teacher)
    text = make_text()
    ours, theirs = outputs(student, *text).hidden_states[0], outputs(teacher, *text).hidden_states[0]
    torch.testing.assert_close(ours, theirs)
    # dropping the token types without a word would have changed every token
    assert teacher.bert.embeddings.token_type_embeddings.weight[0].abs().max() > 0.1


def test_a_shallower_student_takes_the_mapped_blocks_and_the_head():
    teacher, student = make_bert(4), make_distilbert(2)
    assert init_student_from_teacher(student, teacher) == {1: 2, 2: 4}
    for block, origin in ((0, 1), (1, 3)):
        ours, theirs = student.distilbert.transformer.layer[block], teacher.bert.encoder.layer[origin]
        assert torch.equal(ours.attention.v_lin.weight, theirs.attention.self.value.weight)
        assert torch.equal(ours.ffn.lin2.bias, theirs.output.dense.bias)
        assert torch.equal(ours.sa_layer_norm.weight, theirs.attention.output.LayerNorm.weight)
    assert torch.equal(student.vocab_transform.weight, teacher.cls.predictions.transform.dense.weight)
    assert torch.equal(student.vocab_projector.bias, teacher.cls.predictions.bias)
    assert torch.equal(student.vocab_projector.weight, teacher.bert.embeddings.word_embeddings.weight)


def test_a_map_of_ones_own_chooses_the_blocks():
    teacher, student = make_bert(4), make_bert(2, seed=3)
    assert init_student_from_teacher(student, teacher, {1: 1, 2: 3}) == {1: 1, 2: 3}
    ours, theirs = student.bert.encoder.layer[1], teacher.bert.encoder.layer[2]
    assert torch.equal(ours.attention.self.query.weight, theirs.attention.self.query.weight)


def test_copied_weights_are_the_students_own():
    teacher, student = make_bert(4), make_distilbert(2)
    before = copy.deepcopy(teacher.state_dict())
    init_student_from_teacher(student, teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 1
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_a_bert_student_of_a_distilbert_teacher_gets_token_types_of_zero():
    teacher, student = make_distilbert(3), make_bert(3)
    init_student_from_teacher(student, teacher)
    text = make_text()
    torch.testing.assert_close(outputs(student, *text).hidden_states[-1], outputs(teacher, *text).hidden_states[-1])
    assert not student.bert.embeddings.token_type_embeddings.weight.any()


def test_a_head_that_the_teacher_lacks_stays():
    teacher = make_bert(2)
    student = transformers.BertForSequenceClassification(teacher.config)
    before = student.classifier.weight.clone()
    init_student_from_teacher(student, teacher)
    assert torch.equal(student.classifier.weight, before)
    ours, theirs = student.bert.encoder.layer[1], teacher.bert.encoder.layer[1]
    assert torch.equal(ours.output.dense.weight, theirs.output.dense.weight)


@pytest.mark.parametrize(
    ("student", "layer_map", "message"),
    [
        (lambda: make_distilbert(2, width=8), None, r"shape \(40, 8\) in the student and \(40, 16\).*not narrower"),
        (lambda: make_bert(2, words=50), None, r"word_embeddings.weight has shape \(50, 16\)"),
        (lambda: make_distilbert(2, heads=4), None, "student has 4 attention heads, the teacher 2"),
        (lambda: make_distilbert(6), None, "student has 6 blocks, the teacher only 4"),
        (
            lambda: make_distilbert(2),
            {0: 0, 1: 2},
            r"each of the student's 2 blocks once, counted from 1, got \[0, 1\]",
        ),
        (lambda: make_distilbert(2), {1: 2, 2: 5}, "names teacher block 5, but its blocks are 1 to 4"),
        (lambda: nn.Linear(2, 2), None, "the student, a Linear, has no blocks named"),
        (lambda: make_bert(2, is_decoder=True, add_cross_attention=True), None, "not of one family"),
    ],
)
def test_models_that_do_not_fit_are_refused_and_left_alone(student, layer_map, message):
    student = student()
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(ValueError, match=message):
        init_student_from_teacher(student, make_bert(4), layer_map)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_a_tied_student_of_an_untied_teacher_is_refused():
    teacher = make_bert(2, tie_word_embeddings=False)
    with pytest.raises(ValueError, match=r"student ties .* to another weight, the teacher does not"):
        init_student_from_teacher(make_distilbert(2), teacher)


# Hide words


def test_masking_hides_the_stated_share_of_ordinary_real_words_in_the_stated_ways():
    input_ids, attention_mask = make_text(batch=3000)
    masked, labels = mask_words(
        input_ids,
        attention_mask,
        mask_id=MASK,
        vocabulary_size=WORDS,
        special_ids=(PAD, CLS, SEP),
        generator=torch.Generator().manual_seed(0),
    )
    chosen = labels != -100
    eligible = input_ids >= ORDINARY.start
    assert torch.equal(labels[chosen], input_ids[chosen])
    assert torch.equal(masked[~chosen], input_ids[~chosen])
    assert not chosen[~eligible].any()
    assert chosen[eligible].float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (masked[chosen] == MASK).float().mean().item() == pytest.approx(0.8, abs=0.02)
    # a random word is the old one once in 36 times
    assert (masked[chosen] == labels[chosen]).float().mean().item() == pytest.approx(0.1 + 0.1 / 36, abs=0.02)
    assert masked[chosen].min() == MASK


def test_the_generator_owns_the_masking():
    text = make_text()
    settings = {"mask_id": MASK, "vocabulary_size": WORDS}
    first, second = (mask_words(*text, **settings, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    state = torch.get_rng_state()
    mask_words(*text, **settings, generator=torch.Generator().manual_seed(8))
    assert torch.equal(state, torch.get_rng_state())


def test_masking_refuses_what_it_cannot_mean():
    input_ids, attention_mask = make_text()
    with pytest.raises(ValueError, match=r"same shape, got \(6, 12\) and \(6, 1\)"):
        mask_words(input_ids, attention_mask[:, :1], mask_id=MASK, vocabulary_size=WORDS)
    with pytest.raises(ValueError, match=r"probability must be in \[0, 1\], got 15"):
        mask_words(input_ids, attention_mask, mask_id=MASK, vocabulary_size=WORDS, probability=15)
    with pytest.raises(ValueError, match="all 2 words are special"):
        mask_words(input_ids, attention_mask, mask_id=1, vocabulary_size=2, special_ids=(0,))


# Distil


@pytest.mark.parametrize("make_student", [make_bert, make_distilbert])
def test_the_triple_loss_decreases_while_the_teacher_stays_as_it_is(make_student):
    teacher, student = make_bert(4), make_student(2, seed=4)
    init_student_from_teacher(student, teacher)
    teacher.train()  # its dropout must stay silent all the same
    before = copy.deepcopy(teacher.state_dict())
    objective = partial(distilbert_objective, teacher=teacher)
    held_out = make_batch(seed=99)

    def measure():
        student.eval()
        with torch.no_grad():
            return {name: term.item() for name, term in objective(student, *held_out).items()}

    first = measure()
    batches = [make_batch(seed) for seed in range(25)]
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    for step in train(student, batches, objective, optimizer):
        assert list(step.terms) == ["kd", "mlm", "cosine"]
    last = measure()
    assert sum(last.values()) < 0.7 * sum(first.values())
    assert last["kd"] < first["kd"]
    assert last["cosine"] < first["cosine"]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert teacher.training
    assert measure() == last  # no dropout noise in the teacher


@pytest.mark.trap(68)
def test_padding_of_real_text_changes_no_term():
    teacher, student = make_bert(4), make_distilbert(2)
    objective = partial(distilbert_objective, teacher=teacher)
    input_ids, attention_mask, labels = make_batch()
    noise = torch.randint(ORDINARY.start, WORDS, input_ids.shape, generator=torch.Generator().manual_seed(0))
    scribbled = torch.where(attention_mask.bool(), input_ids, noise)
    longer = [
        nn.functional.pad(x, (0, 4), value=fill) for x, fill in ((input_ids, 7), (attention_mask, 0), (labels, -100))
    ]
    with torch.no_grad():
        terms = objective(student, input_ids, attention_mask, labels)
        torch.testing.assert_close(objective(student, scribbled, attention_mask, labels), terms)
        torch.testing.assert_close(objective(student, *longer), terms)


@pytest.mark.trap(69)
def test_text_without_a_hidden_word_still_trains():
    teacher, student = make_bert(4), make_distilbert(2)
    input_ids, attention_mask, labels = make_batch()
    terms = partial(distilbert_objective, teacher=teacher)(
        student, input_ids, attention_mask, torch.full_like(labels, -100)
    )
    assert terms["mlm"].item() == 0
    sum(terms.values()).backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in student.parameters())


# Layer by layer, on what the models really give


@pytest.mark.trap(66)
def test_hidden_states_of_real_models_are_paired_last_with_last():
    teacher, student = make_bert(4), make_distilbert(2)
    text = make_text()
    ours, theirs = outputs(student, *text).hidden_states, outputs(teacher, *text).hidden_states
    assert (len(ours), len(theirs)) == (3, 5)
    expected = [hidden_state_loss(ours[s], theirs[t], attention_mask=text[1]) for s, t in ((0, 0), (1, 2), (2, 4))]
    actual = hidden_state_loss(ours, theirs, attention_mask=text[1])
    torch.testing.assert_close(actual, torch.stack(expected).mean())


def test_a_forgotten_projection_stops_the_training_at_once():
    teacher, student = make_bert(4), make_distilbert(2, width=8)
    projection = HiddenProjection(8, 16)

    def objective(student, input_ids, attention_mask, labels):
        settings = {"attention_mask": attention_mask, "output_hidden_states": True}
        with torch.no_grad():
            theirs = teacher(input_ids, **settings).hidden_states
        ours = student(input_ids, **settings).hidden_states
        return {"hidden": hidden_state_loss(ours, theirs, attention_mask=attention_mask, projection=projection)}

    forgotten = torch.optim.Adam(student.parameters())
    with pytest.raises(ValueError, match="the optimizer does not hold"):
        next(train(student, [make_batch()], objective, forgotten))
    remembered = torch.optim.Adam([*student.parameters(), *projection.parameters()])
    before = projection.linear.weight.clone()
    next(train(student, [make_batch()], objective, remembered))
    assert not torch.equal(projection.linear.weight, before)


@pytest.mark.trap(64)
def test_attention_of_real_models_ignores_what_stands_in_the_padding():
    settings = {"attn_implementation": "eager"}
    teacher, student = make_bert(4, **settings), make_bert(2, seed=6, **settings)
    input_ids, attention_mask = make_text()
    scribbled = torch.where(attention_mask.bool(), input_ids, 9)
    losses = []
    for ids in (input_ids, scribbled):
        ours = outputs(student, ids, attention_mask, output_attentions=True).attentions
        theirs = outputs(teacher, ids, attention_mask, output_attentions=True).attentions
        pairs = [(ours[s - 1], theirs[t - 1]) for s, t in map_layers(2, 4).items()]
        losses.append([attention_loss(s, t, attention_mask=attention_mask) for s, t in pairs])
        assert attention_loss(theirs[0], theirs[0], attention_mask=attention_mask).abs() < 1e-6
    assert min(losses[0]) > 0.01
    torch.testing.assert_close(losses[0], losses[1])


def test_captured_queries_keys_and_values_give_scores_and_relations():
    teacher, student = make_bert(4, attn_implementation="eager"), make_bert(2, seed=6)
    text = make_text()

    def split(projected):
        return projected.unflatten(-1, (2, 8)).transpose(1, 2)  # (B, heads, L, d)

    def heads_of(model, block):
        names = [f"bert.encoder.layer.{block - 1}.attention.self.{part}" for part in ("query", "key", "value")]
        with capture(model, *names) as captured:
            attentions = outputs(model, *text, output_attentions=True).attentions
        query, key, value = (split(captured[name]) for name in names)
        return query @ key.mT / 8**0.5, value, attentions

    scores, values, attentions = heads_of(teacher, 4)
    padded = (text[1] == 0)[:, None, None, :]
    torch.testing.assert_close(scores.masked_fill(padded, -torch.inf).softmax(-1), attentions[3])
    student_scores, student_values, _ = heads_of(student, 2)
    assert attention_scores_loss(student_scores, scores, attention_mask=text[1]) > 0
    assert value_relation_loss(student_values, values, attention_mask=text[1]) > 0
    assert value_relation_loss(values, values, attention_mask=text[1]).item() == 0


# The whole recipe

IDS = {"mask_id": MASK, "vocabulary_size": WORDS, "special_ids": (PAD, CLS, SEP), "probability": 0.3}


@pytest.mark.parametrize("make_student", [make_bert, make_distilbert])
def test_the_recipe_starts_from_the_teachers_layers_and_lowers_each_term(make_student):
    teacher, student = make_bert(4), make_student(2, seed=4)
    before = copy.deepcopy(teacher.state_dict())
    history = distilbert(student, teacher, make_text(96), **IDS, epochs=8, batch_size=16)
    assert set(history.terms) == {"kd", "mlm", "cosine"}
    for name, values in history.terms.items():
        assert sum(values[-6:]) < sum(values[:6]), name
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("make_student", [make_bert, make_distilbert])
def test_a_student_of_full_depth_has_nothing_to_learn_at_its_first_step_unless_it_starts_at_random(make_student):
    teacher, text, starts = make_bert(2), make_text(16), {}
    for initialize in (True, False):
        student = make_student(2, seed=4)
        for module in student.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # a student in training mode differs from its teacher by that alone
        history = distilbert(student, teacher, text, **IDS, batch_size=16, initialize=initialize)
        starts[initialize] = history.terms["kd"][0].item()
    assert starts[True] == pytest.approx(0, abs=1e-4)
    assert starts[False] > 0.1


def assert_same_terms(found, expected):
    torch.testing.assert_close(dict(found.terms), dict(expected.terms), rtol=0, atol=0)


def test_the_recipes_seed_owns_which_words_are_hidden_and_a_stopped_run_hides_the_same(tmp_path):
    teacher, text = make_bert(3), make_text(64)

    def run(**settings):
        return distilbert(make_distilbert(2), teacher, text, **IDS, batch_size=16, **settings)

    whole = run(epochs=3)
    assert_same_terms(run(epochs=3), whole)
    assert not torch.equal(run(epochs=3, seed=1).terms["mlm"], whole.terms["mlm"])

    def stop(student):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(epochs=3, checkpoint=tmp_path / "run.pt", evaluate=stop)
    assert_same_terms(run(epochs=3, checkpoint=tmp_path / "run.pt"), whole)
    with pytest.raises(ValueError, match="weights: 5 2 1 there, 5 2 0 here"):
        run(epochs=3, checkpoint=tmp_path / "run.pt", cosine_weight=0.0)


def test_the_recipe_refuses_a_teacher_that_is_the_student_and_data_that_are_masked_already():
    teacher = make_bert(2)
    with pytest.raises(ValueError, match="share one object"):
        distilbert(teacher, teacher, make_text(), **IDS)
    with pytest.raises(ValueError, match="got 3 tensors: words are hidden here"):
        distilbert(make_distilbert(2), teacher, make_batch(), **IDS)
