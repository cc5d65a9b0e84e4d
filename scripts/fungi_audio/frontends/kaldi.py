"""Log-mel filter bank of Kaldi, as SSAST and AST read it.

SSAST's published `dataloader.py`: waveform minus its mean, filter bank, cut or zero-padded at the end, then
``(x - mean) / (2 std)``. Padding comes before the normalisation, so padded frames are ``-mean / (2 std)``. AST's
extractor in transformers (`ASTFeatureExtractor`) does the same without removing the waveform's mean.
"""

import re
from pathlib import Path

import torch
from torchaudio.compliance import kaldi

from ..audio import read as audio
from ..errors import ConfigError
from .base import FrontEnd, Statistics

WINDOW, SHIFT = 400, 160  # samples in 25 ms and in 10 ms
PIECE = 8192  # frames at a time: Kaldi's windows and spectra take 40 times the memory of the log-mel
FEWEST = 512  # frames computed where there are as many: for few rows the product with the filters rounds otherwise
NAME = re.compile(r"fbank(?P<ast>-ast)?(-(?P<frames>\d+))?")


class Fbank(FrontEnd):
    """Log-mel energies, natural logarithm, 128 bins, a frame every 10 ms.

    Args:
        frames: length after cutting or zero-padding at the end; None keeps every frame of the clip.
        statistics: that come with the network; by default those measured on the dataset.
        centre: remove the mean of the whole waveform first (SSAST); false for AST's extractor.
    """

    columns = 128
    hop = 0.01
    shortest = WINDOW

    def __init__(self, frames: int | None = None, statistics: Statistics | None = None, centre: bool = True) -> None:
        self.frames, self.statistics, self.centre = frames, statistics, centre
        self.name = ("fbank" if centre else "fbank-ast") + ("" if frames is None else f"-{frames}")

    def __call__(self, waveform: torch.Tensor) -> torch.Tensor:
        return self._log_mel(waveform - waveform.mean() if self.centre else waveform)

    def read(self, path: str | Path) -> torch.Tensor:
        samples = None if self.frames is None else WINDOW + SHIFT * (max(self.frames, FEWEST) - 1)
        read = audio.read if self.centre else audio.waveform
        return self._log_mel(read(path, self.rate, samples, WINDOW))

    def _log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        pieces = []
        for first in range(0, 1 + (len(waveform) - WINDOW) // SHIFT, PIECE):
            pieces.append(log_mel(waveform[SHIFT * first : SHIFT * (first + PIECE - 1) + WINDOW]))
            if self.frames is not None and self.frames <= first + PIECE:
                break
        values = torch.cat(pieces)
        return values if self.frames is None else cut_or_pad(values, self.frames)

    def normalise(self, values: torch.Tensor, measured: Statistics | None) -> torch.Tensor:
        statistics = self.statistics or measured
        if statistics is None:
            raise ConfigError(f"front end {self.name}: no mean and std; give them, or measure them on the dataset")
        return normalise(values, *statistics)


def log_mel(waveform: torch.Tensor) -> torch.Tensor:
    """Kaldi's log-mel energies, float32 `[frames, 128]`, of float32 `[samples]` at 16 kHz, at least 400 of them."""
    mel: torch.Tensor = kaldi.fbank(
        waveform.unsqueeze(0),
        htk_compat=True,
        sample_frequency=FrontEnd.rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=Fbank.columns,
        dither=0.0,
        frame_shift=10,
    )
    return mel


def cut_or_pad(values: torch.Tensor, frames: int) -> torch.Tensor:
    """`[frames, columns]`: the first frames, with zeros behind them where there are fewer."""
    return torch.nn.functional.pad(values[:frames], (0, 0, 0, max(0, frames - len(values))))


def normalise(values: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """``(x - mean) / (2 std)``, SSAST's normalisation."""
    return (values - mean) / (2 * std)


def named(name: str) -> Fbank:
    """The front end with the cache file `{name}.npy`: ``fbank``, ``fbank-512``, ``fbank-ast-1024``.

    Raises:
        ConfigError: the name is none of a Kaldi filter bank.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise ConfigError(f"front end {name!r}: expected fbank, fbank-FRAMES or fbank-ast-FRAMES, e.g. fbank-512")
    frames = found["frames"]
    return Fbank(None if frames is None else int(frames), centre=found["ast"] is None)
