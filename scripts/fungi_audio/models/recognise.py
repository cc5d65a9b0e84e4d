"""Which network a state dict looks like, for refusals: telling names, no more."""

import re
from collections.abc import Iterable
from typing import NamedTuple


class Look(NamedTuple):
    """A network as its names show it.

    Attributes:
        name: of the network, for people.
        family: that reads it, as the config says it.
        keys: regular expressions; each is found in some name.
    """

    name: str
    family: str
    keys: tuple[str, ...]


LOOKS = (  # the first that fits
    Look("SSAST as published", "ssast", (r"(^|\.)v\.patch_embed\.proj\.weight$", r"(^|\.)p_input_fdim$")),
    Look("a fine-tuned SSAST, or AST, as published", "ssast", (r"(^|\.)v\.patch_embed\.proj\.weight$", r"mlp_head\.")),
    Look("SSAST or AST without its heads", "ssast", (r"(^|\.)v\.patch_embed\.proj\.weight$", r"(^|\.)v\.dist_token$")),
    Look(
        "SSAST or AST in transformers' names", "ssast", (r"embeddings\.distillation_token$", r"encoder\.layers?\.0\.")
    ),
    Look("ATST-Frame", "atst", (r"(^|\.)patch_embed\.patch_embed\.weight$", r"(^|\.)norm_frame\.weight$")),
    Look("ATST-Clip", "atst", (r"(^|\.)patch_embed\.patch_embed\.weight$", r"(^|\.)cls_token$")),
    Look("Whisper", "huggingface", (r"encoder\.conv1\.weight$", r"encoder\.layers\.0\.self_attn\.k_proj\.weight$")),
    Look(
        "CLAP", "huggingface", (r"(^|\.)audio_(model|encoder|branch)\..*layers\.0\.blocks\.0\.", r"relative_position_")
    ),
    Look(
        "wav2vec2-bert", "huggingface", (r"feature_projection\.", r"encoder\.layers\.0\.self_attn\.linear_out\.weight$")
    ),
    Look("WavLM", "huggingface", (r"feature_extractor\.conv_layers\.0\.", r"rel_attn_embed|gru_rel_pos")),
    Look(
        "wav2vec 2.0, HuBERT or data2vec-audio",
        "huggingface",
        (r"feature_extractor\.conv_layers\.0\.", r"encoder\.layers\.0\."),
    ),
    Look("SlowFast", "slowfast", (r"(^|\.)s1\.pathway0", r"(^|\.)s2\.pathway0")),
    Look(
        "timm's ViT, such as AudioMAE",
        "huggingface",
        (r"^patch_embed\.proj\.weight$", r"^blocks\.0\.attn\.qkv\.weight$", r"^cls_token$"),
    ),
)


def look(names: Iterable[str]) -> Look | None:
    """The network that the names of a state dict show; None for an unknown one."""
    found = list(names)
    for one in LOOKS:
        if all(any(re.search(key, name) for name in found) for key in one.keys):
            return one
    return None


def guess(names: Iterable[str]) -> str:
    """The family that reads a state dict with these names; "" for an unknown one."""
    known = look(names)
    return known.family if known else ""


def advice(names: Iterable[str]) -> str:
    """The end of a refusal: what the file looks like and what to write."""
    found = list(names)
    if known := look(found):
        return f"this file looks like {known.name}; write `family: {known.family}`"
    return f"this file is of no known family (it holds {', '.join(found[:3])}, …)"
