"""What the configuration and the DAG know of ATST-Frame and ATST-Clip. Imports no torch.

X. Li et al., "Self-supervised audio teacher-student transformer for both clip-level and frame-level tasks", TASLP 2024,
arXiv:2306.04186; code `Audio-WestlakeU/audiossl`.
"""

from collections.abc import Mapping
from typing import Any

from ...errors import ConfigError
from ..definitions import Place, Preset, Reading, Shape

DEPTH = 12
WIDTHS = {"small": 384, "base": 768}
KINDS = ("frame", "clip")
SHAPING = ("kind", "target")
FRAMES = True  # embeddings over time
RANDOM = [f"{size}-{kind}" for size in WIDTHS for kind in KINDS]  # checkpoint: random:…
LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")  # of a block
CHUNKS = {"frame": 1001, "clip": 601}  # published frames of a pass
CROP = 12  # seconds
PATCH = 4  # frames of a token
OPTIONS: dict[str, dict[str, Any]] = {
    "kind": {
        "description": "frame (embeddings are means of frame tokens) or clip (with a cls token).",
        "enum": list(KINDS),
        "default": "frame",
    },
    "blocks": {
        "description": "The feature embedding holds the outputs of so many last blocks; 12 as published. Losses read "
        "the last one.",
        "type": "integer",
        "minimum": 1,
        "maximum": DEPTH,
        "default": DEPTH,
    },
    "rule": {
        "description": "How ATST-Frame takes chunks: library is the published embedding call (all of them), linear the "
        "published linear evaluation (12 s from the middle, chunks of more than half a length).",
        "enum": ["library", "linear"],
        "default": "library",
    },
    "chunk_frames": {
        "description": "Frames of a chunk; null is the published 1001 (clip: 601). 1000 wastes no frame; then what is "
        "left over and shorter than a token is dropped instead of counted as silence.",
        "type": ["integer", "null"],
        "minimum": 40,
        "maximum": 1003,
        "default": None,
    },
    "mean": {
        "description": "Of ATST-Clip: published divides a chunk's sum of tokens by the tokens left in the clip, "
        "corrected by those of the chunk. They differ for clips of more than 6 s.",
        "enum": ["published", "corrected"],
        "default": "published",
    },
    "target": {
        "description": "Layer whose gradient is the feature: attn.qkv, attn.proj, mlp.fc1 or mlp.fc2 of the last "
        "block, or with an earlier block, such as blocks.3.mlp.fc1.",
        "type": "string",
        "default": "attn.proj",
    },
    "gradient_tokens": {
        "description": "Tokens whose gradient counts; first is ATST-Clip's cls token.",
        "enum": ["all", "first"],
        "default": "all",
    },
}


def target_path(target: str) -> str:
    """The path in the network of a target layer that is named by itself or with its block."""
    return target if target.startswith("blocks.") else f"blocks.{DEPTH - 1}.{target}"


def check(options: Mapping[str, Any]) -> None:
    """Raises ConfigError when options contradict each other."""
    _, number, name = ([*target_path(options["target"]).split(".", 2), "", ""])[:3]
    if name not in LAYERS or not number.isdecimal() or int(number) >= DEPTH:
        raise ConfigError(f"target: {options['target']!r} is no layer; allowed: {', '.join(LAYERS)}, or blocks.N.LAYER")
    if options["kind"] == "frame" and options["gradient_tokens"] == "first":
        raise ConfigError("gradient_tokens: first is the cls token, which ATST-Frame has not; leave it out")
    if options["kind"] == "clip" and options["rule"] != "library":
        raise ConfigError("rule is of ATST-Frame; ATST-Clip has one rule; leave it out")


def cropped(options: Mapping[str, Any]) -> bool:
    """Whether the middle 12 s are read of longer clips."""
    return options["kind"] == "clip" or options["rule"] == "linear"


def reading(options: Mapping[str, Any], dataset: Mapping[str, Any]) -> Reading:
    """Mel spectrograms as long as their clips."""
    return Reading(f"dbmel-{CROP}s" if cropped(options) else "dbmel", 16_000, None, 6_400)


def shape(options: Mapping[str, Any], checkpoint: str) -> Shape:
    """The size is read from the checkpoint's name; one that does not name it counts as base."""
    width = WIDTHS["small" if "small" in checkpoint.lower() else "base"]
    longest = (options.get("chunk_frames") or CHUNKS[options["kind"]]) / 100
    return Shape(width, DEPTH, 100 / PATCH, special=int(options["kind"] == "clip"), longest=longest)


def dataset_options(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing of a dataset's definition decides the network's numbers."""
    return {}


_ABOUT = "ATST-{}, {}; AudioSet; CC BY 4.0"
PRESETS = {
    "atst-frame-small": Preset(
        "atst",
        (
            Place(
                "gdrive://1xZoOTuxV415icYONYbeFQzgrmJQf4a4B",
                "1d85b290632dd26b8725f0ae73f53f990a898888cfc2c4794c3055a8130ff5f1",
            ),
        ),
        _ABOUT.format("Frame", "small (21 M)"),
        {"kind": "frame"},
    ),
    "atst-frame-base": Preset(
        "atst",
        (
            Place(
                "gdrive://1bGJSZWlAIIJ6GL5Id5dW0PTB72DL-QDQ",
                "9f812544983add849f45ef03c4ce10184729adee082c0bdd347764f4835bb3da",
            ),
        ),
        _ABOUT.format("Frame", "base (85 M)"),
        {"kind": "frame"},
    ),
    "atst-clip-small": Preset(
        "atst",
        (
            Place(
                "https://checkpointstorage.oss-cn-beijing.aliyuncs.com/atst/small.ckpt",
                "fcadd6411881410d27cde47f4d540ef416aa59e0197b195cf3ee7a81885a5f4a",
            ),
        ),
        _ABOUT.format("Clip", "small (21 M)"),
        {"kind": "clip"},
    ),
    "atst-clip-base": Preset(
        "atst",
        (
            Place(
                "https://checkpointstorage.oss-cn-beijing.aliyuncs.com/atst/base.ckpt",
                "7b20168cae0d1488a0e3334f17ca1cefb9365cbaa2401c11aa98d6ffaa668496",
            ),
        ),
        _ABOUT.format("Clip", "base (85 M)"),
        {"kind": "clip"},
    ),
}
