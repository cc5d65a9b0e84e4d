"""Rows of a feature while their job works: a killed job goes on after the last whole row."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .whole import storage_errors


class Rows:
    """Float32 rows in a file that grows by a chunk at a time.

    Attributes:
        done: rows that an earlier attempt left.
    """

    def __init__(self, part: Path, width: int) -> None:
        self.part, self.width = part, width
        self.done = part.stat().st_size // (4 * width) if part.exists() else 0

    def extend(self, chunks: Iterable[np.ndarray]) -> np.ndarray:
        """Append chunks `[n, width]` to disk as they come; then all rows, those of earlier attempts first."""
        with self.part.open("ab") as file:
            file.truncate(4 * self.width * self.done)
            for chunk in chunks:
                file.write(np.ascontiguousarray(chunk, dtype="<f4").data)
                file.flush()
                os.fsync(file.fileno())
        return np.fromfile(self.part, dtype="<f4").reshape(-1, self.width)


@contextmanager
def rows(path: str | os.PathLike[str], width: int, key: str) -> Iterator[Rows]:
    """Rows kept beside `path` until the block, which writes that file, ends well.

    Args:
        key: digest of everything that determines the numbers; what was left under another one is removed.

    Raises:
        StorageError: disk full, quota, read-only folder or no permission.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{key}.rows")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{path.name}.*.rows"):
            if leftover != part:
                leftover.unlink()
        yield Rows(part, width)
        part.unlink()
