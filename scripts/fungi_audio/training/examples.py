"""Training examples of fine-tuning: log-mels and labels, augmented, a function of the seed and the step alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio import read as audio
from ..frontends.kaldi import cut_or_pad, log_mel, normalise
from ..frontends.views import noise_and_roll
from ..randomness import generator
from ..seeds import named_seed
from .augment import MIXUP_BETA, WaveformAugmentation, mix, spec_augment
from .distributed import World
from .steps import Steps

Example = tuple[torch.Tensor, torch.Tensor]


class Examples(Steps[Example]):
    """Item `step` is this process's share of a batch: normalised log-mels `[n, frames, mel]`, labels `[n, classes]`.

    Both are float32. Epochs are whole: the last batch of one may be smaller. A process without a share of
    it gets its first example, which is not to count. Without mixup and changes of the waveform the
    log-mels come from the cache, else they are computed from the audio.

    Args:
        fbank: log-mel cache.
        wavs: audio of the cache's rows.
        targets: bool `[rows of the cache, classes]`.
        rows: rows to train on.
        statistics: mean and standard deviation of the normalisation.
        settings: a fine-tuning definition: `batch_size`, `freq_mask`, `time_mask`, `noise`, `mixup`,
            `augment`, `balanced`.
        seed: of the run.
        world: this process among the others.
    """

    def __init__(
        self,
        fbank: np.ndarray,
        wavs: Sequence[Path],
        targets: np.ndarray,
        rows: np.ndarray,
        statistics: tuple[float, float],
        settings: Mapping[str, Any],
        epochs: int,
        seed: int,
        world: World,
    ) -> None:
        self.fbank, self.wavs, self.targets, self.rows = fbank, wavs, targets, rows
        self.statistics, self.settings, self.epochs, self.seed, self.world = statistics, settings, epochs, seed, world
        self.steps_an_epoch = -(-len(rows) // settings["batch_size"])
        self.change = WaveformAugmentation(settings["augment"]) if any(settings["augment"].values()) else None
        self.from_audio = settings["mixup"] > 0 or self.change is not None
        self._order = (-1, rows)

    def __len__(self) -> int:
        return self.epochs * self.steps_an_epoch

    def places(self, step: int) -> range:
        """Places in the epoch's order of the batch of `step`, over all processes."""
        first = step % self.steps_an_epoch * self.settings["batch_size"]
        return range(first, min(first + self.settings["batch_size"], len(self.rows)))

    def share(self, step: int) -> range:
        """Those of them that this process computes."""
        return self.places(step)[self.world.rank :: self.world.size]

    def __getitem__(self, step: int) -> Example:
        settings, epoch = self.settings, step // self.steps_an_epoch
        places = self.share(step) or self.places(step)[:1]
        rows = self.order(epoch)[places]
        names = [(self.seed, epoch, place) for place in places]
        if self.from_audio:
            examples = [self.heard(row, name) for row, name in zip(rows.tolist(), names, strict=True)]
            fbank, targets = torch.stack([e[0] for e in examples]), np.stack([e[1] for e in examples])
        else:
            fbank, targets = torch.from_numpy(self.fbank[rows]), self.targets[rows]
        keys = torch.tensor([[named_seed("mask", *name), named_seed("noise", *name)] for name in names])
        fbank = spec_augment(fbank, settings["freq_mask"], settings["time_mask"], keys[:, 0])
        fbank = normalise(fbank, *self.statistics)
        if settings["noise"]:
            fbank = noise_and_roll(fbank, keys[:, 1])
        return fbank, torch.from_numpy(targets.astype(np.float32))

    def order(self, epoch: int) -> np.ndarray:
        """The epoch's rows: all of them in random order, or drawn so that classes are seen equally often."""
        if self._order[0] != epoch:
            random = generator(self.seed, "order", epoch)
            if self.settings["balanced"]:
                weights = torch.from_numpy(balance(self.targets[self.rows]))
                drawn = torch.multinomial(weights, len(self.rows), replacement=True, generator=random)
            else:
                drawn = torch.randperm(len(self.rows), generator=random)
            self._order = (epoch, self.rows[drawn.numpy()])
        return self._order[1]

    def heard(self, row: int, name: tuple[int, int, int]) -> tuple[torch.Tensor, np.ndarray]:
        """Log-mel and label of one clip's changed and mixed waveform."""
        waveform, target = self.waveform(row, "first", name), self.targets[row].astype(np.float32)
        random = np.random.default_rng(named_seed("mixup", *name))
        if random.random() < self.settings["mixup"]:
            other = int(self.rows[random.integers(len(self.rows))])
            share = float(random.beta(MIXUP_BETA, MIXUP_BETA))
            waveform = mix(waveform, self.waveform(other, "second", name), share)
            target = share * target + (1 - share) * self.targets[other]
        return cut_or_pad(log_mel(waveform), self.fbank.shape[1]), target

    def waveform(self, row: int, which: str, name: tuple[int, int, int]) -> torch.Tensor:
        waveform = audio.read(self.wavs[row])
        return waveform if self.change is None else self.change(waveform, named_seed("waveform", which, *name))


def balance(targets: np.ndarray) -> np.ndarray:
    """Weights of clips, float64 `[n]`, so that every class is drawn as often; the sum over a clip's labels."""
    return targets @ (1.0 / np.maximum(targets.sum(axis=0), 1))
