"""Checkpoints in every shape that people have them in, made to do harm, and damaged ones."""

import argparse
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fungi_audio.errors import CheckpointError
from fungi_audio.models.checkpoints import load, strip

STATE = {
    "blocks.0.weight": torch.randn(8, 6, generator=torch.Generator().manual_seed(1)),
    "blocks.0.bias": torch.arange(8.0),
    "norm.num_batches_tracked": torch.tensor(7),
}
OTHER = {"weight": torch.ones(2)}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in STATE.items()}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(
        value.dtype == STATE[key].dtype and torch.equal(value, STATE[key]) for key, value in found.items()
    )


class Harmful:
    """A pickle that runs a command when it is read."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.witness}'",)


SHAPES: dict[str, Any] = {
    "bare": STATE,
    "model": {"model": STATE, "epoch": 3},
    "state_dict": {"state_dict": STATE, "optimizer": {"state": OTHER}},
    "model_state": {"model_state": STATE, "optimizer_state": OTHER, "cfg": "LR: 0.1\n"},
    "model before its average": {"model_ema": OTHER, "model": STATE},
    "teacher, not student": {"student": OTHER, "teacher": prefixed("module."), "args": argparse.Namespace(arch="b")},
    "DataParallel": prefixed("module."),
    "torch.compile in DataParallel": prefixed("module._orig_mod."),
    "DataParallel in torch.compile": prefixed("_orig_mod.module."),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_shapes(tmp_path: Path, shape: str, zipped: bool) -> None:
    path = tmp_path / "some.ckpt"
    torch.save(SHAPES[shape], path, _use_new_zipfile_serialization=zipped)
    checkpoint = load(str(path))
    assert same(checkpoint.state)
    assert checkpoint.path == path


def test_prefixes_with_a_meaning_stay(tmp_path: Path) -> None:
    state = prefixed("model.teacher.encoder.") | {"model.student.encoder.norm": torch.ones(2)}
    torch.save({"state_dict": state}, tmp_path / "x.ckpt")
    found = load(tmp_path / "x.ckpt").state
    assert found.keys() == state.keys()
    assert same(strip(found, "encoder.", "model.teacher.encoder.", "model.student.encoder."))
    assert strip(found, "v.") == found
    torch.save(prefixed("module.") | OTHER, tmp_path / "mixed.pth")
    assert "module.blocks.0.bias" in load(tmp_path / "mixed.pth").state, "not of all names: no wrapper's"


def test_lightning(tmp_path: Path) -> None:
    """Numbers of NumPy and argparse's namespaces, which training scripts pickle, become plain ones."""
    parameters = {
        "arch": "small", "n_mels": np.int64(64), "lr": np.float64(5e-4), "half": np.float16(0.5), "on": np.bool_(True),
        "big": np.array(258, ">i4")[()], "args": argparse.Namespace(anchor_len=[10.0], nested=argparse.Namespace(a=1)),
    }  # fmt: skip
    content = {
        "epoch": 4, "state_dict": STATE, "hyper_parameters": parameters, "best": np.float32(0.5),
        "optimizer_states": [{"state": OTHER}],
    }  # fmt: skip
    torch.save(content, tmp_path / "x.ckpt")
    metadata = load(tmp_path / "x.ckpt").metadata
    plain = parameters | {"args": {"anchor_len": [10.0], "nested": {"a": 1}}}
    assert metadata == {"epoch": 4, "hyper_parameters": plain, "best": 0.5}
    kinds = [type(value) for value in metadata["hyper_parameters"].values()]
    assert kinds[1:6] == [int, float, float, bool, int]


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_numbers_of_both_numpys(tmp_path: Path, core: str) -> None:
    torch.save({"model": STATE, "best": np.float64(0.1)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "x.pth").read_bytes()
    assert b"numpy._core.multiarray" in content
    (tmp_path / "x.pth").write_bytes(content.replace(b"numpy._core.multiarray", f"{core}.multiarray".encode()))
    assert load(tmp_path / "x.pth").metadata == {"best": 0.1}


def test_the_allowed_list_is_for_one_reading(tmp_path: Path) -> None:
    torch.save({"model": STATE, "args": argparse.Namespace()}, tmp_path / "x.pth")
    load(tmp_path / "x.pth")
    with pytest.raises(pickle.UnpicklingError, match="Namespace"):
        torch.load(tmp_path / "x.pth", weights_only=True)


def test_endless_metadata_is_left_out(tmp_path: Path) -> None:
    circle: list[Any] = []
    circle.append(circle)
    laughs: list[Any] = ["ha"]
    for _ in range(40):
        laughs = [laughs, laughs]
    torch.save({"model": STATE, "circle": circle, "laughs": laughs, "epoch": 1}, tmp_path / "x.pth")
    assert load(tmp_path / "x.pth").metadata == {"epoch": 1}


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"  # told apart by its content
    save_file(STATE, path, metadata={"format": "pt"})
    checkpoint = load(path)
    assert same(checkpoint.state)
    assert checkpoint.metadata == {"safetensors": {"format": "pt"}}
    path = path.rename(tmp_path / "weights.safetensors")
    (tmp_path / "config.json").write_text('{"max_length": 1024}')
    (tmp_path / "preprocessor_config.json").write_text('{"mean": -4.27}')
    assert load(path).metadata == {
        "safetensors": {"format": "pt"},
        "config": {"max_length": 1024},
        "preprocessor": {"mean": -4.27},
    }


def test_a_script_beside_a_config_is_not_its_model(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "x.pth")
    (tmp_path / "config.json").write_text("of something else")
    assert load(tmp_path / "x.pth").metadata == {}


def shards(folder: Path, suffix: str) -> dict[str, str]:
    """Write `STATE` in two files; the index's map."""
    save: Callable[..., object] = save_file if suffix == "safetensors" else torch.save
    names = {key: f"model-0000{1 + (key == 'blocks.0.bias')}-of-00002.{suffix}" for key in STATE}
    for name in set(names.values()):
        save({key: STATE[key] for key in STATE if names[key] == name}, folder / name)
    return names


def index(folder: Path, name: str, weight_map: object) -> None:
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    with pytest.raises(CheckpointError, match=r"holds neither model\.safetensors nor pytorch_model\.bin"):
        load(tmp_path)
    index(tmp_path, "pytorch_model.bin", shards(tmp_path, "bin"))
    assert same(load(tmp_path).state)
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    assert same(load(tmp_path).state)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read, since there is a better one")
    index(tmp_path, "model.safetensors", shards(tmp_path, "safetensors"))
    assert same(load(tmp_path).state)
    save_file(STATE, tmp_path / "model.safetensors")
    checkpoint = load(tmp_path)
    assert same(checkpoint.state)
    assert checkpoint.metadata["config"] == {"model_type": "hubert"}
    assert checkpoint.path == tmp_path


INDICES: dict[str, tuple[Callable[[dict[str, str]], object], str]] = {
    "a file elsewhere": (lambda names: names | {"x": "../../x.safetensors"}, r"names '\.\./\.\./x\.safetensors'"),
    "a file that is not there": (lambda names: names | {"x": "x.safetensors"}, "no checkpoint at"),
    "a tensor too many": (lambda names: names | {"x": names["blocks.0.bias"]}, "disagree about x"),
    "a tensor too few": (
        lambda names: {key: name for key, name in names.items() if key != "norm.num_batches_tracked"},
        "disagree about norm.num_batches_tracked",
    ),
    "a tensor elsewhere": (lambda names: names | {"blocks.0.bias": names["blocks.0.weight"]}, "disagree about blocks"),
    "a list": (lambda names: list(names), "has no weight_map"),
    "numbers": (lambda names: {"x": 1}, "has no weight_map"),
}


@pytest.mark.fault("checkpoint", "an index of shards with {fault}", "refused, naming it")
@pytest.mark.parametrize("fault", INDICES)
def test_wrong_indices(tmp_path: Path, fault: str) -> None:
    change, message = INDICES[fault]
    index(tmp_path, "model.safetensors", change(shards(tmp_path, "safetensors")))
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


@pytest.mark.fault("checkpoint", "config.json: {text}", "refused, naming it")
@pytest.mark.parametrize("text", ["{", "[1]", pytest.param("[" * 100_000, id="100,000 brackets"), "\x00"])
def test_wrong_configs(tmp_path: Path, text: str) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json (is not JSON|holds list)"):
        load(tmp_path)


def saved(content: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path, **options)


def with_(**changes: Any) -> dict[str, Any]:
    return STATE | changes


def with_code(path: Path, **options: Any) -> None:
    torch.save({"model": STATE, "code": Harmful(path.with_name("PWNED"))}, path, **options)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({**STATE, "x": Harmful(path.with_name("PWNED"))}))


