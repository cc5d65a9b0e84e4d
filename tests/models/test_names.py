"""SSAST and AST in the names of the published code and of transformers, and which network a file looks like."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fungi_audio.errors import CheckpointError
from fungi_audio.models.checkpoints import Checkpoint, load
from fungi_audio.models.recognise import advice, guess, look
from fungi_audio.models.ssast import network as ssast
from fungi_audio.models.ssast.definition import PATCHES
from fungi_audio.models.ssast.names import published

State = dict[str, torch.Tensor]
NAMES = {
    "v.cls_token": "embeddings.cls_token",
    "v.dist_token": "embeddings.distillation_token",
    "v.pos_embed": "embeddings.position_embeddings",
    "v.patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "v.patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "v.norm.weight": "layernorm.weight",
    "v.norm.bias": "layernorm.bias",
}
LAYER = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
CONFIG = {
    "model_type": "audio-spectrogram-transformer",
    "num_mel_bins": 128,
    "max_length": 1024,
    "frequency_stride": 16,
    "time_stride": 16,
    "layer_norm_eps": 1e-12,
}
AST_CONFIG = CONFIG | {"frequency_stride": 10, "time_stride": 10, "layer_norm_eps": 1e-5}


@cache
def random_state(kind: str = "tiny-patch", patches: int | None = None) -> State:
    """A random SSAST of two blocks whose every tensor has values of its own."""
    state = {
        key: value
        for key, value in ssast.random_state(kind, 1).items()
        if not key.startswith("v.blocks.") or int(key.split(".")[2]) < 2
    }
    random = torch.Generator().manual_seed(2)
    if patches:
        state["v.pos_embed"] = torch.empty(1, 2 + patches, state["v.pos_embed"].shape[-1])
    return {
        key: torch.randn(value.shape, generator=random) if value.is_floating_point() else value
        for key, value in state.items()
    }


def transformers_names(state: State) -> State:
    """The inverse of the map, without the sizes."""
    found: State = {}
    for key, value in state.items():
        if key in NAMES:
            found[NAMES[key]] = value
        elif key.startswith("v.blocks."):
            number, stem, kind = key.split(".")[2], key.split(".", 3)[3].rpartition(".")[0], key.rpartition(".")[2]
            layer = f"encoder.layer.{number}"
            if stem == "attn.qkv":
                for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    found[f"{layer}.attention.attention.{part}.{kind}"] = rows.clone()
            else:
                found[f"{layer}.{LAYER[stem]}.{kind}"] = value
    return found


def without_sizes(state: State) -> State:
    return {key: value for key, value in state.items() if not key.startswith("p_input")}


def checkpoint(state: State, config: dict[str, Any] | None = None) -> Checkpoint:
    return Checkpoint(state, {"config": config} if config else {}, Path("x.safetensors"))


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_pretraining_files_stay_as_they_are() -> None:
    state = random_state("tiny-frame")
    found = published(checkpoint(state))
    assert_same(found.state, state)
    assert found.metadata == {"grid_stride": (128, 2), "layer_norm_eps": 1e-6}
    assert_same(published(checkpoint({f"model.{key}": value for key, value in state.items()})).state, state)


@pytest.mark.parametrize("prefix", ["", "audio_spectrogram_transformer.", "model.audio_spectrogram_transformer."])
@pytest.mark.parametrize("config", [CONFIG, None], ids=["config.json", "no config.json"])
def test_ssast_in_transformers_names(tmp_path: Path, prefix: str, config: dict[str, Any] | None) -> None:
    """As the mirrors are; the published network is built from it and embeds as before."""
    state = random_state()
    save_file({prefix + key: value for key, value in transformers_names(state).items()}, tmp_path / "model.safetensors")
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    found = published(load(tmp_path))
    assert found.metadata["grid_stride"] == (16, 16)
    assert found.metadata["layer_norm_eps"] == 1e-6, "SSAST's own, whatever the mirror's config.json says"
    assert_same(found.state, state)
    x = torch.randn(2, 64, 128, generator=torch.Generator().manual_seed(3))
    models = [ssast.build(one, frames=64) for one in (found.state, state)]
    pooled = [model.pool(model.hidden(model.patch_embed(x))) for model in models]
    assert torch.equal(*pooled)


def test_an_ast_with_its_classifier() -> None:
    """Positions at a stride of 10: 12 x 101 patches of 1,024 frames."""
    state = random_state(patches=1212)
    head = {"layernorm.weight": torch.ones(192), "dense.weight": torch.ones(5, 192), "dense.bias": torch.ones(5)}
    named = {f"audio_spectrogram_transformer.{key}": value for key, value in transformers_names(state).items()}
    found = published(checkpoint(named | {f"classifier.{key}": value for key, value in head.items()}, AST_CONFIG))
    assert found.metadata["grid_stride"] == (10, 10)
    assert found.metadata["layer_norm_eps"] == 1e-5
    expected = {"mlp_head.0.weight": head["layernorm.weight"], "mlp_head.1.weight": head["dense.weight"]}
    assert_same(found.state, state | expected | {"mlp_head.1.bias": head["dense.bias"]})


@pytest.mark.parametrize(
    ("kind", "patches", "stride", "frames"),
    [
        ("tiny-patch", 1212, (10, 10), 1016),  # AST on AudioSet, 12 x 101
        ("tiny-patch", 144, (10, 10), 126),  # AST on Speech Commands, 12 x 12; 8 x 18 is not what the code writes
        ("tiny-patch", 512, (16, 16), 1024),  # fine-tuned with --fstride 16
        ("tiny-frame", 511, (128, 1), 512),  # a fine-tuned frame model
    ],
)
def test_files_of_the_published_fine_tuning(kind: str, patches: int, stride: tuple[int, int], frames: int) -> None:
    state = without_sizes(random_state(kind, patches)) | {"mlp_head.1.weight": torch.ones(50, 192)}
    found = published(checkpoint(state))
    assert found.metadata == {"grid_stride": stride, "layer_norm_eps": 1e-6}
    size = {"p_input_fdim": torch.tensor(128), "p_input_tdim": torch.tensor(frames)}
    assert_same(found.state, state | size)
    height, length = PATCHES[kind.split("-")[1]]
    assert ((128 - height) // stride[0] + 1) * ((frames - length) // stride[1] + 1) == patches


def test_the_case_of_a_fine_tuned_file(shared: Path) -> None:
    found = published(load(shared / "cases" / "bug-checkpoint-finetuned-ssast" / "best_audio_model.pth"))
    assert found.metadata["grid_stride"] == (10, 10)
    assert "v.blocks.0.attn.qkv.weight" in found.state


def test_an_ast_is_built_on_its_own_grid() -> None:
    given = checkpoint(transformers_names(random_state(patches=1212)), AST_CONFIG)
    model = ssast.read(given, {"frames": 1024, "stride": (10, 10)})
    assert torch.equal(model.pos_embed, given.state["embeddings.position_embeddings"])
    assert {module.eps for module in model.modules() if isinstance(module, torch.nn.LayerNorm)} == {1e-5}
    shorter = ssast.read(given, {"frames": 128, "stride": (10, 10)})
    assert shorter.grid == (12, 12)


def changed(**config: Any) -> Checkpoint:
    return checkpoint(transformers_names(random_state()), CONFIG | config)


def lacking(part: str) -> Checkpoint:
    return checkpoint({key: value for key, value in transformers_names(random_state()).items() if part not in key})


WRONG = {
    "no network of this family": (checkpoint({"blocks.0.weight": torch.ones(1)}), r"lacks v\.pos_embed; .* no known"),
    "no patches": (lacking("projection"), r"lacks v\.patch_embed\.proj\.weight"),
    "q without k": (
        lacking("encoder.layer.1.attention.attention.key.bias"),
        r"the key of v\.blocks\.1\.attn\.qkv\.bias",
    ),
    "another stride": (changed(time_stride=10), "8 x 101 patches .* is for 512; it is another model's"),
    "another length": (changed(max_length=128), "8 x 8 patches .* is for 512"),
    "no length": (changed(max_length=None), "max_length: None, expected a positive integer"),
    "a stride of nothing": (changed(time_stride=0), "time_stride: 0, expected a positive"),
    "a truth for a number": (changed(time_stride=True), "time_stride: True, expected a positive"),
    "shorter than a patch": (changed(max_length=8), "max_length: 8"),
    "80 mel bins": (changed(num_mel_bins=80), "num_mel_bins: 80, expected 128"),
    "positions of no grid": (
        checkpoint(without_sizes(random_state(patches=101))),
        "for 101 patches of 16 x 16 fits no",
    ),
    "positions of two grids": (
        checkpoint(transformers_names(random_state(patches=144))),
        r"stride of 10 or 16, .*put the model's config\.json",
    ),
    "no positions": (
        checkpoint(without_sizes(random_state()) | {"v.pos_embed": torch.ones(1, 2, 192)}),
        "for 0 patches",
    ),
}


@pytest.mark.fault("checkpoint", "an SSAST in other names with {fault}", "refused, naming it")
@pytest.mark.parametrize("fault", WRONG)
def test_wrong(fault: str) -> None:
    given, message = WRONG[fault]
    with pytest.raises(CheckpointError, match=message):
        published(given)


def test_different_q_and_k() -> None:
    state = transformers_names(random_state())
    state["encoder.layer.0.attention.attention.key.weight"] = torch.ones(192, 191)
    with pytest.raises(CheckpointError, match="different shapes"):
        published(checkpoint(state))


def test_unknown_names_stay_to_be_refused() -> None:
    state = transformers_names(random_state()) | {"encoder.layer.0.gate.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"has keys that SSAST does not: encoder\.layer\.0\.gate\.weight"):
        ssast.describe(published(checkpoint(state, CONFIG)).state)


LOOKS = {
    "SSAST as published": ["v.patch_embed.proj.weight", "p_input_fdim", "mlp_head.1.weight"],
    "a fine-tuned SSAST, or AST, as published": ["v.patch_embed.proj.weight", "v.dist_token", "mlp_head.1.weight"],
    "SSAST or AST without its heads": ["v.patch_embed.proj.weight", "v.dist_token"],
    "SSAST or AST in transformers' names": list(transformers_names(random_state())),
    "ATST-Frame": ["model.teacher.encoder.patch_embed.patch_embed.weight", "model.teacher.encoder.norm_frame.weight"],
    "ATST-Clip": ["backbone.patch_embed.patch_embed.weight", "backbone.cls_token", "head.mlp.0.weight"],
    "Whisper": ["model.encoder.conv1.weight", "model.encoder.layers.0.self_attn.k_proj.weight"],
    "CLAP": [
        "audio_model.audio_encoder.layers.0.blocks.0.attention.self.relative_position_bias_table",
        "text_model.embeddings.word_embeddings.weight",
    ],
    "wav2vec2-bert": [
        "wav2vec2_bert.feature_projection.layer_norm.weight",
        "encoder.layers.0.self_attn.linear_out.weight",
    ],
    "WavLM": [
        "wavlm.feature_extractor.conv_layers.0.conv.weight",
        "wavlm.encoder.layers.0.attention.rel_attn_embed.weight",
    ],
    "wav2vec 2.0, HuBERT or data2vec-audio": [
        "hubert.feature_extractor.conv_layers.0.conv.weight",
        "hubert.encoder.layers.0.attention.k_proj.weight",
    ],
    "SlowFast": ["s1.pathway0_stem.conv.weight", "s2.pathway0_res0.branch1.weight"],
    "timm's ViT, such as AudioMAE": ["cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"],
}


@pytest.mark.parametrize("name", LOOKS)
def test_looks(name: str) -> None:
    found = look(LOOKS[name])
    assert found
    assert found.name == name
    assert guess(LOOKS[name]) == found.family
    assert advice(LOOKS[name]) == f"this file looks like {name}; write `family: {found.family}`"


def test_an_unknown_network() -> None:
    assert guess(["conv.weight"]) == ""
    assert "of no known family (it holds conv.weight" in advice(["conv.weight"])


def test_looks_of_the_golden_sets(shared: Path) -> None:
    slowfast = json.loads((shared / "golden" / "slowfast" / "keys_slowfast_r50.json").read_text())
    assert guess(slowfast["model_state"]) == "slowfast"
    assert guess(load(shared / "golden" / "ssast_tiny_patch.pth").state) == "ssast"
    for name, about in {"frame_small": "ATST-Frame", "frame_base": "ATST-Frame", "clip_base": "ATST-Clip"}.items():
        known = look(json.loads((shared / "golden" / "atst" / f"keys_{name}.json").read_text())["keys"])
        assert known
        assert known.name == about
