"""Embeddings over time of many clips, each as long as its clip."""

from collections.abc import Iterator

import numpy as np

from ..models.base import Backbone, Inputs
from ..progress import progress
from .encode import Computed, encode
from .inputs import Pool

CLIPS = 32  # held at once


def timestamps(backbone: Backbone, pool: Pool) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Embeddings float32 `[T, d]` and milliseconds float32 `[T]` of the clips of a pool, in its order, some at a time.

    Raises:
        ConfigError: the backbone has none.
    """
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def compute(batch: Inputs, inputs: np.ndarray) -> Computed:
        frames = backbone.timestamps(batch)
        milliseconds = frames.milliseconds.cpu().numpy()
        for number, values, length in zip(inputs.tolist(), frames.values, frames.lengths.tolist(), strict=True):
            found[number] = values[:length].float().cpu().numpy(), milliseconds[:length]
        return {"lengths": frames.lengths}

    with progress("embeddings over time", len(pool.rows)) as bar:
        for first, part in encode(backbone, pool, compute, CLIPS, bar=bar):
            clips = [found.pop(first + number) for number in range(len(part["lengths"]))]
            yield [values for values, _ in clips], [times for _, times in clips]
