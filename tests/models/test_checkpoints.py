"""Checkpoints made to do harm, damaged ones, and those of other networks."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fungi_audio.errors import CheckpointError
from fungi_audio.models.load import load_backbone
from fungi_audio.models.ssast import network as ssast

FRAMES = 64
STATE = ssast.random_state("tiny-patch", 1)
PROJECTION = "v.blocks.0.attn.proj.weight"


class Harmful:
    """A pickle that runs a command when it is read."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.witness}'",)


def without(*keys: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in STATE.items() if key not in keys}


def with_(**changes: Any) -> dict[str, Any]:
    return {**STATE, **changes}


def saved(content: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path, **options)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({**STATE, "v.norm.weight": Harmful(path.with_name("PWNED"))}))


def with_code(path: Path, **options: Any) -> None:
    torch.save({**STATE, "code": Harmful(path.with_name("PWNED"))}, path, **options)


def half(path: Path) -> None:
    torch.save(STATE, path)
    os.truncate(path, path.stat().st_size // 2)


def timm(path: Path) -> None:
    torch.save({key.removeprefix("v."): value for key, value in STATE.items() if key.startswith("v.")}, path)


def short(path: Path) -> None:
    path.write_bytes(b"\x80\x02.")


def legacy(old: bytes, new: bytes) -> Callable[[Path], None]:
    """The format of torch before 1.6, with some bytes changed."""

    def write(path: Path) -> None:
        torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))

    return write


WEIGHTS = STATE[PROJECTION]
NAN = STATE[PROJECTION].clone()
NAN[3, 5] = torch.nan
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "code in a zipped pickle": (with_code, r"holds more than tensors \(posix.system\) and was not loaded"),
    "code in an old pickle": (lambda path: with_code(path, _use_new_zipfile_serialization=False), "can run code"),
    "code in a bare pickle": (pickled, "was not loaded, since a pickle can run code|is not a checkpoint"),
    "a whole model instead of its weights": (saved(torch.nn.Linear(2, 2)), "holds more than tensors"),
    "random bytes": (lambda path: path.write_bytes(os.urandom(5000)), "not loaded|is not a checkpoint"),
    "text": (lambda path: path.write_text("<html>not found</html>"), "not loaded|is not a checkpoint"),
    "zero bytes": (lambda path: path.touch(), "is not a checkpoint .* or is damaged"),
    "cut in half": (half, "is not a checkpoint .* or is damaged"),
    "nothing there": (lambda path: None, "no checkpoint at .*; correct `checkpoint:`"),
    "a list": (saved([1, 2]), "is not a state dict"),
    "an optimiser's state": (saved({"state": STATE, "epoch": torch.tensor(1)}), "is not a state dict"),
    "a missing key": (saved(without(PROJECTION)), f"lacks {PROJECTION}"),
    "no size of the input": (saved(without("p_input_tdim")), "not an SSAST checkpoint: it lacks p_input_tdim"),
    "an extra key": (saved(with_(**{"v.extra": torch.ones(1)})), "has keys that SSAST does not: v.extra"),
    "a wrong shape": (
        saved(with_(**{PROJECTION: torch.ones(192, 191)})),
        r"has shape \(192, 191\), expected \(192, 19",
    ),
    "a size that is no number": (saved(with_(p_input_tdim=torch.ones(2))), "p_input_tdim"),
    "a negative size": (saved(with_(p_input_tdim=torch.tensor(-5))), "no SSAST has that shape"),
    "an infinite size": (saved(with_(p_input_tdim=torch.tensor(torch.inf))), "p_input_tdim contains NaN or Inf"),
    "a complex size": (saved(with_(p_input_tdim=torch.tensor(1j))), "p_input_tdim is a tensor of torch.complex64"),
    "a pickle of three bytes": (short, "is not a checkpoint .* or is damaged"),
    "an old file with another operation": (legacy(b"\x85q", b"\x86q"), "is not a checkpoint .* or is damaged"),
    "sparse weights": (saved(with_(**{PROJECTION: WEIGHTS.to_sparse()})), f"{PROJECTION} is .*sparse"),
    "weights without values (meta)": (saved(with_(**{PROJECTION: WEIGHTS.to("meta")})), f"{PROJECTION} is .*meta"),
    "quantised weights": (
        saved(with_(**{PROJECTION: torch.quantize_per_tensor(WEIGHTS, 0.1, 0, torch.qint8)})),
        f"{PROJECTION} is .*qint8",
    ),
    "float8 weights": (saved(with_(**{PROJECTION: WEIGHTS.to(torch.float8_e4m3fn)})), f"{PROJECTION} is .*float8"),
    "nested weights": (
        saved(with_(**{PROJECTION: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])})),
        f"{PROJECTION} is .*nested",
    ),
    "a million weights that are one": (
        saved(with_(mask_embed=torch.zeros(1).expand(10**6))),
        "mask_embed is .*expanded",
    ),
    "the same key with and without module.": (
        saved(with_(**{"module.v.norm.bias": torch.zeros(192)})),
        "v.norm.bias twice",
    ),
    "weights beyond float32": (
        saved(with_(**{PROJECTION: WEIGHTS.double().fill_(1e300)})),
        f"{PROJECTION} contains NaN",
    ),
    "a token without axes": (saved(with_(**{"v.cls_token": torch.tensor(1.0)})), "v.cls_token"),
    "a patch without axes": (saved(with_(**{"v.patch_embed.proj.weight": torch.tensor(1.0)})), "v.patch_embed"),
    "a patch of no size": (saved(with_(**{"v.patch_embed.proj.weight": torch.ones(192, 1, 0, 16)})), "no SSAST has"),
    "weights that are integers": (saved(with_(**{PROJECTION: torch.ones(192, 192).int()})), "int32"),
    "weights that are complex": (saved(with_(**{PROJECTION: torch.ones(192, 192) * 1j})), "complex64"),
    "another family (timm's ViT)": (timm, "not an SSAST checkpoint: it lacks v.cls_token"),
    "NaN weights": (saved(with_(**{PROJECTION: NAN})), f"{PROJECTION} contains NaN or Inf"),
    "infinite weights": (saved(with_(**{"v.norm.bias": torch.full((192,), torch.inf)})), "v.norm.bias contains NaN"),
}


