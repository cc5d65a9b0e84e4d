"""One shard of a dataset: its rows, what a backbone reads of them, and the file of what its trunk stored."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..datasets.datafiles import place
from ..errors import DataError
from ..files import activations
from ..files.provenance import versions
from ..frontends.base import FrontEnd, Statistics
from ..frontends.cache import Cache
from ..frontends.views import view_keys
from ..models.base import Backbone
from ..models.load import load_backbone
from ..progress import progress
from .encode import encode, resolve_precision
from .inputs import Pool, Recordings, Values


def open_backbone(
    checkpoint: str, settings: Mapping[str, Any], device: torch.device, precision: str, pretext: bool = False
) -> Backbone:
    """A backbone on its device with its precision set.

    Args:
        settings: `family` and its options, as the config's definition and `definition.frontend_options` give them.
        pretext: with the heads of its pretraining.
    """
    options = dict(settings)
    if statistics := options.pop("statistics", None):
        options["statistics"] = Statistics(*statistics)
    backbone = load_backbone(checkpoint, pretext=pretext, **options)
    return backbone.to(device).set_precision(resolve_precision(precision, device))


def made_on(device: torch.device, precision: str) -> dict[str, Any]:
    """What activations and features say of the machine that ran the trunk."""
    dtype = str(resolve_precision(precision, device)).removeprefix("torch.")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"precision": dtype, "device": name, "versions": versions()}


def open_statistics(path: str | Path, configured: tuple[float | None, float | None] = (None, None)) -> Statistics:
    """Mean and standard deviation: the configured ones, else the measured ones.

    Raises:
        DataError: the file is damaged, or all values are the same.
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
    return Statistics(mean, std)


def shard_rows(clips: int, shard: int, shards: int) -> np.ndarray:
    """Rows of the clip table in one of `shards` contiguous, nearly equal parts."""
    return np.array_split(np.arange(clips), shards)[shard]


def open_values(
    frontend: FrontEnd,
    clips: pd.DataFrame,
    rows: np.ndarray,
    files: Mapping[str, str],
    configured: tuple[float | None, float | None] | None,
    data_root: str | None,
) -> tuple[Values, Statistics | None]:
    """The front end's values of some rows of a dataset, and the dataset's statistics if they normalise them.

    Args:
        files: ``values`` (a cache) or ``audio`` (a folder); ``statistics`` where they are used.
        configured: mean and standard deviation that the dataset's definition gives.
        data_root: as in the configuration.
    """
    measured = open_statistics(files["statistics"], configured or (None, None)) if "statistics" in files else None
    if "values" in files:
        return Cache(files["values"]), measured
    root = place(clips.iloc[rows], files["audio"], data_root, rate=frontend.rate)
    return Recordings([root / wav for wav in clips["wav"]], rows, frontend), measured


def pool(
    frontend: FrontEnd,
    values: Values,
    measured: Statistics | None,
    clips: pd.DataFrame,
    rows: np.ndarray,
    seed: int,
    views: int,
    stream: str = "view",
) -> Pool:
    """Some rows of the clip table as inputs: clean (`views` 0) or augmented."""
    keys = view_keys(seed, stream, clips["clip_id"].iloc[rows].tolist(), range(views)) if views else None
    return Pool(frontend, values, rows, measured, keys)


def encode_to(path: Path, backbone: Backbone, inputs: Pool, key: str, made: Mapping[str, Any]) -> None:
    """Store what the trunk makes of inputs; a killed job goes on after its last finished chunk.

    Args:
        key: digest of everything that determines the numbers, from `file_key`.
        made: from `made_on`, kept in the file.
    """
    writer = activations.Writer(path, len(inputs.rows), inputs.views, backbone.shapes, key, made)
    with progress("encode", len(inputs.rows)) as bar:
        bar.update(writer.done)
        chunk = _chunk(backbone, inputs)
        for first, part in encode(backbone, inputs, lambda x, _: backbone.trunk(x), chunk, writer.done, bar=bar):
            writer.write(first, part)
    writer.finish()


def _chunk(backbone: Backbone, inputs: Pool) -> int:
    return max(1, activations.CHUNK[next(backbone.parameters()).device.type] // inputs.views)


def file_key(*parts: Any, files: list[str]) -> str:
    """Digest of settings and of the identity (path, size, time of change) of input files."""
    stats = [(str(path), Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([parts, stats], sort_keys=True, default=str).encode()).hexdigest()[:16]
