"""A front end that is a feature extractor of transformers, with its own cutting, padding and normalisation."""

from typing import Any

import torch

from ...errors import ConfigError
from ...frontends.base import FrontEnd, Statistics
from ...frontends.views import noise_and_roll


class Extractor(FrontEnd):
    """Spectrograms as a model's own extractor makes them, one clip at a time.

    Of a clip that is longer than the model takes (AST 10.24 s, Whisper 30 s, CLAP 10 s) the beginning is read. Where
    inputs have any length, the last frames that the extractor's attention mask leaves out are dropped: w2v-BERT's
    half-filled last frame, with which its mean over time would be another than transformers'.

    Args:
        extractor: of transformers.
        kind: how the model reads spectrograms (`types.Kind`).
    """

    cached = False
    name = "extractor"

    def __init__(self, extractor: Any, kind: Any) -> None:
        self.extractor, self.rate, self.shortest = extractor, int(extractor.sampling_rate), kind.shortest
        self.time_last, self.fixed = kind.time_last, kind.fixed
        scaled = kind.noise is None and extractor.do_normalize
        self.noise = 1 / (2 * extractor.std) if scaled else kind.noise or 1.0
        probe = self(torch.zeros(self.rate))
        self.columns, self.hop = probe.shape[1], kind.hop
        self.frames = len(probe) if kind.fixed else None

    def length(self, samples: int) -> int:
        return self.frames or len(self(torch.zeros(samples)))

    def __call__(self, waveform: torch.Tensor) -> torch.Tensor:
        # CLAP's extractor would cut a longer clip at a random place.
        waveform = waveform[: getattr(self.extractor, "nb_max_samples", None)]
        made = self.extractor(waveform.numpy(), sampling_rate=self.rate, return_tensors="pt")
        values = next(made[key] for key in ("input_features", "input_values") if key in made).float()
        if values.shape[:-2].numel() != 1:
            raise ConfigError(f"its extractor makes {tuple(values.shape)} of a clip, expected one spectrogram")
        values = values.reshape(values.shape[-2:])
        values = values.T.contiguous() if self.time_last else values
        return values if self.fixed or "attention_mask" not in made else values[: int(made["attention_mask"].sum())]

    def normalise(self, values: torch.Tensor, measured: Statistics | None) -> torch.Tensor:
        return values  # the extractor did

    def view(self, values: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        # The noise is meant for natural logarithms of energies, which the extractor has scaled.
        return noise_and_roll(values / self.noise, keys) * self.noise
