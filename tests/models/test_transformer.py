"""The fast paths through a block against timm's own."""

import pytest
import torch

from fungi_audio.models import blocks
from fungi_audio.models.blocks import Block
from fungi_audio.models.ssast.network import PatchEmbed


@pytest.mark.parametrize("width", [192, 384])
def test_fast_paths_equal_timm(width: int) -> None:
    torch.manual_seed(0)
    block = Block(width)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 30, width)
    with torch.no_grad():
        expected = block(x)
        assert (block.forward_(x.clone()) - expected).norm() / expected.norm() < 1e-6
        attended = block.attn.proj(block.attn.attend(block.norm1(x), slice(0, 2)))
        full = block.attn(block.norm1(x))[:, :2]
        assert (attended - full).norm() / full.norm() < 1e-6


@pytest.mark.parametrize("tokens", [3, 700])
def test_frozen_in_bf16_keeps_the_result(tokens: int) -> None:
    torch.manual_seed(0)
    block = Block(192)
    x = torch.randn(2, tokens, 192)
    with torch.inference_mode():
        expected = block.forward_(x.clone())
        block.freeze(torch.bfloat16)
        change = (block.forward_(x.clone()) - expected).norm() / (expected - x).norm()
    assert 0 < change < 1e-2


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("tokens", [2, 64, 70])
@pytest.mark.parametrize("hidden", [0, 20])
def test_every_way_of_attention_in_bf16(monkeypatch: pytest.MonkeyPatch, amx: bool, tokens: int, hidden: int) -> None:
    monkeypatch.setattr(blocks, "AMX", amx)
    torch.manual_seed(0)
    block = Block(192)
    torch.nn.init.normal_(block.attn.qkv.weight, std=0.1)
    torch.nn.init.normal_(block.attn.qkv.bias)
    x, mask = torch.randn(3, tokens + hidden, 192), torch.zeros(3, 1, 1, tokens + hidden)
    mask[..., tokens:] = -torch.inf
    with torch.inference_mode():
        expected = block.attn.attend(x[:, :tokens])
        block.attn.qkv.to(torch.bfloat16)
        for queries in (slice(None), slice(0, 2), slice(1, tokens)):
            found = block.attn.attend(x, queries, mask if hidden else None)[:, : len(expected[0, queries])].float()
            assert found.shape == expected[:, queries].shape
            assert (found - expected[:, queries]).norm() <= 0.01 * expected[:, queries].norm()


@pytest.mark.parametrize(("patch", "stride"), [((16, 16), (10, 10)), ((16, 16), (16, 16)), ((128, 2), (128, 1))])
def test_patches_by_one_product_in_bf16(patch: tuple[int, int], stride: tuple[int, int]) -> None:
    torch.manual_seed(0)
    embed, fbank = PatchEmbed(192, patch, stride), torch.randn(2, 50, 128)
    with torch.inference_mode():
        expected = embed(fbank)
        found = embed.to(torch.bfloat16)(fbank).float()
    assert found.shape == expected.shape
    assert (found - expected).norm() < 0.01 * expected.norm()
