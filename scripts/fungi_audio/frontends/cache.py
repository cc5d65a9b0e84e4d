"""The log-mel cache of a dataset: computed once, memory-mapped by every job that reads it."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from ..audio import read as audio
from ..errors import DataError
from ..files.whole import whole, write_text
from ..progress import progress

BATCH = 32


def build(paths: Sequence[Path], frames: int, output: Path, workers: int) -> None:
    """Write the log-mels of clips, float32 `[clips, frames, mel]`, as one `.npy` file.

    Args:
        paths: 16 kHz files in the order of the clip table.
        frames: length after cutting or zero-padding.
        workers: processes.

    Raises:
        DataError: naming every clip that cannot be read.
        StorageError: no room for the file.
    """
    shape = (len(paths), frames, audio.MEL)
    with whole(output) as part:
        with part.open("wb") as file:
            np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            offset = file.tell()
            os.posix_fallocate(file.fileno(), offset, 4 * int(np.prod(shape)))
        jobs = [
            (part, offset, first, list(paths[first : first + BATCH]), frames) for first in range(0, len(paths), BATCH)
        ]
        problems: list[str] = []
        pool = ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        with pool, progress("log-mel", len(paths)) as bar:
            for (*_, batch, _), errors in zip(jobs, pool.map(_write_batch, jobs), strict=True):
                problems += errors
                bar.update(len(batch))
        if problems:
            raise DataError(f"{len(problems)} clips cannot be used:\n  " + "\n  ".join(problems))


def _write_batch(job: tuple[Path, int, int, list[Path], int]) -> list[str]:
    part, offset, first, paths, frames = job
    rows = np.memmap(part, np.float32, "r+", offset + 4 * first * frames * audio.MEL, (len(paths), frames, audio.MEL))
    problems = []
    for row, path in zip(rows, paths, strict=True):
        try:
            row[:] = audio.fbank(audio.read(path), frames)
        except DataError as error:
            problems.append(str(error))
    rows.flush()
    return problems


def write_statistics(cache: Path, rows: np.ndarray, output: Path) -> None:
    """Mean and standard deviation over the log-mels of `rows` (padding included, as SSAST measures them)."""
    fbank = audio.open_cache(cache)
    total, squares, count = 0.0, 0.0, 0
    for first in range(0, len(rows), BATCH):
        values = fbank[rows[first : first + BATCH]].astype(np.float64)
        total, squares, count = total + values.sum(), squares + np.square(values).sum(), count + values.size
    mean = total / count
    write_text(output, json.dumps({"mean": mean, "std": (squares / count - mean**2) ** 0.5}) + "\n")
