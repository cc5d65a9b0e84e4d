"""SSAST and AST under other names, brought to those of the published pretraining files.

What people have: the pretraining files (`v.…`, the input's size, pretext heads), fine-tuned files of the published
code and AST (`v.…` and `mlp_head.…`, no size), and both in transformers' names (prefix
`audio_spectrogram_transformer.` or none). The size that a file lacks follows from its position embedding and, where
there is one, from config.json.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import CheckpointError, ConfigError
from ..checkpoints import Checkpoint, strip
from ..recognise import advice
from .definition import MEL, STRIDES, patch_grid

Pair = tuple[int, int]
State = dict[str, torch.Tensor]

SPECIAL = 2  # cls and distillation token
EPSILON = 1e-6  # of the layer norms, as published
SIZES = ("p_input_fdim", "p_input_tdim")
POSITIONS, PATCH = "v.pos_embed", "v.patch_embed.proj.weight"
TRANSFORMERS = {  # how a name begins there -> here
    "embeddings.cls_token": "v.cls_token",
    "embeddings.distillation_token": "v.dist_token",
    "embeddings.position_embeddings": "v.pos_embed",
    "embeddings.patch_embeddings.projection": "v.patch_embed.proj",
    "layernorm": "v.norm",
    "classifier.layernorm": "mlp_head.0",
    "classifier.dense": "mlp_head.1",
}
BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
QKV = ("query", "key", "value")
DEFAULTS = {"num_mel_bins": MEL, "max_length": 1024, "frequency_stride": 10, "time_stride": 10}  # of an AST's config


def published(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint in the published names, with the input's size, whatever names it came in.

    Names without a counterpart stay, for `network` to refuse.

    Returns:
        The checkpoint; `metadata` has besides ``grid_stride`` (mel, time), of the patches that the position embedding
        is for, which is the patch itself at pretraining, and ``layer_norm_eps``.

    Raises:
        CheckpointError: no SSAST or AST; a part of q, k and v is missing; positions that fit no grid or another one
            than config.json's.
    """
    state = checkpoint.state
    if not any(key.startswith("v.") for key in state):
        state = strip(state, "model.", "audio_model.")
    here = POSITIONS in state
    state = state if here else _renamed(state)
    if lacking := [key for key in (POSITIONS, PATCH) if key not in state or state[key].ndim < 3]:
        raise CheckpointError(
            f"{checkpoint.path} is no SSAST or AST: it lacks {lacking[0]}; {advice(checkpoint.state)}"
        )
    height, length = state[PATCH].shape[-2:]
    stride, epsilon = (height, length), EPSILON
    if not any(size in state for size in SIZES):
        config = checkpoint.metadata.get("config")
        frames, stride = _configured(config, state) if config else _derived(state, here)
        state = state | {"p_input_fdim": torch.tensor(MEL), "p_input_tdim": torch.tensor(frames)}
        if config and stride != (height, length):  # the mirrors of SSAST, trained with EPSILON, say 1e-12 too
            epsilon = float(config.get("layer_norm_eps", 1e-12))
    metadata = checkpoint.metadata | {"grid_stride": stride, "layer_norm_eps": epsilon}
    return Checkpoint(state, metadata, checkpoint.path)


def _renamed(state: Mapping[str, torch.Tensor]) -> State:
    """From transformers' names to the published ones; others stay."""
    found: State = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for full, value in state.items():
        name = full.removeprefix("audio_spectrogram_transformer.")
        stem, _, kind = name.rpartition(".")
        block = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", stem)
        if block and (part := block[2].removeprefix("attention.attention.")) in QKV:
            parts.setdefault(f"v.blocks.{block[1]}.attn.qkv.{kind}", {})[part] = value
        elif block and block[2] in BLOCK:
            found[f"v.blocks.{block[1]}.{BLOCK[block[2]]}.{kind}"] = value
        elif name in TRANSFORMERS:
            found[TRANSFORMERS[name]] = value
        elif stem in TRANSFORMERS:
            found[f"{TRANSFORMERS[stem]}.{kind}"] = value
        else:
            found[full] = value
    return found | {name: _joined(name, three) for name, three in parts.items()}


def _joined(name: str, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if missing := [part for part in QKV if part not in parts]:
        raise CheckpointError(f"the checkpoint lacks the {missing[0]} of {name}")
    if len({(part.shape, part.dtype) for part in parts.values()}) > 1 or not parts["query"].ndim:
        raise CheckpointError(f"query, key and value of {name} have different shapes or types")
    return torch.cat([parts[part] for part in QKV])


def _configured(config: Mapping[str, Any], state: State) -> tuple[int, Pair]:
    """Frames and stride as config.json says, where the positions agree."""
    known = {key: config.get(key, default) for key, default in DEFAULTS.items()}
    if wrong := [key for key, value in known.items() if type(value) is not int or not 0 < value < 1 << 20]:
        raise CheckpointError(f"config.json says {wrong[0]}: {known[wrong[0]]!r}, expected a positive integer")
    mel, frames, *stride = known.values()
    patch: Pair = tuple(state[PATCH].shape[-2:])  # type: ignore[assignment]
    if mel != MEL:
        raise CheckpointError(f"config.json says num_mel_bins: {mel}, expected {MEL}")
    try:
        grid = patch_grid(frames, patch, (stride[0], stride[1]))
    except ConfigError as error:
        raise CheckpointError(f"config.json says max_length: {frames}: {error}") from error
    if grid.mel * grid.time != _patches(state):
        raise CheckpointError(
            f"config.json says {grid.mel} x {grid.time} patches (max_length, frequency_stride, time_stride), the "
            f"position embedding is for {_patches(state)}; it is another model's"
        )
    return frames, (stride[0], stride[1])


def _derived(state: State, here: bool) -> tuple[int, Pair]:
    """The least number of frames that gives as many patches as there are positions, and the stride.

    The published code fine-tunes with the strides of `STRIDES`; in transformers' names, pretraining's are as likely.
    """
    patch: Pair = tuple(state[PATCH].shape[-2:])  # type: ignore[assignment]
    count = _patches(state)
    rows = {stride: (MEL - patch[0]) // stride[0] + 1 for stride in (STRIDES.get(patch, patch), patch) if min(patch)}
    fitting = [stride for stride, mel in rows.items() if mel > 0 and count > 0 and count % mel == 0]
    if not fitting:
        raise CheckpointError(
            f"a position embedding for {count} patches of {patch[0]} x {patch[1]} fits no SSAST or AST"
        )
    if len(fitting) > 1 and not here:
        raise CheckpointError(
            f"{count} positions may be patches at a stride of {fitting[0][0]} or {fitting[1][0]}, and nothing says "
            "which; put the model's config.json beside it, or use the folder that it came in"
        )
    stride = fitting[0]
    return (count // rows[stride] - 1) * stride[1] + patch[1], stride


def _patches(state: State) -> int:
    return state[POSITIONS].shape[1] - SPECIAL
