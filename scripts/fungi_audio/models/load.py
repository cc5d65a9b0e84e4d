"""Backbone families by name; each module has `build`."""

from pathlib import Path

from .. import registry
from ..errors import CheckpointError
from .split import Activations, Backbone
from .weights import load

__all__ = ["Activations", "Backbone", "load_backbone"]


def load_backbone(checkpoint: str | Path, frames: int, family: str = "ssast", **options: object) -> Backbone:
    """A frozen backbone for inputs of `frames` frames.

    Args:
        checkpoint: a `.pth` or `.safetensors` file.
        frames: input length (10 ms each for SSAST).
        family: a registered family.
        options: the family's own, e.g. `pooling`, `layer`, `stride`, `gradient_tokens`.

    Raises:
        CheckpointError: the file cannot be loaded safely or does not fit the family.
        ConfigError: no such family, or options that contradict each other.
    """
    module = registry.module("family", family)
    try:
        return module.build(load(checkpoint), frames, **options)
    except CheckpointError as error:
        if str(checkpoint) in str(error):
            raise
        raise CheckpointError(f"{checkpoint}: {error}") from error
