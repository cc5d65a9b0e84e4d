"""Any encoder in the Hugging Face form, frozen: a model of transformers, or a vision transformer of timm.

transformers is an optional extra (`requirements-huggingface.txt`); it is imported when such a backbone is read.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from ...errors import CheckpointError, ConfigError
from ...frontends.base import FrontEnd, Statistics
from ...frontends.kaldi import Fbank
from ...frontends.waveform import Waveform
from ..base import Backbone, Inputs
from ..checkpoints import Checkpoint
from ..recognise import advice
from .extractor import Extractor
from .loading import load_timm, load_transformers, refuse_code
from .types import EXACT_WITH_MASK, KINDS, Kind, block

AUDIOSET = Statistics(-4.2677393, 4.5689974)  # AudioMAE's
WAVES = "Wav2Vec2FeatureExtractor"


class Encoder(Backbone):
    """A model of transformers.

    Args:
        model: the part that is used, in evaluation mode.
        kind: how it is read.
        frontend: what makes its inputs.
        target: path of the target layer in `model`.
        masked: whether it takes padded batches with an attention mask; otherwise clips of one length go together.
    """

    def __init__(self, model: Any, kind: Kind, frontend: FrontEnd, target: str, masked: bool) -> None:
        super().__init__()
        self.model, self.kind, self.frontend = model, kind, frontend
        self.target, self.equal_lengths = f"model.{target}", not masked
        self.width = int(model.config.hidden_size)
        self.dtype = torch.float32

    def embedding(self, x: Inputs) -> torch.Tensor:
        values = x.values.squeeze(2) if self.kind.waveform else x.values
        if self.kind.time_last:
            values = values.transpose(1, 2)
        if "clap" in self.model.config.model_type:
            values = values.unsqueeze(1)
        more, frames = {}, None
        if bool((x.lengths < x.values.shape[1]).any()):
            inside = torch.arange(x.values.shape[1]) < x.lengths.unsqueeze(1)
            more["attention_mask"] = inside.long().to(values.device)
            frames = self.model._get_feat_extract_output_lengths(x.lengths)
        bf16 = torch.autocast(values.device.type, torch.bfloat16) if self.dtype == torch.bfloat16 else nullcontext()
        with bf16:
            output = self.model(**{self.kind.argument: values}, **more)
        return self._pooled(output, frames)

    def _pooled(self, output: Any, frames: torch.Tensor | None) -> torch.Tensor:
        hidden = output.last_hidden_state.float()
        if hidden.ndim == 4:  # CLAP's map of tokens
            return output.pooler_output.float()
        if self.kind.pooling == "special":
            return hidden[:, :2].mean(1)
        if frames is None:
            return hidden.mean(1)
        inside = torch.arange(hidden.shape[1]) < frames.unsqueeze(1)
        weights = inside / frames.unsqueeze(1)
        return (hidden * weights.unsqueeze(2).to(hidden.device)).sum(1)

    def positions(self, frames: np.ndarray) -> np.ndarray:
        return frames * (round(self.frontend.hop * 50_000) or 1) // 1000 + 1  # about 50 a second

    def layers(self) -> list[list[nn.Parameter]]:
        blocks = list(self.model.get_submodule(self.kind.layers)) if self.kind.layers else []
        inside = {id(parameter) for block in blocks for parameter in block.parameters()}
        outside = [parameter for parameter in self.model.parameters() if id(parameter) not in inside]
        return [outside, *(list(block.parameters()) for block in blocks)]

    def set_precision(self, dtype: torch.dtype) -> "Encoder":
        first = block(self.target)
        self.dtype = dtype if first else torch.float32  # outside of blocks nothing says what lies in front of it
        if self.dtype == torch.bfloat16:
            blocks, _, number = first.rpartition(".")
            for after in list(self.get_submodule(blocks).children())[int(number) :]:
                after.register_forward_pre_hook(_leave_autocast, with_kwargs=True)
        return self


def _leave_autocast(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    """What follows the target layer stays float32: from its block on nothing is cast.

    The autocast around the network ends where it began and restores what was set before.
    """
    torch.set_autocast_enabled(next(module.parameters()).device.type, False)
    return tuple(map(_float, arguments)), {name: _float(value) for name, value in named.items()}


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 else value


class Vision(Backbone):
    """A vision transformer of timm on log-mels, time first."""

    def __init__(self, model: Any, target: str | None) -> None:
        super().__init__()
        self.model, self.width = model, int(model.num_features)
        self.frontend = Fbank(1024, AUDIOSET)
        self.target = f"model.{target or f'blocks.{len(model.blocks) - 1}.attn.proj'}"

    def embedding(self, x: Inputs) -> torch.Tensor:
        hidden = self.model.forward_features(x.values.unsqueeze(1))
        pooled: torch.Tensor = self.model.forward_head(hidden, pre_logits=True)
        return pooled

    def layers(self) -> list[list[nn.Parameter]]:
        blocks = [list(block.parameters()) for block in self.model.blocks]
        inside = {id(parameter) for block in blocks for parameter in block}
        return [[parameter for parameter in self.parameters() if id(parameter) not in inside], *blocks]

    def set_precision(self, dtype: torch.dtype) -> "Vision":
        return self  # float32 throughout


def read(checkpoint: Checkpoint, options: Mapping[str, Any]) -> Backbone:
    """The frozen encoder of a folder as `save_pretrained` writes it, or of weights beside their config.json.

    Raises:
        CheckpointError: no config.json, weights that are missing, or another network.
        ConfigError: an unknown model without a target, code of others, another sample rate; transformers is missing.
    """
    config = checkpoint.metadata.get("config")
    if architecture := options.get("timm"):
        backbone: Backbone = Vision(load_timm(checkpoint, architecture), options.get("target"))
    elif config is None:
        raise CheckpointError(f"{checkpoint.path} has no config.json beside it; {advice(checkpoint.state)}")
    else:
        backbone = _encoder(checkpoint, config, options)
    return backbone.requires_grad_(False).eval()


def _encoder(checkpoint: Checkpoint, config: Mapping[str, Any], options: Mapping[str, Any]) -> Encoder:
    trusted = bool(options.get("trust_remote_code"))
    refuse_code(checkpoint, trusted)
    kind = KINDS.get(str(config.get("model_type"))) or _unknown(checkpoint, config, options)
    model = load_transformers(checkpoint, kind, trusted)
    network = model.get_submodule(kind.inside)
    if not kind.argument:
        kind = kind._replace(argument=network.main_input_name, waveform=network.main_input_name == "input_values")
    frontend = _frontend(checkpoint, kind, options, trusted)
    for name, size in zip(kind.sizes, (frontend.columns, frontend.frames), strict=False):
        if (expected := getattr(network.config, name)) != size:
            raise CheckpointError(
                f"{checkpoint.path}: its extractor makes spectrograms of {size}, where config.json says {name}: "
                f"{expected}; take both files from one repository"
            )
    target = options.get("target") or _default(network, kind)
    if config.get("model_type") == "wavlm":
        _call_projections(network)
    exact = config.get("model_type") in EXACT_WITH_MASK and config.get("feat_extract_norm") == "layer"
    return Encoder(network, kind, frontend, target, masked=exact)


def _unknown(checkpoint: Checkpoint, config: Mapping[str, Any], options: Mapping[str, Any]) -> Kind:
    """How a model is read of which only the target is known; its own class says what goes in."""
    target = options.get("target")
    if not target:
        raise ConfigError(
            f"{checkpoint.path} is a {config.get('model_type')!r}, whose layers are not known here; set `target:` to "
            f"the path of its last attention's output projection. Known: {', '.join(KINDS)}"
        )
    inside = "encoder" if config.get("is_encoder_decoder") else ""
    return Kind(block(target).rpartition(".")[0], "", inside=inside, argument="", fixed=False)


def _default(network: Any, kind: Kind) -> str:
    layers = network.get_submodule(kind.layers)
    last = len(layers) - 1
    target = kind.target
    if "{last}" in target:  # CLAP: stages of blocks
        target = target.format(last=len(layers[last].blocks) - 1)
    return f"{kind.layers}.{last}.{target}"


def _frontend(checkpoint: Checkpoint, kind: Kind, options: Mapping[str, Any], trusted: bool) -> FrontEnd:
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    settings = checkpoint.metadata.get("preprocessor", {})
    wanted = int(options.get("rate", 16_000))
    if not settings:
        raise CheckpointError(f"{folder} has no preprocessor_config.json, which says what the model reads")
    if kind.waveform:
        if (name := settings.get("feature_extractor_type", WAVES)) != WAVES:
            raise CheckpointError(f"{folder}: preprocessor_config.json names {name}; of a waveform model only {WAVES}")
        rate = int(settings.get("sampling_rate", wanted))
        frontend: FrontEnd = Waveform(rate, bool(settings.get("do_normalize", True)))
    else:
        from transformers import AutoFeatureExtractor

        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
        frontend = Extractor(extractor, kind)
    if frontend.rate != wanted:
        raise ConfigError(f"{folder} reads {frontend.rate} samples a second; write `rate: {frontend.rate}`")
    return frontend


def _call_projections(network: Any) -> None:
    """Make WavLM call its output projections.

    Its attention hands the projection's weight to a function, so that no hook sees the layer. Here the function gets
    an identity and the layer is called on the result, which is the same.
    """
    for layer in network.encoder.layers:
        attention = layer.attention
        attention.forward = partial(_projected, attention, attention.forward)


def _projected(attention: Any, plain: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    projection = attention.out_proj
    width = projection.in_features
    identity = nn.Linear(width, width, bias=False, device=projection.weight.device)
    identity.weight = nn.Parameter(torch.eye(width).to(projection.weight))
    attention._modules["out_proj"] = identity.requires_grad_(False)
    try:
        output, *rest = plain(*arguments, **named)
    finally:
        attention._modules["out_proj"] = projection
    return projection(output), *rest
