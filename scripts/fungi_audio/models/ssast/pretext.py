"""SSAST's pretext tasks: masked patches told apart (MPC) and reconstructed (MPG).

Y. Gong et al., "SSAST: Self-Supervised Audio Spectrogram Transformer", AAAI 2022, section 2.3. The masked
patch embeddings are replaced by a learnt vector before positions are added; two heads predict the raw
(normalised) patches from the encoder's outputs. Attribute names give the published state dict's keys.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...errors import CheckpointError
from ...frontends.base import Statistics
from ...randomness import named_seed
from ..base import Backbone, Inputs
from ..checkpoints import Checkpoint
from .definition import MASKS, MEL, check_masked, maskable
from .masking import masks
from .names import published
from .network import SPECIAL, SSAST, build, describe, initialise

WEIGHTS = {"mpc": {"mpc": 1.0}, "mpg": {"mpg": 1.0}, "joint": {"mpc": 1.0, "mpg": 10.0}}


class Outcome(NamedTuple):
    """Per clip, float32 `[n]`: losses by objective, and the share of masked patches told apart (NaN without MPC)."""

    losses: dict[str, torch.Tensor]
    accuracy: torch.Tensor


def mpc_loss(predicted: torch.Tensor, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Masked patch classification: InfoNCE among a clip's own masked patches (paper, equation 1).

    A row of the similarities is one raw patch against all predictions. As published, a prediction counts
    as right when its own row has the largest softmax of its column.

    Args:
        predicted, patches: float32 `[n, masked, values]`.

    Returns:
        Loss and accuracy of each clip, float32 `[n]`.
    """
    log_softmax = (patches @ predicted.transpose(1, 2)).log_softmax(dim=2)
    right = log_softmax.detach().argmax(dim=1) == torch.arange(predicted.shape[1], device=predicted.device)
    return -log_softmax.diagonal(dim1=1, dim2=2).mean(1), right.float().mean(1)