@pytest.mark.fault("checkpoint", "{fault}", "refused, naming what and why; no code in it runs")
@pytest.mark.parametrize("fault", REFUSED)
def test_refused(tmp_path: Path, fault: str) -> None:
    make, message = REFUSED[fault]
    path = tmp_path / "checkpoint.pth"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_backbone(path, FRAMES)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_cast(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {key: value.to(dtype) if value.is_floating_point() else value for key, value in STATE.items()}
    torch.save(weights, tmp_path / "checkpoint.pth")
    backbone = load_backbone(tmp_path / "checkpoint.pth", FRAMES)
    assert {value.dtype for value in backbone.state_dict().values()} == {torch.float32}


@pytest.mark.fault("checkpoint", "a damaged safetensors file", "refused, naming it")
@pytest.mark.parametrize("keep", [0, 5, 2000, 0.5])
def test_safetensors(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_file(STATE, path)
    load_backbone(path, FRAMES)
    os.truncate(path, keep if isinstance(keep, int) else int(keep * path.stat().st_size))
    with pytest.raises(CheckpointError, match=r"is not a checkpoint .* or is damaged"):
        load_backbone(path, FRAMES)


def test_the_harmful_pickle_would_work(tmp_path: Path) -> None:
    """Read as Python reads pickles, the code runs: the tests above refuse something real."""
    pickled(tmp_path / "checkpoint.pth")
    pickle.loads((tmp_path / "checkpoint.pth").read_bytes())
    assert (tmp_path / "PWNED").exists()
