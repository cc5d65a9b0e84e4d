"""From inputs, or what a trunk stored of them, to the rows of a feature; and what its file says of their making."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..engine.encode import Computed, encode
from ..engine.gradient import Factors
from ..engine.inputs import Pool
from ..engine.projection import Formed, Signs, project
from ..errors import NotFinite
from ..files.whole import sha256
from ..models.base import Backbone, Inputs
from ..progress import progress
from . import build_objective
from .base import Objective

GRADIENT_CLIPS = 1024
LIVE_CLIPS = {"cpu": 64, "cuda": 256}  # whose gradients are formed before they are projected together


def metadata(
    names: Mapping[str, str], settings: Mapping[str, Any], checkpoint: str, signs: Signs | None, seed: int
) -> dict[str, Any]:
    """What a feature's metadata says of its making.

    Args:
        names: wildcards of its rule, ``dataset`` to ``fold``.
        settings: the feature's definition.
    """
    return {
        **{key: names[key] for key in ("dataset", "backbone", "feature", "fold")},
        "checkpoint": sha256(checkpoint),
        "objective": settings["objective"],
        "settings": {key: value for key, value in settings.items() if key != "objective"},
        "seed": seed,
        "projection": signs.digest if signs else None,
    }


def objective_for(settings: Mapping[str, Any], **artifacts: Any) -> Objective:
    """The objective of a feature definition; comparison size and the like are no options of the loss."""
    options = {key: value for key, value in settings.items() if key != "comparison_clips"}
    return build_objective(**options, **artifacts)


def of_stored(
    backbone: Backbone,
    objective: Objective,
    batches: Iterator[tuple[int, Computed]],
    signs: Signs | None,
    clip_ids: Sequence[str],
    done: int = 0,
) -> Iterator[np.ndarray]:
    """Features float32 `[batch, d]` of the clips from `done` on, a batch of activations at a time.

    Args:
        batches: index of the first clip, activations.
        clip_ids: of all clips.

    Raises:
        NumericalError: naming clips whose loss or gradient is NaN or Inf.
    """
    device = next(backbone.parameters()).device
    signs = signs.to(device) if signs else None
    with progress("gradient", len(clip_ids)) as bar:
        bar.update(done)
        for first, batch in batches:
            on_device = {name: tensor.to(device) for name, tensor in batch.items()}
            try:
                feature = objective.features(backbone, on_device, signs).cpu().numpy()
            except NotFinite as error:
                raise error.named(clip_ids[first:]) from error
            bar.update(len(feature))
            yield feature


def of_inputs(
    backbone: Backbone,
    objective: Objective,
    pool: Pool,
    signs: Signs | None,
    clip_ids: Sequence[str],
    seed: int,
    done: int = 0,
) -> Iterator[np.ndarray]:
    """The same, encoding on the way: for backbones whose losses read too much to store.

    Args:
        pool: of the objective's views.
        seed: of the random numbers that the objective draws itself.
    """
    device = next(backbone.parameters()).device
    signs = signs.to(device) if signs else None
    keys = objective.keys(seed, clip_ids)

    def compute(batch: Inputs, inputs: np.ndarray) -> Computed:
        clips = inputs[:: pool.views] // pool.views
        try:
            drawn = None if keys is None else keys[torch.from_numpy(clips)].to(device)
            made = objective.compute(backbone, batch, drawn)
        except NotFinite as error:
            raise error.named([clip_ids[clip] for clip in clips]) from error
        return {"made": made.matrix() if isinstance(made, Factors) else made}

    with progress(type(objective).__name__.lower(), len(clip_ids)) as bar:
        bar.update(done)
        chunk = LIVE_CLIPS[device.type]
        for _, part in encode(backbone, pool, compute, chunk, done, pool.views, bar):
            made = part["made"]
            yield (project(Formed(made), signs) if made.ndim == 3 and signs else made).cpu().numpy()
