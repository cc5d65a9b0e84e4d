"""One shard of a dataset: its rows, their log-mels, the backbone that reads them, and the file of their activations."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..audio import read as audio
from ..errors import DataError
from ..files import activations
from ..files.provenance import versions
from ..frontends.views import view_keys
from ..models.load import load_backbone
from ..models.split import Backbone
from ..progress import progress
from .encode import Source, encode, resolve_precision


def open_backbone(
    checkpoint: str, frames: int, settings: Mapping[str, Any], device: torch.device, precision: str
) -> Backbone:
    """A backbone on its device with its precision set; `settings` as in the config's definition."""
    backbone = load_backbone(checkpoint, frames, **settings)
    return backbone.to(device).set_precision(resolve_precision(precision, device))


def made_on(device: torch.device, precision: str) -> dict[str, Any]:
    """What activations and features say of the machine that ran the trunk."""
    dtype = str(resolve_precision(precision, device)).removeprefix("torch.")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"precision": dtype, "device": name, "versions": versions()}


def open_statistics(path: str | Path, configured: tuple[float | None, float | None]) -> tuple[float, float]:
    """Mean and standard deviation: the configured ones, else the measured ones.

    Raises:
        DataError: the file is damaged, or all log-mels are the same.
    """
    try:
        measured = json.loads(Path(path).read_text(encoding="utf-8"))
        mean, std = (
            float(measured[name] if value is None else value)
            for name, value in zip(("mean", "std"), configured, strict=True)
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error!r}). Delete it and run again") from error
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise DataError(f"{path}: the log-mels have mean {mean} and standard deviation {std}; is all audio silent?")
    return mean, std


def shard_rows(clips: int, shard: int, shards: int) -> np.ndarray:
    """Rows of the clip table in one of `shards` contiguous, nearly equal parts."""
    return np.array_split(np.arange(clips), shards)[shard]


def source(
    fbank: str,
    statistics: tuple[float, float],
    clips: pd.DataFrame,
    rows: np.ndarray,
    seed: int,
    views: int,
    stream: str = "view",
) -> Source:
    """Log-mels of some rows of the clip table: clean (`views` 0) or augmented."""
    keys = view_keys(seed, stream, clips["clip_id"].iloc[rows].tolist(), range(views)) if views else None
    return Source(audio.open_cache(fbank), *statistics, rows, keys)


def encode_to(path: Path, backbone: Backbone, inputs: Source, key: str, made: Mapping[str, Any]) -> None:
    """Store the activations of a source; a killed job goes on after its last finished chunk.

    Args:
        key: digest of everything that determines the numbers, from `file_key`.
        made: from `made_on`, kept in the file.
    """
    sizes = (backbone.target.in_features, backbone.target.out_features)
    writer = activations.Writer(path, len(inputs.rows), inputs.views, backbone.positions, sizes, key, made)
    with progress("encode", len(inputs.rows)) as bar:
        bar.update(writer.done)
        for first, part in encode(backbone, inputs, _chunk(backbone, inputs), writer.done, bar):
            writer.write(first, part)
    writer.finish()


def _chunk(backbone: Backbone, inputs: Source) -> int:
    return max(1, activations.CHUNK[backbone.target.weight.device.type] // inputs.views)


def file_key(*parts: Any, files: list[str]) -> str:
    """Digest of settings and of the identity (path, size, time of change) of input files."""
    stats = [(str(path), Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([parts, stats], sort_keys=True, default=str).encode()).hexdigest()[:16]
