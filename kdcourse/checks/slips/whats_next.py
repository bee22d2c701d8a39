# mypy: disable-error-code="no-untyped-def"
"""Wrong answers about weights on a grid, of chapter 12 and exercise 12."""

import torch

from . import Slip


def _grid(levels=lambda bits: 2 ** (bits - 1) - 1, largest=None, step=torch.round, back=True):
    """Return a function that rounds weights, changed in one place."""
    largest = largest or (lambda weights: weights.abs().amax(dim=1, keepdim=True))

    def wrong(weights, bits):
        scale = largest(weights) / levels(bits)
        codes = step(weights / scale)
        return codes * scale if back else codes

    return wrong


def _shifted(weights, bits):
    """Round to all 2^b codes between the smallest and the largest weight of each row."""
    low, high = weights.amin(dim=1, keepdim=True), weights.amax(dim=1, keepdim=True)
    scale = (high - low) / (2**bits - 1)
    return ((weights - low) / scale).round() * scale + low


ROUNDED = {
    "one scale": Slip(
        "One scale is used for the whole matrix, so rows of small weights are rounded to 0 (trap 98). Each row has a "
        "scale of its own: amax(dim=1, keepdim=True).",
        _grid(largest=lambda weights: weights.abs().max()),
    ),
    "columns": Slip(
        "The scales run over the columns. A row holds the weights of one output: take the largest along dim=1.",
        _grid(largest=lambda weights: weights.abs().amax(dim=0, keepdim=True)),
    ),
    "largest, not absolute": Slip(
        "The largest weight is taken, not the largest absolute value: where the largest is negative the grid is too "
        "small, or upside down.",
        _grid(largest=lambda weights: weights.amax(dim=1, keepdim=True)),
    ),
    "no sign bit": Slip(
        "2^b - 1 levels on each side need one bit more: the sign takes a bit. n is 2^(b-1) - 1.",
        _grid(levels=lambda bits: 2**bits - 1),
        _grid(levels=lambda bits: 2**bits),
    ),
    "one level too many": Slip(
        "n is one too large: -n to n would be 2^b + 1 levels, and b bits hold 2^b. n is 2^(b-1) - 1.",
        _grid(levels=lambda bits: 2 ** (bits - 1)),
    ),
    "one level too few": Slip("n is too small: it is 2^(b-1) - 1.", _grid(levels=lambda bits: 2 ** (bits - 1) - 1.5)),
    "bits as levels": Slip("The number of bits was taken for the number of levels.", _grid(levels=lambda bits: bits)),
    "floor": Slip(
        "The codes are rounded down. Round to the nearest, or every weight moves to the left.",
        _grid(step=torch.floor),
    ),
    "truncated": Slip(
        "The codes are cut off towards 0, as a conversion to integers does. Round to the nearest.",
        _grid(step=torch.trunc),
    ),
    "up": Slip("The codes are rounded up. Round to the nearest.", _grid(step=torch.ceil)),
    "codes": Slip(
        "These are the codes, whole numbers. The layer computes with weights: multiply by the scale again.",
        _grid(back=False),
    ),
    "scale as code": Slip(
        "Multiplied where it should be divided, or the other way round: a code is a weight divided by the scale.",
        lambda weights, bits: (weights * _scale(weights, bits)).round() / _scale(weights, bits),
    ),
    "not rounded": Slip(
        "Nothing was rounded: these are the weights themselves.", lambda weights, bits: weights.clone()
    ),
    "shifted grid": Slip(
        "The grid runs from the smallest to the largest weight of a row. That is another grid: 0 is no longer exactly "
        "0. Asked for are whole multiples of the scale.",
        _shifted,
    ),
    "rounded weights": Slip(
        "The weights themselves are rounded to whole numbers. Divide by the scale first.",
        lambda weights, bits: weights.round(),
    ),
    "mean": Slip(
        "The scale comes from the mean of the absolute weights. The grid must reach the largest one.",
        _grid(largest=lambda weights: weights.abs().mean(dim=1, keepdim=True)),
    ),
    "spread": Slip(
        "The scale comes from the standard deviation. The grid must reach the largest weight.",
        _grid(largest=lambda weights: weights.std(dim=1, keepdim=True)),
    ),
}


