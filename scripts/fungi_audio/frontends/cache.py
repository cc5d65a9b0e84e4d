"""The cache of a dataset's front-end values: computed once, memory-mapped by every job that reads it.

Clips of one length are an array float32 `[clips, frames, columns]`. Clips that keep their lengths lie one behind the
other, `[frames of all clips, columns]`, and a file of offsets beside it says where each begins: int64 `[clips + 1]`.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio import read as audio
from ..errors import DataError
from ..files.whole import whole, write_text
from ..progress import progress
from .base import FrontEnd

BATCH = 32  # clips handed to a process at once
PIECE = 1 << 16  # frames read at once of a clip that may be long


class Cache:
    """Values of clips, not normalised, memory-mapped read-only.

    Args:
        path: the `.npy` file.

    Attributes:
        lengths: frames of each clip, int64 `[clips]`.
        ragged: whether the clips keep their lengths.

    Raises:
        DataError: the file or its offsets are damaged.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        values = _load(path, mmap_mode="r")
        self.ragged = values.ndim == 2
        if self.ragged:
            self._offsets = _load(offsets_of(path))
        else:
            self._offsets = np.arange(len(values) + 1) * values.shape[1]
        self._values = values.reshape(-1, values.shape[-1])
        if self._offsets[-1] != len(values := self._values):
            raise DataError(
                f"{offsets_of(path)} ends at frame {self._offsets[-1]}, but {path.name} has {len(values)} frames. "
                "Delete both and run again"
            )
        self.lengths = np.diff(self._offsets)

    def __len__(self) -> int:
        return len(self.lengths)

    def frames(self, row: int) -> int:
        """Frames of a clip."""
        return int(self.lengths[row])

    def __getitem__(self, row: int) -> np.ndarray:
        """Values of a clip, float32 `[frames, columns]`."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self._values[self._offsets[row] : self._offsets[row + 1]]


def open_array(path: str | Path) -> np.ndarray:
    """A cache of clips of one length, float32 `[clips, frames, columns]`, memory-mapped read-only."""
    return _load(Path(path), mmap_mode="r")


def _load(path: Path, **how: Any) -> np.ndarray:
    try:
        return np.asarray(np.load(path, **how))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is missing or damaged ({error}). Delete it and run again") from error


def offsets_of(path: Path) -> Path:
    """Where the offsets of a ragged cache lie."""
    return path.with_suffix(".offsets.npy")


def build(paths: Sequence[Path], front: FrontEnd, output: Path, workers: int) -> None:
    """Write the values of clips, and their offsets where the front end keeps the clips' lengths.

    Args:
        paths: files at the front end's rate, in the order of the clip table.
        output: the `.npy` file.
        workers: processes.

    Raises:
        DataError: naming every clip that cannot be read.
        StorageError: no room for the file.
    """
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        if front.frames is None:
            lengths = np.array(_each(pool, "lengths", partial(_length, front), paths))
            shape: tuple[int, ...] = (int(lengths.sum()), front.columns)
        else:
            lengths = np.full(len(paths), front.frames)
            shape = (len(paths), front.frames, front.columns)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        with whole(output) as part:
            begin = _allocate(part, shape)
            places = begin + 4 * front.columns * offsets[:-1]
            _each(pool, front.name, partial(_write, front, part), paths, places.tolist(), lengths.tolist())
            if front.frames is None:
                with whole(offsets_of(output)) as beside, beside.open("wb") as file:
                    np.save(file, offsets)


def _allocate(path: Path, shape: tuple[int, ...]) -> int:
    """Write the head of a `.npy` file and reserve the room behind it; the place of its first value."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        begin = file.tell()
        os.posix_fallocate(file.fileno(), begin, 4 * int(np.prod(shape)))
    return begin


def _each(
    pool: ProcessPoolExecutor, what: str, function: Callable[..., int | str], paths: Sequence[Path], *more: list[int]
) -> list[int]:
    """Results of a function, which returns a text for a clip that cannot be used."""
    results: list[int] = []
    problems: list[str] = []
    with progress(what, len(paths)) as bar:
        for result in pool.map(function, paths, *more, chunksize=BATCH):
            if isinstance(result, str):
                problems.append(result)
            else:
                results.append(result)
            bar.update()
    if problems:
        raise DataError(f"{len(problems)} clips cannot be used:\n  " + "\n  ".join(problems))
    return results


def _length(front: FrontEnd, path: Path) -> int | str:
    try:
        return front.length(audio.count(path, front.rate, front.shortest))
    except DataError as error:
        return str(error)


def _write(front: FrontEnd, part: Path, path: Path, place: int, frames: int) -> int | str:
    try:
        values = front.read(path).numpy()
    except DataError as error:
        return str(error)
    if values.shape != (frames, front.columns):
        return f"{path} has {len(values)} frames, {frames} by its header; it is cut short"
    with part.open("r+b") as file:
        file.seek(place)
        file.write(np.ascontiguousarray(values, "<f4").data)
    return frames


def write_statistics(cache: Path, rows: np.ndarray, output: Path) -> None:
    """Mean and standard deviation over the values of `rows` (padding included, as SSAST measures them)."""
    total, squares, count = 0.0, 0.0, 0
    for piece in _pieces(Cache(cache), rows.tolist()):
        values = piece.astype(np.float64)
        total, squares, count = total + values.sum(), squares + np.square(values).sum(), count + values.size
    mean = total / count
    write_text(output, json.dumps({"mean": mean, "std": (squares / count - mean**2) ** 0.5}) + "\n")


def _pieces(cache: Cache, rows: list[int]) -> Iterator[np.ndarray]:
    if cache.ragged:
        for row in rows:
            for first in range(0, cache.frames(row), PIECE):
                yield cache[row][first : first + PIECE]
    else:
        for first in range(0, len(rows), BATCH):
            yield np.concatenate([cache[row] for row in rows[first : first + BATCH]])
