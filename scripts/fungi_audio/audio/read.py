"""Audio files as waveforms, with memory for what is kept of a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import torch

from ..errors import DataError
from .decode import blocks, opened

RATE = 16_000
MEL = 128
FRAME = 400  # samples in 25 ms
WHOLE = 600 * RATE  # samples of all channels that are decoded at once


def waveform(path: str | Path, rate: int = RATE, samples: int | None = None, shortest: int = 1) -> torch.Tensor:
    """The first channel of a file, float32 `[samples]` in [-1, 1).

    Args:
        rate: that the file must have.
        samples: how many are kept, from the beginning; None keeps all.
        shortest: samples that the file must have.

    Raises:
        DataError: unreadable, another sample rate, or too short.
    """
    with _opened(path, rate) as file:
        return torch.from_numpy(np.ascontiguousarray(_begin(file, path, samples, shortest)[:, 0]))


def read(path: str | Path, rate: int = RATE, samples: int | None = None, shortest: int = FRAME) -> torch.Tensor:
    """As `waveform`, minus the mean of the whole file over all channels.

    It is torch's mean in float32, as SSAST has it. Where only the beginning is kept of a file of more than `WHOLE`
    samples, it is summed block by block in float64 and differs by less than 1e-7.
    """
    with _opened(path, rate) as file:
        if samples is None or file.frames * file.channels <= WHOLE:
            whole = torch.from_numpy(_begin(file, path, None, shortest).T)
            return whole[0, :samples] - whole.mean()
        kept = torch.from_numpy(np.ascontiguousarray(_begin(file, path, samples, shortest)[:, 0]))
        file.seek(0)
        total, count = 0.0, 0
        for block in blocks(file, "float32"):
            total, count = total + float(block.sum(dtype=np.float64)), count + block.size
        return kept - total / count


def count(path: str | Path, rate: int = RATE, shortest: int = 1) -> int:
    """Samples of a channel, as the file's header says.

    Raises:
        DataError: as `waveform`.
    """
    with _opened(path, rate) as file:
        return _enough(path, file.frames, shortest)


@contextmanager
def _opened(path: str | Path, rate: int) -> Iterator[soundfile.SoundFile]:
    try:
        with opened(Path(path)) as file:
            if file.samplerate != rate:
                raise DataError(f"{path} has {file.samplerate} samples a second, expected {rate}; resample it first")
            yield file
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} cannot be decoded: {error}") from error


def _begin(file: soundfile.SoundFile, path: str | Path, samples: int | None, shortest: int) -> np.ndarray:
    """The first samples, or all, float32 `[samples, channels]`."""
    found = file.read(-1 if samples is None else max(samples, shortest), dtype="float32", always_2d=True)
    _enough(path, len(found), shortest)
    return found[:samples]


def _enough(path: str | Path, samples: int, shortest: int) -> int:
    if samples < shortest:
        raise DataError(f"{path} has {samples} samples, fewer than one frame of {shortest}")
    return samples
