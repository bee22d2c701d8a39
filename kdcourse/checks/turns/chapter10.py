# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 10: a setting chosen and reported, a word for an interval, a verdict for a claim."""

from collections.abc import Callable

from ..cases import Case, new_generator, random_tensor
from ..failures import fail
from ..slips import Slip
from . import compared

WORDS = ("better", "worse", "too small to matter", "unclear")
VERDICTS = ("holds", "holds here only if", "does not hold here", "unclear")


def choose_and_report(held_out, test, plain, choosing):
    """Return the chosen setting's differences from plain, for the seeds that did not choose."""
    best = held_out[:, :choosing].sum(dim=1).argmin()  # fewest errors on held-out images, by the seeds that choose
    return test[best, choosing:] - plain[choosing:]  # the other seeds, on test images, in pairs


def _report(best: Callable, part: Callable = lambda n: slice(n, None), between: Callable = lambda a, b: a - b):
    """Return a function that differs from the right one in a piece."""

    def wrong(held_out, test, plain, choosing):
        row = best(held_out, test, plain, choosing)
        return between(test[row, part(choosing)], plain[part(choosing)])

    return wrong


def _right_row(held_out, test, plain, choosing):
    return held_out[:, :choosing].sum(dim=1).argmin()


CHOOSE_SLIPS = {
    "on test images": Slip(
        "The setting is chosen by its test errors. The best of many is partly lucky, and the report repeats that luck: "
        "choose on the held-out images.",
        _report(lambda h, t, p, n: t[:, :n].sum(dim=1).argmin()),
        _report(lambda h, t, p, n: t[:, n:].sum(dim=1).argmin()),
        _report(lambda h, t, p, n: t.sum(dim=1).argmin()),
        _report(lambda h, t, p, n: t[:, n:].sum(dim=1).argmin(), lambda n: slice(None)),
        _report(lambda h, t, p, n: t.sum(dim=1).argmin(), lambda n: slice(None)),
    ),
    "all seeds choose": Slip(
        "All seeds choose, those of the report too. Only the first `choosing` columns may choose.",
        _report(lambda h, t, p, n: h.sum(dim=1).argmin()),
        _report(lambda h, t, p, n: h.mean(dim=1).argmin(), lambda n: slice(None)),
    ),
    "the reported seeds choose": Slip(
        "The seeds that are reported have chosen. The first `choosing` columns choose, the others are reported.",
        _report(lambda h, t, p, n: h[:, n:].sum(dim=1).argmin()),
        _report(lambda h, t, p, n: h[:, n:].sum(dim=1).argmin(), lambda n: slice(None, n)),
    ),
    "the choosing seeds are reported": Slip(
        "The seeds that chose are in the report. Their errors are smaller than a new seed's would be: leave them out.",
        _report(_right_row, lambda n: slice(None)),
        _report(_right_row, lambda n: slice(None, n)),
    ),
    "held-out errors reported": Slip(
        "The report is about held-out images, which chose. Report the test errors.",
        lambda h, t, p, n: h[_right_row(h, t, p, n), n:] - p[n:],
        lambda h, t, p, n: h[_right_row(h, t, p, n)] - p,
    ),
    "argmax": Slip(
        "The setting with the most held-out errors was chosen: fewer errors are better.",
        _report(lambda h, t, p, n: h[:, :n].sum(dim=1).argmax()),
    ),
    "one lucky seed": Slip(
        "The setting with the single best run was chosen. Sum over the seeds that choose: one run is luck.",
        _report(lambda h, t, p, n: h[:, :n].amin(dim=1).argmin()),
        _report(lambda h, t, p, n: h[:, 0].argmin()),
    ),
    "sign": Slip(
        "The sign is turned round: take the setting minus plain, so that fewer errors are negative.",
        _report(_right_row, between=lambda a, b: b - a),
    ),
    "no baseline": Slip(
        "These are the setting's own errors. Subtract the plain student's, seed by seed.",
        _report(_right_row, between=lambda a, b: a),
    ),
    "unpaired": Slip(
        "The plain student's mean was subtracted. Subtract within each seed, so that the luck of a start cancels.",
        _report(_right_row, between=lambda a, b: a - b.mean()),
    ),
    "the mean": Slip(
        "One number came: the mean. The differences of all seeds are needed, because their spread makes the interval.",
        _report(_right_row, between=lambda a, b: (a - b).mean()),
        _report(_right_row, between=lambda a, b: a.mean() - b.mean()),
        _report(_right_row, between=lambda a, b: (a - b).sum()),
    ),
    "a setting for each seed": Slip(
        "Each seed got the best setting of its own. Nobody can use that: choose one setting for all.",
        lambda h, t, p, n: (t.gather(0, h.argmin(dim=0, keepdim=True))[0] - p)[n:],
        lambda h, t, p, n: (t.amin(dim=0) - p)[n:],
    ),
}


