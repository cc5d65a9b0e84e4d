"""Extractors beside models of the Hugging Face form: what they mask, scale and cut, and those that do not fit."""

from pathlib import Path

import pytest
import soundfile
import torch

from fungi_audio.errors import CheckpointError, DataError
from fungi_audio.frontends.views import noise_and_roll
from fungi_audio.models.load import load_backbone

transformers = pytest.importorskip("transformers", reason="an optional extra: requirements-huggingface.txt")

from .test_huggingface import EXTRACTORS, SMALL, SPECTRA, WAVES, error, inputs, saved, waves  # noqa: E402 (needs it)
from .test_huggingface_files import change  # noqa: E402


@pytest.mark.parametrize("samples", [560, 4000, 8160, 9000, 16_000])
@pytest.mark.parametrize("kind", ["wav2vec2-bert", "parakeet_encoder"])
def test_frames_that_the_extractor_masks_are_left_out(kind: str, samples: int, tmp_path: Path) -> None:
    """As transformers with its own attention mask, of clips that end in a whole frame and of others."""
    parakeet = kind == "parakeet_encoder"
    settings = SMALL | {"num_mel_bins": 80, "subsampling_conv_channels": 16} if parakeet else SPECTRA[kind]
    model = saved(tmp_path, kind, settings)
    extractor = transformers.ParakeetFeatureExtractor() if parakeet else EXTRACTORS[kind]()
    extractor.save_pretrained(tmp_path)
    options = {"target": "layers.1.self_attn.o_proj"} if parakeet else {}
    backbone = load_backbone(tmp_path, "huggingface", **options)
    (wave,) = waves(samples)
    made = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        output = model(**made, **({"output_attention_mask": True} if parakeet else {}))
        inside = (output.attention_mask if parakeet else made["attention_mask"]).unsqueeze(2)
        expected = (output.last_hidden_state * inside).sum(1) / inside.sum(1)
        assert error(backbone.embedding(inputs(backbone, wave)), expected) < 1e-5
    assert backbone.frontend.length(samples) == len(backbone.frontend(wave))


def test_a_clip_without_one_whole_frame_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "wav2vec2-bert", SPECTRA["wav2vec2-bert"])
    frontend = load_backbone(tmp_path, "huggingface").frontend
    soundfile.write(tmp_path / "clip.wav", waves(559)[0].numpy(), 16_000)
    with pytest.raises(DataError, match="559 samples"):
        frontend.read(tmp_path / "clip.wav")


@pytest.mark.parametrize(("do_normalize", "std"), [(True, 4.5689974), (True, 5.5654526), (False, 5.5654526)])
def test_noise_of_views_follows_the_extractors_scale(do_normalize: bool, std: float, tmp_path: Path) -> None:
    """A view of normalised log-mels is the normalised view of the log-mels."""
    kind = "audio-spectrogram-transformer"
    saved(tmp_path, kind, SPECTRA[kind])
    mean = -4.0
    change(tmp_path, name="preprocessor_config.json", do_normalize=do_normalize, std=std, mean=mean)
    frontend = load_backbone(tmp_path, "huggingface").frontend
    values = frontend(waves(9000)[0]).unsqueeze(0)
    keys = torch.tensor([7])
    plain = values * 2 * std + mean if do_normalize else values
    viewed = noise_and_roll(plain, keys)
    expected = (viewed - mean) / (2 * std) if do_normalize else viewed
    torch.testing.assert_close(frontend.view(values, keys), expected, rtol=0, atol=1e-5)
    assert float((frontend.view(values, keys) - values).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", ["wavlm", "whisper"])
def test_an_extractor_must_be_there(kind: str, tmp_path: Path) -> None:
    """Whether waveforms are standardised is nowhere else: WavLM base+ reads them as they are."""
    saved(tmp_path, *WAVES.get(kind, (kind, SPECTRA.get(kind, {}))))
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config\.json"):
        load_backbone(tmp_path, "huggingface")


def test_extractors_of_other_models_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "wave", *WAVES["wav2vec2"])
    EXTRACTORS["whisper"]().save_pretrained(tmp_path / "wave")
    with pytest.raises(CheckpointError, match="names WhisperFeatureExtractor; of a waveform model only Wav2Vec2"):
        load_backbone(tmp_path / "wave", "huggingface")
    for kind, change_of, message in (
        ("audio-spectrogram-transformer", {"max_length": 96}, "makes spectrograms of 96, .* max_length: 64"),
        ("audio-spectrogram-transformer", {"num_mel_bins": 64}, "makes spectrograms of 64, .* num_mel_bins: 32"),
        ("whisper", {"feature_size": 128}, "makes spectrograms of 128, .* num_mel_bins: 80"),
        ("wav2vec2-bert", {"stride": 1}, "makes spectrograms of 80, .* feature_projection_input_dim: 160"),
    ):
        saved(tmp_path / kind, kind, SPECTRA[kind])
        change(tmp_path / kind, name="preprocessor_config.json", **change_of)
        with pytest.raises(CheckpointError, match=message):
            load_backbone(tmp_path / kind, "huggingface")


def test_long_clips_of_clap_are_cut_alike(tmp_path: Path) -> None:
    saved(tmp_path, "clap_audio_model", SPECTRA["clap_audio_model"])
    frontend = load_backbone(tmp_path, "huggingface", rate=48_000).frontend
    (wave,) = waves(120_000)
    assert torch.equal(frontend(wave), frontend(wave[:48_000]))  # of the tests' extractor: 1 s
