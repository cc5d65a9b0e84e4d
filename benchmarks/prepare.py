"""Time of what comes before extraction: from an archive of five-second clips to their log-mels.

    python -m benchmarks.prepare [--clips 2000] [--cores 2] [--json prepare.json]

The clips are random noise of 44.1 kHz, zipped in a temporary folder beforehand. Every step runs as its job
does, worker processes and the measured mean and standard deviation included, imports not.
"""

import io
import statistics
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from fungi_audio.audio.resample import resample
from fungi_audio.datasets.datafiles import place
from fungi_audio.datasets.index import index
from fungi_audio.files.archives import unpack
from fungi_audio.frontends import cache as fbank_cache
from fungi_audio.frontends.kaldi import Fbank

from .common import CLOCKS, arguments, machine, report

SECONDS, RATE, FRAMES = 5, 44_100, 512


def archive(path: Path, clips: int) -> None:
    """A zip of noise, each clip another piece of it."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(SECONDS * RATE + clips)
    with zipfile.ZipFile(path, "w") as file:
        for number in range(clips):
            clip = io.BytesIO()
            soundfile.write(clip, noise[number : number + SECONDS * RATE], RATE, subtype="PCM_16", format="WAV")
            file.writestr(f"{number}.wav", clip.getvalue())


def steps(folder: Path, zipped: Path, cores: int) -> dict[str, Callable[[], object]]:
    """The jobs in their order, below an empty folder."""
    raw, wavs, fbank = folder / "raw", folder / "audio", folder / "fbank.npy"

    def clips() -> pd.DataFrame:
        return pd.read_parquet(folder / "clips.parquet")

    def make_index() -> None:
        tables = index(raw, "folder", {}, threads=cores)
        tables.write(folder / "clips.parquet", folder / "classes.csv", folder / "skipped.csv")

    return {
        "unpack": partial(unpack, zipped, raw, max_gigabytes=100),
        "index": make_index,
        "resample": lambda: resample(clips(), raw, wavs, link=True, threads=cores),
        "place": lambda: place(clips(), wavs, str(folder / "placed"), threads=cores),
        "log-mel": lambda: fbank_cache.build([wavs / wav for wav in clips()["wav"]], Fbank(FRAMES), fbank, cores),
        "mean and deviation": lambda: fbank_cache.write_statistics(
            fbank, np.arange(len(clips())), folder / "fbank.json"
        ),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--cores", type=int, default=2, help="worker threads or processes (default 2)")
    options = parser.parse_args()
    now = CLOCKS[options.clock]
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        archive(Path(name) / "clips.zip", options.clips)
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory(dir=name) as folder:
                for step, run in steps(Path(folder), Path(name) / "clips.zip", options.cores).items():
                    start = now()
                    run()
                    times.setdefault(step, []).append(now() - start)
    rows = [["step", "s", "ms a clip"]]
    for step, seconds in times.items():
        median = statistics.median(seconds)
        rows.append([step, f"{median:.1f}", f"{1e3 * median / options.clips:.2f}"])
    numbers = {"clips": options.clips, "cores": options.cores, "seconds": times}
    report("Preparation", machine("cpu", options.threads, options.clock), rows, numbers, options.json)


if __name__ == "__main__":
    main()
