"""timm's pre-norm transformer block, with attention for a few queries and a path without autograd.

Every product runs in the dtype of its weights, beside a float32 residual stream.
"""

from functools import partial
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention as TimmAttention
from timm.models.vision_transformer import Block as TimmBlock
from torch import nn

HEAD_WIDTH = 64
ALL = slice(None)
CACHED = 1 << 18  # attention weights that stay in a CPU core's cache
AMX = torch.cpu._is_amx_tile_supported()
TILE = 32  # keys of an AMX tile


class Attention(TimmAttention):
    """Multi-head self-attention that can stop in front of its projection."""

    def attend(self, x: torch.Tensor, queries: slice = ALL, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Attention before its projection, `[n, len(queries), width]`, of tokens `[n, tokens, width]`.

        Args:
            mask: what is added to the scores, float32 `[n, 1, 1, tokens]`.
        """
        n, tokens, width = x.shape
        dtype = self.qkv.weight.dtype
        fused = AMX and dtype == torch.bfloat16 and x.device.type == "cpu"
        x, mask = in_tiles(x, mask) if fused else (x.to(dtype), mask)
        if queries == ALL:
            query, key, value = self.qkv(x).view(n, -1, 3, width // HEAD_WIDTH, HEAD_WIDTH).unbind(2)
            query = query[:, :tokens]
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            parts = (None, None) if bias is None else (bias[:width], bias[width:])
            read = x[:, :tokens][:, queries]
            query = F.linear(read, weight[:width], parts[0]).view(n, -1, width // HEAD_WIDTH, HEAD_WIDTH)
            rest = F.linear(x, weight[width:], parts[1])
            key, value = rest.view(n, -1, 2, width // HEAD_WIDTH, HEAD_WIDTH).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        return attention(query, key, value, mask).transpose(1, 2).reshape(n, -1, width)


class Packed(nn.Module):
    """A bf16 linear map for the CPU, without autograd: its weight in oneDNN's own layout, GELU in the same pass.

    The operators are those that torch's compiler emits for CPUs.
    """

    ROWS = 4096  # the layout suits products of about so many tokens

    def __init__(self, linear: nn.Linear, activation: str = "none") -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight, self.ROWS)
        self.bias, self.activation = linear.bias, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], "none")


class Block(TimmBlock):
    """A DeiT block of `width` channels: heads of `HEAD_WIDTH`, a four times wider MLP, biases but for `qkv_bias`."""

    attn: Any
    mlp: Any

    def __init__(self, width: int, eps: float = 1e-6, qkv_bias: bool = True) -> None:
        norm: Any = partial(nn.LayerNorm, eps=eps)
        super().__init__(width, width // HEAD_WIDTH, qkv_bias=qkv_bias, norm_layer=norm, attn_layer=Attention)

    def freeze(self, dtype: torch.dtype) -> None:
        """Cast the products to `dtype` for good; only `forward_` works afterwards."""
        attn, mlp = self.attn.to(dtype), self.mlp.to(dtype)
        on_cpu = attn.proj.weight.device.type == "cpu"
        if dtype == torch.bfloat16 and on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported():
            attn.qkv, attn.proj = Packed(attn.qkv), Packed(attn.proj)
            mlp.fc1, mlp.act, mlp.fc2 = Packed(mlp.fc1, "gelu"), nn.Identity(), Packed(mlp.fc2)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """timm's `forward` with the attention below; differentiable."""
        x = x + self.attn.proj(self.attn.attend(self.norm1(x), mask=mask).to(self.attn.proj.weight.dtype))
        return x + self.mlp(self.norm2(x).to(self.mlp.fc1.weight.dtype))

    def forward_(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """timm's `forward` in place, without autograd."""
        x += self.attn.proj(self.attn.attend(self.norm1(x), mask=mask))
        x += self.mlp(self.norm2(x).to(self.mlp.fc1.weight.dtype))
        return x


def in_tiles(x: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens `[n, tokens, width]` in bf16 with zeros behind them, up to whole tiles, and a mask that hides those.

    Fused attention over 608 keys takes 0.89 of the time of 602 (Intel with AMX, base).
    """
    n, tokens, width = x.shape
    padded = x.new_empty(n, -(-tokens // TILE) * TILE, width, dtype=torch.bfloat16)
    padded[:, :tokens], padded[:, tokens:] = x, 0
    mask = x.new_zeros(1, 1, 1, tokens) if mask is None else mask
    return padded, F.pad(mask, (0, padded.shape[1] - tokens), value=-torch.inf)


def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Scaled dot-product attention of `[n, heads, tokens, HEAD_WIDTH]`.

    On CPUs torch's fused attention has bf16 arithmetic for AMX alone, where it takes half the time of what follows
    (Intel, 602 tokens, base). Without AMX, oneDNN's products with a softmax between them are half as fast again as
    the fused one, as many clips at a time as keep their weights in the cache.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or AMX:
        return F.scaled_dot_product_attention(query, key, value, None if mask is None else mask.to(query.dtype))
    clips = max(1, CACHED // (query[0, ..., 0].numel() * key.shape[2]))
    masks = mask.to(query.dtype).split(clips) if mask is not None else repeat(0)
    parts = zip(*(x.split(clips) for x in (query * HEAD_WIDTH**-0.5, key.transpose(2, 3), value)), masks)  # noqa: B905
    return torch.cat([(q @ k + m).softmax(-1) @ v for q, k, v, m in parts])
