"""Fine-tuning on one fold of a dataset, from its files: what every process of a job runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..engine.encode import resolve_precision
from ..files.whole import sha256
from ..seeds import named_seed
from .classifier import describe, new_classifier
from .distributed import World
from .finetune import Tuned, finetune
from .labelled import Labelled


def finetune_fold(
    world: World,
    data: Labelled,
    checkpoint: str | Path,
    stride: tuple[int, int] | None,
    settings: Mapping[str, Any],
    name: str,
    seed: int,
    state: Path,
    precision: str,
    workers: int,
) -> tuple[Tuned, dict[str, Any]]:
    """Train a new head on a pretrained backbone, or go on after a kill.

    Args:
        world: this process among those that train together (see `distributed.launch`).
        checkpoint, stride: of the backbone; None is the stride of its family.
        settings, name: a fine-tuning definition of the configuration.
        state: file of the training state; kept until the caller deletes it.
        precision: as in the configuration.
        workers: processes that prepare examples, over all of `world`.

    Returns:
        The fine-tuned model, and for its metadata `network` (see `classifier.describe`) and `n_train`.

    Raises:
        DataError: clips without labels, or none to choose the epoch on.
        CheckpointError, ConfigError, NumericalError: as `new_classifier` and `finetune`.
    """
    clips = data.open(settings["selection"], seed)
    torch.manual_seed(named_seed(seed, "fine-tuning", name, data.fold))
    model = new_classifier(checkpoint, clips.fbank.shape[1], clips.targets.shape[1], settings, stride)
    dtype = resolve_precision(precision, world.device)
    tuned = finetune(world, model, clips, settings, seed, sha256(checkpoint), state, dtype, workers // world.size)
    return tuned, {"network": describe(model, settings["head"]), "n_train": len(clips.train)}
