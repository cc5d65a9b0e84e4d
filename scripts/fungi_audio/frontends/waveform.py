"""Raw waveforms as wav2vec 2.0 and its kin read them, each clip with mean 0 and variance 1 where the model asks so."""

import torch

from ..randomness import uniform
from .base import FrontEnd, Statistics
from .views import NOISE, ROLL

HOP = 0.01  # seconds that a view's roll counts in, as for spectrograms


class Waveform(FrontEnd):
    """A frame is a sample.

    Args:
        rate: samples a second.
        standardise: give every clip mean 0 and variance 1.
    """

    columns = 1
    shortest = 400
    cached = False
    name = "waveform"

    def __init__(self, rate: int, standardise: bool) -> None:
        self.rate, self.hop, self.standardise = rate, 1 / rate, standardise

    def length(self, samples: int) -> int:
        return samples

    def __call__(self, waveform: torch.Tensor) -> torch.Tensor:
        return waveform.unsqueeze(1)

    def normalise(self, values: torch.Tensor, measured: Statistics | None) -> torch.Tensor:
        if not self.standardise:
            return values
        variance, mean = torch.var_mean(values, dim=1, correction=0, keepdim=True)
        return (values - mean) / (variance + 1e-7).sqrt()

    def view(self, values: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Noise of up to a tenth of the clip's root mean square, then a roll by -10 to 9 hops of 10 ms.

        Loudness has no fixed scale in a waveform, so that the level of the noise follows the clip's.
        """
        n, samples, _ = values.shape
        numbers = uniform(keys, 2 + samples)
        level = numbers[:, 0] * NOISE * values.square().mean(dim=(1, 2)).sqrt()
        shift = ((numbers[:, 1] * (2 * ROLL)).long() - ROLL) * round(HOP * self.rate)
        noisy = values + level.view(n, 1, 1) * (2 * numbers[:, 2:].unsqueeze(2) - 1)
        source = (torch.arange(samples, device=values.device).unsqueeze(0) - shift.unsqueeze(1)) % samples
        return noisy.gather(1, source.unsqueeze(2))
