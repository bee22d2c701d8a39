"""Attention maps over digits: where a layer is active, drawn with the outline of what it looked at.

Chapter 03.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from .arrays import as_array
from .style import INK, INK_ON_PAPER, PAPER, new_axes

GAP = 2  # pixels between two digits of the grid


def attention_grid(images: Any, maps: Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw digits in a row and, under them, a row of maps for each layer or model, with the digits' outlines.

    Parameters
    ----------
    images : Tensor, shape (N, 1, H, W)
        Grey values; 0 is paper.
    maps : dict from str to Tensor, shape (N, H', W')
        Rows of maps that are not negative, such as ``attention_map(features).unflatten(1, (14, 14))``, in any
        resolution. Each map is scaled to its own largest value: the grid shows places, not sizes.
    ax : Axes, optional
        Where to draw; by default on a new figure of a fitting size.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there are no maps, or a row does not hold one map for each image.

    Examples
    --------
    >>> import torch
    >>> ax = attention_grid(torch.rand(3, 1, 28, 28), {"teacher": torch.rand(3, 7, 7)})
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['digit', 'teacher']
    """
    pixels = as_array(images, "images")
    if pixels.ndim != 4 or pixels.shape[1] != 1 or len(pixels) == 0:
        raise ValueError(f"images must have shape (N, 1, H, W) with N > 0, got {pixels.shape}.")
    pixels = pixels[:, 0]  # (N, H, W)
    rows = {name: as_array(row, name) for name, row in maps.items()}
    if not rows:
        raise ValueError("attention_grid needs at least one row of maps, such as {'teacher': …}.")
    for name, row in rows.items():
        if row.ndim != 3 or len(row) != len(pixels):
            raise ValueError(
                f"row {name!r} must hold one map for each of {len(pixels)} images, shape ({len(pixels)}, H, W), got "
                f"{row.shape}. A map as a vector becomes a picture by .unflatten(1, (H, W))."
            )
    count, height, width = pixels.shape
    across, down = width + GAP, height + GAP
    if ax is None:
        ax = new_axes(width=1.15 + 0.62 * count, height=0.66 * (1 + len(rows)))
    sheet = np.full((down * (1 + len(rows)) - GAP, across * count - GAP, 3), to_rgb(PAPER))
    colours = colormaps["cividis"]
    outlines = []
    for column, image in enumerate(pixels):
        left = column * across
        ink = image / max(float(image.max()), 1e-9)
        sheet[:height, left : left + width] = INK_ON_PAPER(ink)[..., :3]
        for place, row in enumerate(rows.values(), start=1):
            top, share = place * down, row[column] / max(float(row[column].max()), 1e-30)
            sheet[top : top + height, left : left + width] = colours(enlarge(share, height, width))[..., :3]
            outlines += [np.add(line, (left, top)) for line in outline(image)]
    ax.imshow(sheet, interpolation="nearest")
    ax.add_collection(LineCollection(outlines, colors="white", linewidths=0.9))
    names = ["digit", *rows]
    ax.set_yticks([place * down + height / 2 for place in range(len(names))], names, color=INK)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    return ax


def outline(image: Any) -> list[np.ndarray]:
    """Return the lines, each (points, 2) of x and y, along which a digit's ink is half as dark as at its darkest.

    Parameters
    ----------
    image : Tensor, shape (H, W)

    Examples
    --------
    >>> import torch
    >>> square = torch.zeros(28, 28)
    >>> square[10:20, 5:15] = 1
    >>> len(outline(square))
    1
    """
    pixels = as_array(image, "image")
    if not pixels.any():
        return []
    contours = Figure().add_subplot().contour(pixels, levels=[0.5 * float(pixels.max())])
    return [np.asarray(line) for line in contours.allsegs[0] if len(line)]


def enlarge(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a map (H', W') as (height, width), each position as the block of pixels that it stands for.

    Examples
    --------
    >>> enlarge(np.array([[1, 2]]), 2, 4).tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    rows = np.arange(height) * values.shape[0] // height
    columns = np.arange(width) * values.shape[1] // width
    return values[np.ix_(rows, columns)]
