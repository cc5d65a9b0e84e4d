"""The transformer block against timm's."""

import pytest
import torch

from fungi_audio.backbones.transformer import Block


@pytest.mark.parametrize("width", [192, 384])
def test_block_equals_timm(width: int) -> None:
    timm = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(0)
    theirs = timm.Block(width, num_heads=width // 64, qkv_bias=True)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours = Block(width, eps=theirs.norm1.eps)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 30, width)
    with torch.no_grad():
        expected = theirs(x)
        for result in (ours(x), ours.forward_(x.clone())):
            assert (result - expected).norm() / expected.norm() < 1e-6
