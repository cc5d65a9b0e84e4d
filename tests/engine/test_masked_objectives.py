"""mpc and mpg features: gradients against autograd through the whole network, and what they depend on."""

import numpy as np
import pytest
import torch

from fungi_audio.api import Arrays
from fungi_audio.engine.inputs import Pool
from fungi_audio.engine.projection import make_signs
from fungi_audio.errors import CheckpointError, ConfigError
from fungi_audio.frontends.base import Statistics
from fungi_audio.models.base import Inputs
from fungi_audio.models.ssast.definition import maskable
from fungi_audio.models.ssast.masking import masks
from fungi_audio.models.ssast.network import random_state
from fungi_audio.models.ssast.pretext import Pretext, load_pretext, new_pretext, raw_patches
from fungi_audio.objectives import build_objective
from fungi_audio.objectives.extract import of_inputs

CLIPS = ["a.wav", "b.wav", "c.wav"]


@pytest.fixture(scope="module", params=["patch", "frame"])
def model(request: pytest.FixtureRequest) -> Pretext:
    patch = {"patch": (16, 16), "frame": (128, 2)}[request.param]
    return load_pretext(new_pretext(192, 64, patch, seed=3).published_state(), frames=48)


@pytest.fixture(scope="module")
def fbank() -> np.ndarray:
    return np.random.default_rng(0).normal(-6, 2, size=(3, 48, 128)).astype(np.float32)


@pytest.mark.parametrize("objective", ["mpc", "mpg"])
def test_gradients_equal_autograd(model: Pretext, fbank: np.ndarray, objective: str) -> None:
    masked = build_objective(objective, masks=2, masked=0.6)
    inputs, keys = torch.from_numpy(fbank) / 4, masked.keys(7, CLIPS)
    found = masked.compute(model, Inputs.alike(inputs), keys).matrix()
    proj = model.v.blocks[-1].attn.proj
    drawn = masks(model.v.grid, round(0.6 * maskable(model.v.grid)), keys.flatten()).view(3, 2, -1)
    proj.requires_grad_(True)
    for clip in range(3):
        twice = inputs[[clip, clip]]
        loss = model(twice, {objective: drawn[clip]}).losses[objective].mean()
        weight, bias = torch.autograd.grad(loss, [proj.weight, proj.bias])
        expected = torch.cat([weight, bias.unsqueeze(1)], dim=1)
        assert torch.allclose(found[clip], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    proj.requires_grad_(False)


def test_features_depend_on_the_clip_and_the_seed_alone(model: Pretext, fbank: np.ndarray) -> None:
    signs = make_signs(192, 192, 193, seed=42)

    def features(rows: list[int], seed: int = 7, objective: str = "mpc") -> np.ndarray:
        pool = Pool(model.frontend, Arrays(fbank), np.array(rows), Statistics(-6.0, 2.0))
        built = build_objective(objective=objective, masks=4, masked=0.6)
        return np.concatenate(list(of_inputs(model, built, pool, signs, [CLIPS[row] for row in rows], seed)))

    together = features([0, 1, 2])
    assert together.shape == (3, 192)
    assert np.allclose(features([2]), together[2:], rtol=1e-3, atol=1e-4 * np.abs(together).max())
    assert not np.allclose(features([0, 1, 2], seed=8), together, rtol=0.1)
    assert not np.allclose(features([0, 1, 2], objective="mpg"), together, rtol=0.1)


@pytest.mark.parametrize("objective", ["mpc", "mpg"])
def test_bf16_gives_nearly_the_same_features(fbank: np.ndarray, objective: str) -> None:
    state, signs = new_pretext(192, 64, (16, 16), seed=3).published_state(), make_signs(192, 192, 193, seed=42)

    def features(dtype: torch.dtype) -> np.ndarray:
        model = load_pretext(state, frames=48)
        model.v.set_precision(dtype)
        pool = Pool(model.frontend, Arrays(fbank), np.arange(3), Statistics(-6.0, 2.0))
        masked = build_objective(objective, masks=4, masked=0.6)
        found = np.concatenate(list(of_inputs(model, masked, pool, signs, CLIPS, 7)))
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    cosine = (features(torch.bfloat16) * features(torch.float32)).sum(axis=1)
    assert (cosine > 0.97).all() and (cosine < 1 - 1e-7).any()


def test_positions_are_adapted_to_the_input(model: Pretext) -> None:
    assert model.v.frames == 48 and model.v.stride == model.v.patch
    assert raw_patches(torch.zeros(1, 48, 128), model.v.patch).shape[1] == model.v.grid.mel * model.v.grid.time


def test_a_share_that_masks_everything() -> None:
    model = load_pretext(new_pretext(192, 64, (16, 16), seed=3).published_state())
    inputs, keys = Inputs.alike(torch.zeros(1, 64, 128)), torch.zeros(1, 1, dtype=torch.int64)
    assert torch.isfinite(model.masked_losses(inputs, "mpg", keys, 1.0)).all()
    with pytest.raises(ConfigError, match="more than"):
        model.masked_losses(inputs, "mpc", keys, 1.2)


def test_a_checkpoint_without_pretext_heads() -> None:
    with pytest.raises(CheckpointError, match="which mpc and mpg need"):
        load_pretext(random_state("tiny-patch", 0), 128)
