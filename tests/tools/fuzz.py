"""Fuzz the readers of what comes from outside: every input is read or refused with the project's own error.

    PYTHONPATH=scripts python -m tests.tools.fuzz --cases 100000

shares the cases out evenly over the readers. hypothesis makes and shrinks the inputs.
"""

import argparse
import contextlib
import functools
import io
import json
import math
import os
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from fungi_audio.datasets import csv, source
from fungi_audio.datasets.index import index
from fungi_audio.engine.shard import open_statistics
from fungi_audio.errors import FungiError
from fungi_audio.files import download, locks
from fungi_audio.files.archives import unpack
from fungi_audio.models import checkpoints
from fungi_audio.models.ssast import network as ssast
from fungi_audio.run import config as config_module

ROOT = Path(__file__).parents[2]
Case = Callable[[Path, Any], object]

PIECE = st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=6), st.integers(0, 6))
EDITS = st.lists(PIECE, max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def edited(good: bytes, edits: list[tuple[float, bytes, int]]) -> bytes:
    """`good` with a few places overwritten, cut out or filled in."""
    data = bytearray(good)
    for where, piece, drop in edits:
        at = int(where * len(data))
        data[at : at + drop] = piece
    return bytes(data)


def mutations(*good: bytes) -> st.SearchStrategy[bytes]:
    """Mostly damaged good files, sometimes any bytes."""
    return st.builds(edited, st.sampled_from(good), EDITS) | st.binary(max_size=300)


# --- the inputs ---------------------------------------------------------------------------------------

TABLE = 'path,label,fold\r\na.wav,"rain, ""heavy""",1\r\nsub/b.wav,wind\u00e9,2\r\n../c.wav,,x\r\n'.encode()
STATISTICS = b'{"mean": -6.5, "std": 4.25}\n'
OWNER = b'{"host": "node1", "pid": "12", "slurm": "345"}'


def archives() -> list[bytes]:
    """Small good archives of every kind."""
    members = {"top/a.wav": b"a" * 600, "top/b.wav": b"", "c": os.urandom(20)}
    made = []
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode=mode) as packed:  # type: ignore[call-overload]
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                packed.addfile(info, io.BytesIO(data))
        made.append(content.getvalue())
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", kind) as zipped:
            for name, data in members.items():
                zipped.writestr(name, data)
        made.append(content.getvalue())
    return made


HARM: list[str] = []


class Harmful:
    """A pickle that calls `HARM.append` when its code runs."""

    def __reduce__(self) -> tuple[Any, ...]:
        return harm, ()


def harm() -> None:
    HARM.append("code in a checkpoint ran")


def pickles() -> list[bytes]:
    """Small checkpoints in both formats of torch, good ones and some with code in them."""
    made = []
    for state in (tensors(), tensors() | {"code": Harmful()}):
        for zipped in (True, False):
            content = io.BytesIO()
            torch.save(state, content, _use_new_zipfile_serialization=zipped)
            made.append(content.getvalue())
    return made


def tensors() -> dict[str, Any]:
    """What a checkpoint of SSAST begins with, small."""
    shapes = {key: [2] * (axes - 1) + [64] for key, axes in ssast.NEEDED.items() if axes} | {"v.blocks.0.x": [1]}
    return {key: torch.zeros(shape) for key, shape in shapes.items()} | {key: torch.tensor(128) for key in ssast.SIZES}


