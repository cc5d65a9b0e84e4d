"""Audio files through libsndfile, told by their content, in pieces of bounded memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

SAMPLES = 1 << 20  # of all channels, decoded at a time


@contextmanager
def opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """The file, whatever its name says.

    Raises:
        soundfile.SoundFileError: libsndfile does not know the format.
        OSError: it cannot be read.
    """
    with path.open("rb") as raw, soundfile.SoundFile(raw.fileno(), closefd=False) as file:
        yield file


def blocks(file: soundfile.SoundFile, dtype: str) -> Iterator[np.ndarray]:
    """Arrays `[samples, channels]` up to the last sample that can be decoded.

    `SoundFile.blocks` is not used: past the end of a file that holds less than its header says, it yields
    uninitialised memory.
    """
    while len(block := file.read(SAMPLES // file.channels, dtype=dtype, always_2d=True)):
        yield block
