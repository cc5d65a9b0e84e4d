"""The extraction engine against the published algorithm and against what the hardware can do.

    python -m benchmarks.extract [--device cuda] [--size base] [--frames 512] [--views 4] [--json extract.json]

Weights and inputs are random; the time does not depend on them. Everything is timed in one process, variant
after variant in each round, and compared by the median of the rounds' ratios. "Frozen forward" is the
engine's own pass without a gradient: trunk, rest of the last block, pooling. The comparison clips of SimCLR
(64 x 2 views, once a fold) are encoded beforehand on both sides. The naive code takes a clip at a time, as
the memory of its outer products demands.
"""

import argparse
import statistics
from functools import partial
from typing import Any

import numpy as np
import torch

from fungi_audio.backbones import ssast
from fungi_audio.backbones.base import Activations
from fungi_audio.encode import Source, batch_size, encode, resolve_device
from fungi_audio.objectives import build_objective
from fungi_audio.projection import Head, make_head, make_signs

from .common import Variants, arguments, machine, paired, peak_megabytes, ratio, report
from .naive import Naive, one_at_a_time
from .products import Products

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MEAN, STD = -6.6268077, 5.358466
COMPARISON = 128


class Bench:
    """Backbone, artifacts and clips of a benchmark."""

    def __init__(self, options: argparse.Namespace, precision: str, clips: int) -> None:
        self.options, self.device = options, torch.device(options.device)
        torch.set_num_threads(options.threads)
        state = ssast.random_state(f"{options.size}-{options.kind}", 1)
        self.backbone = ssast.build(state, options.frames).to(self.device).set_precision(DTYPES[precision])
        width = self.backbone.width
        self.signs = make_signs(width, *self.backbone.gradient_shape, 42).to(self.device)
        self.head = Head(*(value.to(self.device) for value in make_head(width, 42, "benchmark")))
        self.comparison = torch.randn(options.folds, COMPARISON, width).to(self.device)
        self.kl = build_objective("kl", head=self.head)
        self.simclr = [
            build_objective("simclr", head=self.head, comparison=fold, views=options.views) for fold in self.comparison
        ]
        fbank = torch.randn(clips, options.frames, ssast.MEL) * STD + MEAN
        self.clean = Source(fbank.numpy(), MEAN, STD, np.arange(clips))
        self.views = self.clean._replace(keys=torch.arange(clips * options.views))

    def activations(self, source: Source) -> Activations:
        ((_, part),) = encode(self.backbone, source, len(source.rows))
        return Activations(*(tensor.to(self.device) for tensor in part))

    def frozen(self) -> object:
        return self.backbone.pooled(self.activations(self.clean))

    def kl_and_embedding(self) -> object:
        activations = self.activations(self.clean)
        return self.backbone.pooled(activations), self.kl.features(self.backbone, activations, self.signs)

    def contrast(self, folds: int) -> object:
        activations = self.activations(self.views)
        return [fold.features(self.backbone, activations, self.signs) for fold in self.simclr[:folds]]


class NaiveBench(Bench):
    """The same work by the published algorithm."""

    def __init__(self, options: argparse.Namespace, precision: str, clips: int) -> None:
        super().__init__(options, "fp32", clips)
        self.naive = Naive(self.backbone, self.signs)
        self.autocast = partial(torch.autocast, options.device, torch.bfloat16, precision == "bf16")
        self.fbank = (torch.from_numpy(self.clean.fbank) - MEAN) / (2 * STD)

    def kl_and_embedding(self) -> object:
        with self.autocast():
            embedding = one_at_a_time(self.naive.embedding, self.fbank)
            return embedding, one_at_a_time(partial(self.naive.kl, head=self.head), self.fbank)

    def contrast(self, folds: int) -> object:
        views = self.fbank.unsqueeze(1).expand(-1, self.options.views, -1, -1)
        with self.autocast():
            return [
                one_at_a_time(partial(self.naive.simclr, head=self.head, comparison=fold), views)
                for fold in self.comparison[:folds]
            ]


def peak(options: argparse.Namespace, naive: bool, precision: str, work: str, *folds: int) -> float:
    """Peak megabytes of one piece of work in a process of its own."""
    kind = NaiveBench if naive else Bench
    return peak_megabytes(_work, kind, options, precision, 1 if naive else 4, work, *folds)


def _work(kind: type[Bench], options: argparse.Namespace, precision: str, clips: int, work: str, *folds: int) -> None:
    getattr(kind(options, precision, clips), work)(*folds)


