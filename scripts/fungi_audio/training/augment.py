"""Training augmentations: on waveforms (mixup, and those of `audiomentations`) and on log-mels (SpecAugment).

Each takes the seed or key of one example, so an example does not depend on its batch or its worker.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import audiomentations
import numpy as np
import torch

from ..audio.read import FRAME, RATE
from ..randomness import uniform

MIXUP_BETA = 10  # both parameters of the mixing share's beta distribution (SSAST)


def spec_augment(fbank: torch.Tensor, freq_mask: int, time_mask: int, keys: torch.Tensor) -> torch.Tensor:
    """One band of mel bins and one of frames set to 0, as torchaudio's `FrequencyMasking` and `TimeMasking` do.

    A width is uniform in [0, mask), a start uniform among those that fit. SSAST masks before the
    normalisation, where 0 is loud.

    Args:
        fbank: float32 `[n, frames, mel]`, not normalised.
        freq_mask, time_mask: largest widths; 0 for none.
        keys: int64 `[n]`.
    """
    numbers = uniform(keys, 4)
    hidden = torch.zeros(fbank.shape, dtype=torch.bool)
    for axis, widest, which in ((2, freq_mask, 0), (1, time_mask, 2)):
        size = fbank.shape[axis]
        width = numbers[:, which] * widest
        start = (numbers[:, which + 1] * (size - width)).clamp_min(0).long().unsqueeze(1)
        places = torch.arange(size).unsqueeze(0)
        band = (places >= start) & (places < start + width.long().unsqueeze(1))
        hidden |= band.unsqueeze(1 if axis == 2 else 2)
    return fbank.masked_fill(hidden, 0.0)


def mix(waveform: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    """``share * waveform + (1 - share) * other``, mean removed; `other` is cut or zero-padded (SSAST's mixup)."""
    missing = len(waveform) - len(other)
    other = torch.nn.functional.pad(other, (0, missing)) if missing > 0 else other[: len(waveform)]
    mixed = share * waveform + (1 - share) * other
    return mixed - mixed.mean()


class WaveformAugmentation:
    """Random changes of a waveform, each with its own probability.

    Args:
        probabilities: of `time_shift` (up to a tenth of the clip, rolled), `speed` and `stretch` (0.9 to
            1.1; speed changes the pitch with it), `pitch_shift` (two semitones), `gain` (6 dB) and
            `gaussian_noise` (amplitude 0.001 to 0.015).
    """

    def __init__(self, probabilities: Mapping[str, float]) -> None:
        kinds = {
            "time_shift": lambda p: audiomentations.Shift(-0.1, 0.1, p=p),
            "speed": lambda p: audiomentations.Resample(int(RATE / 1.1), int(RATE / 0.9), p=p),
            "stretch": lambda p: audiomentations.TimeStretch(0.9, 1.1, leave_length_unchanged=False, p=p),
            "pitch_shift": lambda p: audiomentations.PitchShift(-2, 2, p=p),
            "gain": lambda p: audiomentations.Gain(-6, 6, p=p),
            "gaussian_noise": lambda p: audiomentations.AddGaussianNoise(0.001, 0.015, p=p),
        }
        self.change = audiomentations.Compose([kinds[name](p) for name, p in probabilities.items() if p > 0])

    def __call__(self, waveform: torch.Tensor, seed: int) -> torch.Tensor:
        """The changed waveform, float32 `[samples]`, mean removed; at least one 25 ms frame long."""
        with _seeded(seed):
            samples = torch.from_numpy(np.ascontiguousarray(self.change(waveform.numpy(), sample_rate=RATE)))
        samples = torch.nn.functional.pad(samples, (0, max(0, FRAME - len(samples))))
        return samples - samples.mean()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that `audiomentations` uses, and leave them as they were."""
    python, array = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
