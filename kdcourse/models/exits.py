"""Networks with early exits: a classifier after every stage, for self-distillation and for stopping early.

Chapter 06.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .digits import make_cnn
from .modes import evaluating


class ExitNet(nn.Module):
    """Stages in a row with a classifier, an *exit*, after each.

    Parameters
    ----------
    stages : sequence of nn.Module
        Stage i takes the features of stage i - 1; the first takes images.
    heads : sequence of nn.Module
        Exit i takes the features of stage i and returns logits (B, K). One per stage: the last head is the network's
        own classifier, so no second one stands beside it.

    Raises
    ------
    ValueError
        If there are no stages, or another number of heads.

    Examples
    --------
    >>> stages = [nn.Linear(4, 6), nn.Linear(6, 8)]
    >>> network = ExitNet(stages, [nn.Linear(6, 3), nn.Linear(8, 3)])
    >>> [tuple(logits.shape) for logits in network(torch.rand(2, 4))], tuple(network.up_to(0)(torch.rand(2, 4)).shape)
    ([(2, 3), (2, 3)], (2, 3))
    """

    def __init__(self, stages: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(stages) == 0 or len(stages) != len(heads):
            raise ValueError(
                f"an ExitNet needs one head per stage, got {len(stages)} stages and {len(heads)} heads. zip would "
                "silently drop the stages that have none."
            )
        self.stages, self.heads = nn.ModuleList(stages), nn.ModuleList(heads)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits (B, K) of every exit, deepest last."""
        features, exit_logits = images, []
        for stage, head in zip(self.stages, self.heads, strict=True):
            features = stage(features)
            exit_logits.append(head(features))
        return exit_logits

    def up_to(self, exit: int) -> nn.Sequential:
        """Return the plain classifier that ends at one exit; it shares its weights with this network.

        Parameters
        ----------
        exit : int
            0 is the shallowest, -1 the deepest.

        Raises
        ------
        ValueError
            If there is no such exit.
        """
        count = len(self.stages)
        if not -count <= exit < count:
            raise ValueError(f"exit must be from 0 to {count - 1} (or -{count} to -1), got {exit}.")
        exit %= count
        return nn.Sequential(*list(self.stages)[: exit + 1], self.heads[exit])


def make_exit_cnn(*channels: int) -> ExitNet:
    """Build the stages of ``make_cnn`` with a pooled linear classifier after each.

    Parameters
    ----------
    *channels : int
        Output channels of each stage, one to four stages.

    Returns
    -------
    ExitNet
        Images (B, 1, 28, 28) to a list of logits (B, 10), deepest last.

    Raises
    ------
    ValueError
        As in ``make_cnn``.

    Examples
    --------
    >>> exit_logits = make_exit_cnn(4, 8)(torch.rand(2, 1, 28, 28))
    >>> [tuple(logits.shape) for logits in exit_logits]
    [(2, 10), (2, 10)]
    """
    *stages, _ = make_cnn(*channels)
    return ExitNet(stages, [make_exit_head(width, 10) for width in channels])


def make_exit_head(channels: int, classes: int) -> nn.Sequential:
    """Build an exit: mean over positions, then a linear classifier, whatever the feature map's size.

    Examples
    --------
    >>> make_exit_head(8, 10)(torch.rand(2, 8, 14, 14)).shape
    torch.Size([2, 10])
    """
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def predict_early(network: ExitNet, images: Tensor, *, confidence: float) -> tuple[Tensor, Tensor]:
    """Let each image leave at the first exit that is sure enough; deeper stages run for the rest only.

    Parameters
    ----------
    network : ExitNet
        Network to ask, in evaluation mode; its own mode is restored afterwards.
    images : Tensor, shape (N, ...)
    confidence : float
        Probability of the likeliest class, in [0, 1], from which on an image leaves. At 0 all images leave at the first
        exit; above every exit's certainty, all reach the deepest.

    Returns
    -------
    logits : Tensor, shape (N, K)
        Logits of the exit that each image took.
    exits : Tensor of int, shape (N,)
        Number of that exit, 0 for the shallowest.

    Raises
    ------
    ValueError
        If confidence is outside [0, 1] or there are no images.

    Examples
    --------
    >>> logits, exits = predict_early(make_exit_cnn(4, 8), torch.rand(3, 1, 28, 28), confidence=0.0)
    >>> logits.shape, exits
    (torch.Size([3, 10]), tensor([0, 0, 0]))
    """
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be in [0, 1], got {confidence}: it is compared with a probability.")
    if len(images) == 0:
        raise ValueError("predict_early needs at least one image, got none.")
    last = len(network.stages) - 1
    exits = torch.full((len(images),), last, device=images.device)
    staying, features, logits = torch.arange(len(images), device=images.device), images, None
    with evaluating(network):
        for number, (stage, head) in enumerate(zip(network.stages, network.heads, strict=True)):
            features = stage(features)
            exit_logits = head(features)  # (staying, K)
            logits = exit_logits.new_empty(len(images), exit_logits.shape[1]) if logits is None else logits
            sure = exit_logits.softmax(dim=1).amax(dim=1) >= confidence  # (staying,)
            if number == last:
                sure = torch.ones_like(sure)
            logits[staying[sure]], exits[staying[sure]] = exit_logits[sure], number
            staying, features = staying[~sure], features[~sure]
            if len(staying) == 0:
                break
    assert logits is not None
    return logits, exits
