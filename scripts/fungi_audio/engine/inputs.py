"""What a backbone reads of some rows of a dataset: their values, normalised, clean or as augmented views."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import torch

from ..frontends.base import FrontEnd, Statistics
from ..models.base import Inputs


class Values(Protocol):
    """The front end's values of a dataset's clips; a cache on disk, or recordings."""

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each clip, int64 `[clips]`."""

    def __getitem__(self, row: int) -> np.ndarray:
        """Values of a clip, float32 `[frames, columns]`, not normalised."""


class Recordings:
    """Values computed from the audio each time, for front ends whose values are not worth a file.

    Args:
        paths: files at the front end's rate, in the order of the clip table.
        rows: of the clips that will be asked for.
    """

    def __init__(self, paths: Sequence[Path], rows: np.ndarray, frontend: FrontEnd) -> None:
        self.paths, self.frontend = paths, frontend
        self.lengths = np.zeros(len(paths), dtype=np.int64)
        for row in rows:
            self.lengths[row] = frontend.length(soundfile.info(paths[row]).frames)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.frontend.read(self.paths[row]).numpy()


@dataclass(frozen=True)
class Pool:
    """Inputs of a backbone. Input number i is view ``i % views`` of the clip in row ``rows[i // views]``.

    Attributes:
        values: of the whole dataset.
        rows: the clips to read, in this order.
        measured: the dataset's statistics, for front ends without statistics of their own.
        keys: int64 `[len(rows) * views]` of the augmented views (`views.view_keys`); None for the clean clips.
    """

    frontend: FrontEnd
    values: Values
    rows: np.ndarray
    measured: Statistics | None = None
    keys: torch.Tensor | None = None

    @property
    def views(self) -> int:
        return 1 if self.keys is None else max(1, len(self.keys) // max(1, len(self.rows)))

    def lengths(self, inputs: np.ndarray) -> np.ndarray:
        """Frames of some inputs."""
        return self.values.lengths[self.rows[inputs // self.views]]

    def load(self, inputs: np.ndarray, device: torch.device) -> Inputs:
        """Some inputs on a device. What a clip gives does not depend on the others."""
        lengths = self.lengths(inputs)
        found = np.unique(lengths)
        if len(found) == 1:
            values = self._prepared(inputs, device)
        else:
            values = torch.zeros(len(inputs), int(lengths.max()), self.frontend.columns, device=device)
            for length in found:  # views and statistics are of clips of one length; padding comes after both
                chosen = np.flatnonzero(lengths == length)
                values[torch.from_numpy(chosen).to(device), :length] = self._prepared(inputs[chosen], device)
        return Inputs(values, torch.from_numpy(lengths))

    def _prepared(self, inputs: np.ndarray, device: torch.device) -> torch.Tensor:
        """Inputs of one length, read once a clip; views are made on the device."""
        clips, place = np.unique(inputs // self.views, return_inverse=True)
        values = torch.from_numpy(np.stack([self.values[row] for row in self.rows[clips]]))
        if device.type == "cuda":
            values = values.pin_memory().to(device, non_blocking=True)
        if self.keys is not None:
            values = values[torch.from_numpy(place).to(device)]
            values = self.frontend.view(values, self.keys[torch.from_numpy(inputs)].to(device))
        return self.frontend.normalise(values, self.measured)
