"""All shifts of an image at once, so that a teacher's answers can be kept for each of them. Chapter 11."""

import torch
import torch.nn.functional as F
from torch import Tensor


def shifted_views(images: Tensor, *, pixels: int = 2) -> Tensor:
    """Return each image shifted by every step of up to ``pixels`` in both directions, filled with 0.

    With 2 pixels there are 25 views. Logits of all of them are a cache that stays right under `jitter`: its key is the
    sample *and* the shift.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W)
    pixels : int
        Largest shift, not negative.

    Returns
    -------
    Tensor, shape (V, N, C, H, W)
        V = (2·pixels + 1)² views. The one in the middle, number V // 2, is the image itself.

    Raises
    ------
    ValueError
        If the images are not 4-D or pixels is negative.

    Examples
    --------
    >>> views = shifted_views(torch.rand(3, 1, 28, 28))
    >>> views.shape
    torch.Size([25, 3, 1, 28, 28])
    """
    if images.dim() != 4 or pixels < 0:
        raise ValueError(f"images must be (N, C, H, W) and pixels >= 0, got {tuple(images.shape)} and {pixels}.")
    height, width = images.shape[-2:]
    padded = F.pad(images, (pixels, pixels, pixels, pixels))  # (N, C, H + 2p, W + 2p)
    steps = range(2 * pixels + 1)
    return torch.stack([padded[..., down : down + height, right : right + width] for down in steps for right in steps])
