"""Checkpoints come from the internet: read as data, never as code, and checked before use."""

import pickle
import re
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..errors import CheckpointError

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def load(path: str | Path) -> dict[str, torch.Tensor]:
    """The state dict of a `.pth` or `.safetensors` file, without DataParallel's ``module.`` prefix.

    Pickles are read with `weights_only=True`: code in a file never runs.

    Raises:
        CheckpointError: not there, damaged, code inside, not a state dict of dense tensors, NaN or Inf weights, or
            weights beyond float32, in which the models compute.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; correct `checkpoint:` of the backbone")
    content = _read(path)
    if not isinstance(content, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items()
    ):
        raise CheckpointError(f"{path} is not a state dict (names to tensors)")
    state: dict[str, torch.Tensor] = {}
    for key, value in content.items():
        if flaw := _flaw(value):
            raise CheckpointError(f"{path}: {key} {flaw}")
        if state.setdefault(key.removeprefix("module."), value) is not value:
            raise CheckpointError(f"{path} holds {key.removeprefix('module.')} twice, with and without module.")
    return state


def _read(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:  # whose text says how to run the code
        asked = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{path} holds more than tensors ({asked[1]}) and was not loaded, since a pickle can run code"
            if asked
            else f"{path} is not a checkpoint (.pth or .safetensors) or is damaged"
        ) from error
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is not a checkpoint (.pth or .safetensors) or is damaged: {reason}") from error


def _flaw(value: torch.Tensor) -> str:
    """Why a tensor is no weight; "" when it is one."""
    if value.is_nested or value.layout != torch.strided or value.device.type != "cpu":
        layout = "nested" if value.is_nested else value.layout
        return f"is a tensor of {layout} layout on {value.device}; expected a dense one in memory"
    if value.dtype not in FLOATS | INTEGERS:
        return f"is a tensor of {value.dtype}; expected floating-point numbers of 16 to 64 bits or integers"
    if value.nbytes > value.untyped_storage().nbytes():
        return f"is expanded: it holds fewer numbers than its shape {tuple(value.shape)}"
    if value.dtype in FLOATS and value.numel() and not torch.stack(value.aminmax()).float().isfinite().all():
        return "contains NaN or Inf, or numbers that float32 cannot hold"
    return ""


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"
