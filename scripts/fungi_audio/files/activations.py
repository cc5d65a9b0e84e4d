"""Activations on disk: a safetensors file that is filled chunk by chunk and survives a kill.

The file has its full size from the start (a full disk shows before the work, not after it) and a working
name, `.{name}.{key}.part`; beside it a small file counts the finished clips. A job that was killed goes on
after the last finished chunk if everything that determines the numbers is the same (`key`), and starts
afresh otherwise. Finished, the file gets its final name.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from .whole import storage_errors, sync, write_text

CHUNK = {"cpu": 256, "cuda": 16_384}  # inputs (clips or views) between two marks of progress


class Writer:
    """Fills the activations of `clips` clips with `views` inputs each.

    Args:
        path: final path.
        clips: number of clips.
        views: inputs a clip.
        shapes: of what is kept of one input, by name.
        key: digest of everything that determines the numbers.
        made: on what machine, for `made_on`.
    """

    def __init__(
        self,
        path: Path,
        clips: int,
        views: int,
        shapes: Mapping[str, tuple[int, ...]],
        key: str,
        made: Mapping[str, Any],
    ) -> None:
        self.path = path
        self.part = path.with_name(f".{path.name}.{key}.part")
        self.mark = self.part.with_suffix(".done")
        full = {name: (clips, views, *shape) for name, shape in shapes.items()}
        header = _header(full, made)
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._remove_others()
            if not (self.mark.exists() and self.part.exists()):
                self._allocate(header, sum(4 * int(np.prod(shape)) for shape in full.values()))
        offset = len(header)
        self._arrays = {}
        for name, shape in full.items():
            self._arrays[name] = np.memmap(self.part, np.float32, "r+", offset, shape) if clips else np.empty(shape)
            offset += 4 * int(np.prod(shape))
        self.done = int(self.mark.read_text())

    def _remove_others(self) -> None:
        for leftover in self.path.parent.glob(f".{self.path.name}.*"):
            if leftover not in (self.part, self.mark):
                leftover.unlink()

    def _allocate(self, header: bytes, size: int) -> None:
        try:
            with self.part.open("wb") as file:
                file.write(header)
                if size:
                    os.posix_fallocate(file.fileno(), len(header), size)
        except OSError:
            self.part.unlink(missing_ok=True)
            raise
        write_text(self.mark, "0")

    def write(self, first: int, activations: Mapping[str, torch.Tensor]) -> None:
        """Store the activations of the clips from `first` on and mark them as done."""
        with storage_errors(self.path):
            for name, array in self._arrays.items():
                values = activations[name].cpu().numpy()
                count = len(values) // array.shape[1]
                array[first : first + count] = values.reshape(count, *array.shape[1:])
                array.flush() if isinstance(array, np.memmap) else None
            self.done = first + count
            write_text(self.mark, str(self.done))

    def finish(self) -> None:
        """Give the file its final name."""
        sync(self.part)
        self.part.replace(self.path)
        self.mark.unlink()
        sync(self.path.parent)


def _header(shapes: dict[str, tuple[int, ...]], made: Mapping[str, Any]) -> bytes:
    """A safetensors header for float32 tensors, padded so that the data is aligned to 64 bytes."""
    offset, entries = 0, dict[str, Any](__metadata__={"made": json.dumps(made)})
    for name, shape in shapes.items():
        end = offset + 4 * int(np.prod(shape))
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return len(text).to_bytes(8, "little") + text


def made_on(path: str | Path) -> dict[str, Any]:
    """On what machine a file was made, as `shard.made_on` said."""
    with safe_open(path, "pt") as file:
        made: dict[str, Any] = json.loads(file.metadata()["made"])
        return made


def read(path: str | Path, clips: int, start: int = 0) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """The activations of a file from clip `start` on, `clips` clips at a time: index of the first clip, tensors
    `[n * views, …]` by name."""
    with safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        total = next(iter(slices.values())).get_shape()[0]
        for first in range(start, total, clips):
            stop = min(first + clips, total)
            yield first, {name: part[first:stop].flatten(0, 1) for name, part in slices.items()}
