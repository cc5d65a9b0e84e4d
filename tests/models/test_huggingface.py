"""Encoders in the Hugging Face form: small random models, saved as people save them, against transformers itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fungi_audio.api import Arrays
from fungi_audio.engine.encode import encode
from fungi_audio.engine.inputs import Pool
from fungi_audio.engine.projection import make_head
from fungi_audio.errors import CheckpointError, ConfigError, FungiError
from fungi_audio.models.base import Backbone, Inputs
from fungi_audio.models.load import load_backbone
from fungi_audio.objectives import build_objective

transformers = pytest.importorskip("transformers", reason="an optional extra: requirements-huggingface.txt")

SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
CONVOLUTIONS = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
SPEECH = SMALL | CONVOLUTIONS
WAVES = {  # settings of the tests' models, by model type and what is special
    "wav2vec2": ("wav2vec2", SPEECH),
    "wav2vec2 with layer norms": ("wav2vec2", SPEECH | {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "hubert": ("hubert", SPEECH),
    "wavlm": ("wavlm", SPEECH),
    "wav2vec2-conformer": ("wav2vec2-conformer", SPEECH),
    "unispeech-sat": ("unispeech-sat", SPEECH),
    "data2vec-audio": ("data2vec-audio", SPEECH | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 7}),
}
SPECTRA = {
    "audio-spectrogram-transformer": SMALL | {"max_length": 64, "num_mel_bins": 32},
    "wav2vec2-bert": SMALL | {"feature_projection_input_dim": 160},
    "whisper": {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 50, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "num_mel_bins": 80,
    },
    "clap_audio_model": {
        "patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 32,
        "spec_size": 64, "num_mel_bins": 16, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
    },
}  # fmt: skip
EXTRACTORS = {
    "audio-spectrogram-transformer": lambda: transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32),
    "wav2vec2-bert": lambda: transformers.SeamlessM4TFeatureExtractor(),
    "whisper": lambda: transformers.WhisperFeatureExtractor(),
    "clap_audio_model": lambda: transformers.ClapFeatureExtractor(
        feature_size=16, max_length_s=1, truncation="rand_trunc", padding="repeatpad"
    ),
}


def saved(folder: Path, kind: str, settings: dict[str, Any], safe: bool = True) -> Any:
    """A random model in `folder` with its extractor; returned too."""
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(kind, **settings)
    auto = transformers.ClapAudioModel if kind == "clap_audio_model" else transformers.AutoModel.from_config
    model = auto(config).eval()
    for name, value in model.named_parameters():
        if "norm" not in name and value.ndim > 1:
            torch.nn.init.normal_(value, std=0.1)
    model.save_pretrained(folder)
    if not safe:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    if kind in EXTRACTORS:
        EXTRACTORS[kind]().save_pretrained(folder)
    else:
        settings = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16_000, "do_normalize": True}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return model


def waves(*samples: int) -> list[torch.Tensor]:
    random = np.random.default_rng(0)
    return [torch.from_numpy(0.1 * random.normal(size=count)).float() for count in samples]


def inputs(backbone: Backbone, wave: torch.Tensor) -> Inputs:
    return Inputs.alike(backbone.frontend.normalise(backbone.frontend(wave).unsqueeze(0), None))


def pool(backbone: Backbone, clips: list[torch.Tensor]) -> Pool:
    values = Arrays([backbone.frontend(clip).numpy() for clip in clips])
    return Pool(backbone.frontend, values, np.arange(len(clips)))


def error(value: torch.Tensor, expected: torch.Tensor) -> float:
    return float((value - expected).norm() / expected.norm())


def check_gradient(backbone: Backbone, wave: torch.Tensor) -> None:
    """The hooked gradient against autograd through the whole network."""
    objective = build_objective("kl", head=make_head(backbone.width, 1, "kl"))
    x = inputs(backbone, wave)
    found = objective.compute(backbone, x).matrix()[0].double()
    layer: Any = backbone.layer
    parameters = [layer.weight, *([layer.bias] if layer.bias is not None else [])]
    for parameter in parameters:
        parameter.requires_grad_(True)
    loss = objective.loss(backbone.embedding(x).double().unsqueeze(1)).sum()
    gradients = torch.autograd.grad(loss, parameters)
    expected = torch.cat([gradients[0].flatten(1), *(part.unsqueeze(1) for part in gradients[1:])], dim=1).double()
    for parameter in parameters:
        parameter.requires_grad_(False)
    assert expected.norm() > 0 and error(found, expected) < 1e-4


@pytest.mark.parametrize("name", WAVES)
def test_speech_models(name: str, tmp_path: Path) -> None:
    kind, settings = WAVES[name]
    model = saved(tmp_path, kind, settings, safe=name != "hubert")
    backbone = load_backbone(tmp_path, "huggingface")
    (wave,) = waves(9000)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    values = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        expected = model(values).last_hidden_state.mean(1)
        assert error(backbone.embedding(inputs(backbone, wave)), expected) < 1e-5
    assert backbone.equal_lengths == (name != "wav2vec2 with layer norms")
    check_gradient(backbone, wave)


@pytest.mark.parametrize("kind", SPECTRA)
def test_models_of_spectrograms(kind: str, tmp_path: Path) -> None:
    model = saved(tmp_path, kind, SPECTRA[kind])
    rate = 48_000 if kind == "clap_audio_model" else 16_000
    backbone = load_backbone(tmp_path, "huggingface", rate=rate)
    (wave,) = waves(rate // 2)
    made = EXTRACTORS[kind]()(wave.numpy(), sampling_rate=rate, return_tensors="pt")
    values = made["input_values"] if "input_values" in made else made["input_features"]
    with torch.no_grad():
        if kind == "whisper":
            expected = model.get_encoder()(values).last_hidden_state.mean(1)
        elif kind == "wav2vec2-bert":
            expected = model(values).last_hidden_state.mean(1)
        else:
            expected = model(values).pooler_output
        if kind == "audio-spectrogram-transformer":
            expected = model(values).last_hidden_state[:, :2].mean(1)
        assert error(backbone.embedding(inputs(backbone, wave)), expected) < 1e-5
    check_gradient(backbone, wave)


@pytest.mark.parametrize("name", ["wav2vec2", "wav2vec2 with layer norms", "wavlm"])
def test_clips_do_not_depend_on_their_batch(name: str, tmp_path: Path) -> None:
    kind, settings = WAVES[name]
    saved(tmp_path, kind, settings)
    backbone = load_backbone(tmp_path, "huggingface")
    clips = waves(9000, 4000, 9000, 6100, 4000)
    with torch.no_grad():
        ((_, together),) = encode(
            backbone, pool(backbone, clips), lambda x, _: {"e": backbone.embedding(x)}, len(clips)
        )
        for clip, found in zip(clips, together["e"], strict=True):
            assert error(found, backbone.embedding(inputs(backbone, clip))[0]) < 1e-5


def test_bf16(tmp_path: Path) -> None:
    saved(tmp_path, *WAVES["wav2vec2"])
    (wave,) = waves(9000)
    head = make_head(32, 1, "kl")
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        backbone = load_backbone(tmp_path, "huggingface").set_precision(dtype)
        gradient = build_objective("kl", head=head).compute(backbone, inputs(backbone, wave)).matrix()
        with torch.no_grad():
            found.append((backbone.embedding(inputs(backbone, wave)), gradient.flatten(1)))
    for one, other in zip(*found, strict=True):
        assert torch.cosine_similarity(one.double(), other.double()).item() > 0.99 and not torch.equal(one, other)


def test_a_vision_transformer_of_timm(tmp_path: Path) -> None:
    import timm

    arguments = {"img_size": [1024, 128], "in_chans": 1, "depth": 2, "embed_dim": 48, "num_heads": 3}
    torch.manual_seed(1)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, global_pool="avg", **arguments).eval()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    config = {"architecture": "vit_tiny_patch16_1024_128", "model_args": arguments}
    (tmp_path / "config.json").write_text(json.dumps(config))
    backbone = load_backbone(tmp_path, "huggingface", timm="vit_tiny_patch16_224")
    (wave,) = waves(16_000)
    x = inputs(backbone, wave)
    with torch.no_grad():
        assert error(backbone.embedding(x), model(x.values.unsqueeze(1))) < 1e-5
    check_gradient(backbone, wave)


def test_what_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, *WAVES["wav2vec2"])
    config = json.loads((tmp_path / "config.json").read_text())

    def refused(
        message: str, error: type[FungiError] = ConfigError, change: dict[str, Any] | None = None, **options: Any
    ) -> None:
        (tmp_path / "config.json").write_text(json.dumps(config | (change or {})))
        with pytest.raises(error, match=message):
            load_backbone(tmp_path, "huggingface", **options)

    refused("brings Python code of its own", change={"auto_map": {"AutoModel": "evil.Model"}})
    refused(r"'unheard-of', whose layers are not known here; set `target:`", change={"model_type": "unheard-of"})
    refused("reads 16000 samples a second; write `rate: 16000`", rate=48_000)
    refused("is no layer of this Encoder", target="encoder.layers.7.attention.out_proj")
    refused("is a LayerNorm; expected a Linear", target="encoder.layers.1.layer_norm")
    refused("lacks ", CheckpointError, change={"num_hidden_layers": 3})
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json beside it; .*wav2vec 2\.0"):
        load_backbone(tmp_path, "huggingface")
