"""Pretraining of SSAST on masked spectrogram patches, in steps that can be stopped and continued.

Recipe of the published code: Adam, learning rate raised over the warm-up, then halved when the validation
accuracy stops improving. After a step everything follows from the training state and the
step's number, so a run that was killed ends with the weights of one that was not.
"""

import logging
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..engine.encode import resolve_precision
from ..errors import NumericalError
from ..models.ssast.definition import PATCHES
from ..models.ssast.network import WIDTHS
from ..models.ssast.pretext import WEIGHTS, Outcome, new_pretext
from ..progress import progress
from . import resume
from .batches import Clips, PretextBatches, hold_out
from .definitions import check_pretraining
from .distributed import World
from .schedule import rise

BETAS = (0.95, 0.999)
WEIGHT_DECAY = 5e-7

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretraining:
    """What to pretrain; the keys of a definition under `pretrain:` in the configuration, where they are described."""

    datasets: Sequence[str]
    size: str
    kind: str
    target_length: int
    masked: int
    objective: str
    epochs: float
    batch_size: int
    accumulate: int
    lr: float
    warmup_steps: int
    patience: int
    validation: float
    validate_every: int
    checkpoint_every: int
    log_every: int
    seed: int
    stride: Sequence[int] | None = None

    def configuration(self) -> dict[str, Any]:
        """What the result depends on."""
        return {key: value for key, value in asdict(self).items() if key != "checkpoint_every"}