def _tables() -> list[Case]:
    """Return errors whose best setting differs between test and held-out images, and between parts of the seeds."""
    generator, cases = new_generator(None), []
    for settings, seeds, choosing in ((7, 8, 2), (8, 6, 3), (9, 9, 4)):
        held_out = 50 + random_tensor(generator, settings, seeds, scale=3).round()
        test = 200 + random_tensor(generator, settings, seeds, scale=9).round()
        right, others, lucky, worst, on_test, on_some, on_all = generator.permutation(settings)[:7].tolist()
        held_out[right, :choosing] = held_out.min() - 9  # the right choice, by the seeds that choose
        held_out[right, choosing:] += 90
        held_out[others, :choosing] += 40  # the best by the seeds that are reported
        held_out[others, choosing:-1] -= 40
        held_out[on_all, choosing:-1] -= 15  # the best by all seeds
        held_out[on_all, -1] -= 45
        held_out[lucky, 0], held_out[lucky, 1:choosing] = 5, 199  # one lucky run
        held_out[worst, :choosing] += 300
        test[on_test] -= 40
        test[on_some, :choosing] -= 90
        test[on_some, -1] -= 90
        plain = 210 + random_tensor(generator, seeds, scale=9).round()
        cases.append(Case((held_out, test, plain, choosing)))
    return cases


def word(low, high, smallest_effect):
    """Return what an interval of differences in errors shows; fewer errors are better."""
    if -smallest_effect < low and high < smallest_effect:
        return "too small to matter"
    if high < 0:
        return "better"
    if low > 0:
        return "worse"
    return "unclear"


def _sides(low, high, small):
    return "better" if high < 0 else "worse" if low > 0 else "unclear"


WORD_SLIPS = {
    "sides": Slip(
        '"better" and "worse" are exchanged: a negative difference means fewer errors.',
        lambda a, b, s: {"better": "worse", "worse": "better"}.get(word(a, b, s), word(a, b, s)),
    ),
    "no smallest effect": Slip(
        "The smallest effect is not used. An interval that lies inside ± the smallest effect is too small to matter, "
        "whichever side of 0 it is on.",
        _sides,
    ),
    "small only around 0": Slip(
        "An interval on one side of 0 can be too small to matter as well: [-3, -1] with a smallest effect of 15.",
        lambda a, b, s: (
            "better" if b < 0 else "worse" if a > 0 else "too small to matter" if max(-a, b) < s else "unclear"
        ),
    ),
    "the middle": Slip(
        "The middle of the interval decides. Both of its ends must: a mean near 0 with a wide interval is unclear.",
        lambda a, b, s: "too small to matter" if abs(a + b) / 2 < s else _sides(a, b, s),
        lambda a, b, s: "too small to matter" if abs(a + b) / 2 < s else "better" if a + b < 0 else "worse",
    ),
    "one end is enough": Slip(
        "One end inside ± the smallest effect is not enough. The whole interval must be there, or the difference may "
        "still be large.",
        lambda a, b, s: "too small to matter" if abs(a) < s or abs(b) < s else _sides(a, b, s),
        lambda a, b, s: "too small to matter" if -s < a or b < s else _sides(a, b, s),
        lambda a, b, s: "too small to matter" if a > -s else _sides(a, b, s),
        lambda a, b, s: "too small to matter" if b < s else _sides(a, b, s),
    ),
    "unclear is equal": Slip(
        "An interval that holds 0 and is wide is called too small to matter. Unclear is not equal: the difference may "
        "still be large.",
        lambda a, b, s: word(a, b, s).replace("unclear", "too small to matter"),
        lambda a, b, s: "better" if b < 0 else "worse" if a > 0 else "too small to matter",
    ),
    "better must matter": Slip(
        '"better" and "worse" need no more than that 0 is outside. That the interval reaches into the band does not '
        "make the difference unclear.",
        lambda a, b, s: (
            "too small to matter" if -s < a and b < s else "better" if b < -s else "worse" if a > s else "unclear"
        ),
    ),
    "width": Slip(
        "The width of the interval is compared with the smallest effect. What matters is how far its ends are from 0.",
        lambda a, b, s: "too small to matter" if b - a < s else _sides(a, b, s),
        lambda a, b, s: "too small to matter" if b - a < 2 * s else _sides(a, b, s),
    ),
}


