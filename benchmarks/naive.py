"""The published algorithm, written plainly: what the engine is measured against.

Per objective and fold its own full forward pass, with autograd to the last block's projection layer, whose
hooks keep the layer's input and output gradient; one outer product a token, of which that of token 0 is
kept; the projection as a dense float32 matrix, applied a batch at a time. Attention is spelled out, as it
was in those days' libraries.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from fungi_audio.engine.projection import Head, Signs
from fungi_audio.models.blocks import HEAD_WIDTH
from fungi_audio.models.ssast.network import SSAST


class Naive:
    """Features of batches of normalised log-mels, as the published code computes them.

    Args:
        backbone: float32, on its device; its target layer gets a hook and a gradient.
        signs: the projection, held dense: 1.8 GB for the base model.
    """

    def __init__(self, backbone: SSAST, signs: Signs) -> None:
        self.backbone = backbone
        self.device = backbone.pos_embed.device
        self.dense = signs.expand(0, signs.rows).to(self.device)
        layer = backbone.layer.requires_grad_()
        layer.register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        self.inputs = inputs[0].detach()
        if output.requires_grad:
            output.register_hook(lambda gradient: setattr(self, "delta", gradient))

    def forward(self, fbank: torch.Tensor) -> torch.Tensor:
        x = self.backbone.tokens(self.backbone.patch_embed(fbank.to(self.device)))
        for block in self.backbone.blocks:
            x = x + block.attn.proj(_attend(block.norm1(x), block.attn.qkv))
            x = x + block.mlp(block.norm2(x))
        return self.backbone.pool(self.backbone.norm(x))

    @torch.no_grad()
    def embedding(self, fbank: torch.Tensor) -> torch.Tensor:
        """Embeddings `[n, width]` of `[n, frames, mel]`."""
        return self.forward(fbank)

    def kl(self, fbank: torch.Tensor, head: Head, temperature: float = 15.0) -> torch.Tensor:
        """KL features `[n, k]` of `[n, frames, mel]`."""
        logits = head(F.normalize(self.forward(fbank), dim=-1))
        uniform = torch.full_like(logits, 1 / logits.shape[-1])
        loss = F.kl_div(F.log_softmax(logits / temperature, dim=-1), uniform, reduction="sum") / logits.numel()
        return self._project(self._gradients(loss))

    def simclr(self, views: torch.Tensor, head: Head, comparison: torch.Tensor, tau: float = 0.07) -> torch.Tensor:
        """SimCLR features `[n, k]` of `[n, views, frames, mel]` against embeddings `[m, width]`."""
        n, count = views.shape[:2]
        features = head(self.forward(views.flatten(0, 1))).view(n, count, -1)
        negatives = F.normalize(head(comparison), dim=-1)
        itself = torch.eye(count, dtype=torch.bool, device=self.device)
        losses = []
        for clip in features:
            clip = F.normalize(clip, dim=-1)
            own = clip @ clip.T
            positives = own.masked_fill(itself, 0).sum(-1) / tau / (count - 1)
            everything = torch.cat([clip @ negatives.T, own.masked_fill(itself, -1e4)], dim=-1)
            losses.append((torch.logsumexp(everything, dim=-1) - positives).mean())
        gradients = self._gradients(torch.stack(losses).mean())
        return self._project(gradients.view(n, count, *gradients.shape[1:]).sum(1))

    def _gradients(self, loss: torch.Tensor) -> torch.Tensor:
        """Token 0's gradients `[n, out, in + 1]` of the target layer, out of those of every token."""
        self.backbone.zero_grad()
        loss.backward()
        delta = self.delta * len(self.delta)
        weight = torch.einsum("nti,ntj->ntij", delta, self.inputs)
        return torch.cat([weight[:, 0], delta[:, 0].unsqueeze(-1)], dim=-1)

    def _project(self, gradients: torch.Tensor) -> torch.Tensor:
        return (self.dense @ gradients.flatten(1).T).T * len(self.dense) ** -0.5


def _attend(x: torch.Tensor, qkv: nn.Linear) -> torch.Tensor:
    n, tokens, width = x.shape
    query, key, value = qkv(x).view(n, tokens, 3, -1, HEAD_WIDTH).permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(2, 3) * HEAD_WIDTH**-0.5).softmax(-1)
    return (weights @ value).transpose(1, 2).reshape(n, tokens, width)


def one_at_a_time(compute: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """Apply `compute` clip by clip, the batch size that the memory of the outer products allows."""
    return torch.cat([compute(clip.unsqueeze(0)) for clip in inputs])