@functools.cache
def good_config() -> dict[str, Any]:
    """config.yaml with one definition of each kind."""
    good = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    birds = {"layout": "csv", "source": "birds.zip", "target_length": 64}
    good["datasets"] = {"demo": good["datasets"]["demo"], "birds": birds}
    good["backbones"] = {"demo-tiny": good["backbones"]["demo-tiny"]}
    good["finetune"] = {"demo": {"dataset": "demo", "backbone": "demo-tiny"}}
    good["run"]["finetune"] = ["demo"]
    return config_module.check(good, ROOT / "schemas" / "config.schema.yaml")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inside for place in places(item, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a JSON value with the one at `path` replaced."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


# --- the readers --------------------------------------------------------------------------------------


def read_csv(folder: Path, content: bytes) -> None:
    (folder / "metadata.csv").write_bytes(content)
    csv.read(folder, {"multilabel": content[:1] > b"m"})


def read_dataset(folder: Path, content: bytes) -> None:
    (folder / "metadata.csv").write_bytes(content)
    index(folder, "csv", {}, skip=True)


def read_json(folder: Path, content: bytes) -> None:
    (folder / "statistics.json").write_bytes(content)
    mean, std = open_statistics(folder / "statistics.json", (None, None))
    assert math.isfinite(mean) and std > 0


def read_lock(folder: Path, content: bytes) -> None:
    (folder / "job.lock").write_bytes(content)
    with mock.patch("shutil.which", return_value=None), locks.only_writer(folder / "job.lock"):  # no Slurm here
        pass
    assert not (folder / "job.lock").exists()


def read_config(folder: Path, change: tuple[tuple[Any, ...], Any]) -> None:
    config = replaced(good_config(), *change)
    config_module.check(config, ROOT / "schemas" / "config.schema.yaml")


def read_location(folder: Path, location: str) -> None:
    download.local_path(location)
    source.locate("x", {"layout": "csv", "source": location}, allow_http=True)


def read_archive(folder: Path, content: bytes) -> None:
    (folder / "archive").write_bytes(content)
    target = folder / "place" / "raw"
    try:
        with mock.patch("os.sync"):  # of all disks
            unpack(folder / "archive", target, 0.001)
    finally:
        assert {path.name for path in folder.iterdir()} <= {"archive", "place"}
        assert not target.parent.exists() or {path.name for path in target.parent.iterdir()} <= {"raw"}


def read_checkpoint(folder: Path, content: bytes, suffix: str = ".pth") -> None:
    path = (folder / "checkpoint").with_suffix(suffix)
    path.write_bytes(content)
    state = checkpoints.load(path).state
    assert all(value.isfinite().all() for value in state.values())
    ssast.describe(state)


READERS: dict[str, tuple[Case, Callable[[], st.SearchStrategy[Any]]]] = {
    "CSV metadata": (read_csv, lambda: mutations(TABLE)),
    "a dataset": (read_dataset, lambda: mutations(TABLE)),
    "JSON": (read_json, lambda: mutations(STATISTICS) | JSON.map(lambda value: json.dumps(value).encode())),
    "lock files": (read_lock, lambda: mutations(OWNER) | JSON.map(lambda value: json.dumps(value).encode())),
    "the config": (read_config, lambda: st.tuples(st.sampled_from(places(good_config())), JSON)),
    "sources": (
        read_location,
        lambda: st.text(st.sampled_from("htps:/fil@#?%[]\\~.e\0é0 "), max_size=30) | st.text(max_size=10),
    ),
    "checkpoints (.pth)": (read_checkpoint, lambda: mutations(*pickles())),
    "checkpoints (.safetensors)": (
        functools.partial(read_checkpoint, suffix=".safetensors"),
        lambda: mutations(save(tensors())),
    ),
    "archives": (read_archive, lambda: mutations(*archives())),
}


def fuzz(reader: str, cases: int) -> tuple[int, int]:
    """Try a reader on `cases` inputs; how many were tried and how many refused.

    Raises:
        BaseException: what the reader raised, when that is not the project's own error; hypothesis adds the
            smallest input that does so.
    """
    read, inputs = READERS[reader]
    tried = refused = 0

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs())
    def attempt(content: Any) -> None:
        nonlocal tried, refused
        tried += 1
        try:
            with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
                read(folder, content)
        except FungiError as error:
            refused += 1
            assert str(error)
        assert not HARM

    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        attempt()
    return tried, refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=100_000)
    each = math.ceil(parser.parse_args().cases / len(READERS))
    total = 0
    for reader in READERS:
        start = time.monotonic()
        tried, refused = fuzz(reader, each)
        total += tried
        print(f"{reader}: {tried:,} cases, {refused:,} refused, {time.monotonic() - start:.0f} s", flush=True)
    print(f"{total:,} cases, no crash")


if __name__ == "__main__":
    main()