def measure(options: argparse.Namespace) -> tuple[list[list[str]], dict[str, Any]]:
    """All measurements as table rows and as numbers."""
    device, clips = options.device, options.clips
    engines = {precision: Bench(options, precision, clips) for precision in options.precisions}
    naive = NaiveBench(options, options.naive_precision, options.naive_clips)
    head = ["what", "ms a clip", "ratio", "peak MB"]
    rows, numbers = [head], {}

    def add(name: str, seconds: float, ratio: str = "", megabytes: float | None = None, **more: Any) -> None:
        rows.append([name, f"{1e3 * seconds:.1f}", ratio, "" if megabytes is None else f"{megabytes:,.0f}"])
        numbers[name] = {"seconds": seconds, "megabytes": megabytes, "ratio": ratio, **more}

    for precision, bench in engines.items():
        size = batch_size(bench.backbone, options.frames, ssast.MEL, bench.device)
        products = Products(bench.backbone, size)
        inputs = torch.randn(size, options.frames, ssast.MEL, device=device)
        trunk = partial(bench.backbone.activations, inputs)
        parts: Variants = {"linear": products.linear, "trunk": trunk, "attention": products.attention}
        times = paired(parts, options.rounds, device)
        median = {name: statistics.median(values) for name, values in times.items()}
        flops = products.linear_flops + products.attention_flops
        share = ratio(times["linear"], times["trunk"]) * flops / products.linear_flops
        rates = {
            "linear_gflops": products.linear_flops / median["linear"] / 1e9,
            "attention_gflops": products.attention_flops / median["attention"] / 1e9,
            "trunk_gflops": flops / median["trunk"] / 1e9,
            "share": share,
            "batch": size,
            "times": times,
        }
        note = f"{100 * share:.0f} % of {rates['linear_gflops']:,.0f} GFLOP/s"
        add(f"trunk, {precision}", median["trunk"] / size, note, **rates)

    for work, folds in (("kl_and_embedding", ()), ("contrast", (1,))):
        variants: Variants = {"naive": partial(getattr(naive, work), *folds)}
        for precision, bench in engines.items():
            variants[precision] = partial(getattr(bench, work), *folds)
            if folds:
                variants[f"{precision}, {options.folds} folds"] = partial(bench.contrast, options.folds)
            else:
                variants[f"{precision}, frozen"] = bench.frozen
        times = paired(variants, options.rounds, device)
        label = f"SimCLR, {options.views} views" if folds else "KL + embedding"
        memory = peak(options, True, options.naive_precision, work, *folds) if options.memory else None
        add(f"{label}, naive", statistics.median(times["naive"]) / options.naive_clips, "", memory, times=times)
        for precision in engines:
            seconds = statistics.median(times[precision]) / clips
            speed = ratio(times["naive"], times[precision]) * clips / options.naive_clips
            memory = peak(options, False, precision, work, *folds) if options.memory else None
            add(f"{label}, {precision}", seconds, f"{speed:.1f} x naive", memory, speed=speed)
            other = f"{precision}, {options.folds} folds" if folds else f"{precision}, frozen"
            seconds = statistics.median(times[other]) / clips
            if folds:
                cost = ratio(times[other], times[precision])
                add(f"{label}, {other}", seconds, f"{cost:.3f} x one fold", cost=cost)
            else:
                cost = ratio(times[precision], times[other])
                add(f"frozen forward, {precision}", seconds, f"KL + embedding: {cost:.3f} x", cost=cost)
    return rows, numbers


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--size", default="base", choices=ssast.WIDTHS)
    parser.add_argument("--kind", default="patch", choices=ssast.PATCHES)
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--views", type=int, default=4, help="views of SimCLR (default 4)")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--clips", type=int, help="clips a round (default 16 on a CPU, 256 on a GPU)")
    parser.add_argument("--naive-clips", type=int, default=1, help="clips a round of the naive code (default 1)")
    parser.add_argument("--naive-precision", default="fp32", choices=DTYPES)
    parser.add_argument("--precisions", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave out the memory runs")
    options = parser.parse_args()
    options.device = resolve_device(options.device).type
    options.clips = options.clips or {"cpu": 16, "cuda": 256}[options.device]
    torch.set_num_threads(options.threads)
    rows, numbers = measure(options)
    settings = {key: value for key, value in vars(options).items() if key != "json"}
    report("Extraction", machine(options.device, options.threads) | {"settings": settings}, rows, numbers, options.json)


if __name__ == "__main__":
    main()
