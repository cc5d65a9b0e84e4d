"""What the configuration and the DAG know of encoders in the Hugging Face form. No torch, no transformers."""

from collections.abc import Mapping
from typing import Any

from ...errors import ConfigError
from ..definitions import Place, Preset, Reading, Shape

SHAPING = ("target", "rate", "timm", "trust_remote_code")
FRAMES = False  # embeddings over time
RANDOM: list[str] = []
DEPTH = 12
FBANK = "fbank-1024"  # of timm's AudioMAE
OPTIONS: dict[str, dict[str, Any]] = {
    "target": {
        "description": "Layer whose gradient is the feature, as the model names it, such as "
        "encoder.layers.11.attention.out_proj; null is the last attention's output projection of a known model.",
        "type": ["string", "null"],
        "default": None,
    },
    "rate": {
        "description": "Samples a second that the model reads; checked against its own feature extractor.",
        "type": "integer",
        "minimum": 1000,
        "default": 16_000,
    },
    "seconds": {
        "description": "Length of every input, of models that have one (AST 10.24, Whisper 30, CLAP 10).",
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
    },
    "timm": {
        "description": "The file is this vision transformer of timm, on SSAST's log-mels of 1,024 frames (AudioMAE).",
        "type": ["string", "null"],
        "default": None,
    },
    "trust_remote_code": {
        "description": "Run Python code that comes with the checkpoint, for models that transformers does not know.",
        "type": "boolean",
        "default": False,
    },
}


def check(options: Mapping[str, Any]) -> None:
    """Raises ConfigError when options contradict each other."""
    if options["timm"] and (options["rate"] != 16_000 or options["trust_remote_code"]):
        raise ConfigError("timm: its networks read 16 kHz log-mels and run no code of others; leave both keys out")


def reading(options: Mapping[str, Any], dataset: Mapping[str, Any]) -> Reading:
    """Waveforms or the spectrograms of the model's extractor, from the audio each time; log-mels for timm."""
    if options["timm"]:
        return Reading(FBANK, 16_000, 10.24, 12_800)
    return Reading(None, options["rate"], options["seconds"], options["rate"])


def shape(options: Mapping[str, Any], checkpoint: str) -> Shape:
    """Guessed from the name: large models have 24 layers of 1,024 channels, others 12 of 768; 50 tokens a second."""
    large = any(word in checkpoint.lower() for word in ("large", "xls-r", "w2v-bert"))
    return Shape(1024 if large else 768, 24 if large else DEPTH, 50.0, front=2e9)


def dataset_options(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing of a dataset's definition decides the network's numbers."""
    return {}


def _preset(repository: str, about: str, **options: Any) -> Preset:
    return Preset("huggingface", (Place(f"hf://{repository}"),), about, options)


PRESETS = {
    "wav2vec2-base": _preset("facebook/wav2vec2-base@refs/pr/2", "wav2vec 2.0 base (95 M); LibriSpeech; Apache-2.0"),
    "hubert-base": _preset("facebook/hubert-base-ls960@refs/pr/2", "HuBERT base (95 M); LibriSpeech; Apache-2.0"),
    "wavlm-base-plus": _preset("microsoft/wavlm-base-plus", "WavLM base+ (95 M); 94,000 h of English speech"),
    "data2vec-audio-base": _preset("facebook/data2vec-audio-base", "data2vec audio base (93 M); LibriSpeech"),
    "w2v-bert-2": _preset("facebook/w2v-bert-2.0", "w2v-BERT 2.0 (600 M); 4.5 M h of speech; MIT"),
    "ast-audioset": _preset(
        "MIT/ast-finetuned-audioset-10-10-0.4593", "AST (87 M), supervised; AudioSet; BSD-3-Clause", seconds=10.24
    ),
    "whisper-base": _preset("openai/whisper-base", "Whisper base's encoder (20 M); 680,000 h; Apache-2.0", seconds=30),
    "clap-htsat": _preset("laion/clap-htsat-unfused", "CLAP's audio tower (28 M)", rate=48_000, seconds=10),
    "audiomae-as2m": _preset(
        "gaunernst/vit_base_patch16_1024_128.audiomae_as2m",
        "AudioMAE base (85 M); AudioSet; CC BY 4.0",
        timm="vit_base_patch16_224",
    ),
}
