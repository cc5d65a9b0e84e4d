"""What training leaves behind: checkpoints in the published format and as safetensors, curves and their plots."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from ..files.whole import whole, write_text

PLOT_FORMATS = {".svg": {"Date": None}, ".png": {"Software": None}}


def write_pth(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write a state dict as SSAST's own code saves and loads it: a pickle, each key with ``module.`` in front."""
    with whole(path) as part, part.open("wb") as file:
        torch.save({f"module.{key}": value for key, value in state.items()}, file)


def write_safetensors(path: Path, state: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a state dict with `metadata` as one JSON under the key `fungi_audio`."""
    with whole(path) as part:
        save_file(dict(state), part, {"fungi_audio": json.dumps(metadata, sort_keys=True)})


def write_curves(csv: Path, plots: Sequence[Path], curves: Sequence[Mapping[str, Any]], title: str) -> None:
    """Write training curves as CSV and draw them: one panel a quantity, training and validation in each.

    Args:
        plots: files ending in ``.svg`` or ``.png``.
        curves: points with `step`, `epoch`, `split`, `lr` and the quantities measured there.
    """
    table = pd.DataFrame(curves)
    write_text(csv, table.to_csv(index=False, lineterminator="\n"))
    quantities = [name for name in table.columns if name not in ("step", "epoch", "split", "lr")]
    figure = Figure(figsize=(4 * len(quantities), 3), layout="constrained")
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        for split, points in table.dropna(subset=name).groupby("split", sort=True):
            axes.plot(points["step"], points[name], marker="." if len(points) < 50 else None, label=str(split))
        axes.set(xlabel="step", ylabel=name)
        axes.legend()
    for path in plots:
        with matplotlib.rc_context({"svg.hashsalt": "fungi-audio"}), whole(path) as part:
            figure.savefig(part, format=path.suffix[1:], metadata=PLOT_FORMATS[path.suffix])
