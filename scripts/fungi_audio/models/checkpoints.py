"""Checkpoints come from the internet: read as data, never as code, and checked before use.

A file may hold a state dict, or one among other things, as training scripts write them. What a family does with the
names in it is the family's business; `strip` helps.
"""

import json
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

from ..errors import CheckpointError
from .plain import READ, is_plain

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
PARTS = ("state_dict", "model", "model_state", "model_state_dict", "teacher")  # where a state dict may lie, in turn
WRAPPERS = ("module.", "_orig_mod.")  # DataParallel, torch.compile
BESIDE = {"config": "config.json", "preprocessor": "preprocessor_config.json"}
WHOLE = ("model.safetensors", "pytorch_model.bin")  # as `save_pretrained` writes them, the better first
SHARED = 4  # times the file that its tensors may fill, since tied weights are one storage with several names
JSON_BYTES = 50_000_000


class Checkpoint(NamedTuple):
    """What a file or folder holds.

    Attributes:
        state: names, without the prefixes of wrappers, to dense finite tensors on the CPU.
        metadata: what else there is of numbers, text, lists and dicts: ``hyper_parameters``, ``args``, ``epoch``, …;
            ``config`` and ``preprocessor`` of the JSON files beside the weights; ``safetensors``, that format's own.
        path: of the file or folder.
    """

    state: dict[str, torch.Tensor]
    metadata: dict[str, Any]
    path: Path


def load(path: str | Path) -> Checkpoint:
    """A state dict from a file (.pth, .ckpt, .bin, .safetensors; told apart by content), or from a folder.

    A folder is as `save_pretrained` writes it: model.safetensors, its shards, or pytorch_model.bin. Pickles are read
    with `weights_only=True`: code in a file never runs; of other things than tensors, `argparse.Namespace` (as a dict)
    and NumPy's numbers are read.

    Raises:
        CheckpointError: not there, damaged, code inside, no state dict of dense tensors, NaN or Inf weights, or
            weights beyond float32, in which the models compute.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    state, metadata = _folder(path) if path.is_dir() else _file(path)
    if path.is_dir() or path.suffix in (".safetensors", ".bin"):
        metadata |= {key: _json(folder / name) for key, name in BESIDE.items() if (folder / name).is_file()}
    return Checkpoint(_unwrapped(state, path), metadata, path)


def strip(state: Mapping[str, torch.Tensor], *prefixes: str) -> dict[str, torch.Tensor]:
    """The part of a state dict below the first prefix that any name has, without it; all of it if none has one."""
    for prefix in prefixes:
        if part := {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}:
            return part
    return dict(state)


def _folder(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights in a folder, of the first of `WHOLE` that is there, whole or in shards."""
    for name in WHOLE:
        if (path / name).is_file():
            return _file(path / name)
        if (path / f"{name}.index.json").is_file():
            return _shards(path / f"{name}.index.json"), {}
    raise CheckpointError(
        f"{path} holds neither {' nor '.join(WHOLE)}, nor their shards; name the file with the weights"
    )


def _shards(index: Path) -> dict[str, torch.Tensor]:
    places = _json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{index} has no weight_map of names to files")
    names = sorted(set(places.values()))
    if strange := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"{index} names {strange[0]!r}, which is no file of that folder")
    found = {(key, name): value for name in names for key, value in _file(index.with_name(name))[0].items()}
    if wrong := found.keys() ^ places.items():
        raise CheckpointError(f"{index} and its shards disagree about {min(wrong)[0]}")
    return {key: value for (key, _), value in found.items()}


def _file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """State dict, checked, and metadata of one file."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; correct `checkpoint:` of the backbone")
    with path.open("rb") as file:
        head = file.read(9)
    zipped = head.startswith(b"PK")
    with _damage(path):
        content = _safetensors(path) if head[8:] == b"{" else _torch(path, zipped)
    state, metadata = _part(content, path)
    if sum(value.numel() * value.element_size() for value in state.values()) > SHARED * path.stat().st_size:
        raise CheckpointError(f"{path} is expanded: its tensors are over {SHARED} times as large as the file")
    for key, value in state.items():
        if flaw := _flaw(value):
            raise CheckpointError(f"{path}: {key} {flaw}")
    if zipped:
        _check_records(path)
    return state, metadata


def _part(content: Any, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The state dict in what a file holds, and the plain values beside it."""
    if _is_state(content):
        return content, {}
    inside = content if isinstance(content, dict) else {}
    for key in PARTS:
        if _is_state(inside.get(key)):
            return inside[key], {name: value for name, value in inside.items() if is_plain({name: value})}
    keys = f"; it holds {', '.join(map(repr, list(inside)[:5]))}" if inside else ""
    raise CheckpointError(
        f"{path} is not a state dict (names to tensors), nor is one under {', '.join(PARTS)} in it{keys}. "
        "Save the state dict alone"
    )


def _is_state(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in value.items())
    )


def _safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        return {"state_dict": state, "safetensors": file.metadata() or {}}


def _torch(path: Path, zipped: bool) -> Any:
    """The content of a file of torch.save, mapped into memory."""
    if zipped:
        with zipfile.ZipFile(path) as archive:  # torch leaves both alone
            if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                raise ValueError("it is compressed, which torch.save never does")
            if wrong := archive.testzip():
                raise ValueError(f"{wrong} has another checksum than the file says")
    with torch.serialization.safe_globals(READ):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def _check_records(path: Path) -> None:
    """Refuse storages that are not as large as their records: mapped into memory, they would go on in the next one."""
    sizes = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for item in archive.infolist():
            file.seek(item.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            sizes[item.header_offset + 30 + name + extra] = item.file_size
    with torch.serialization.safe_globals(READ):
        state, _ = _part(torch.load(path, map_location="meta", weights_only=True), path)
    for key, value in state.items():
        storage: Any = value.untyped_storage()
        if storage.nbytes() != sizes.get(storage._checkpoint_offset):
            raise CheckpointError(f"{path} is damaged: {key} is not as large as its record in the file")


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Say of any failure to read `path` what is wrong with the file."""
    try:
        yield
    except pickle.UnpicklingError as error:  # whose text says how to run the code
        asked = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{path} holds more than tensors ({asked[1]}) and was not loaded, since a pickle can run code. If you "
            "trust it, read it once with torch.load(…, weights_only=False) and torch.save the state dict in it alone"
            if asked
            else f"{path} is not a checkpoint (.pth or .safetensors) or is damaged"
        ) from error
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is not a checkpoint (.pth or .safetensors) or is damaged: {reason}") from error


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > JSON_BYTES:
        raise CheckpointError(f"{path} is larger than {JSON_BYTES} bytes; expected a small JSON file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds {type(content).__name__}, expected a JSON object")
    return content


def _unwrapped(state: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Without the prefixes that wrappers put before every name."""
    for prefix in (*WRAPPERS, *WRAPPERS):
        if twice := [key for key in state if prefix + key in state]:
            raise CheckpointError(f"{path} holds {twice[0]} twice, with and without {prefix}")
        if all(key.startswith(prefix) for key in state):
            state = strip(state, prefix)
    return state


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