def _as_places(words: tuple[str, ...]) -> Callable:
    """Return an adapter: a word becomes its place in the list, so that results can be compared."""

    def adapt(function: Callable) -> Callable:
        def place(*args: object) -> int:
            value = function(*args)
            if value is None:
                fail("nothing came back in one of the cases: return one of the four words in every case.")
            if type(value) is not str or value not in words:
                given = f"{str(value)[:40]!r}" if type(value) is str else type(value).__name__
                fail(f"asked for is one of {', '.join(map(repr, words))}, as it is spelled here; got {given}.")
            return words.index(value)

        return place

    return adapt


def _ends() -> list[Case]:
    generator, cases = new_generator(None), []
    for low, high in ((-3, -0.5), (-0.9, -0.2), (0.1, 0.8), (-0.8, 0.5), (0.4, 2.5), (-4, 0.6), (-0.4, 3.0), (-2, 1.7),
                      (1.4, 3.0), (-3.1, -1.6), (-0.2, 0.9)):  # fmt: skip
        size = float(generator.uniform(8, 20))
        cases.append(Case((low * size, high * size, size)))
    return cases


def verdict_of(conditions):
    """Return the verdict on a claim: each condition is a list of (confirmed, word), one pair for a comparison."""
    confirmed = [all(yes for yes, _ in pairs) for pairs in conditions]
    refuted = [any(not yes and word != "unclear" for yes, word in pairs) for pairs in conditions]
    if all(confirmed):
        return "holds"
    if any(confirmed):
        return "holds here only if"
    return "does not hold here" if any(refuted) else "unclear"


def _verdict(confirms: Callable = all, refutes: Callable = lambda yes, word: not yes and word != "unclear",
             every: Callable = any) -> Callable:  # fmt: skip
    def wrong(conditions):
        confirmed = [confirms(yes for yes, _ in pairs) for pairs in conditions]
        refuted = [any(refutes(yes, word) for yes, word in pairs) for pairs in conditions]
        if all(confirmed):
            return "holds"
        if any(confirmed):
            return "holds here only if"
        return "does not hold here" if every(refuted) else "unclear"

    return wrong


