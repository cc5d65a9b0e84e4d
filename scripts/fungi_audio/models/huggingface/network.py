"""Any encoder in the Hugging Face form, frozen: a model of transformers, or a vision transformer of timm.

transformers is an optional extra (`requirements-huggingface.txt`); it is imported when such a backbone is read.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
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
from .types import EXACT_WITH_MASK, KINDS, Kind

AUDIOSET = Statistics(-4.2677393, 4.5689974)  # AudioMAE's
INSTALL = "make huggingface, or pip install --no-deps -r requirements-huggingface.txt"


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
        blocks = list(self.model.get_submodule(self.kind.layers))
        inside = {id(parameter) for block in blocks for parameter in block.parameters()}
        outside = [parameter for parameter in self.model.parameters() if id(parameter) not in inside]
        return [outside, *(list(block.parameters()) for block in blocks)]

    def set_precision(self, dtype: torch.dtype) -> "Encoder":
        self.dtype = dtype
        if dtype == torch.bfloat16:
            names = self.target.split(".")
            numbers = [place for place, name in enumerate(names) if name.isdecimal()]
            block = self.get_submodule(".".join(names[: numbers[-1] + 1]) if numbers else self.target)
            block.register_forward_pre_hook(_leave_autocast, with_kwargs=True)
            block.register_forward_hook(_enter_autocast, always_call=True)
        return self


def _leave_autocast(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    """What follows the target layer stays float32: its block runs outside the autocast of those before."""
    torch.set_autocast_enabled("cpu", False), torch.set_autocast_enabled("cuda", False)
    return tuple(map(_float, arguments)), {name: _float(value) for name, value in named.items()}


def _enter_autocast(*_: Any) -> None:
    torch.set_autocast_enabled("cpu", True), torch.set_autocast_enabled("cuda", True)


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
    if config is None:
        raise CheckpointError(f"{checkpoint.path} has no config.json beside it; {advice(checkpoint.state)}")
    backbone = _vision(checkpoint, config, options) if options.get("timm") else _encoder(checkpoint, config, options)
    return backbone.requires_grad_(False).eval()


def _vision(checkpoint: Checkpoint, config: Mapping[str, Any], options: Mapping[str, Any]) -> Vision:
    import timm

    shape = {"img_size": (1024, 128), "in_chans": 1, "num_classes": 0, "global_pool": "avg"}
    try:
        model = timm.create_model(config["architecture"], pretrained=False, **shape | config.get("model_args", {}))
        state = {key: value.float() for key, value in checkpoint.state.items() if not key.startswith("head.")}
        model.load_state_dict(state)
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{checkpoint.path} is no vision transformer of timm: {str(error)[:300]}") from error
    return Vision(model, options.get("target"))


def _encoder(checkpoint: Checkpoint, config: Mapping[str, Any], options: Mapping[str, Any]) -> Encoder:
    folder, trusted = checkpoint.path, bool(options.get("trust_remote_code"))
    folder = folder if folder.is_dir() else folder.parent
    if config.get("auto_map") and not trusted:
        raise ConfigError(
            f"{folder} brings Python code of its own, which was not run; set trust_remote_code: true if you trust it"
        )
    kind = KINDS.get(str(config.get("model_type")))
    if kind is None and not options.get("target"):
        raise ConfigError(
            f"{folder} is a {config.get('model_type')!r}, whose layers are not known here; set `target:` to the path "
            f"of its last attention's output projection. Known: {', '.join(KINDS)}"
        )
    model = _load(folder, trusted, checkpoint)
    kind = kind or Kind("", "", argument="input_values", waveform=True, fixed=False)
    network = model.get_submodule(kind.inside)
    frontend = _frontend(folder, checkpoint, kind, network, options)
    target = options.get("target") or _default(network, kind)
    if config.get("model_type") == "wavlm":
        _call_projections(network)
    exact = config.get("model_type") in EXACT_WITH_MASK and config.get("feat_extract_norm") == "layer"
    return Encoder(network, kind, frontend, target, masked=exact)


def _load(folder: Path, trusted: bool, checkpoint: Checkpoint) -> Any:
    try:
        from transformers import AutoModel, ClapAudioModel, logging
    except ImportError as error:
        raise ConfigError(f"family: huggingface needs transformers, an optional extra: {INSTALL}") from error
    logging.set_verbosity_error()
    kind: Any = ClapAudioModel if checkpoint.metadata["config"].get("model_type") == "clap_audio_model" else AutoModel
    options: dict[str, Any] = {"local_files_only": True, "weights_only": True, "dtype": torch.float32}
    options |= {"trust_remote_code": True} if trusted else {}
    try:
        model, found = kind.from_pretrained(folder, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{folder}: {str(error).splitlines()[0][:300]}; {advice(checkpoint.state)}") from error
    lacking = [key for key in found["missing_keys"] if not key.startswith(("masked_spec_embed", "decoder.", "text_"))]
    if lacking or found["mismatched_keys"]:
        wrong = lacking or [str(key) for key in found["mismatched_keys"]]
        raise CheckpointError(f"{folder} lacks {', '.join(sorted(wrong)[:3])}; {advice(checkpoint.state)}")
    return model


def _default(network: Any, kind: Kind) -> str:
    layers = network.get_submodule(kind.layers)
    last = len(layers) - 1
    target = kind.target
    if "{last}" in target:  # CLAP: stages of blocks
        target = target.format(last=len(layers[last].blocks) - 1)
    return f"{kind.layers}.{last}.{target}"


def _frontend(folder: Path, checkpoint: Checkpoint, kind: Kind, network: Any, options: Mapping[str, Any]) -> FrontEnd:
    settings = checkpoint.metadata.get("preprocessor", {})
    wanted = int(options.get("rate", 16_000))
    if kind.waveform:
        rate = int(settings.get("sampling_rate", wanted))
        frontend: FrontEnd = Waveform(rate, bool(settings.get("do_normalize", True)))
    else:
        from transformers import AutoFeatureExtractor

        if not settings:
            raise CheckpointError(f"{folder} has no preprocessor_config.json, which says what the model reads")
        frontend = Extractor(AutoFeatureExtractor.from_pretrained(folder, local_files_only=True), kind)
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
