"""Pictures of relations between samples: matrices side by side under one colour scale. Chapter 04."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .arrays import as_array
from .style import INK, new_figure


def relation_matrices(matrices: Mapping[str, Any], *, labels: Sequence[object], label: str = "") -> Figure:
    """Draw the relation matrices of several networks side by side, in the same colours, with the classes named.

    Parameters
    ----------
    matrices : dict from str to Tensor, shape (B, B)
        Titles and matrices, all of the same samples.
    labels : sequence of B
        Classes of the samples. Samples of one class stand beside each other, and their class is named once.
    label : str
        What the values are, beside the colour bar.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no matrix, one is not square or holds a number that is not finite, or there is not one label for
        each sample.

    Examples
    --------
    >>> import torch
    >>> figure = relation_matrices({"teacher": torch.eye(3)}, labels=[0, 0, 1], label="distance")
    >>> [text.get_text() for text in figure.axes[0].get_xticklabels()]
    ['0', '1']
    """
    grids = {name: _square(values, name, len(labels)) for name, values in matrices.items()}
    if not grids:
        raise ValueError("relation_matrices needs at least one matrix, such as {'teacher': distances}.")
    edges = [row for row in range(len(labels)) if row == 0 or labels[row] != labels[row - 1]] + [len(labels)]
    middles, names = [(a + b - 1) / 2 for a, b in pairwise(edges)], [str(labels[row]) for row in edges[:-1]]
    low, high = min(grid.min() for grid in grids.values()), max(grid.max() for grid in grids.values())
    figure = new_figure(width=0.9 + 2.1 * len(grids), height=2.5)
    axes = figure.subplots(1, len(grids), squeeze=False)[0]
    for ax, (name, grid) in zip(axes, grids.items(), strict=True):
        image = ax.imshow(grid, cmap="cividis", vmin=low, vmax=high)
        ax.set_title(name, fontsize=10, color=INK)
        ax.set_xticks(middles, names)
        ax.set_yticks(middles, names)
        ax.tick_params(length=0, labelsize=8, colors=INK)
        ax.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=list(axes), shrink=0.8)
    bar.set_label(label, color=INK, fontsize=9)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return figure


def _square(values: Any, name: str, size: int) -> np.ndarray:
    grid = as_array(values, name)
    if grid.shape != (size, size):
        raise ValueError(f"matrix {name!r} must be ({size}, {size}), one row for each label, got shape {grid.shape}.")
    if not np.isfinite(grid).all():
        raise ValueError(f"matrix {name!r} holds numbers that are not finite: no colour stands for them.")
    return grid
