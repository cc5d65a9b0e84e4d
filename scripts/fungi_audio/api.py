"""FUNGI features of a batch of clips, without the workflow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .engine.device import claim
from .engine.encode import Computed, encode
from .engine.inputs import Pool
from .engine.negatives import STREAM, VIEWS, embed
from .engine.projection import make_head, make_signs
from .engine.shard import open_backbone
from .errors import ConfigError, DataError
from .frontends.base import Statistics
from .frontends.kaldi import Fbank
from .frontends.views import view_keys
from .models.base import Inputs
from .objectives import takes
from .objectives.base import Objective
from .objectives.embedding import Embedding
from .objectives.extract import objective_for, of_inputs

DEFAULT_FEATURES: dict[str, dict[str, Any]] = {"embedding": {"objective": "embedding"}, "kl": {"objective": "kl"}}


def load_audio(paths: Sequence[str | Path], frames: int) -> np.ndarray:
    """SSAST's log-mels of 16 kHz files, float32 `[n, frames, 128]`, not normalised.

    Raises:
        DataError: a file that cannot be read, has another sample rate or is shorter than one frame.
    """
    frontend = Fbank(frames)
    return np.stack([frontend.read(path).numpy() for path in paths])


class Arrays:
    """Values of clips in memory, each float32 `[frames, columns]`."""

    def __init__(self, values: Sequence[np.ndarray] | np.ndarray) -> None:
        self.values = values
        self.lengths = np.array([len(clip) for clip in values], dtype=np.int64)

    def __getitem__(self, row: int) -> np.ndarray:
        return np.asarray(self.values[row], np.float32)


class Extractor:
    """Features of clips from a frozen backbone.

    The results equal the workflow's for the same seed, clip ids and comparison clips. The objectives `mpc` and
    `mpg` need a checkpoint's pretext heads and are left to the workflow.

    Args:
        checkpoint: a published `.pth` or a `.safetensors` file.
        frames: input length of SSAST, 10 ms each.
        mean, std: statistics of the log-mel; the published ones of ESC-50 by default.
        features: definitions as in the config, e.g. ``{"simclr": {"objective": "simclr", "views": 4}}``.
        comparison: values of the training clips that SimCLR compares with.
        comparison_ids: names that their random views belong to; by default their positions.
        device: auto, cpu or cuda.
        precision: auto, fp32 or bf16.
        seed: of views, heads and projection.
        backbone: `family`, and its options, such as `pooling` and `layer` of SSAST.

    Raises:
        CheckpointError: the checkpoint cannot be loaded or does not fit.
        ConfigError: SimCLR without comparison clips, or options that contradict each other.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        frames: int | None = None,
        mean: float = -6.6268077,
        std: float = 5.358466,
        features: Mapping[str, Mapping[str, Any]] | None = None,
        comparison: Sequence[np.ndarray] | np.ndarray | None = None,
        comparison_ids: Sequence[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        seed: int = 42,
        **backbone: Any,
    ) -> None:
        self.statistics, self.seed = Statistics(mean, std), seed
        with claim(device) as chosen:
            self.device = chosen
        options = backbone | ({} if frames is None else {"frames": frames})
        # Suites of others build encoders in inference mode, whose tensors autograd refuses.
        with torch.inference_mode(False):
            self.backbone = open_backbone(str(checkpoint), options, self.device, precision)
        self.definitions = dict(features or DEFAULT_FEATURES)
        self.signs = make_signs(self.backbone.width, *self.backbone.gradient_shape, seed).to(self.device)
        compared = None
        if comparison is not None:
            pool = self._pool(comparison, _names(comparison_ids, len(comparison)), VIEWS, STREAM)
            compared = embed(self.backbone, pool).cpu()
        self.objectives = {name: self._objective(name, compared) for name in self.definitions}

    def _objective(self, name: str, compared: torch.Tensor | None) -> Objective:
        settings = self.definitions[name]
        artifacts: dict[str, Any] = {}
        known = takes(settings["objective"]).parameters
        if "head" in known:
            artifacts["head"] = make_head(self.backbone.width, self.seed, settings["objective"])
        if "comparison" in known:
            if compared is None:
                raise ConfigError(f"feature {name!r} compares with training clips; pass their values as `comparison`")
            artifacts["comparison"] = compared
        objective = objective_for(settings, **artifacts)
        if objective.pretext:
            raise ConfigError(f"feature {name!r} needs the heads of the pretraining; the workflow has it, this not")
        return objective

    def load(self, paths: Sequence[str | Path]) -> list[np.ndarray]:
        """What the backbone reads of audio files at its rate, each float32 `[frames, columns]`, not normalised.

        Raises:
            DataError: a file that cannot be read, has another sample rate or is too short.
        """
        return [self.backbone.frontend.read(path).numpy() for path in paths]

    def __call__(
        self, values: Sequence[np.ndarray] | np.ndarray, clip_ids: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Features of clips.

        Args:
            values: of each clip, float32 `[frames, columns]`, not normalised (`load`, or `load_audio` for SSAST).
            clip_ids: names that the random views belong to; by default the position in the batch.

        Returns:
            Feature name -> float32 `[n, d]`.

        Raises:
            DataError: values of another shape, or not as many clip ids.
        """
        ids = _names(clip_ids, len(values))
        stored: dict[int, Computed] = {}
        made = {}
        for name, objective in self.objectives.items():
            signs = None if isinstance(objective, Embedding) else self.signs
            pool = self._pool(values, ids, objective.views, "view")
            if self.backbone.shapes:
                if objective.views not in stored:
                    ((_, stored[objective.views]),) = encode(self.backbone, pool, self._trunk, len(ids))
                made[name] = objective.features(self.backbone, stored[objective.views], signs).cpu().numpy()
            else:
                made[name] = np.concatenate(list(of_inputs(self.backbone, objective, pool, signs, ids, self.seed)))
        return made

    def _trunk(self, batch: Inputs, _: np.ndarray) -> Computed:
        return self.backbone.trunk(batch)

    def _pool(self, values: Sequence[np.ndarray] | np.ndarray, clip_ids: list[str], views: int, stream: str) -> Pool:
        frontend = self.backbone.frontend
        for clip in values:
            if clip.ndim != 2 or clip.shape[1] != frontend.columns or frontend.frames not in (None, len(clip)):
                frames = frontend.frames or "any length"
                raise DataError(f"values of a clip have shape {clip.shape}, expected [{frames}, {frontend.columns}]")
        keys = view_keys(self.seed, stream, clip_ids, range(views)) if views else None
        return Pool(frontend, Arrays(values), np.arange(len(values)), self.statistics, keys)


def _names(ids: Sequence[str] | None, count: int) -> list[str]:
    names = [str(number) for number in range(count)] if ids is None else list(ids)
    if len(names) != count:
        raise DataError(f"{len(names)} clip ids for {count} clips")
    return names
