"""Backbone families by name. A new family is one file with `build` and one line here."""

from importlib import import_module
from pathlib import Path

from ..errors import CheckpointError
from .base import Activations, Backbone
from .checkpoints import load

FAMILIES = {"ssast": "ssast"}

__all__ = ["FAMILIES", "Activations", "Backbone", "load_backbone"]


def load_backbone(checkpoint: str | Path, frames: int, family: str = "ssast", **options: object) -> Backbone:
    """A frozen backbone for inputs of `frames` frames.

    Args:
        checkpoint: a `.pth` or `.safetensors` file.
        frames: input length (10 ms each for SSAST).
        family: one of `FAMILIES`.
        options: the family's own, e.g. `pooling`, `layer`, `stride`, `gradient_tokens`.

    Raises:
        CheckpointError: the file cannot be loaded safely or does not fit the family.
    """
    module = import_module(f".{FAMILIES[family]}", __name__)
    try:
        return module.build(load(checkpoint), frames, **options)
    except CheckpointError as error:
        if str(checkpoint) in str(error):
            raise
        raise CheckpointError(f"{checkpoint}: {error}") from error
