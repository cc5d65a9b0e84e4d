"""Checkpoints that are no SSAST, or one with the wrong tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fungi_audio.errors import CheckpointError
from fungi_audio.models.load import load_backbone
from fungi_audio.models.ssast import network as ssast

FRAMES = 64
STATE = ssast.random_state("tiny-patch", 1)
PROJECTION = "v.blocks.0.attn.proj.weight"


def without(*keys: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in STATE.items() if key not in keys}


def with_(**changes: Any) -> dict[str, Any]:
    return {**STATE, **changes}


def saved(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def timm(path: Path) -> None:
    torch.save({key.removeprefix("v."): value for key, value in STATE.items() if key.startswith("v.")}, path)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
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
    "a token without axes": (saved(with_(**{"v.cls_token": torch.tensor(1.0)})), "v.cls_token"),
    "a patch without axes": (saved(with_(**{"v.patch_embed.proj.weight": torch.tensor(1.0)})), "v.patch_embed"),
    "a patch of no size": (saved(with_(**{"v.patch_embed.proj.weight": torch.ones(192, 1, 0, 16)})), "no SSAST has"),
    "weights that are integers": (saved(with_(**{PROJECTION: torch.ones(192, 192).int()})), "int32"),
    "another family (timm's ViT)": (timm, r"lacks v\.pos_embed; this file looks like timm's ViT"),
}


@pytest.mark.fault("checkpoint", "{fault}", "refused, naming what and why")
@pytest.mark.parametrize("fault", REFUSED)
def test_refused(tmp_path: Path, fault: str) -> None:
    make, message = REFUSED[fault]
    path = tmp_path / "checkpoint.pth"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_backbone(path, frames=FRAMES)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_cast(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {key: value.to(dtype) if value.is_floating_point() else value for key, value in STATE.items()}
    torch.save(weights, tmp_path / "checkpoint.pth")
    backbone = load_backbone(tmp_path / "checkpoint.pth", frames=FRAMES)
    assert {value.dtype for value in backbone.state_dict().values()} == {torch.float32}
