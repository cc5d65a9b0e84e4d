"""From a 16 kHz clip to its log-mel, and the cache of a dataset's log-mels.

Front end of SSAST (published `dataloader.py`): waveform minus its mean, Kaldi filter bank, cut or
zero-padded at the end, then ``(x - mean) / (2 std)``. Padding comes before the normalisation, so padded
frames are ``-mean / (2 std)``.
"""

from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.compliance import kaldi

from ..errors import DataError

RATE = 16_000
MEL = 128
FRAME = 400  # samples in 25 ms


def read(path: str | Path) -> torch.Tensor:
    """The first channel of a 16 kHz file, float32 `[samples]` in [-1, 1), minus the mean over all channels.

    Raises:
        DataError: unreadable, another sample rate, or shorter than one 25 ms frame.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} cannot be decoded: {error}") from error
    if rate != RATE:
        raise DataError(f"{path} has {rate} samples a second, expected {RATE}; resample it first")
    if len(samples) < FRAME:
        raise DataError(f"{path} has {len(samples)} samples, fewer than one frame of {FRAME}")
    waveform = torch.from_numpy(samples.T)
    return (waveform - waveform.mean())[0]


def fbank(waveform: torch.Tensor, frames: int) -> torch.Tensor:
    """Log-mel energies of one clip.

    Args:
        waveform: float32 `[samples]`, at least `FRAME` of them, mean removed.
        frames: length after cutting or zero-padding at the end.

    Returns:
        float32 `[frames, 128]`, natural logarithm, not normalised.
    """
    mel = kaldi.fbank(
        waveform.unsqueeze(0),
        htk_compat=True,
        sample_frequency=RATE,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=MEL,
        dither=0.0,
        frame_shift=10,
    )
    missing = frames - len(mel)
    return torch.nn.functional.pad(mel, (0, 0, 0, missing)) if missing > 0 else mel[:frames]


def normalise(mel: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """``(x - mean) / (2 std)``, SSAST's normalisation."""
    return (mel - mean) / (2 * std)


def open_cache(path: str | Path) -> np.ndarray:
    """The log-mel cache, float32 `[clips, frames, mel]`, memory-mapped read-only."""
    return np.load(path, mmap_mode="r")
