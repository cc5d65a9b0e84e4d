"""Time of the log-mel cache of 2,000 five-second clips, from WAV files to the finished memory-mapped file.

    python -m benchmarks.fbank [--clips 2000] [--cores 2] [--json fbank.json]

The clips are random noise, written to a temporary folder beforehand. The time includes starting the
worker processes and the measured mean and standard deviation, not the imports.
"""

import statistics
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from fungi_audio import audio, fbank_cache

from .common import CLOCKS, arguments, machine, report

SECONDS, FRAMES = 5, 512


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--cores", type=int, default=2, help="worker processes (default 2)")
    options = parser.parse_args()
    now = CLOCKS[options.clock]
    random, times = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{number}.wav" for number in range(options.clips)]
        for path in paths:
            soundfile.write(path, 0.1 * random.standard_normal(SECONDS * audio.RATE), audio.RATE, subtype="PCM_16")
        for _ in range(options.rounds):
            start = now()
            fbank_cache.build(paths, FRAMES, folder / "fbank.npy", options.cores)
            built = now()
            fbank_cache.write_statistics(folder / "fbank.npy", np.arange(len(paths)), folder / "fbank.json")
            times.append((built - start, now() - built))
    cores = options.cores if options.clock == "wall" else 1
    cache, measured = (statistics.median(part) for part in zip(*times, strict=True))
    rows = [
        ["what", "s", "ms a clip and core"],
        [f"log-mel cache, {options.clips} clips", f"{cache:.1f}", f"{1e3 * cache * cores / options.clips:.2f}"],
        ["mean and standard deviation", f"{measured:.1f}", f"{1e3 * measured / options.clips:.2f}"],
        ["together", f"{cache + measured:.1f}", ""],
    ]
    numbers = {"clips": options.clips, "cores": options.cores, "seconds": times}
    report("Log-mel", machine("cpu", options.threads, options.clock), rows, numbers, options.json)


if __name__ == "__main__":
    main()
