"""From activations to the rows of a feature, and what its file says of their making."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import NotFinite
from ..files.whole import sha256
from ..models.split import Activations, Backbone
from ..objectives import build_objective
from ..objectives.base import Objective
from ..progress import progress
from .encode import Source, encode
from .projection import Signs

GRADIENT_CLIPS = 1024


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


def features(
    backbone: Backbone,
    objective: Objective,
    batches: Iterator[tuple[int, Activations]],
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
    if signs is not None:
        signs = signs.to(device)
    with progress("gradient", len(clip_ids)) as bar:
        bar.update(done)
        for first, batch in batches:
            on_device = Activations(*(tensor.to(device) for tensor in batch))
            try:
                feature = objective.features(backbone, on_device, signs).cpu().numpy()
            except NotFinite as error:
                raise error.named(clip_ids[first:]) from error
            bar.update(len(feature))
            yield feature


def objective_for(settings: Mapping[str, Any], **artifacts: Any) -> Objective:
    """The objective of a feature definition; comparison size and the like are no options of the loss."""
    options = {key: value for key, value in settings.items() if key != "comparison_clips"}
    return build_objective(**options, **artifacts)


def live(backbone: Backbone, inputs: Source, first: int = 0) -> Iterator[tuple[int, Activations]]:
    """Activations encoded on the way, for backbones whose activations are too large to store."""
    return encode(backbone, inputs, max(1, 64 // inputs.views), first)
