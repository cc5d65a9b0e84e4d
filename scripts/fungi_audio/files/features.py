"""Features on disk: Parquet files, one row a clip, that pandas, pyarrow, polars and DuckDB read as they are.

Columns: `clip_id`, `label` (string), `fold` (int32, nullable), `split` (string, nullable), `labels` (list<string>;
files of older versions lack it), `feature` (fixed_size_list<float32>[d]). The file's metadata holds one JSON under the
key `fungi_audio`: `dataset`, `backbone`, `checkpoint`, `feature`, `objective`, `settings` (the objective's
hyper-parameters), `fold`, `projection`, `precision`, `device`, `versions`. The features of a fold may lie in several
parts (shards).
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError, NumericalError
from .whole import whole

logger = logging.getLogger(__name__)

KEY = b"fungi_audio"
COLUMNS = {"clip_id": pa.string(), "label": pa.string(), "fold": pa.int32(), "split": pa.string()}
LABELS = pa.list_(pa.string())
MACHINE = ("device", "versions")
ROW_GROUP = 8192


def write(path: str | Path, clips: pd.DataFrame, feature: np.ndarray, metadata: Mapping[str, Any]) -> None:
    """Write features, whole or not at all; the same arguments give the same bytes.

    Args:
        path: the `.parquet` file.
        clips: the columns of the file that say what a clip is (others are ignored): unique ids, labels, folds and
            splits, None or NA where the dataset has none; the lists of labels where it has them.
        feature: float `[n, d]`, stored as float32.
        metadata: what made the features, as JSON values (see the module).

    Raises:
        DataError: a clip id occurs twice.
        NumericalError: a feature is not finite; the clips are named.
        StorageError: the file cannot be written.
    """
    feature = np.ascontiguousarray(feature, dtype=np.float32)
    broken = ~np.isfinite(feature).all(axis=1)
    if broken.any():
        raise NumericalError(f"{path}: the feature is NaN or infinite for {_some(clips['clip_id'].to_numpy()[broken])}")
    columns = _clip_columns(path, clips)
    columns["feature"] = pa.FixedSizeListArray.from_arrays(pa.array(feature.ravel()), feature.shape[1])
    table = pa.table(columns).replace_schema_metadata(_described(metadata))
    with whole(path) as part:
        pq.write_table(table, part, row_group_size=ROW_GROUP, compression="none", use_dictionary=["label", "split"])


def write_frames(
    path: str | Path,
    clips: pd.DataFrame,
    parts: Iterable[tuple[Sequence[np.ndarray], Sequence[np.ndarray]]],
    metadata: Mapping[str, Any],
) -> None:
    """Write embeddings over time as they come, whole or not at all.

    The columns of `write` with, instead of `feature`, `frames` (list<fixed_size_list<float32>[d]>, a vector for each
    time step) and `milliseconds` (list<float32>, when it begins).

    Args:
        parts: of some clips in the order of `clips`: values float `[T, d]`, milliseconds `[T]`.

    Raises:
        NumericalError: a value is not finite; the clips are named.
        DataError, StorageError: as `write`.
    """
    start, writer = 0, None
    with whole(path) as part:
        for values, times in parts:
            rows = clips.iloc[start : start + len(values)]
            broken = [clip for clip, one in zip(rows["clip_id"], values, strict=True) if not np.isfinite(one).all()]
            if broken:
                raise NumericalError(f"{path}: the embedding is NaN or infinite for {_some(broken)}")
            offsets = np.concatenate([[0], np.cumsum([len(one) for one in values])]).astype(np.int32)
            flat = pa.array(np.concatenate(values).astype(np.float32).ravel())
            steps = pa.FixedSizeListArray.from_arrays(flat, values[0].shape[1])
            columns = _clip_columns(path, rows)
            columns["frames"] = pa.ListArray.from_arrays(pa.array(offsets), steps)
            columns["milliseconds"] = pa.ListArray.from_arrays(
                pa.array(offsets), pa.array(np.concatenate(times).astype(np.float32))
            )
            table = pa.table(columns).replace_schema_metadata(_described(metadata))
            writer = writer or pq.ParquetWriter(part, table.schema, compression="none", use_dictionary=["label"])
            writer.write_table(table)
            start += len(values)
        if writer is None:
            raise DataError(f"{path}: no clips")
        writer.close()


def _clip_columns(path: str | Path, clips: pd.DataFrame) -> dict[str, pa.Array]:
    index = pd.Index(clips["clip_id"])
    if not index.is_unique:
        raise DataError(f"{path}: clip ids must be unique; repeated: {_some(index[index.duplicated()].unique())}")
    columns = {name: pa.array(clips[name], kind, from_pandas=True) for name, kind in COLUMNS.items()}
    if "labels" in clips:
        columns["labels"] = pa.array(map(list, clips["labels"]), LABELS)
    return columns


def _described(metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    return {KEY: json.dumps(metadata, sort_keys=True, ensure_ascii=False).encode()}


def read(paths: str | Path | Sequence[str | Path]) -> tuple[pd.DataFrame, np.ndarray, dict[str, Any]]:
    """Read the parts of one feature.

    Beside the result itself it holds one row group at a time.

    Args:
        paths: a folder of `.parquet` parts, or the parts.

    Returns:
        The clips (`clip_id`, `label`, `fold`, `split` and, where all parts have it, `labels`), sorted by `clip_id`;
        their features, float32 `[n, d]` in the same order; the metadata (that of the first part).

    Raises:
        DataError: no part, not a feature file, parts of different features or settings, or a clip that
            occurs twice.
    """
    files = _open(paths)
    metadata = _agree({path: _metadata(path, file) for path, file in files.items()})
    columns = list(COLUMNS) + ["labels"] * all("labels" in file.schema_arrow.names for file in files.values())
    clips = pa.concat_tables(file.read(columns) for file in files.values()).replace_schema_metadata().to_pandas()
    clips["fold"] = clips["fold"].astype("Int32")
    repeated = clips["clip_id"][clips["clip_id"].duplicated()]
    if len(repeated):
        raise DataError(
            f"features in {next(iter(files)).parent}: clips occur in more than one row: {_some(repeated)}. "
            "Are there parts of an earlier run with another number of shards? Delete them"
        )
    order = clips["clip_id"].argsort().to_numpy()
    row = np.empty(len(clips), dtype=np.int64)
    row[order] = np.arange(len(clips))
    feature = np.empty((len(clips), _width(next(iter(files.values())))), dtype=np.float32)
    start = 0
    for file in files.values():
        for batch in file.iter_batches(ROW_GROUP, columns=["feature"]):
            values = batch.column(0).flatten().to_numpy(zero_copy_only=False)
            feature[row[start : start + len(batch)]] = values.reshape(len(batch), -1)
            start += len(batch)
    return clips.iloc[order].reset_index(drop=True), feature, metadata


def same_clips(features: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The clips of several features, which must be the same ones.

    Args:
        features: feature name -> its clips, from `read`.

    Raises:
        DataError: naming clips that one feature has and another lacks, or whose label, fold or split differ.
    """
    (first, clips), *others = features.items()
    for name, other in others:
        for has, lacks, left, right in [(first, name, clips, other), (name, first, other, clips)]:
            missing = left["clip_id"][~left["clip_id"].isin(right["clip_id"])]
            if len(missing):
                raise DataError(
                    f"feature {lacks!r} lacks {len(missing)} clips that {has!r} has: {_some(missing)}. "
                    "Extract both from the same clip table"
                )
        ours, theirs = (table[list(COLUMNS)].astype("string").fillna("") for table in (clips, other))
        differs = (ours != theirs).any(axis=1)
        if differs.any():
            raise DataError(
                f"features {first!r} and {name!r} disagree on label, fold or split of "
                f"{_some(clips['clip_id'][differs])}. Extract both from the same clip table"
            )
    return clips


