"""Fine-tuning of a pretrained SSAST on labelled clips (recipe of the published code, made configurable)."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ..errors import NumericalError
from ..evaluate.metrics import MULTI_LABEL, SINGLE_LABEL
from ..frontends.kaldi import normalise
from ..progress import progress
from ..seeds import named_seed
from . import resume
from .classifier import Classifier, describe
from .definitions import check_finetuning
from .distributed import World
from .examples import Examples
from .pretrain import BETAS, WEIGHT_DECAY
from .schedule import fall, rise

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clips:
    """The labelled clips of a dataset and the rows of one fold.

    Attributes:
        fbank: float32 `[clips, frames, mel]`, not normalised; usually memory-mapped.
        wavs: audio of every row.
        targets: bool `[clips, classes]`.
        train, valid, test: rows; `valid` may be empty where nothing is selected on it.
        statistics: mean and standard deviation of the normalisation.
        multilabel: clips may have several labels.
    """

    fbank: np.ndarray
    wavs: Sequence[Path]
    targets: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    statistics: tuple[float, float]
    multilabel: bool

    def digest(self) -> str:
        """What stands for the labels and rows in a configuration."""
        return resume.digest([self.targets, self.train, self.valid, self.test])


@dataclass
class Tuned:
    """A fine-tuned model on one fold.

    Attributes:
        state: weights of the chosen epoch (of the last one where the choice needs the other folds).
        epoch: their epoch, counted from 1.
        curves: `epoch`, `step`, `split`, `lr`, `loss` and the main metric.
        scores: epoch to probabilities of the test clips, float32 `[test, classes]`.
    """

    state: dict[str, torch.Tensor] = field(default_factory=dict)
    epoch: int = 0
    curves: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[int, torch.Tensor] = field(default_factory=dict)


def finetune(
    world: World,
    model: Classifier,
    clips: Clips,
    settings: Mapping[str, Any],
    seed: int,
    checkpoint: str,
    state: Path,
    dtype: torch.dtype,
    workers: int = 0,
) -> Tuned:
    """Train on a fold and score its test clips.

    `selection` says which weights count: `validation` those of the best epoch on the validation clips;
    `average` the mean of the weights after the epochs from `average_from` on; `test` leaves the choice to
    `selection.choose`, which sees the test scores of every epoch in all folds (the published rule).

    Args:
        world: this process among those that train together; each has its own `model`, all the same.
        settings: a fine-tuning definition of the configuration.
        checkpoint: digest of the backbone's.
        state: file of the training state, written after every epoch; kept until the caller deletes it.
        dtype: arithmetic of the matrix products.
        workers: processes that prepare examples.

    Raises:
        ConfigError: the settings contradict each other, or `state` belongs to other settings, weights or clips.
        NumericalError: the loss, a weight or a score is NaN or infinite; `state` keeps the last good epoch.
    """
    check_finetuning(settings, clips.multilabel, world.size)
    run = _Run(world, model.to(world.device), clips, settings, seed, checkpoint, dtype)
    run.load(state)
    with progress("fine-tune", len(run.examples) - run.step, unit="step", shown=world.rank == 0) as bar:
        loader = run.examples.loader(run.step, workers, pinned=world.device.type == "cuda")
        for fbank, targets in loader:
            run.update(fbank, targets)
            bar.update(1)
            if len(run.losses) == run.examples.steps_an_epoch:
                run.end_epoch()
                run.save(state)
    run.finish()
    return run.tuned


class _Run:
    """The state of a fine-tuning run."""

    def __init__(
        self,
        world: World,
        model: Classifier,
        clips: Clips,
        settings: Mapping[str, Any],
        seed: int,
        checkpoint: str,
        dtype: torch.dtype,
    ) -> None:
        self.world, self.model, self.clips, self.settings, self.seed = world, model, clips, settings, seed
        self.device, self.dtype = world.device, dtype
        self.configuration = {
            **settings,
            **describe(model, settings["head"]),
            "checkpoint": checkpoint,
            "seed": seed,
            "statistics": list(clips.statistics),
            "labels and rows": clips.digest(),
            "precision": str(dtype),
        }
        data = (clips.fbank, clips.wavs, clips.targets, clips.train, clips.statistics)
        self.examples = Examples(*data, settings, settings["epochs"], seed, world)
        model.v.requires_grad_(settings["train_backbone"])
        head = [parameter for name, parameter in model.named_parameters() if not name.startswith("v.")]
        groups = [{"params": head, "peak": settings["lr"] * settings["head_lr"]}]
        if settings["train_backbone"]:
            groups.append({"params": list(model.v.parameters()), "peak": settings["lr"]})
        self.optimiser = torch.optim.Adam(groups, betas=BETAS, weight_decay=WEIGHT_DECAY)
        self.parallel: torch.nn.Module = DistributedDataParallel(model) if world.size > 1 else model
        self.average = AveragedModel(model) if settings["selection"] == "average" else None
        metrics = MULTI_LABEL if clips.multilabel else SINGLE_LABEL
        self.metric, self.score = next(iter(metrics.items()))
        self.epoch, self.step, self.best = 0, 0, -math.inf
        self.losses: list[torch.Tensor] = []
        self.tuned = Tuned()

    def parts(self) -> dict[str, Any]:
        named = {"model": self.model, "optimiser": self.optimiser, "average": self.average}
        return {name: part for name, part in named.items() if part is not None}

    def load(self, path: Path) -> None:
        state = resume.load(path, self.configuration)
        if state is None:
            return
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]
        self.tuned = Tuned(**state["tuned"])

    def save(self, path: Path) -> None:
        if self.world.rank > 0:
            return
        state = {name: part.state_dict() for name, part in self.parts().items()}
        own = {"epoch": self.epoch, "step": self.step, "best": self.best, "tuned": vars(self.tuned)}
        resume.save(path, self.configuration, state | own)

    def update(self, fbank: torch.Tensor, targets: torch.Tensor) -> None:
        """One optimiser step on this process's share of a batch."""
        self.model.train()
        self.model.v.train(self.settings["train_backbone"])
        torch.manual_seed(named_seed(self.seed, "dropout", self.step, self.world.rank))
        rate = rise(self.step, self.settings["warmup_steps"])
        rate *= fall(self.epoch + 1, self.settings["decay"], self.settings["decay_from"])
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        fbank, targets = (tensor.to(self.device, non_blocking=True) for tensor in (fbank, targets))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.parallel(fbank)
        own = self.loss(logits.float(), targets)[: len(self.examples.share(self.step))]
        loss = own.sum() / len(self.examples.places(self.step))
        self.optimiser.zero_grad(set_to_none=True)
        (loss * self.world.size).backward()
        self.optimiser.step()
        self.step += 1
        self.losses.append(loss.detach())

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of each clip, `[n]`; targets may be shares (mixup)."""
        if self.settings["loss"] == "bce":
            return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
        return F.cross_entropy(logits, targets, reduction="none")

    def end_epoch(self) -> None:
        self.epoch += 1
        loss = self.world.sum(torch.stack(self.losses)).mean()
        self.losses = []
        self.check("the loss", loss)
        self.check("a weight", *self.model.parameters())
        self.predict(self.model, self.clips.train[: self.settings["batch_size"]])
        self.record("train", loss=float(loss))
        if self.average is not None and self.epoch >= self.settings["average_from"]:
            self.average.update_parameters(self.model)
        if len(self.clips.valid):
            self.consider(self.measure("valid", self.clips.valid))
        if self.settings["selection"] == "test":
            self.tuned.scores[self.epoch] = self.predict(self.model, self.clips.test)
            self.measure("test", self.clips.test, self.tuned.scores[self.epoch])

    def check(self, what: str, *values: torch.Tensor) -> None:
        if not torch.stack([torch.isfinite(value).all() for value in values]).all():
            raise NumericalError(
                f"{what} became NaN or infinite in epoch {self.epoch}; the last good state stays. Lower lr, raise "
                "warmup_steps, or use precision: fp32; then delete that state"
            )

    def record(self, split: str, **values: float) -> None:
        point = {"step": self.step, "epoch": self.epoch, "split": split, "lr": self.optimiser.param_groups[-1]["lr"]}
        self.tuned.curves.append(point | values)
        log.info("epoch %d %s %s", self.epoch, split, values)

    def measure(self, split: str, rows: np.ndarray, scores: torch.Tensor | None = None) -> float:
        scores = self.predict(self.model, rows) if scores is None else scores
        value = self.score(scores.numpy(), self.clips.targets[rows])
        self.record(split, **{self.metric: value})
        return value

    def consider(self, value: float) -> None:
        """Keep the weights when they are the best so far on the validation clips; the first of equals stays."""
        if self.settings["selection"] == "validation" and value > self.best:
            self.best = value
            self.keep(self.model, self.epoch)

    def keep(self, model: torch.nn.Module, epoch: int) -> None:
        self.tuned.state = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
        self.tuned.epoch = epoch

    def finish(self) -> None:
        """Settle the weights that count, and score the test clips with them where that is still to be done."""
        if self.average is not None:
            self.keep(self.average.module, self.epoch)
        elif self.settings["selection"] == "test":
            self.keep(self.model, self.epoch)
        if self.settings["selection"] != "test":
            self.model.load_state_dict(self.tuned.state)
            self.tuned.scores = {self.tuned.epoch: self.predict(self.model, self.clips.test)}

    def predict(self, model: Classifier, rows: np.ndarray) -> torch.Tensor:
        """Probabilities float32 `[len(rows), classes]`, on the CPU; each process computes a share."""
        own = slice(self.world.rank, None, self.world.size)
        batch, loss = self.settings["batch_size"], self.settings["loss"]
        share = predict(model, self.clips.fbank, rows[own], self.clips.statistics, loss, batch, self.dtype)
        scores = torch.zeros(len(rows), share.shape[1], device=self.device)
        scores[own] = share.to(self.device)
        self.check("a score", self.world.sum(scores))
        return scores.cpu()


@torch.no_grad()
def predict(
    model: Classifier,
    fbank: np.ndarray,
    rows: np.ndarray,
    statistics: tuple[float, float],
    loss: str,
    batch: int = 64,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Probabilities of the classes, float32 `[len(rows), classes]`: softmax for `ce`, sigmoid for `bce`."""
    model.eval()
    device = next(model.parameters()).device
    scores = torch.empty(len(rows), model.classes)
    for first in range(0, len(rows), batch):
        inputs = normalise(torch.from_numpy(fbank[rows[first : first + batch]]).to(device), *statistics)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(inputs).float()
        scores[first : first + batch] = (logits.sigmoid() if loss == "bce" else logits.softmax(1)).cpu()
    return scores
