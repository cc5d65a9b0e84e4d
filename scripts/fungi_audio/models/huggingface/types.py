"""How models of transformers are read: where the layers are, which one is the target, what goes in and out."""

import math
from typing import NamedTuple


class Kind(NamedTuple):
    """A model type of transformers.

    Attributes:
        layers: path of the list of layers.
        target: path of the target layer within the last of them.
        inside: path of the network that is used, within the model that a file holds.
        argument: of the network's forward that takes the inputs.
        waveform: whether that is a raw waveform; else a spectrogram of the model's own extractor.
        fixed: whether all inputs have one length.
        time_last: whether the network reads `[n, columns, frames]`.
        noise: a unit of natural logarithms of energies in the extractor's scale (views); None where the extractor
            divides by twice a standard deviation of its own. w2v-BERT's divides every bin by its deviation in the
            clip, so that its unit is that.
        hop: seconds from one frame of the extractor to the next.
        shortest: samples of the shortest waveform.
        sizes: names in the network's configuration of a spectrogram's columns and, where it has one, frames.
        pooling: ``mean`` over time, or ``special`` (the first two tokens).
    """

    layers: str
    target: str
    inside: str = ""
    argument: str = "input_features"
    waveform: bool = False
    fixed: bool = True
    time_last: bool = False
    noise: float | None = 1.0
    hop: float = 0.01
    shortest: int = 400
    sizes: tuple[str, ...] = ()
    pooling: str = "mean"


def block(target: str) -> str:
    """The path of the block that a layer lies in: up to its last number; "" for a layer outside of blocks."""
    names = target.split(".")
    return ".".join(names[: max((place for place, name in enumerate(names, 1) if name.isdecimal()), default=0)])


_SPEECH = Kind("encoder.layers", "attention.out_proj", argument="input_values", waveform=True, fixed=False)
_BINS = ("num_mel_bins",)
_CLAP = Kind("audio_encoder.layers", "blocks.{last}.attention.output.dense", noise=10 / math.log(10), sizes=_BINS)
KINDS = {
    "wav2vec2": _SPEECH,
    "hubert": _SPEECH,
    "data2vec-audio": _SPEECH,
    "unispeech-sat": _SPEECH,
    "wavlm": _SPEECH,
    "wav2vec2-conformer": _SPEECH._replace(target="self_attn.linear_out"),
    "wav2vec2-bert": Kind(
        "encoder.layers",
        "self_attn.linear_out",
        fixed=False,
        hop=0.02,
        shortest=560,  # two log-mel frames make one of its own
        sizes=("feature_projection_input_dim",),
    ),
    "audio-spectrogram-transformer": Kind(
        "layers",
        "attention.o_proj",
        argument="input_values",
        noise=None,
        pooling="special",
        sizes=("num_mel_bins", "max_length"),
    ),
    "whisper": Kind(
        "layers",
        "self_attn.out_proj",
        inside="encoder",
        time_last=True,
        noise=1 / (4 * math.log(10)),
        sizes=_BINS,
    ),
    "clap": _CLAP._replace(inside="audio_model"),
    "clap_audio_model": _CLAP,
}
EXACT_WITH_MASK = ("wav2vec2", "hubert", "unispeech-sat")  # where feat_extract_norm is "layer"
