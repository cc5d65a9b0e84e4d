"""Definitions of trainings that contradict themselves. Imports no torch: a run checks them before anything else."""

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..models.ssast.definition import PATCHES, check_masked, patch_grid


def check_pretraining(settings: Mapping[str, Any], gpus: int) -> None:
    """Raises ConfigError when a pretraining definition contradicts itself or has too few clips a step for `gpus`."""
    patch, stride = PATCHES[settings["kind"]], settings["stride"]
    if stride is not None and tuple(stride) != patch:
        raise ConfigError(
            f"stride {list(stride)} differs from the patch {list(patch)}; patches must not overlap at "
            "pretraining, since a masked patch would show in its neighbours. Leave stride out"
        )
    check_masked(patch_grid(settings["target_length"], patch, patch), settings["masked"])
    if settings["batch_size"] % settings["accumulate"]:
        raise ConfigError(
            f"batch_size {settings['batch_size']} is not a multiple of accumulate {settings['accumulate']}"
        )
    _check_share(settings["batch_size"], gpus)


def check_finetuning(settings: Mapping[str, Any], multilabel: bool, gpus: int) -> None:
    """Raises ConfigError when a fine-tuning definition contradicts itself, its dataset or the number of GPUs."""
    if multilabel and settings["loss"] == "ce":
        raise ConfigError("clips have several labels, which loss: ce cannot learn; set loss: bce")
    if settings["selection"] == "average" and settings["average_from"] > settings["epochs"]:
        raise ConfigError(f"average_from {settings['average_from']} is after the last epoch ({settings['epochs']})")
    _check_share(settings["batch_size"], gpus)


def _check_share(batch_size: int, gpus: int) -> None:
    if batch_size < gpus:
        raise ConfigError(
            f"batch_size {batch_size} is less than the {gpus} GPUs that share a batch; raise batch_size or lower "
            "cluster.training_gpus"
        )
