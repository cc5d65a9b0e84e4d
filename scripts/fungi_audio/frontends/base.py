"""What a front end is: a waveform in, what a network reads out."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import torch

from ..audio import read as audio
from .views import noise_and_roll


class Statistics(NamedTuple):
    """Mean and standard deviation of a dataset's front-end values, as measured on its training clips."""

    mean: float
    std: float


class FrontEnd(ABC):
    """A waveform in, the values that a network reads out.

    Attributes:
        name: of the cache's file; it holds all that decides the cached numbers.
        rate: samples a second of the waveforms it takes.
        columns: bins of a frame; 1 for a raw waveform, whose frames are its samples.
        hop: seconds from one frame to the next.
        shortest: samples of the shortest waveform it takes.
        frames: of every input, after cutting or padding; None when an input is as long as its clip.
        cached: whether its values are worth a file; others are computed from the audio each time.
    """

    name: str
    rate: int = 16_000
    columns: int
    hop: float
    shortest: int
    frames: int | None = None
    cached: bool = True

    @abstractmethod
    def __call__(self, waveform: torch.Tensor) -> torch.Tensor:
        """Values float32 `[frames, columns]`, not normalised, of a waveform float32 `[samples]` at `rate`."""

    def read(self, path: str | Path) -> torch.Tensor:
        """Values float32 `[frames, columns]`, not normalised, of an audio file; a front end that cuts reads no more.

        Raises:
            DataError: unreadable, another sample rate, or too short.
        """
        return self(audio.waveform(path, self.rate, shortest=self.shortest))

    def length(self, samples: int) -> int:
        """Frames of a waveform of so many samples: as many windows of `shortest` as fit, unless all are cut alike."""
        if self.frames is not None:
            return self.frames
        return 1 + (samples - self.shortest) // round(self.hop * self.rate)

    @abstractmethod
    def normalise(self, values: torch.Tensor, measured: Statistics | None) -> torch.Tensor:
        """Normalised values of clips of one length, float32 `[n, frames, columns]`; the engine pads them with 0.

        Args:
            measured: the dataset's statistics, for front ends without statistics of their own.
        """

    def view(self, values: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """One augmented view a key, not normalised, of clips of one length.

        Args:
            values: float32 `[n, frames, columns]`, not normalised.
            keys: int64 `[n]` on the same device (`views.view_keys`).
        """
        return noise_and_roll(values, keys)
