"""Start-up of an extraction job: imports, checkpoint, projection, head, in a fresh process each time.

python -m benchmarks.startup [--size base] [--json startup.json]
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from fungi_audio.engine.projection import make_head, make_signs, save_head, save_signs
from fungi_audio.models.ssast import network as ssast

from .common import CLOCKS, arguments, machine, report

JOB = """
import sys, time
start = time.{clock}()
import pandas, torch
from fungi_audio.engine import negatives, shard
from fungi_audio.engine.device import claim
from fungi_audio.engine.projection import load_head, load_signs
from fungi_audio.objectives import extract
imported = time.{clock}()
checkpoint, signs, head = sys.argv[1:]
backbone = shard.open_backbone(checkpoint, dict(frames=512), torch.device("cpu"), "fp32")
loaded = time.{clock}()
load_signs(signs).digest, load_head(head)
print(imported - start, loaded - imported, time.{clock}() - loaded)
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--size", default="base", choices=ssast.WIDTHS)
    options = parser.parse_args()
    width = ssast.WIDTHS[options.size]
    now = CLOCKS[options.clock]
    job = JOB.format(clock="perf_counter" if options.clock == "wall" else "process_time")
    parts = []
    with tempfile.TemporaryDirectory() as name:
        files = [str(Path(name) / file) for file in ("checkpoint.pth", "signs.safetensors", "head.safetensors")]
        state = ssast.random_state(f"{options.size}-patch", 1)
        torch.save({f"module.{key}": value for key, value in state.items()}, files[0])
        save_signs(files[1], make_signs(width, width, width + 1, 42))
        save_head(files[2], make_head(width, 42, "kl"))
        for _ in range(options.rounds):
            start = now()
            run = subprocess.run([sys.executable, "-c", job, *files], check=True, capture_output=True, text=True)
            total = now() - start
            parts.append((*map(float, run.stdout.split()), total))
    names = ("imports", "checkpoint to backbone", "projection and head", "process from start to end")
    medians = [statistics.median(part) for part in zip(*parts, strict=True)]
    rows = [["what", "s"], *([name, f"{seconds:.2f}"] for name, seconds in zip(names, medians, strict=True))]
    report(
        "Start-up",
        machine("cpu", options.threads, options.clock),
        rows,
        dict(zip(names, medians, strict=True)),
        options.json,
    )


if __name__ == "__main__":
    main()
