"""ATST's front end: a mel spectrogram in dB, floored 80 dB below the clip's own maximum, scaled to about [-1, 1].

Source: `Audio-WestlakeU/audiossl`: MelSpectrogram of 1,024 samples (periodic Hann) every 160, centred with reflected
ends, power, 64 HTK bands from 60 to 7,800 Hz, then 10 log10 and min-max with the values of AudioSet.
"""

import math
import re

import torch
from torchaudio.functional import melscale_fbanks

from ..errors import ConfigError
from .base import FrontEnd, Statistics
from .views import noise_and_roll

WINDOW, SHIFT = 1024, 160  # samples
RANGE = 80.0  # dB below a clip's maximum
LEAST, MOST = -79.6482, 50.6842  # dB
DB_PER_NEPER = 10 / math.log(10)
NAME = re.compile(r"dbmel(-(?P<crop>\d+)s)?")


class DbMel(FrontEnd):
    """Mel energies in dB, 64 bands, a frame every 10 ms, ``samples // 160 + 1`` of them.

    Args:
        crop: seconds that are kept of the middle of a longer clip; None keeps all.
    """

    columns = 64
    hop = 0.01
    shortest = WINDOW // 2 + 1  # fewer cannot be reflected at both ends

    def __init__(self, crop: int | None = None) -> None:
        self.crop = crop
        self.name = "dbmel" if crop is None else f"dbmel-{crop}s"
        with torch.device("cpu"):  # also where a network is laid out on no device
            self.window = torch.hann_window(WINDOW)
            self.filters = melscale_fbanks(WINDOW // 2 + 1, 60.0, 7800.0, self.columns, self.rate)

    def length(self, samples: int) -> int:
        return (samples if self.crop is None else min(samples, self.crop * self.rate)) // SHIFT + 1

    def __call__(self, waveform: torch.Tensor) -> torch.Tensor:
        if self.crop is not None and len(waveform) > (kept := self.crop * self.rate):
            first = (len(waveform) - kept) // 2
            waveform = waveform[first : first + kept]
        spectrum = torch.stft(waveform, WINDOW, SHIFT, window=self.window, pad_mode="reflect", return_complex=True)
        energies = spectrum.abs().square().T @ self.filters
        decibels = 10 * energies.clamp(min=1e-10).log10()
        return decibels.clamp(min=float(decibels.max()) - RANGE)

    def normalise(self, values: torch.Tensor, measured: Statistics | None) -> torch.Tensor:
        return 2 * (values - LEAST) / (MOST - LEAST) - 1

    def view(self, values: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        # The noise is meant for natural logarithms of energies.
        return noise_and_roll(values / DB_PER_NEPER, keys) * DB_PER_NEPER


def named(name: str) -> DbMel:
    """The front end with the cache file `{name}.npy`: ``dbmel`` or ``dbmel-12s``.

    Raises:
        ConfigError: the name is none of these.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise ConfigError(f"front end {name!r}: expected dbmel, or dbmel-SECONDSs such as dbmel-12s")
    return DbMel(int(found["crop"]) if found["crop"] else None)
