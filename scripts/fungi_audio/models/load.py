"""From a checkpoint to a frozen backbone of its family."""

from pathlib import Path
from typing import Any

from .. import registry
from ..errors import CheckpointError
from .base import Backbone
from .checkpoints import load


def load_backbone(checkpoint: str | Path, family: str = "ssast", pretext: bool = False, **options: Any) -> Backbone:
    """A frozen backbone.

    Args:
        checkpoint: a `.pth`, `.safetensors` or other file of weights, or a folder as `save_pretrained` writes it.
        family: a registered family.
        pretext: with the heads of its pretraining, for the objectives that are gradients of its own losses.
        options: the family's own, e.g. `frames`, `pooling`, `layer` of SSAST (`models/FAMILY/network.py`).

    Raises:
        CheckpointError: the file cannot be loaded safely or does not fit the family.
        ConfigError: no such family, options that contradict each other, or a family without pretext losses.
    """
    read = registry.module("pretext" if pretext else "family", family).read
    try:
        backbone: Backbone = read(load(checkpoint), options)
    except CheckpointError as error:
        if str(checkpoint) in str(error):
            raise
        raise CheckpointError(f"{checkpoint}: {error}") from error
    _ = backbone.layer  # a target that does not exist is told before any work
    return backbone
