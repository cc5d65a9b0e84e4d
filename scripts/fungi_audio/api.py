"""FUNGI features of a batch of clips, without the workflow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .audio import read as audio
from .engine.device import claim
from .engine.encode import Source, encode_all
from .engine.extract import objective_for
from .engine.negatives import VIEWS
from .engine.projection import make_head, make_signs
from .engine.shard import open_backbone
from .errors import ConfigError, DataError
from .frontends.kaldi import Fbank
from .frontends.views import view_keys
from .models.split import Activations

DEFAULT_FEATURES: dict[str, dict[str, Any]] = {"embedding": {"objective": "embedding"}, "kl": {"objective": "kl"}}


def load_audio(paths: Sequence[str | Path], frames: int) -> np.ndarray:
    """Log-mels of 16 kHz files, float32 `[n, frames, 128]`, not normalised.

    Raises:
        DataError: a file that cannot be read, has another sample rate or is shorter than one frame.
    """
    return np.stack([Fbank(frames).read(path).numpy() for path in paths])


class Extractor:
    """Features of clips from a frozen backbone.

    The results equal the workflow's for the same seed, clip ids and comparison clips. The objectives `mpc` and
    `mpg` need a checkpoint's pretext heads and are left to the workflow.

    Args:
        checkpoint: a published `.pth` or a `.safetensors` file.
        frames: input length, 10 ms each.
        mean, std: statistics of the log-mel; the published ones of ESC-50 by default.
        features: definitions as in the config, e.g. ``{"simclr": {"objective": "simclr", "views": 4}}``.
        comparison: log-mels `[m, frames, 128]` of the training clips that SimCLR compares with.
        comparison_ids: names that their random views belong to; by default their positions.
        device: auto, cpu or cuda.
        precision: auto, fp32 or bf16.
        seed: of views, heads and projection.
        backbone: `family`, `pooling`, `layer`, `stride`, `gradient_tokens`.

    Raises:
        CheckpointError: the checkpoint cannot be loaded or does not fit.
        ConfigError: SimCLR without comparison clips, or options that contradict each other.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        frames: int,
        mean: float = -6.6268077,
        std: float = 5.358466,
        features: Mapping[str, Mapping[str, Any]] | None = None,
        comparison: np.ndarray | None = None,
        comparison_ids: Sequence[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        seed: int = 42,
        **backbone: Any,
    ) -> None:
        self.frames, self.statistics, self.seed = frames, (mean, std), seed
        with claim(device) as chosen:
            self.device = chosen
        self.backbone = open_backbone(str(checkpoint), frames, backbone, self.device, precision)
        self.definitions = dict(features or DEFAULT_FEATURES)
        self.signs = make_signs(self.backbone.width, *self.backbone.gradient_shape, seed).to(self.device)
        compared = None
        if comparison is not None:
            ids = _names(comparison_ids, len(comparison))
            compared = self.backbone.pooled(self._encode(comparison, ids, VIEWS, "comparison")).cpu()
        self.objectives = {name: self._objective(name, compared) for name in self.definitions}

    def _objective(self, name: str, compared: torch.Tensor | None) -> Any:
        settings = self.definitions[name]
        artifacts: dict[str, Any] = {}
        if settings["objective"] != "embedding":
            artifacts["head"] = make_head(self.backbone.width, self.seed, settings["objective"])
        if settings["objective"] == "simclr":
            if compared is None:
                raise ConfigError(f"feature {name!r} compares with training clips; pass their log-mels as `comparison`")
            artifacts["comparison"] = compared
        return objective_for(settings, **artifacts)

    def __call__(self, fbank: np.ndarray, clip_ids: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Features of clips.

        Args:
            fbank: log-mels float32 `[n, frames, 128]`, not normalised (`load_audio`).
            clip_ids: names that the random views belong to; by default the position in the batch.

        Returns:
            Feature name -> float32 `[n, d]`.

        Raises:
            DataError: log-mels of another shape, or not as many clip ids.
        """
        if fbank.ndim != 3 or fbank.shape[1:] != (self.frames, audio.MEL):
            raise DataError(f"log-mels have shape {fbank.shape}, expected [n, {self.frames}, {audio.MEL}]")
        ids = _names(clip_ids, len(fbank))
        activations = {
            views: self._encode(fbank, ids, views, "view") for views in {o.views for o in self.objectives.values()}
        }
        return {
            name: objective.features(self.backbone, activations[objective.views], self.signs).cpu().numpy()
            for name, objective in self.objectives.items()
        }

    def _encode(self, fbank: np.ndarray, clip_ids: list[str], views: int, stream: str) -> Activations:
        keys = view_keys(self.seed, stream, clip_ids, range(views)) if views else None
        source = Source(fbank.astype(np.float32, copy=False), *self.statistics, np.arange(len(fbank)), keys)
        encoded = encode_all(self.backbone, source, "encode")
        return Activations(*(torch.as_tensor(tensor, device=self.device) for tensor in encoded))


def _names(ids: Sequence[str] | None, count: int) -> list[str]:
    names = [str(number) for number in range(count)] if ids is None else list(ids)
    if len(names) != count:
        raise DataError(f"{len(names)} clip ids for {count} clips")
    return names
