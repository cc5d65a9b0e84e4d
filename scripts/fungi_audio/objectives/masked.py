"""Gradient features from the backbone's own pretext loss on masked patches; what `mpc` and `mpg` share."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..audio.read import normalise
from ..engine.encode import Source
from ..engine.gradient import Terms
from ..engine.projection import Signs, project
from ..errors import NotFinite
from ..models.ssast.masking import masks
from ..models.ssast.network import SPECIAL
from ..models.ssast.pretext import Pretext, mpc_loss, mpg_loss
from ..progress import progress
from ..seeds import named_seed
from ..training.definitions import check_masked, maskable

LARGEST_BATCH = {"cpu": 16, "cuda": 512}  # masked inputs that go through the encoder at once


class MaskedPatches:
    """The gradient of a masked-patch loss at the last block's attention projection, summed over masks.

    The network is the pretrained one with its pretext heads, at the stride it was pretrained with. A clip's
    loss is the mean over its masks; behind the last attention everything is token-wise and the loss reads
    masked tokens only, so the sum runs over those.

    Args:
        model: in evaluation mode (`training.pretext.load_pretext`).
        objective: `mpc` or `mpg`.
        count: masks a clip.
        share: of the patches that is masked.
    """

    def __init__(self, model: Pretext, objective: str, count: int, share: float) -> None:
        self.model, self.objective, self.count = model, objective, count
        self.masked = max(1, round(share * maskable(model.v.grid)))
        check_masked(model.v.grid, self.masked)

    def keys(self, seed: int, clip_ids: Sequence[str]) -> torch.Tensor:
        """Keys of the masks, int64 `[clips * count]`: by seed, objective, clip id and number of the mask."""
        numbers = range(self.count)
        return torch.tensor([named_seed(seed, "mask", self.objective, clip, n) for clip in clip_ids for n in numbers])

    def terms(self, fbank: torch.Tensor, keys: torch.Tensor) -> Terms:
        """Gradient terms of normalised log-mels `[n, frames, mel]`, `count * masked` of them a clip.

        Args:
            keys: int64 `[n * count]`, from `keys`.

        Raises:
            NotFinite: a loss or gradient is NaN or Inf.
        """
        network, last = self.model.v, self.model.v.blocks[-1]
        drawn = masks(network.grid, self.masked, keys).to(fbank.device)
        tokens = (drawn + SPECIAL).unsqueeze(2)
        with torch.no_grad():
            embedded = network.patch_embed(fbank).repeat_interleave(self.count, dim=0)
            x = network.tokens(self.model.hide(embedded, drawn))
            for block in network.blocks[:-1]:
                x = block.forward_(x)
            inputs = last.attn.attend(last.norm1(x)).float().take_along_dim(tokens, dim=1)
            context = x.take_along_dim(tokens, dim=1)
            output = network.target(inputs)
        with torch.enable_grad():
            y = context + output.requires_grad_()
            losses = self.loss(network.norm(y + last.mlp(last.norm2(y))), fbank, drawn)
            (delta,) = torch.autograd.grad(losses.sum() / self.count, output)
        n = len(fbank)
        finite = torch.isfinite(losses).view(n, -1).all(dim=1) & torch.isfinite(delta).view(n, -1).all(dim=1)
        if not finite.all():
            raise NotFinite(torch.nonzero(~finite).flatten().tolist())
        return Terms(delta.reshape(n, -1, network.width), inputs.reshape(n, -1, network.width))

    def loss(self, hidden: torch.Tensor, fbank: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Loss of each masked input, `[n * count]`, from its masked tokens `[n * count, masked, width]`."""
        truth = self.model.patches(fbank.float()).repeat_interleave(self.count, dim=0)
        truth = truth.take_along_dim(drawn.unsqueeze(2), dim=1)
        if self.objective == "mpc":
            return mpc_loss(self.model.cpredlayer(hidden), truth)[0]
        return mpg_loss(self.model.gpredlayer(hidden), truth)

    def features(
        self, source: Source, clip_ids: Sequence[str], seed: int, signs: Signs, start: int = 0
    ) -> Iterator[np.ndarray]:
        """Projected gradients of the rows of a source from row `start` on, float32 `[batch, k]`.

        Args:
            clip_ids: of all rows.

        Raises:
            NumericalError: naming clips whose loss or gradient is NaN or Inf.
        """
        device = next(self.model.parameters()).device
        batch = max(1, LARGEST_BATCH[device.type] // self.count)
        keys, signs = self.keys(seed, clip_ids), signs.to(device)
        with progress(self.objective, len(source.rows)) as bar:
            bar.update(start)
            for first in range(start, len(source.rows), batch):
                rows = source.rows[first : first + batch]
                fbank = normalise(torch.from_numpy(source.fbank[rows]).to(device), source.mean, source.std)
                try:
                    terms = self.terms(fbank, keys[first * self.count : (first + len(rows)) * self.count])
                except NotFinite as error:
                    raise error.named(clip_ids[first:]) from error
                bar.update(len(rows))
                yield project(*terms, signs).cpu().numpy()