def mpg_loss(predicted: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Masked patch generation: mean squared error of each clip, float32 `[n]` (paper, equation 2)."""
    return (predicted - patches).square().mean(dim=(1, 2))


def raw_patches(fbank: torch.Tensor, patch: tuple[int, int]) -> torch.Tensor:
    """Patches of `[n, frames, mel]` as vectors `[n, positions, mel values * frames]`, both row-major over mel."""
    return F.unfold(fbank.transpose(1, 2).unsqueeze(1), kernel_size=patch, stride=patch).transpose(1, 2)


class Pretext(Backbone):
    """An SSAST with its pretext heads; as a backbone it gives the gradients of its losses.

    Args:
        network: built with its stride equal to its patch.
    """

    def __init__(self, network: SSAST) -> None:
        super().__init__()
        width, values = network.width, network.patch[0] * network.patch[1]
        self.v, self.width, self.frontend, self.target = network, width, network.frontend, f"v.{network.target}"
        self.mask_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.cpredlayer = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, values))
        self.gpredlayer = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, values))

    def forward(self, fbank: torch.Tensor, masks: dict[str, torch.Tensor]) -> Outcome:
        """Losses of a batch; all objectives share one pass of the encoder.

        Args:
            fbank: normalised log-mels `[n, frames, mel]`.
            masks: objective (`mpc`, `mpg`) to masked positions, int64 `[n, masked]`.
        """
        patches = self.patches(fbank.float())
        predicted = self.predict(fbank, masks)
        losses, accuracy = {}, torch.full((len(fbank),), torch.nan, device=fbank.device)
        with torch.autocast(fbank.device.type, enabled=False):
            for name, mask in masks.items():
                truth = patches.take_along_dim(mask.unsqueeze(2), dim=1)
                if name == "mpc":
                    losses[name], accuracy = mpc_loss(predicted[name].float(), truth)
                else:
                    losses[name] = mpg_loss(predicted[name].float(), truth)
        return Outcome(losses, accuracy)

    def patches(self, fbank: torch.Tensor) -> torch.Tensor:
        """What the heads predict: the raw patches `[n, positions, values]`."""
        return raw_patches(fbank, self.v.patch)

    def predict(self, fbank: torch.Tensor, masks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Each objective's prediction of its masked patches, `[n, masked, values]`."""
        hidden = self.v.hidden(torch.cat([self.hide(self.v.patch_embed(fbank), mask) for mask in masks.values()]))
        heads = {"mpc": self.cpredlayer, "mpg": self.gpredlayer}
        return {
            name: heads[name](tokens.take_along_dim(mask.unsqueeze(2) + SPECIAL, dim=1))
            for (name, mask), tokens in zip(masks.items(), hidden.chunk(len(masks)), strict=True)
        }

    def hide(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Patch embeddings `[n, positions, width]` with the masked ones replaced by the learnt vector."""
        hidden = torch.zeros(embedded.shape[:2], dtype=torch.bool, device=embedded.device).scatter(1, mask, True)
        return torch.where(hidden.unsqueeze(2), self.mask_embed.to(embedded.dtype), embedded)

    def embedding(self, x: Inputs) -> torch.Tensor:
        return self.v.embedding(x)

    def masked_losses(self, x: Inputs, objective: str, keys: torch.Tensor, share: float) -> torch.Tensor:
        """Loss of each clip, `[n]`, the mean over its masks; differentiable behind the last attention projection.

        Behind the last attention everything is token-wise and the losses read masked tokens only, so that nothing
        else goes through the last block's projection and MLP.

        Args:
            objective: `mpc` or `mpg`.
            keys: of the masks, int64 `[n, masks]`.
            share: of the patches that is masked.

        Raises:
            ConfigError: so many patches cannot be masked.
        """
        count = max(1, round(share * maskable(self.v.grid)))
        check_masked(self.v.grid, count)
        drawn = masks(self.v.grid, count, keys.flatten().cpu()).to(x.values.device)
        tokens, last = (drawn + SPECIAL).unsqueeze(2), self.v.blocks[-1]
        embedded = self.v.patch_embed(x.values).repeat_interleave(keys.shape[1], dim=0)
        h = self.v.frozen(self.v.tokens(self.hide(embedded, drawn)), len(self.v.blocks) - 1)
        output = last.attn.proj(last.attn.attend(last.norm1(h)).float().take_along_dim(tokens, dim=1))
        y = h.take_along_dim(tokens, dim=1) + output
        hidden = self.v.norm(y + last.mlp(last.norm2(y)))
        truth = self.patches(x.values.float()).repeat_interleave(keys.shape[1], dim=0)
        truth = truth.take_along_dim(drawn.unsqueeze(2), dim=1)
        if objective == "mpc":
            losses = mpc_loss(self.cpredlayer(hidden), truth)[0]
        else:
            losses = mpg_loss(self.gpredlayer(hidden), truth)
        return losses.view(keys.shape).mean(1)

    def layers(self) -> list[list[nn.Parameter]]:
        return [*self.v.layers(), [*self.cpredlayer.parameters(), *self.gpredlayer.parameters(), self.mask_embed]]

    def set_precision(self, dtype: torch.dtype) -> "Pretext":
        self.v.set_precision(dtype)
        return self

    def positions(self, frames: np.ndarray) -> np.ndarray:
        return MASKS * self.v.positions(frames)  # a clip goes through the encoder once a mask

    def published_state(self) -> dict[str, torch.Tensor]:
        """A copy on the CPU with the keys of the published checkpoints, without their ``module.`` prefix."""
        frames = self.v.frames
        sizes = {"p_input_fdim": torch.tensor(MEL), "p_input_tdim": torch.tensor(frames)}
        return sizes | {key: value.detach().cpu().clone() for key, value in self.state_dict().items()}


def new_pretext(width: int, frames: int, patch: tuple[int, int], seed: int) -> Pretext:
    """A seeded, untrained model: DeiT's initialisation, PyTorch's for the heads, Xavier for the mask vector."""
    network = SSAST(width, frames, patch, stride=patch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(named_seed(seed, "pretraining"))
        model = Pretext(network)
        initialise(network, torch.default_generator)
        nn.init.xavier_normal_(model.mask_embed)
    return model


def read(checkpoint: Checkpoint, options: Mapping[str, Any]) -> Pretext:
    """The frozen pretext model of a checkpoint; of the options, input length and statistics concern it."""
    return load_pretext(
        published(checkpoint).state, **{key: options[key] for key in ("frames", "statistics") if key in options}
    )


def load_pretext(
    state: dict[str, torch.Tensor], frames: int | None = None, statistics: Statistics | None = None
) -> Pretext:
    """The frozen pretext model of a published state dict (`checkpoints.load`), in evaluation mode.

    Args:
        frames: input length; None is that of the pretraining. Positions are adapted to another.

    Raises:
        CheckpointError: not an SSAST checkpoint, or without its pretext heads.
    """
    shape = describe(state)
    model = Pretext(build(state, frames or int(state["p_input_tdim"]), stride=shape.patch, statistics=statistics))
    heads = {key: value for key, value in state.items() if not key.startswith("v.")}
    missing = [key for key in model.state_dict() if not key.startswith("v.") and key not in heads]
    if missing:
        raise CheckpointError(
            f"the checkpoint lacks {missing[0]}: it was saved without its pretext heads, which mpc and mpg need"
        )
    model.load_state_dict(heads, strict=False)
    return model.requires_grad_(False).eval()
