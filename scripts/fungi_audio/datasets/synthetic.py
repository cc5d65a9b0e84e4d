"""A demonstration dataset that SoX makes on the spot: tones, chirps, noises, in a background of noise.

It shows that the chain works, without a download; what is measured on it says nothing about real audio.
"""

import csv
import random
from collections.abc import Callable
from pathlib import Path

from ..audio import sox
from ..files.whole import whole_folder
from ..parallel import for_each
from ..seeds import named_seed
from .csv import read

__all__ = ["read", "synthesise"]

FOLDS = 5
RATES = (16_000, 44_100)
MADE = 3.0  # seconds; a clip is one second from anywhere in the first two


def _frequency(draw: random.Random, low: float = 150, high: float = 2400) -> float:
    return low * (high / low) ** draw.random()


def _chirp(draw: random.Random, up: bool) -> list[str]:
    low = _frequency(draw, 100, 600)
    ends = sorted([low, low * draw.uniform(3, 20)], reverse=not up)
    return ["sine", "mix", f"{ends[0]:.2f}/{ends[1]:.2f}"]


def _tone(kind: str) -> Callable[[random.Random], list[str]]:
    return lambda draw: [kind, "mix", f"{_frequency(draw):.2f}"]


def _noise(kind: str) -> Callable[[random.Random], list[str]]:
    return lambda draw: [kind, "mix"]


def _tremolo(draw: random.Random) -> list[str]:
    effect = ["tremolo", f"{draw.uniform(3, 12):.2f}", f"{draw.uniform(60, 95):.1f}"]
    return [*_tone("sine")(draw), *effect]


SOUNDS: dict[str, Callable[[random.Random], list[str]]] = {
    "brown noise": _noise("brownnoise"),
    "chirp down": lambda draw: _chirp(draw, up=False),
    "chirp up": lambda draw: _chirp(draw, up=True),
    "pink noise": _noise("pinknoise"),
    "pluck": _tone("pluck"),
    "sawtooth": _tone("sawtooth"),
    "sine": _tone("sine"),
    "square": _tone("square"),
    "tremolo": _tremolo,
    "white noise": _noise("whitenoise"),
}
"""By class: arguments of SoX's `synth` (and effects after it) that mix the sound into what is there."""


def synthesise(folder: str | Path, clips: int, seed: int, threads: int = 1) -> None:
    """Write labelled clips of one second, in the layout `csv`, five folds, to a new folder.

    Classes and folds are as even as the number allows. A clip depends on (seed, its number) alone.

    Args:
        folder: replaced when it exists.
        clips: how many.
        seed: of every random parameter.

    Raises:
        FungiError: SoX is not installed.
        StorageError: `folder` cannot be written.
    """
    sox.require()
    labels = list(SOUNDS)
    lines = [(f"clip{n:05d}.wav", labels[n % len(labels)], n // len(labels) % FOLDS + 1) for n in range(clips)]
    with whole_folder(folder) as part:
        for_each("synthesise", lambda line: sox.run(_command(part, *line[:2], seed)), lines, threads)
        with (part / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("path", "label", "fold"), *lines])


def _command(folder: Path, name: str, label: str, seed: int) -> list[str]:
    """One clip: background noise, the sound mixed in, one second of it, at a random level."""
    draw = random.Random(named_seed(seed, "synthetic", name))
    background = ["synth", f"{MADE}", "whitenoise", "vol", f"{draw.uniform(0.02, 0.6):.3f}"]
    sound = ["synth", f"{MADE}", *SOUNDS[label](draw)]
    cut = ["trim", f"{draw.uniform(0, MADE - 1.1):.4f}", "1", "gain", f"{draw.uniform(-12, -1):.2f}"]
    form = ["-n", "-r", str(draw.choice(RATES)), "-c", "1", "-b", "16", "-t", "wav"]
    return [*form, str((folder / name).absolute()), *background, *sound, *cut]