def _scale(weights, bits):
    return weights.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)


def _blocked(weights, bits, group, *, levels=None, largest=None, step=torch.round, back=True):
    """Round in blocks of consecutive weights, changed in one place; the gradient passes straight through."""
    levels = 2 ** (bits - 1) - 1 if levels is None else levels(bits)
    blocks = weights.detach().unflatten(1, (-1, group))  # (R, C / group, group)
    size = blocks.abs().amax(dim=2, keepdim=True) if largest is None else largest(blocks)
    scale = torch.where(size != 0, size / levels, 1.0)
    codes = step(blocks / scale)
    rounded = (codes * scale if back else codes).flatten(1)
    return rounded + (weights - weights.detach())


def _changed(**change):
    return lambda weights, *, bits, group: _blocked(weights, bits, group, **change)


def _whole_row(weights, *, bits, group):
    return _blocked(weights, bits, weights.shape[1])


def _as_many_groups(weights, *, bits, group):
    return _blocked(weights, bits, weights.shape[1] // group)


def _strided(weights, *, bits, group):
    """Put every (C / group)-th weight into one group instead of neighbours."""
    mixed = weights.unflatten(1, (group, -1)).transpose(1, 2).flatten(1)
    rounded = _blocked(mixed, bits, group).unflatten(1, (-1, group)).transpose(1, 2)
    return rounded.flatten(1)


def _down_the_columns(weights, *, bits, group):
    return _blocked(weights.T, bits, group).T


GROUPS = {
    "whole row": Slip("Each row has one scale. Asked for is one for each group inside a row.", _whole_row),
    "one scale": Slip(
        "One scale is used for the whole matrix (trap 98). Each group inside a row has its own.",
        _changed(largest=lambda blocks: blocks.abs().max()),
    ),
    "across rows": Slip(
        "A group holds weights of several rows. It lies inside one row: rows belong to different outputs.",
        _changed(largest=lambda blocks: blocks.abs().amax(dim=(0, 2), keepdim=True)),
    ),
    "across groups": Slip(
        "The largest is taken over the groups, not inside each: the wrong dimension is reduced.",
        _changed(largest=lambda blocks: blocks.abs().amax(dim=1, keepdim=True)),
    ),
    "as many groups": Slip(
        "There are `group` groups in a row. Asked for are groups *of* `group` weights each.", _as_many_groups
    ),
    "every n-th": Slip(
        "A group holds every n-th weight of a row. It holds `group` neighbours: the last dimension of the blocks is "
        "the group.",
        _strided,
    ),
    "columns": Slip("The groups run down the columns. They lie along a row.", _down_the_columns),
    "largest, not absolute": Slip(
        ROUNDED["largest, not absolute"].message,
        _changed(largest=lambda blocks: blocks.amax(dim=2, keepdim=True)),
    ),
    "no sign bit": Slip(
        ROUNDED["no sign bit"].message,
        _changed(levels=lambda bits: 2**bits - 1),
        _changed(levels=lambda bits: 2**bits),
    ),
    "one level too many": Slip(
        ROUNDED["one level too many"].message, _changed(levels=lambda bits: 2 ** (bits - 1))
    ),
    "floor": Slip(ROUNDED["floor"].message, _changed(step=torch.floor)),
    "truncated": Slip(ROUNDED["truncated"].message, _changed(step=torch.trunc)),
    "up": Slip(ROUNDED["up"].message, _changed(step=torch.ceil)),
    "codes": Slip(ROUNDED["codes"].message, _changed(back=False)),
    "not rounded": Slip(ROUNDED["not rounded"].message, _changed(step=lambda x: x)),
    "mean": Slip(
        ROUNDED["mean"].message, _changed(largest=lambda blocks: blocks.abs().mean(dim=2, keepdim=True))
    ),
}  # fmt: skip
GROUP_GRADIENTS = {
    "twice": Slip(
        "The value is right, but the gradient is twice the right one: the weights come in twice.",
        lambda weights, *, bits, group: _blocked(weights, bits, group) + (weights - weights.detach()),
    ),
    "minus": Slip(
        "The value is right, but the gradient has the wrong sign: training would climb.",
        lambda weights, *, bits, group: _blocked(weights.detach(), bits, group) - (weights - weights.detach()),
    ),
}


def _tables(best=None, final=lambda table: table[-1, :-1], of=lambda gaps: gaps.mean()):
    best = best or (lambda table: _filled(table)[:-1, :-1].amax(dim=0))
    return lambda table: of(best(table) - final(table))


def _filled(table):
    return table.nan_to_num(nan=-torch.inf)


FORGETTING = {
    "just learned": Slip(
        "The accuracy right after a task was learned is taken for its best one. Later tasks can help an earlier one: "
        "take the largest of all rows but the last.",
        _tables(best=lambda table: table.diagonal()[:-1]),
    ),
    "end included": Slip(
        "A task that gained at the end counts 0 here: gains are cut off, or the last row is among the candidates for "
        "the best. Such a task counts less than 0.",
        _tables(best=lambda table: _filled(table)[:, :-1].amax(dim=0)),
        _tables(of=lambda gaps: gaps.clamp_min(0).mean()),
    ),
    "last task included": Slip(
        "The last task counts too. It had no time to be forgotten: leave its column out.",
        lambda table: (_filled(table).amax(dim=0) - table[-1]).mean(),
        lambda table: _tables(of=lambda gaps: gaps.sum())(table) / len(table),
        lambda table: (table.diagonal() - table[-1]).mean(),
    ),
    "sign": Slip(
        "The sign is turned round: forgetting is the best accuracy minus the one at the end.",
        lambda table: -_tables()(table),
        lambda table: -_tables(best=lambda table: table.diagonal()[:-1])(table),
    ),
    "sum": Slip("The tasks are added up. Take their mean.", _tables(of=lambda gaps: gaps.sum())),
    "largest": Slip(
        "The task that was forgotten most is taken. Asked for is the mean.", _tables(of=lambda gaps: gaps.max())
    ),
    "absolute": Slip(
        "Absolute values are taken. A task that gained counts less than 0.", _tables(of=lambda gaps: gaps.abs().mean())
    ),
    "final accuracy": Slip(
        "This is the mean accuracy at the end. Forgetting is the difference to the best one before.",
        lambda table: table[-1].mean(),
        lambda table: table[-1, :-1].mean(),
    ),
    "best": Slip(
        "This is the mean of the best accuracies. Subtract those at the end.", _tables(final=lambda table: 0.0)
    ),
    "transposed": Slip(
        "Rows and columns are exchanged: row i is after task i, column j is task j.",
        lambda table: (table.nan_to_num(nan=-torch.inf)[:-1, :-1].amax(dim=1) - table[:-1, -1].nan_to_num(0)).mean(),
        lambda table: (table.nan_to_num(0)[:, 0].amax() - table.nan_to_num(0)[:-1, -1]).mean(),
    ),
    "first task": Slip(
        "Only the first task counts: take the mean over all tasks but the last.",
        lambda table: table[:-1, 0].amax() - table[-1, 0],
        lambda table: table[0, 0] - table[-1, 0],
    ),
    "whole table": Slip(
        "One best accuracy is taken for all tasks together. Each task has its own: reduce the rows only.",
        _tables(best=lambda table: _filled(table)[:-1, :-1].max()),
    ),
    "one step": Slip(
        "Each task is compared with the one step before the end only. Its best accuracy may lie further back.",
        _tables(best=lambda table: table[-2, :-1]),
    ),
    "zero for unseen": Slip(
        "The mean of all earlier rows is taken, not the largest.",
        _tables(best=lambda table: table[:-1, :-1].nanmean(dim=0)),
    ),
}  # fmt: skip
