"""The fast paths through a block against timm's own."""

import pytest
import torch

from fungi_audio.models.blocks import Block


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
