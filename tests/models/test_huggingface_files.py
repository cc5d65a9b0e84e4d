"""Files of the Hugging Face form as they are found: with heads, with other files beside them, of unknown models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fungi_audio.engine.projection import make_head
from fungi_audio.errors import CheckpointError, ConfigError
from fungi_audio.models.base import Backbone, Inputs
from fungi_audio.models.load import load_backbone
from fungi_audio.objectives import build_objective

transformers = pytest.importorskip("transformers", reason="an optional extra: requirements-huggingface.txt")

from .test_huggingface import (  # noqa: E402 (it needs transformers)
    EXTRACTORS,
    SPECTRA,
    SPEECH,
    WAVES,
    check_gradient,
    error,
    inputs,
    saved,
    waves,
)  # fmt: skip

TEXT = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 20}
WITH_HEADS: dict[str, tuple[str, Callable[[], Any], Callable[[Any], Any]]] = {  # kind, whole model, the part used
    "pretraining of wav2vec 2.0": (
        "wav2vec2",
        lambda: transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**SPEECH)),
        lambda whole: whole.wav2vec2,
    ),
    "HuBERT for transcription": (
        "hubert",
        lambda: transformers.HubertForCTC(transformers.HubertConfig(**SPEECH, vocab_size=12)),
        lambda whole: whole.hubert,
    ),
    "AST's classifier": (
        "audio-spectrogram-transformer",
        lambda: transformers.ASTForAudioClassification(
            transformers.ASTConfig(**SPECTRA["audio-spectrogram-transformer"])
        ),
        lambda whole: whole.base_model,
    ),
    "Whisper": (
        "whisper",
        lambda: transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**SPECTRA["whisper"])),
        lambda whole: whole.get_encoder(),
    ),
    "CLAP": (
        "clap",
        lambda: transformers.ClapModel(
            transformers.ClapConfig(text_config=TEXT, audio_config=SPECTRA["clap_audio_model"], projection_dim=8)
        ),
        lambda whole: whole.audio_model,
    ),
}


def change(folder: Path, name: str = "config.json", **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def together(parts: list[Inputs]) -> Inputs:
    """Clips as one batch, padded with 0."""
    longest = max(part.values.shape[1] for part in parts)
    padded = [torch.nn.functional.pad(x.values, (0, 0, 0, longest - x.values.shape[1])) for x in parts]
    return Inputs(torch.cat(padded), torch.cat([x.lengths for x in parts]))


def check_batch(backbone: Backbone, *samples: int) -> None:
    """Every clip of a batch has the gradient that it has alone, and another one than its neighbours."""
    objective = build_objective("kl", head=make_head(backbone.width, 1, "kl"))
    clips = [inputs(backbone, wave) for wave in waves(*samples)]
    found = objective.compute(backbone, together(clips)).matrix()
    for clip, gradient in zip(clips, found, strict=True):
        assert error(gradient, objective.compute(backbone, clip).matrix()[0]) < 1e-4
    assert error(found[0], found[1]) > 1e-3  # Whisper pads them to 30 s, which makes them much alike


@pytest.mark.parametrize("name", WITH_HEADS)
def test_heads_and_other_towers_are_left_out(name: str, tmp_path: Path) -> None:
    kind, build, part = WITH_HEADS[name]
    torch.manual_seed(2)
    whole = build().eval()
    whole.save_pretrained(tmp_path)
    clap = kind == "clap"
    rate = 48_000 if clap else 16_000
    make = EXTRACTORS.get("clap_audio_model" if clap else kind, lambda: transformers.Wav2Vec2FeatureExtractor())
    make().save_pretrained(tmp_path)
    backbone: Any = load_backbone(tmp_path, "huggingface", rate=rate)
    expected = part(whole).state_dict()
    found = backbone.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("kind", ["unispeech", "moonshine"])
def test_a_model_that_is_known_by_its_target_only(kind: str, tmp_path: Path) -> None:
    """unispeech is one encoder; of moonshine the encoder is read, without its decoder."""
    moonshine = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 20}
    moonshine |= {f"{side}_num_{what}": 2 for side in ("encoder", "decoder") for what in ("hidden_layers",)}
    moonshine |= {f"{side}_num_{what}": 4 for side in ("encoder", "decoder") for what in ("attention_heads",)}
    settings = SPEECH if kind == "unispeech" else moonshine
    target = "encoder.layers.1.attention.out_proj" if kind == "unispeech" else "layers.1.self_attn.o_proj"
    model = saved(tmp_path, kind, settings)
    backbone = load_backbone(tmp_path, "huggingface", target=target)
    (wave,) = waves(9000)
    x = inputs(backbone, wave)
    network = model if kind == "unispeech" else model.get_encoder()
    with torch.no_grad():
        assert error(backbone.embedding(x), network(x.values.squeeze(2)).last_hidden_state.mean(1)) < 1e-5
    assert backbone.equal_lengths and len(backbone.layers()) == 3
    assert sum(len(part) for part in backbone.layers()) == len(list(backbone.parameters()))
    check_gradient(backbone, wave)


@pytest.mark.parametrize("name", WAVES)
def test_gradients_of_a_batch_of_waveforms(name: str, tmp_path: Path) -> None:
    saved(tmp_path, *WAVES[name])
    backbone = load_backbone(tmp_path, "huggingface")
    check_batch(backbone, 6000, *((6000, 6000) if backbone.equal_lengths else (9000, 4000)))


@pytest.mark.parametrize("kind", SPECTRA)
def test_gradients_of_a_batch_of_spectrograms(kind: str, tmp_path: Path) -> None:
    """CLAP's target sees several windows of a clip as rows of their own."""
    saved(tmp_path, kind, SPECTRA[kind])
    backbone = load_backbone(tmp_path, "huggingface", rate=48_000 if kind == "clap_audio_model" else 16_000)
    check_batch(backbone, 20_000, 20_000, 20_000)


