"""A backbone with a classification head, and its checkpoint: weights and all that is needed to use them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ..errors import CheckpointError, ConfigError
from ..models import checkpoints
from ..models.ssast.network import SSAST, read

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
WEIGHTED = "weighted"
WRONG = (SafetensorError, ConfigError)  # of a file that was changed


class Classifier(nn.Module):
    """SSAST, pooling and head.

    Args:
        network: its last block is the layer that is classified; with `weighted`, a learnt softmax-weighted
            sum of all its blocks' outputs is.
        classes: number of outputs.
        head: `hidden` (width of a dense layer in front; None for SSAST's LayerNorm and linear layer alone),
            `activation` and `dropout`.
        weighted: learn the weights of the layers.
    """

    def __init__(self, network: SSAST, classes: int, head: Mapping[str, Any], weighted: bool = False) -> None:
        super().__init__()
        self.v, self.classes = network, classes
        self.layer_weights = nn.Parameter(torch.zeros(len(network.blocks))) if weighted else None
        dense: list[nn.Module] = []
        width = network.width
        if head["hidden"]:
            dense = [nn.Linear(width, head["hidden"]), ACTIVATIONS[head["activation"]]()]
            width = head["hidden"]
        self.dense = nn.Sequential(*dense)
        self.mlp_head = nn.Sequential(nn.LayerNorm(width), nn.Dropout(head["dropout"]), nn.Linear(width, classes))

    def tokens(self, fbank: torch.Tensor) -> torch.Tensor:
        """All tokens `[n, 2 + patches, width]` of normalised log-mels `[n, frames, mel]`, after the final norm."""
        x = self.v.tokens(self.v.patch_embed(fbank))
        outputs = []
        for block in self.v.blocks:
            x = block(x)
            outputs.append(x)
        if self.layer_weights is not None:
            x = torch.einsum("l,lntw->ntw", self.layer_weights.softmax(0), torch.stack(outputs))
        return self.v.norm(x)

    def embed(self, fbank: torch.Tensor) -> torch.Tensor:
        """Pooled embedding `[n, width]`."""
        return self.v.pool(self.tokens(fbank))

    def forward(self, fbank: torch.Tensor) -> torch.Tensor:
        """Logits `[n, classes]`."""
        return self.mlp_head(self.dense(self.embed(fbank)))


def new_classifier(
    checkpoint: str | Path, frames: int, classes: int, settings: Mapping[str, Any], stride: tuple[int, int] | None
) -> Classifier:
    """A classifier on a pretrained backbone; the head starts from PyTorch's initialisation and generator.

    Args:
        settings: `pooling`, `layer` (a block, or ``"weighted"``) and `head` of a fine-tuning definition.

    Raises:
        CheckpointError, ConfigError: as `models.load.load_backbone`.
    """
    weighted = settings["layer"] == WEIGHTED
    layer = -1 if weighted else settings["layer"]
    options = {"pooling": settings["pooling"], "layer": layer, "stride": stride, "gradient_tokens": "all"}
    network = read(checkpoints.load(checkpoint), {"frames": frames} | options)
    return Classifier(network, classes, settings["head"], weighted)


def describe(model: Classifier, head: Mapping[str, Any]) -> dict[str, Any]:
    """What `load_classifier` needs to build the same network, as JSON values."""
    network = model.v
    return {
        "width": network.width,
        "frames": network.frames,
        "patch": list(network.patch),
        "stride": list(network.stride),
        "depth": len(network.blocks),
        "pooling": network.pooling,
        "head": dict(head),
        "weighted": model.layer_weights is not None,
    }


def is_finetuned(path: str | Path) -> bool:
    """Whether a file is a checkpoint of this project's fine-tuning."""
    try:
        with safe_open(path, "pt") as file:
            return "network" in json.loads((file.metadata() or {}).get("fungi_audio", "{}"))
    except (OSError, SafetensorError):
        return False


def load_classifier(path: str | Path) -> tuple[Classifier, dict[str, Any]]:
    """A fine-tuned model in evaluation mode, and its metadata.

    Returns:
        The model; the metadata: `network` (see `describe`), `classes` (names), `mean`, `std`, `multilabel`, …

    Raises:
        CheckpointError: not a fine-tuned checkpoint of this project, or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {})["fungi_audio"])
        shape = dict(metadata["network"])
        classes, head, weighted = len(metadata["classes"]), shape.pop("head"), shape.pop("weighted")
        shape["patch"], shape["stride"] = tuple(shape["patch"]), tuple(shape["stride"])
        state = checkpoints.load(path).state
        held = len({key.split(".")[2] for key in state if key.startswith("v.blocks.")})
        if shape["depth"] != held:
            raise ValueError(f"its metadata says {shape['depth']!r} blocks, it holds {held}")
        with torch.device("meta"):  # a network of any size, until its shapes are those in the file
            model = Classifier(SSAST(**shape, gradient_tokens="all"), classes, head, weighted)
        model.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, OSError, *WRONG) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a checkpoint of this project's fine-tuning: {reason}") from error
    return model.requires_grad_(False).eval(), metadata
