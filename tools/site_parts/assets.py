"""Write what the site's scripts read: colours, recorded numbers, and the weights of two networks in few bits.

Scripts, not JSON: a page that was opened from a folder may load a script beside it, but not fetch a file.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from notebook_parts import ROOT
from torch import Tensor, nn

from kdcourse import zoo
from kdcourse.data import load_mnist
from kdcourse.models import make_hinton_student
from kdcourse.plots.style import COLORS, GRID, INK, PAPER

BITS = {"teacher": 8, "student": 12}
DAMPING = 1e-3  # share of the mean square of the inputs that is added to each
BLOCK = 64  # columns that are rounded before the columns after them are touched: the result is the same, and quicker
LAST = 12  # bits of the last layer: it is small, and every error in it reaches the answer


def write_assets(folder: Path, root: Path = ROOT) -> None:
    """Write ``data/NAME.js`` for every record in ``site/recorded``, for the colours, and for the two networks.

    Parameters
    ----------
    folder : Path
        Goes into the site's static files.
    root : Path
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    write_script(data, "look", {"colors": COLORS, "paper": PAPER, "ink": INK, "grid": GRID})
    for path in sorted((root / "site" / "recorded").glob("*.json")):
        write_script(data, path.stem, json.loads(path.read_text(encoding="utf-8")))
    if (root / "site" / "recorded" / "digit_student.safetensors").exists():
        for name, network in networks(root).items():
            write_script(data, name, pack(network, BITS[name]))


def write_script(folder: Path, name: str, value: Any) -> None:
    """Write a script that leaves a value in ``kd.data``."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    script = f"(window.kd = window.kd || {{ data: {{}} }}).data[{json.dumps(name)}] = {text};\n"
    (folder / f"{name}.js").write_text(script, encoding="utf-8")


def networks(root: Path = ROOT) -> dict[str, nn.Sequential]:
    """Return the two networks of the page as they are stored, in evaluation mode."""
    from safetensors.torch import load_file

    student = make_hinton_student(300)
    state = load_file(root / "site" / "recorded" / "digit_student.safetensors")
    student.load_state_dict({name: value.float() for name, value in state.items()})
    teacher = zoo.load("hinton_teacher")
    assert isinstance(teacher, nn.Sequential)
    return {"teacher": teacher, "student": student.eval()}


@torch.no_grad()
def pack(network: nn.Sequential, bits: int) -> list[dict[str, Any]]:
    """Return the layers of a network with weights as whole numbers of 8 or 12 bits, a scale for each row.

    Parameters
    ----------
    network : nn.Sequential
        ``nn.Linear`` with ReLU between; dropout is left out.
    bits : int
        8 or 12.

    Returns
    -------
    list of dict
        For each layer ``bits``, ``rows``, ``columns``, ``scales``, ``bias``, and ``values`` in base64. What rounding
        adds to a row's sum on average, over held-out images, is taken out of its bias.
    """
    if bits not in (8, 12):
        raise ValueError(f"weights are packed in 8 or 12 bits, got {bits}: the script unpacks no other.")
    packed = []
    linear = [module for module in network if isinstance(module, nn.Linear)]
    exact = values = load_mnist().held_out.images.flatten(1)  # (N, 784), then what each layer gets
    for layer in linear:
        width = LAST if layer is linear[-1] else bits
        whole, scales = quantise(layer.weight, values, width)
        restored = whole * scales[:, None]
        exact = exact @ layer.weight.T + layer.bias  # (N, rows)
        bias = (exact - values @ restored.T).mean(dim=0)  # the rounding moves no sum on average
        packed.append(
            {
                "bits": width,
                "rows": layer.out_features,
                "columns": layer.in_features,
                "scales": [float(f"{scale:.7g}") for scale in scales.tolist()],
                "bias": [float(f"{value:.6g}") for value in bias.tolist()],
                "values": base64.b64encode(to_bytes(whole, width)).decode("ascii"),
            }
        )
        exact, values = exact.relu(), (values @ restored.T + bias).relu()
    return packed


def quantise(weight: Tensor, inputs: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round weights column by column; what a column loses, the columns after it make up for on typical inputs.

    Parameters
    ----------
    weight : Tensor, shape (rows, columns)
    inputs : Tensor, shape (N, columns)
        What the layer gets.
    bits : int

    Returns
    -------
    whole : Tensor, shape (rows, columns)
        Whole numbers.
    scales : Tensor, shape (rows,)
        What a 1 of each row is worth.

    References
    ----------
    Frantar et al. (2022), GPTQ, arXiv:2210.17323, section 3.
    """
    largest = 2 ** (bits - 1) - 1
    weight = weight.clone()
    scales = _best_scales(weight, largest)
    products = inputs.T @ inputs / len(inputs)  # (columns, columns)
    products.diagonal().add_(DAMPING * products.diagonal().mean())  # pixels that are never inked have none of their own
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(products.double()))
    factor = torch.linalg.cholesky(inverse, upper=True).float()  # (columns, columns)
    whole = torch.empty_like(weight)
    for start in range(0, weight.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        part, lost = weight[:, block].clone(), torch.zeros_like(weight[:, block])
        for column in range(part.shape[1]):
            row = factor[start + column, block]
            whole[:, start + column] = (part[:, column] / scales).round().clamp(-largest, largest)
            lost[:, column] = (part[:, column] - whole[:, start + column] * scales) / row[column]
            part[:, column:] -= lost[:, column, None] * row[column:]
        weight[:, start + BLOCK :] -= lost @ factor[block, start + BLOCK :]
    return whole, scales


def _best_scales(weight: Tensor, largest: int) -> Tensor:
    """Return for each row the scale of a few that rounds it best: where one weight is much larger, it may be cut."""
    full = weight.abs().amax(dim=1).clamp(min=1e-12) / largest  # (rows,)
    tried = torch.stack([full * share for share in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)])  # (6, rows)
    errors = [
        ((weight / scale[:, None]).round().clamp(-largest, largest) * scale[:, None] - weight).square().sum(dim=1)
        for scale in tried
    ]
    return tried.gather(0, torch.stack(errors).argmin(dim=0)[None])[0]


def to_bytes(whole: Tensor, bits: int) -> bytes:
    """Return whole numbers as bytes: one each, or two in three bytes, the lower bits first."""
    numbers = whole.flatten().to(torch.int32).numpy()
    if bits == 8:
        return numbers.astype(np.int8).tobytes()
    if len(numbers) % 2:
        numbers = np.append(numbers, 0)
    pairs = numbers.reshape(-1, 2) & 0xFFF
    first, second = pairs[:, 0], pairs[:, 1]
    return np.stack([first & 255, (first >> 8) | ((second & 15) << 4), second >> 4], axis=1).astype(np.uint8).tobytes()