def test_the_named_file_is_the_one_that_is_read(tmp_path: Path) -> None:
    model = saved(tmp_path, *WAVES["wav2vec2"])
    key = "encoder.layers.1.attention.out_proj.weight"
    state = model.state_dict()
    torch.save(state | {key: state[key] + 1}, tmp_path / "pytorch_model.bin")
    for name, more in (("pytorch_model.bin", 1), ("model.safetensors", 0)):
        backbone: Any = load_backbone(tmp_path / name, "huggingface")
        assert torch.equal(backbone.model.state_dict()[key], state[key] + more)


def test_bf16_ends_at_the_target_and_with_the_network(tmp_path: Path) -> None:
    saved(tmp_path, *WAVES["wavlm"])
    backbone: Any = load_backbone(tmp_path, "huggingface", target="encoder.layers.0.attention.out_proj")
    backbone.set_precision(torch.bfloat16)
    types = {}
    for name in ("feature_projection.projection", "encoder.layers.0.attention.out_proj"):
        backbone.model.get_submodule(name).register_forward_hook(lambda _, x, y, name=name: types.update({name: y}))
    later = backbone.model.encoder.layers[1].feed_forward.output_dense
    later.register_forward_hook(lambda _, x, y: types.update(later=y))
    before = [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")]
    with torch.no_grad():
        backbone.embedding(inputs(backbone, waves(9000)[0]))
    assert [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")] == before == [False, False]
    assert [value.dtype for value in types.values()] == [torch.bfloat16, torch.float32, torch.float32]


def test_bf16_is_not_used_around_a_target_outside_of_blocks(tmp_path: Path) -> None:
    saved(tmp_path, *WAVES["wav2vec2"])
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        backbone = load_backbone(tmp_path, "huggingface", target="feature_projection.projection").set_precision(dtype)
        with torch.no_grad():
            found.append(backbone.embedding(inputs(backbone, waves(9000)[0])))
    assert torch.equal(*found)


def test_no_code_of_an_extractor_runs(tmp_path: Path) -> None:
    saved(tmp_path, "whisper", SPECTRA["whisper"])
    path = tmp_path / "preprocessor_config.json"
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoFeatureExtractor": "own.Own"}}))
    with pytest.raises(ConfigError, match=r"Python code of its own.*trust_remote_code: true"):
        load_backbone(tmp_path, "huggingface")
    assert not (tmp_path / "ran").exists()


OWN = """
from transformers import Wav2Vec2Config, Wav2Vec2Model
class OwnConfig(Wav2Vec2Config):
    model_type = "own"
class OwnModel(Wav2Vec2Model):
    config_class = OwnConfig
"""


def test_code_of_a_model_runs_where_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder = tmp_path / "model"
    model = saved(folder, *WAVES["wav2vec2"])
    (folder / "own.py").write_text(OWN)
    places = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    change(folder, model_type="own", auto_map=places)
    options = {"target": "encoder.layers.1.attention.out_proj", "trust_remote_code": True}
    backbone: Any = load_backbone(folder, "huggingface", **options)
    assert (
        type(backbone.model).__name__ == "OwnModel" and backbone.model.state_dict().keys() == model.state_dict().keys()
    )
    check_gradient(backbone, waves(9000)[0])
    change(folder, auto_map={name: f"someone/thing--{place}" for name, place in places.items()})
    with pytest.raises(ConfigError, match="takes its Python code from another repository"):
        load_backbone(folder, "huggingface", **options)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, "audio-spectrogram-transformer", SPECTRA["audio-spectrogram-transformer"])
    change(tmp_path, num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"has what the network of its config\.json has not: .*layers\.1\."):
        load_backbone(tmp_path, "huggingface")
    (tmp_path / "model.safetensors").unlink()
    torch.save(
        {"patch_embed.patch_embed.weight": torch.ones(4, 4), "norm_frame.weight": torch.ones(4)},
        tmp_path / "pytorch_model.bin",
    )
    with pytest.raises(CheckpointError, match=r"looks like ATST-Frame; write `family: atst`"):
        load_backbone(tmp_path, "huggingface")
    asked: list[str] = []
    monkeypatch.setattr("timm.models._factory.load_model_config_from_hf", lambda name, **_: asked.append(name))
    for architecture in ("hf-hub:someone/thing", "local-dir:/thing", "none"):
        with pytest.raises(ConfigError, match=f"timm: '{architecture}' is none of timm's own"):
            load_backbone(tmp_path, "huggingface", timm=architecture)
    assert not asked
    change(tmp_path, model_args={"checkpoint_path": "other.pth"})
    with pytest.raises(CheckpointError, match=r"is no vision transformer of timm: .*checkpoint_path"):
        load_backbone(tmp_path, "huggingface", timm="vit_tiny_patch16_224")