VERDICT_SLIPS = {
    "one comparison is enough": Slip(
        "A condition is confirmed by all of its comparisons: a student that beats plain labels and not smoothed ones "
        "has not confirmed a claim about both.",
        _verdict(confirms=any),
    ),
    "unclear refutes": Slip(
        "An unclear comparison refutes nothing: if no condition is confirmed and all that failed is unclear, so is the "
        "verdict.",
        _verdict(refutes=lambda yes, word: not yes),
        lambda c: (
            "holds"
            if all(y for p in c for y, _ in p)
            else "holds here only if"
            if any(all(y for y, _ in p) for p in c)
            else "does not hold here"
        ),
    ),
    "refuted by worse only": Slip(
        'A claim is refuted by any clear word that it does not expect. "too small to matter" is clear as well.',
        _verdict(refutes=lambda yes, word: word == "worse" and not yes),
        _verdict(refutes=lambda yes, word: word == "worse"),
    ),
    "all must be refuted": Slip(
        "One refuted condition is enough for 'does not hold here', if none is confirmed.",
        _verdict(every=all),
    ),
    "the expected word does not count": Slip(
        "Whether a comparison is confirmed was read from its word. The first of each pair says it: some claims expect "
        '"worse".',
        lambda c: verdict_of([[(word == "better", word) for _, word in pairs] for pairs in c]),
    ),
    "no conditions": Slip(
        "There is no 'holds here only if': a claim that some of its conditions confirm holds there.",
        lambda c: verdict_of(c).replace("holds here only if", "does not hold here"),
        lambda c: verdict_of(c).replace("holds here only if", "unclear"),
        lambda c: verdict_of(c).replace("holds here only if", "holds"),
    ),
    "comparisons counted": Slip(
        "All comparisons were thrown together. 'holds here only if' needs one condition of which *all* comparisons are "
        "confirmed.",
        lambda c: verdict_of([[pair] for pairs in c for pair in pairs]),
    ),
    "a refuted condition decides": Slip(
        "A refuted condition does not end it: if another one is confirmed, the claim holds there.",
        lambda c: "does not hold here" if any(not y and w != "unclear" for p in c for y, w in p) else verdict_of(c),
    ),
    "one condition": Slip(
        "Only one condition was looked at: does a return stand inside the loop?",
        lambda c: verdict_of(c[:1]),
        lambda c: verdict_of(c[-1:]),
    ),
}
_YES, _SAME, _OPEN, _LOSS = (True, "better"), (False, "too small to matter"), (False, "unclear"), (False, "worse")
_EXPECTED_LOSS = (True, "worse")


def _conditions() -> list[Case]:
    rows = [
        [[_YES, _YES], [_YES, _YES]],
        [[_YES, _OPEN], [_YES, _YES]],
        [[_YES, _LOSS], [_YES, _OPEN]],
        [[_YES, _OPEN], [_OPEN, _YES]],
        [[_OPEN], [_SAME], [_OPEN]],
        [[_EXPECTED_LOSS, _EXPECTED_LOSS]],
        [[_OPEN, _OPEN], [_OPEN, _YES]],
        [[_SAME, _YES], [_YES, _YES], [_OPEN, _YES]],
        [[_YES, _YES], [_LOSS, _YES]],
        [[_YES, _LOSS], [_LOSS, _LOSS]],
        [[_LOSS], [_OPEN]],
        [[_OPEN, _YES], [_SAME, _OPEN]],
    ]
    order = new_generator(None).permutation(len(rows))
    return [Case((rows[place],)) for place in order]


_SETTINGS = {"probing": False, "diagnosing": False}
TURNS = {
    "10.choose": compared(
        choose_and_report,
        _tables,
        slips=CHOOSE_SLIPS,
        verified="Held-out images and the first seeds choose; test images and the other seeds are reported, in pairs.",
        note="The mistake that is made most often is to choose by the errors that are then reported.",
        otherwise="This is not the chosen setting's test errors minus plain's, seed by seed, for the seeds that did "
        "not choose. `held_out[:, :choosing]` is what may choose.",
        **_SETTINGS,
    ),
    "10.word": compared(
        word,
        _ends,
        slips=WORD_SLIPS,
        through=_as_places(WORDS),
        verified="The two ends decide, and unclear is kept apart from too small to matter.",
        note="Look at the band first. An interval such as [-3, -1] is on one side of 0, and yet nobody would notice.",
        otherwise="At least one interval got the wrong word. Four cases, in this order: both ends inside ± the "
        "smallest effect; both below 0; both above 0; anything else.",
        **_SETTINGS,
    ),
    "10.verdict": compared(
        verdict_of,
        _conditions,
        slips=VERDICT_SLIPS,
        through=_as_places(VERDICTS),
        verified="All comparisons confirm a condition, a single clear one refutes it, and unclear does neither.",
        note="Unclear neither confirms nor refutes. All verdicts of the ledger are made by this rule.",
        otherwise="At least one list of conditions got the wrong verdict. Find out first which conditions are "
        "confirmed (all pairs), then which are refuted (one pair, not confirmed and not unclear).",
        **_SETTINGS,
    ),
}