def half(path: Path) -> None:
    torch.save(STATE, path)
    os.truncate(path, path.stat().st_size // 2)


def legacy(path: Path) -> None:
    """A file of torch before 1.6 with another operation of the pickle."""
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert b"\x85q" in content
    path.write_bytes(content.replace(b"\x85q", b"\x86q"))


def rewritten(change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    """A file of torch.save whose records were changed and written anew, checksums and all."""

    def write(path: Path) -> None:
        torch.save({"a": torch.arange(64.0), "b": torch.arange(4096.0)}, path)
        with zipfile.ZipFile(path) as archive:
            records = {item.filename: archive.read(item) for item in archive.infolist()}
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in records.items():
                archive.writestr(name, change(name, content))

    return write


def flipped(path: Path) -> None:
    torch.save({"a": torch.arange(64.0)}, path)
    content = path.read_bytes()
    value = struct.pack("<f", 63)
    assert content.count(value) == 1
    path.write_bytes(content.replace(value, struct.pack("<f", 62)))


def alias(path: Path) -> None:
    """A thousand names of one storage: 8 MB in the file, 8 GB once each is cast."""
    one = torch.zeros(2_000_000)
    torch.save({f"w{i}": one for i in range(1000)}, path)


BIG = {"x": torch.zeros(1).double().fill_(1e300)}
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "code beside the weights": (with_code, r"holds more than tensors \(posix.system\) .* torch.save the state dict"),
    "code in an old pickle": (lambda path: with_code(path, _use_new_zipfile_serialization=False), "can run code"),
    "code in a bare pickle": (bare_pickle, "was not loaded, since a pickle can run code|is not a checkpoint"),
    "a whole model": (saved(torch.nn.Linear(2, 2)), "holds more than tensors"),
    "a whole model among others": (saved({"model": torch.nn.Linear(2, 2)}), "holds more than tensors"),
    "an array of objects": (saved({"model": STATE, "x": np.array([print])}), "holds more than tensors"),
    "a date of NumPy's": (saved({"model": STATE, "x": np.datetime64("2020-01-01")}), "holds more than tensors"),
    "random bytes": (lambda path: path.write_bytes(os.urandom(5000)), "not loaded|is not a checkpoint"),
    "text": (lambda path: path.write_text("version https://x"), "not loaded|is not a checkpoint"),
    "zero bytes": (lambda path: path.touch(), "is not a checkpoint .* or is damaged"),
    "a pickle of three bytes": (lambda path: path.write_bytes(b"\x80\x02."), "is not a checkpoint .* or is damaged"),
    "an old file with another operation": (legacy, "is not a checkpoint .* or is damaged"),
    "a header of safetensors alone": (lambda path: path.write_bytes(b"\x10\0\0\0\0\0\0\0{"), "or is damaged"),
    "cut in half": (half, "is not a checkpoint .* or is damaged"),
    "nothing there": (lambda path: None, "no checkpoint at .*; correct `checkpoint:`"),
    "a list": (saved([1, 2]), "is not a state dict"),
    "no tensors": (saved({"state_dict": {}}), "is not a state dict .*'state_dict'"),
    "an unknown part": (saved({"weights": STATE, "epoch": 1}), "it holds 'weights', 'epoch'"),
    "a number among the weights": (saved({"model": with_(x=1)}), "is not a state dict"),
    "a name that is a number": (saved({1: torch.ones(1)}), "is not a state dict"),
    "a record that is short": (
        rewritten(lambda name, content: content[:128] if name.endswith("data/0") else content),
        "is damaged: a is not as large as its record",
    ),
    "a record that is long": (
        rewritten(lambda name, content: content + bytes(64) if name.endswith("data/0") else content),
        "is damaged: a is not as large as its record",
    ),
    "a flipped bit": (flipped, "data/0 has another checksum"),
    "compressed records": (rewritten(lambda name, content: content, zipfile.ZIP_DEFLATED), "is compressed"),
    "a storage of a thousand names": (alias, "is expanded: its tensors are over 4 times"),
    "sparse weights": (saved(with_(x=torch.eye(3).to_sparse())), "x is .*sparse"),
    "weights without values (meta)": (saved(with_(x=torch.ones(3, device="meta"))), "x is .*meta"),
    "quantised weights": (
        saved(with_(x=torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8))),
        "x is .*qint8",
    ),
    "float8 weights": (saved(with_(x=torch.ones(3).to(torch.float8_e4m3fn))), "x is .*float8"),
    "complex weights": (saved(with_(x=torch.ones(3) * 1j)), "x is .*complex64"),
    "nested weights": (saved(with_(x=torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]))), "x is .*nested"),
    "weights that are one": (saved(with_(x=torch.zeros(1).expand(100))), "x is .*expanded"),
    "a name with and without module.": (
        saved(with_(**{"module.blocks.0.bias": torch.zeros(8)})),
        "blocks.0.bias twice",
    ),
    "weights beyond float32": (saved(BIG), "x contains NaN"),
    "NaN": (saved({"model": with_(x=torch.tensor([1, torch.nan]))}), "x contains NaN or Inf"),
    "infinity": (saved(with_(x=torch.full((192,), -torch.inf))), "x contains NaN"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.fault("checkpoint", "{fault}", "refused, naming what and why; no code in it runs")
@pytest.mark.parametrize("fault", REFUSED)
def test_refused(tmp_path: Path, fault: str) -> None:
    make, message = REFUSED[fault]
    path = tmp_path / "checkpoint.pth"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.fault("checkpoint", "a damaged safetensors file", "refused, naming it")
@pytest.mark.parametrize("keep", [0, 5, 40, 200, -1])
def test_a_part_of_safetensors(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_file(STATE, path)
    os.truncate(path, keep % path.stat().st_size)
    with pytest.raises(CheckpointError, match=r"is not a checkpoint .* or is damaged"):
        load(path)


def test_tied_weights_are_no_expansion(tmp_path: Path) -> None:
    tied = torch.ones(1000)
    torch.save({"a": tied, "b": tied, "c": tied[:500]}, tmp_path / "x.pth")
    assert load(tmp_path / "x.pth").state.keys() == {"a", "b", "c"}


def test_the_harmful_pickle_would_work(tmp_path: Path) -> None:
    """Read as Python reads pickles, the code runs: the tests above refuse something real."""
    bare_pickle(tmp_path / "checkpoint.pth")
    pickle.loads((tmp_path / "checkpoint.pth").read_bytes())
    assert (tmp_path / "PWNED").exists()
