"""Checkpoints come from the internet: read as data, never as code, and checked before use."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import CheckpointError


def load(path: str | Path) -> dict[str, torch.Tensor]:
    """The state dict of a `.pth` or `.safetensors` file, without DataParallel's ``module.`` prefix.

    Pickles are read with `weights_only=True`: code in a file never runs.

    Raises:
        CheckpointError: not there, not a state dict, damaged, code inside, or NaN or Inf weights.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; correct `checkpoint:` of the backbone")
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} holds more than tensors and was not loaded, since a pickle can run code: {reason}"
        ) from error
    except (
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        SafetensorError,
        OSError,
        UnicodeDecodeError,
        AttributeError,
    ) as error:
        raise CheckpointError(f"{path} is not a checkpoint (.pth or .safetensors) or is damaged: {error}") from error
    if not isinstance(content, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items()
    ):
        raise CheckpointError(f"{path} is not a state dict (names to tensors)")
    for key, value in content.items():
        if value.is_floating_point() and value.numel() and not torch.stack(value.aminmax()).isfinite().all():
            raise CheckpointError(f"{path}: {key} contains NaN or Inf")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"