def pretrain(
    world: World,
    settings: Pretraining,
    caches: Sequence[Path],
    rows: Sequence[np.ndarray],
    statistics: tuple[float, float],
    state: Path,
    precision: str = "auto",
    workers: int = 0,
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Train, or go on training, until the last epoch.

    Args:
        world: this process among those that train together (see `distributed.launch`).
        settings: the recipe.
        caches, rows: log-mel caches of `target_length` frames, and the rows of each to train on.
        statistics: mean and standard deviation of the normalisation.
        state: file of the training state; kept until the caller deletes it.
        precision: as in the configuration.
        workers: processes that read ahead.

    Returns:
        The published state dict of the best validation, and the curves: `step`, `epoch`, `split`, `lr`,
        `loss`, `mpc`, `mpg`, `accuracy`.

    Raises:
        ConfigError: the settings contradict each other, or `state` belongs to other settings.
        NumericalError: the loss is NaN or infinite; `state` keeps the last good step.
    """
    check_pretraining(asdict(settings), world.size)
    run = _Run(world, settings, Clips(caches, rows), statistics, resolve_precision(precision, world.device))
    run.train(state, workers)
    return run.best["model"], run.curves


class _Run:
    """The state of a training run; `train` advances it."""

    def __init__(
        self,
        world: World,
        settings: Pretraining,
        clips: Clips,
        statistics: tuple[float, float],
        dtype: torch.dtype,
    ) -> None:
        self.world, self.settings, self.device, self.dtype = world, settings, world.device, dtype
        self.weights = WEIGHTS[settings.objective]
        training, validation = hold_out(len(clips), settings.validation, settings.seed)
        self.steps_an_epoch = len(training) / settings.batch_size
        self.steps = math.ceil(settings.epochs * self.steps_an_epoch)
        self.configuration = settings.configuration() | {
            "training clips": len(training),
            "rows": resume.digest(clips.rows),
            "statistics": list(statistics),
            "precision": str(dtype),
        }
        self.model = new_pretext(WIDTHS[settings.size], settings.target_length, PATCHES[settings.kind], settings.seed)
        for name, head in (("mpc", self.model.cpredlayer), ("mpg", self.model.gpredlayer)):
            head.requires_grad_(name in self.weights)
        self.model.to(self.device)
        common = (statistics, self.model.v.grid, settings.masked, list(self.weights), settings.batch_size)
        self.training = PretextBatches(clips, training, *common, self.steps, world, settings.seed)
        blocks = math.ceil(len(validation) / settings.batch_size)
        self.validation = PretextBatches(clips, validation, *common, blocks, world, None)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trained, settings.lr, betas=BETAS, weight_decay=WEIGHT_DECAY)
        self.plateau = ReduceLROnPlateau(self.optimiser, mode="max", factor=0.5, patience=settings.patience)
        self.step, self.rate, self.curves = 0, 0.0, list[dict[str, Any]]()
        self.warm_up()
        self.window = torch.zeros(4, dtype=torch.float64, device=self.device)
        self.best: dict[str, Any] = {"score": -math.inf, "step": 0, "model": self.model.published_state()}

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimiser": self.optimiser, "plateau": self.plateau}

    def warm_up(self) -> None:
        """Set the learning rate of the step to come; after the warm-up it is the plateau's."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.lr * rise(self.step, self.settings.warmup_steps)

    def load(self, path: Path) -> None:
        state = resume.load(path, self.configuration)
        if state is None:
            return
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.step, self.curves, self.best = state["step"], state["curves"], state["best"]
        self.window = state["window"].to(self.device)

    def save(self, path: Path) -> None:
        self.total(self.window)
        finite = [torch.isfinite(parameter).all() for parameter in self.model.parameters()]
        if not torch.stack(finite).all():
            raise NumericalError(self._diverged("a weight"))
        if self.world.rank == 0:
            state = {name: part.state_dict() for name, part in self.parts().items()}
            own = {"step": self.step, "curves": self.curves, "window": self.window, "best": self.best}
            resume.save(path, self.configuration, state | own)

    def train(self, path: Path, workers: int) -> None:
        self.load(path)
        settings, model = self.settings, self.model
        parallel: nn.Module = DistributedDataParallel(model) if self.world.size > 1 else model
        loader = self.training.loader(self.step, workers, pinned=self.device.type == "cuda")
        with progress("pretrain", self.steps - self.step, "step", shown=self.world.rank == 0) as bar:
            for fbank, masks in loader:
                self.update(parallel, fbank, masks)
                if self.step % settings.log_every == 0 or self.step == self.steps:
                    self.record_training()
                if self.step % settings.validate_every == 0 or self.step == self.steps:
                    self.validate()
                if self.step % settings.checkpoint_every == 0:
                    self.save(path)
                bar.update(1)

    def update(self, parallel: nn.Module, fbank: torch.Tensor, masks: dict[str, torch.Tensor]) -> None:
        """One optimiser step on this process's share of a batch."""
        self.rate = self.optimiser.param_groups[0]["lr"]
        self.optimiser.zero_grad(set_to_none=True)
        pieces = torch.arange(len(fbank)).chunk(self.settings.accumulate)
        for rows in pieces:
            more = rows is not pieces[-1]
            with parallel.no_sync() if more and isinstance(parallel, DistributedDataParallel) else nullcontext():
                outcome = self.forward(parallel, fbank[rows], {name: mask[rows] for name, mask in masks.items()})
                share = self.world.size / self.settings.batch_size
                (self.loss(outcome).sum() * share).backward()
            self.window += self.sums(outcome)
        self.optimiser.step()
        self.step += 1
        if self.step <= self.settings.warmup_steps:
            self.warm_up()

    def forward(self, model: nn.Module, fbank: torch.Tensor, masks: dict[str, torch.Tensor]) -> Outcome:
        fbank = fbank.to(self.device, non_blocking=True)
        masks = {name: mask.to(self.device, non_blocking=True) for name, mask in masks.items()}
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return model(fbank, masks)

    def loss(self, outcome: Outcome) -> torch.Tensor:
        """The objective of each clip, `[n]`."""
        return torch.stack([factor * outcome.losses[name] for name, factor in self.weights.items()]).sum(0)

    def sums(self, outcome: Outcome) -> torch.Tensor:
        """Sums over clips of both losses and the accuracy, and the number of clips."""
        nothing = torch.zeros_like(outcome.accuracy)
        rows = [outcome.losses.get("mpc", nothing), outcome.losses.get("mpg", nothing)]
        rows += [outcome.accuracy if "mpc" in self.weights else nothing, nothing + 1]
        return torch.stack(rows).detach().sum(1).double()

    def record(self, split: str, sums: torch.Tensor) -> dict[str, Any]:
        mpc, mpg, accuracy, _ = (sums / sums[3]).tolist()
        means = {"mpc": mpc, "mpg": mpg, "accuracy": accuracy}
        point = {
            "step": self.step,
            "epoch": self.step / self.steps_an_epoch,
            "split": split,
            "lr": self.rate,
            "loss": sum(factor * means[name] for name, factor in self.weights.items()),
            **{
                name: value
                for name, value in means.items()
                if name in self.weights or (name == "accuracy" and "mpc" in self.weights)
            },
        }
        self.curves.append(point)
        log.info("step %d %s loss %.4f", self.step, split, point["loss"])
        return point

    def total(self, sums: torch.Tensor) -> torch.Tensor:
        """The sums over all processes."""
        sums = self.world.sum(sums.clone())
        if not torch.isfinite(sums).all():
            raise NumericalError(self._diverged("the loss"))
        return sums

    def record_training(self) -> None:
        self.record("train", self.total(self.window))
        self.window.zero_()

    def validate(self) -> None:
        """Validation losses on masks that are always the same; the best model so far is kept."""
        sums = torch.zeros_like(self.window)
        with torch.no_grad():
            for fbank, masks in self.validation.loader(0, 0, pinned=False):
                if len(fbank):
                    sums += self.sums(self.forward(self.model, fbank, masks))
        point = self.record("valid", self.total(sums))
        score = float(point["accuracy"]) if "mpc" in self.weights else -float(point["mpg"])
        if score > self.best["score"]:
            self.best = {"score": score, "step": self.step, "model": self.model.published_state()}
        if self.step >= self.settings.warmup_steps:
            self.plateau.step(score)

    def _diverged(self, what: str) -> str:
        return (
            f"{what} became NaN or infinite by step {self.step}; the last good state stays and the run would "
            "go on from it. Lower lr, raise warmup_steps, or use precision: fp32; then delete that state"
        )
