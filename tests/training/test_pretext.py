"""The pretext losses and their gradients against plain loops, and the published file format."""

import copy
from pathlib import Path

import pytest
import torch

from fungi_audio.errors import CheckpointError
from fungi_audio.models.checkpoints import load
from fungi_audio.models.ssast.masking import masks
from fungi_audio.models.ssast.network import Grid, build, random_state
from fungi_audio.models.ssast.pretext import WEIGHTS, Pretext, load_pretext, mpc_loss, new_pretext, raw_patches

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "ssast_tiny_patch.pth"


@pytest.fixture(scope="module")
def model() -> Pretext:
    model = new_pretext(64, 64, (16, 16), seed=1).double()
    model.v.blocks = model.v.blocks[:2]
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


@pytest.fixture(scope="module")
def fbank() -> torch.Tensor:
    return torch.randn(3, 64, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def plain_loss(model: Pretext, fbank: torch.Tensor, drawn: dict[str, torch.Tensor], objective: str) -> torch.Tensor:
    """Patch by patch and clip by clip, with the encoder written out."""
    total = torch.zeros((), dtype=fbank.dtype)
    rows, columns = model.v.grid
    for clip, spectrogram in enumerate(fbank):
        image = spectrogram.T
        raw = [image[16 * r : 16 * r + 16, 16 * c : 16 * c + 16].flatten() for r in range(rows) for c in range(columns)]
        weight, bias = model.v.patch_embed.proj.weight, model.v.patch_embed.proj.bias
        for name, factor in WEIGHTS[objective].items():
            masked = drawn[name][clip].tolist()
            embedded = [weight.flatten(1) @ patch + bias for patch in raw]
            embedded = [model.mask_embed[0, 0] if i in masked else e for i, e in enumerate(embedded)]
            x = torch.stack([model.v.cls_token[0, 0], model.v.dist_token[0, 0], *embedded]) + model.v.pos_embed[0]
            x = x.unsqueeze(0)
            for block in model.v.blocks:
                x = x + block.attn(block.norm1(x))
                x = x + block.mlp(block.norm2(x))
            x = model.v.norm(x)[0]
            head = model.cpredlayer if name == "mpc" else model.gpredlayer
            predicted = [head(x[i + 2]) for i in masked]
            if name == "mpg":
                squares = [(p - raw[i]).square().mean() for p, i in zip(predicted, masked, strict=True)]
                total = total + factor * sum(squares) / len(masked) / len(fbank)
                continue
            for j, i in enumerate(masked):
                scores = torch.stack([raw[i] @ p for p in predicted])
                total = total - factor * (scores[j] - scores.exp().sum().log()) / len(masked) / len(fbank)
    return total


@pytest.mark.parametrize("objective", ["mpc", "mpg", "joint"])
def test_losses_and_gradients_equal_plain_loops(model: Pretext, fbank: torch.Tensor, objective: str) -> None:
    keys = torch.tensor([1, 2, 3])
    drawn = {name: masks(Grid(8, 4), 20, keys + 10 * i) for i, name in enumerate(WEIGHTS[objective])}
    losses = model(fbank.clone(), drawn).losses
    loss = sum((factor * losses[name].mean() for name, factor in WEIGHTS[objective].items()), torch.zeros(()))
    expected = plain_loss(model, fbank, drawn, objective)
    assert torch.allclose(loss, expected.float(), rtol=1e-5)
    used = [(name, p) for name, p in model.named_parameters() if losses_reach(name, objective)]
    found = torch.autograd.grad(loss, [p for _, p in used])
    for (name, _), ours, plain in zip(used, found, torch.autograd.grad(expected, [p for _, p in used]), strict=True):
        assert torch.allclose(ours, plain, rtol=1e-3, atol=1e-6), name


def losses_reach(name: str, objective: str) -> bool:
    unused = {"mpc": "gpredlayer", "mpg": "cpredlayer", "joint": "-"}[objective]
    return not name.startswith(unused)


def test_accuracy_counts_the_right_columns() -> None:
    patches = torch.eye(6).unsqueeze(0)
    assert mpc_loss(9 * patches, patches)[1].tolist() == [1.0]
    swapped = patches[:, [1, 0, 2, 3, 4, 5]]
    assert mpc_loss(9 * swapped, patches)[1].tolist() == [pytest.approx(4 / 6)]


def test_raw_patches_run_along_time_first() -> None:
    fbank = torch.arange(32 * 128, dtype=torch.float32).view(1, 32, 128)
    found = raw_patches(fbank, (16, 16))
    assert found.shape == (1, 16, 256)
    assert torch.equal(found[0, 1], fbank[0, 16:32, :16].T.flatten())
    assert torch.equal(found[0, 2], fbank[0, :16, 16:32].T.flatten())


def test_masked_content_does_not_leak(model: Pretext, fbank: torch.Tensor) -> None:
    drawn = {"mpg": masks(Grid(8, 4), 20, torch.tensor([1, 2, 3]))}
    other = fbank.clone()
    for clip, masked in enumerate(drawn["mpg"].tolist()):
        for position in masked:
            row, column = divmod(position, 4)
            other[clip, 16 * column : 16 * column + 16, 16 * row : 16 * row + 16] = 7.0
    assert torch.equal(model.predict(fbank, drawn)["mpg"], model.predict(other, drawn)["mpg"])


def test_published_state_builds_a_backbone_and_comes_back() -> None:
    model = new_pretext(192, 128, (16, 16), seed=5)
    state = model.published_state()
    assert build(copy.copy(state), frames=128, stride=(16, 16)).grid == Grid(8, 8)
    again = load_pretext(state)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert torch.equal(new_pretext(192, 128, (16, 16), seed=5).mask_embed, model.mask_embed)
    assert not torch.equal(new_pretext(192, 128, (16, 16), seed=6).mask_embed, model.mask_embed)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden")
def test_keys_and_shapes_are_the_published_ones() -> None:
    published = {k: v.shape for k, v in load(GOLDEN).state.items() if not k.startswith(("v.head.", "v.head_dist."))}
    assert {k: v.shape for k, v in new_pretext(192, 1024, (16, 16), seed=0).published_state().items()} == published
    load_pretext(load(GOLDEN).state)


def test_checkpoint_without_heads() -> None:
    with pytest.raises(CheckpointError, match="mask_embed"):
        load_pretext(random_state("tiny-patch", 0))
