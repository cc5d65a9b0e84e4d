"""Pretraining batches: a function of the seed and the step alone, whatever the number of workers and processes."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..errors import ConfigError
from ..frontends.cache import open_array
from ..frontends.kaldi import normalise
from ..models.ssast.definition import Grid
from ..models.ssast.masking import masks
from ..randomness import generator
from ..seeds import named_seed
from .distributed import World
from .steps import Steps

Batch = tuple[torch.Tensor, dict[str, torch.Tensor]]


class Clips:
    """Log-mels of several datasets as one list.

    Args:
        caches: log-mel caches of one length.
        rows: rows of each cache that belong to the list.
    """

    def __init__(self, caches: Sequence[str | Path], rows: Sequence[np.ndarray]) -> None:
        self.caches = [open_array(path) for path in caches]
        self.rows = list(rows)
        self.ends = np.cumsum([len(part) for part in rows])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def log_mels(self, indices: np.ndarray) -> torch.Tensor:
        """Log-mels `[len(indices), frames, mel]`, float32, not normalised."""
        found = np.empty((len(indices), *self.caches[0].shape[1:]), dtype=np.float32)
        places = np.searchsorted(self.ends, indices, side="right")
        for row, (p, i) in enumerate(zip(places.tolist(), indices.tolist(), strict=True)):
            found[row] = self.caches[p][self.rows[p][i - self.ends[p]]]
        return torch.from_numpy(found)


class PretextBatches(Steps[Batch]):
    """Item `step` is this process's share of that step's batch: normalised log-mels and the masks of each objective.

    A share of a validation batch may be empty.

    Clips come in a new random order every epoch; epochs follow each other without a gap, so a batch may
    span two. Every clip of a batch draws its masks by (seed, objective, step, place in the batch).

    Args:
        clips: the log-mels.
        indices: int64, which of them.
        statistics: mean and standard deviation of the normalisation.
        grid: patches of a log-mel.
        masked: patches masked in each.
        objectives: `mpc`, `mpg` or both.
        batch_size: clips a step, over all processes.
        steps: number of items.
        world: this process among the others.
        seed: the run's seed; None keeps the order and gives every clip the same masks always (validation).
    """

    def __init__(
        self,
        clips: Clips,
        indices: np.ndarray,
        statistics: tuple[float, float],
        grid: Grid,
        masked: int,
        objectives: Sequence[str],
        batch_size: int,
        steps: int,
        world: World,
        seed: int | None,
    ) -> None:
        self.clips, self.indices, self.statistics = clips, indices, statistics
        self.grid, self.masked, self.objectives = grid, masked, objectives
        self.batch_size, self.steps, self.world, self.seed = batch_size, steps, world, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        places = np.arange(self.world.rank, self.batch_size, self.world.size) + step * self.batch_size
        if self.seed is None:
            places = places[places < len(self.indices)]
        chosen = np.array([self._clip(place) for place in places.tolist()], dtype=np.int64)
        fbank = normalise(self.clips.log_mels(chosen), *self.statistics)
        drawn = {}
        for name in self.objectives:
            keys = [named_seed(self.seed, "mask", name, place) for place in places.tolist()]
            drawn[name] = masks(self.grid, self.masked, torch.tensor(keys, dtype=torch.int64))
        return fbank, drawn

    def _clip(self, place: int) -> int:
        if self.seed is None:
            return int(self.indices[place])
        epoch, index = divmod(place, len(self.indices))
        return int(self.indices[_order(len(self.indices), self.seed, epoch)[index]])


@lru_cache(maxsize=2)
def _order(clips: int, seed: int, epoch: int) -> np.ndarray:
    return torch.randperm(clips, generator=generator(seed, "order", epoch)).numpy()


def pooled_statistics(
    files: Sequence[str | Path], clips: Sequence[int], configured: tuple[float | None, float | None]
) -> tuple[float, float]:
    """Mean and standard deviation over several datasets: the configured ones, else the measured ones by clips.

    Args:
        files: statistics of each dataset's log-mels (JSON with `mean` and `std`).
        clips: how many clips each contributes.
    """
    measured = [json.loads(Path(path).read_text(encoding="utf-8")) for path in files]
    share = np.array(clips) / sum(clips)
    mean = float(share @ [part["mean"] for part in measured])
    square = float(share @ [part["mean"] ** 2 + part["std"] ** 2 for part in measured])
    std = (square - mean**2) ** 0.5
    return mean if configured[0] is None else configured[0], std if configured[1] is None else configured[1]


def hold_out(clips: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A seeded random split of the clips `0 … clips - 1`: training and validation indices, ascending.

    Raises:
        ConfigError: no clip is left for one of them.
    """
    count = max(1, round(share * clips))
    if clips - count < 1:
        raise ConfigError(f"{clips} clips cannot be split into training and validation ({share:.0%}); add data")
    order = torch.randperm(clips, generator=generator(seed, "validation clips")).numpy()
    return np.sort(order[count:]), np.sort(order[:count])
