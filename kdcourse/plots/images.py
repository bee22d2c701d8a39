"""Images side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .arrays import as_array
from .style import INK, INK_ON_PAPER, new_axes


def digit_grid(
    images: Any, *, captions: Sequence[object] | None = None, columns: int = 10, ax: Axes | None = None
) -> Axes:
    """Draw images in a grid, row by row, each with a caption if there are any.

    Parameters
    ----------
    images : Tensor, shape (N, 1, H, W) or (N, H, W)
        Grey values; 0 is paper, the largest value is ink.
    captions : sequence of N, optional
        What is written under the images.
    columns : int
        Images in a row.
    ax : Axes, optional
        Where to draw; by default on a new figure of a fitting size.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the shape is another one, there are no images, or there is not one caption for each image.

    Examples
    --------
    >>> import torch
    >>> ax = digit_grid(torch.rand(3, 1, 28, 28), captions=[4, 9, 4])
    >>> [text.get_text() for text in ax.texts]
    ['4', '9', '4']
    """
    pixels = as_array(images, "images")
    if pixels.ndim == 4 and pixels.shape[1] == 1:
        pixels = pixels[:, 0]  # (N, H, W)
    if pixels.ndim != 3 or len(pixels) == 0:
        raise ValueError(f"images must have shape (N, 1, H, W) or (N, H, W) with N > 0, got {pixels.shape}.")
    if captions is not None and len(captions) != len(pixels):
        raise ValueError(f"one caption per image is needed, got {len(captions)} for {len(pixels)} images.")
    if columns < 1:
        raise ValueError(f"columns must be a positive integer, got {columns}.")
    count, height, width = pixels.shape
    columns = min(columns, count)
    rows, gap, line = -(-count // columns), 2, 0 if captions is None else 10
    sheet = np.zeros((rows * (height + gap + line), columns * (width + gap)))
    if ax is None:
        ax = new_axes(width=0.62 * columns, height=max(0.62 * rows * (1 + (gap + line) / height), 0.7))
    for place, image in enumerate(pixels):
        top, left = (place // columns) * (height + gap + line), (place % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
        if captions is not None:
            x, y = left + width / 2, top + height + line / 2
            ax.text(x, y, str(captions[place]), ha="center", va="center", fontsize=8, color=INK)
    ax.imshow(sheet, cmap=INK_ON_PAPER, vmin=0, interpolation="nearest")
    ax.set_axis_off()
    return ax