def _open(paths: str | Path | Sequence[str | Path]) -> dict[Path, pq.ParquetFile]:
    if isinstance(paths, str | Path):
        folder = Path(paths)
        found = sorted(folder.glob("*.parquet"))
        if not found:
            raise DataError(f"no feature file (*.parquet) in {folder}")
    else:
        found = [Path(path) for path in paths]
    files = {}
    for path in found:
        try:
            files[path] = pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path}: not a readable Parquet file ({error}). Delete it and run again") from error
    return files


def _metadata(path: Path, file: pq.ParquetFile) -> dict[str, Any]:
    schema = file.schema_arrow
    missing = [name for name in [*COLUMNS, "feature"] if name not in schema.names]
    if missing or KEY not in (schema.metadata or {}):
        what = f"the columns {', '.join(missing)}" if missing else "its metadata"
        raise DataError(f"{path}: not a feature file of this project; it lacks {what}")
    return {**json.loads(schema.metadata[KEY]), "dimensions": _width(file)}


def _width(file: pq.ParquetFile) -> int:
    return int(file.schema_arrow.field("feature").type.list_size)


def _agree(metadata: Mapping[Path, dict[str, Any]]) -> dict[str, Any]:
    """The metadata that all parts share; only the machine they were made on may differ."""
    (first_path, first), *others = metadata.items()
    for path, other in others:
        for key in sorted(first.keys() | other.keys()):
            if first.get(key) == other.get(key):
                continue
            difference = f"{key} is {other.get(key)!r} in {path} and {first.get(key)!r} in {first_path}"
            if key not in MACHINE:
                raise DataError(f"parts of one feature must be made with the same settings: {difference}. Delete one")
            logger.warning("parts were made on different machines: %s", difference)
    return {key: value for key, value in first.items() if key != "dimensions"}


def _some(clips: Any, limit: int = 5) -> str:
    names = [str(clip) for clip in clips]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
