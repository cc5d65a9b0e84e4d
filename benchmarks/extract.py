"""The extraction engine against the published algorithm and against what the hardware can do.

    python -m benchmarks.extract [--device cuda] [--size base] [--frames 512] [--views 4] [--json extract.json]

Weights and inputs are random; the time does not depend on them. All variants run in one process, in turn in
each round; the table has medians, ratios are medians of the rounds' ratios. As in a job, encoding goes
through `encode.encode` and a gradient batch is larger than an encoding batch: a time per clip is the encoding
of `--clips` inputs over their number plus the gradients of `--gradient-clips` clips over theirs (their
activations are the encoded ones, repeated). "Frozen forward" is the engine's own pass without a gradient.
The comparison clips of SimCLR (64 x 2 views, once a fold) are encoded beforehand on both sides. The naive
code takes a clip at a time, as the memory of its outer products demands.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fungi_audio.api import Arrays
from fungi_audio.engine.batch import embeddings
from fungi_audio.engine.encode import Computed, batch_positions, encode
from fungi_audio.engine.inputs import Pool
from fungi_audio.engine.projection import Head, make_head, make_signs
from fungi_audio.frontends.base import Statistics
from fungi_audio.frontends.kaldi import normalise
from fungi_audio.models.base import Backbone, Inputs
from fungi_audio.models.checkpoints import Checkpoint
from fungi_audio.models.ssast import network as ssast
from fungi_audio.objectives import build_objective
from fungi_audio.objectives.base import Objective
from fungi_audio.objectives.embedding import Embedding
from fungi_audio.objectives.extract import of_inputs
from fungi_audio.registry import REGISTRY, module

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
        self.backbone = backbone(options).to(self.device).set_precision(DTYPES[precision])
        width = self.backbone.width
        self.signs = make_signs(width, *self.backbone.gradient_shape, 42).to(self.device)
        self.head = Head(*(value.to(self.device) for value in make_head(width, 42, "benchmark")))
        self.comparison = torch.randn(options.folds, COMPARISON, width).to(self.device)
        self.kl = build_objective("kl", head=self.head)
        self.simclr = [
            build_objective("simclr", head=self.head, comparison=fold, views=options.views) for fold in self.comparison
        ]
        self.values = torch.randn(clips, options.frames, self.backbone.frontend.columns) * STD + MEAN
        rows = np.arange(max(1, clips // options.views))
        arrays, statistics = Arrays(self.values.numpy()), Statistics(MEAN, STD)
        self.clean = Pool(self.backbone.frontend, arrays, np.arange(clips), statistics)
        self.views = replace(self.clean, rows=rows, keys=torch.arange(len(rows) * options.views))

    def encode(self, pool: Pool) -> Computed:
        """What the trunk stores of a pool; of a backbone that stores nothing, its embeddings."""
        ((_, part),) = encode(self.backbone, pool, self._frozen, len(pool.rows))
        return part

    def _frozen(self, batch: Inputs, _: np.ndarray) -> Computed:
        return self.backbone.trunk(batch) if self.backbone.shapes else {"made": embeddings(self.backbone, batch)}

    def live(self, pool: Pool, objectives: list[Objective]) -> object:
        """Features of a backbone that stores nothing, a pass of the network each."""
        names = [str(row) for row in pool.rows]
        return [list(of_inputs(self.backbone, one, pool, self.signs, names, 0)) for one in objectives]

    def repeated(self, views: int) -> Computed:
        """Activations of `--gradient-clips` clips."""
        inputs, wanted = self.encode(self.clean), self.options.gradient_clips * views
        return {name: part.repeat(-(-wanted // len(part)), 1, 1)[:wanted] for name, part in inputs.items()}

    def kl_and_embedding(self) -> object:
        if not self.backbone.shapes:
            return self.live(self.clean, [Embedding(), self.kl])
        stored = self.encode(self.clean)
        return embeddings(self.backbone, stored), self.kl.features(self.backbone, stored, self.signs)

    def contrast(self, folds: int) -> object:
        if not self.backbone.shapes:
            return self.live(self.views, self.simclr[:folds])
        return self.gradients(folds, self.encode(self.views))

    def gradients(self, folds: int, stored: Computed) -> object:
        return [fold.features(self.backbone, stored, self.signs) for fold in self.simclr[:folds]]


def backbone(options: argparse.Namespace) -> Backbone:
    """A network of random weights."""
    family = module("family", options.family)
    checkpoint = Checkpoint(family.random_state(f"{options.size}-{options.kind}", 1), {}, Path("random"))
    return family.read(checkpoint, {"frames": options.frames} if options.family == "ssast" else {"kind": options.kind})


class NaiveBench(Bench):
    """The same work by the published algorithm."""

    def __init__(self, options: argparse.Namespace, precision: str, clips: int) -> None:
        super().__init__(options, "fp32", clips)
        self.naive = Naive(self.backbone, self.signs)
        self.autocast = partial(torch.autocast, options.device, torch.bfloat16, precision == "bf16")
        self.fbank = normalise(self.values, MEAN, STD)

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


def peak(options: argparse.Namespace, kind: type[Bench], precision: str, work: str, *folds: int) -> float:
    """Peak megabytes of one piece of work in a process of its own."""
    clips = 1 if kind is NaiveBench else options.views
    return peak_megabytes(_work, kind, options, precision, clips, work, *folds) if options.memory else float("nan")


def _work(kind: type[Bench], options: argparse.Namespace, precision: str, clips: int, work: str, *folds: int) -> None:
    getattr(kind(options, precision, clips), work)(*folds)


def trunk(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Rate of the trunk and of its matrix products alone."""
    one = int(bench.backbone.positions(np.array([options.frames]))[0])
    batch = max(1, batch_positions(bench.backbone, bench.device) // one)
    products = Products(bench.backbone, batch)
    inputs = Inputs.alike(torch.randn(batch, options.frames, ssast.MEL, device=bench.device))
    variants: Variants = {
        "linear": products.linear,
        "trunk": partial(bench.backbone.trunk, inputs),
        "attention": products.attention,
    }
    times = paired(variants, options.rounds, options.device, options.clock)
    flops = products.linear_flops + products.attention_flops
    rates = {
        "trunk": flops / times["trunk"] / 1e9,
        "linear": products.linear_flops / times["linear"] / 1e9,
        "attention": products.attention_flops / times["attention"] / 1e9,
    }
    return {
        "batch": batch,
        "seconds": np.median(times["trunk"]) / batch,
        "gflops": {name: np.median(rate) for name, rate in rates.items()},
        "share of linear": ratio(rates["trunk"], rates["linear"]),
        "share of all products": ratio(times["linear"] + times["attention"], times["trunk"]),
    }


def passes(options: argparse.Namespace, engines: dict[str, Bench]) -> dict[str, np.ndarray]:
    """Seconds a clip, or a forward for "encode", of every pass, `[rounds]`."""
    naive = NaiveBench(options, options.naive_precision, 1)
    bench = next(iter(engines.values()))
    clean, views = bench.repeated(1), bench.repeated(options.views)
    variants: Variants = {
        "naive kl": naive.kl_and_embedding,
        "naive simclr": partial(naive.contrast, 1),
        "pooled": partial(embeddings, bench.backbone, clean),
        "kl": partial(bench.kl.features, bench.backbone, clean, bench.signs),
        "simclr 1": partial(bench.gradients, 1, views),
        f"simclr {options.folds}": partial(bench.gradients, options.folds, views),
    }
    clips = {name: 1 if name.startswith("naive") else options.gradient_clips for name in variants}
    for precision, engine in engines.items():
        for name, source in (("clean", engine.clean), ("views", engine.views)):
            variants[f"{name} {precision}"] = partial(engine.encode, source)
            clips[f"{name} {precision}"] = len(source.rows)
    times = paired(variants, options.rounds, options.device, options.clock)
    return {name: seconds / clips[name] for name, seconds in times.items()}


def measure_live(options: argparse.Namespace) -> tuple[list[list[str]], dict[str, Any]]:
    """Of a backbone that stores nothing: its features beside the frozen forward, in one process."""
    rows, numbers = [["what", "ms a clip", "x frozen"]], {}
    for precision in options.precisions:
        bench = Bench(options, precision, options.clips)
        variants: Variants = {
            "frozen": partial(bench.encode, bench.clean),
            "KL": partial(bench.live, bench.clean, [bench.kl]),
            "KL and embedding": bench.kl_and_embedding,
            f"SimCLR, {options.views} views, a view": partial(bench.contrast, 1),
        }
        counts = {name: len(bench.clean.rows) for name in variants}
        times = paired(variants, options.rounds, options.device, options.clock)
        for name, seconds in times.items():
            each = seconds / counts[name]
            against = ratio(each, times["frozen"] / counts["frozen"])
            rows.append([f"{name}, {precision}", f"{1e3 * np.median(each):.1f}", f"{against:.3f}"])
            numbers[f"{name} {precision}"] = each.tolist()
    return rows, numbers


def measure(options: argparse.Namespace) -> tuple[list[list[str]], dict[str, Any]]:
    """All measurements as table rows and as numbers."""
    engines = {precision: Bench(options, precision, options.clips) for precision in options.precisions}
    trunks = {precision: trunk(engine, options) for precision, engine in engines.items()}
    times = passes(options, engines)
    one, folds = times["simclr 1"], times[f"simclr {options.folds}"]
    rows = [["what", "ms a clip", "ratio", "peak MB"]]

    def add(name: str, seconds: np.ndarray, ratio: str, megabytes: float = float("nan")) -> None:
        memory = "" if np.isnan(megabytes) else f"{megabytes:,.0f}"
        rows.append([name, f"{1e3 * np.median(seconds):.1f}", ratio, memory])

    for precision, rates in trunks.items():
        share = f"{100 * rates['share of linear']:.0f} % of {rates['gflops']['linear']:,.0f} GFLOP/s"
        add(f"trunk, {precision}", rates["seconds"], f"{share}; {100 * rates['share of all products']:.0f} % products")
    for name, work in (("kl", ("kl_and_embedding",)), ("simclr", ("contrast", 1))):
        title = "KL + embedding" if name == "kl" else f"SimCLR, {options.views} views"
        naive = times[f"naive {name}"]
        add(f"{title}, naive {options.naive_precision}", naive, "", peak(options, NaiveBench, "fp32", *work))
        for precision in engines:
            if name == "kl":
                frozen = times[f"clean {precision}"] + times["pooled"]
                seconds = frozen + times["kl"]
                note = f"{ratio(seconds, frozen):.3f} x frozen"
                add(f"frozen forward, {precision}", frozen, "")
            else:
                seconds = times[f"views {precision}"] + one
                cost = ratio(times[f"views {precision}"] + folds, seconds)
                note = f"{options.folds} folds {cost:.3f} x one"
            speed = f"{ratio(naive, seconds):.1f} x naive, {note}"
            add(f"{title}, {precision}", seconds, speed, peak(options, Bench, precision, *work))
    return rows, {
        "trunk": trunks,
        "seconds": {name: seconds.tolist() for name, seconds in times.items()},
        "table": rows,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--family", default="ssast", choices=list(REGISTRY["family"]))
    parser.add_argument("--size", default="base", help="of the family's untrained networks, such as tiny or base")
    parser.add_argument("--kind", default="patch", help="patch or frame of ssast, frame or clip of atst")
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--views", type=int, default=4, help="views of SimCLR (default 4)")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--clips", type=int, help="inputs that a round encodes (default 8, 2048 on a GPU)")
    parser.add_argument("--gradient-clips", type=int, default=256, help="clips of a gradient batch (default 256)")
    parser.add_argument("--naive-precision", default="fp32", choices=DTYPES)
    parser.add_argument("--precisions", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave out the memory runs")
    options = parser.parse_args()
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.clips = options.clips or {"cpu": 8, "cuda": 2048}[options.device]
    torch.set_num_threads(options.threads)
    rows, numbers = measure(options) if backbone(options).shapes else measure_live(options)
    settings = {key: value for key, value in vars(options).items() if key != "json"}
    facts = machine(options.device, options.threads, options.clock) | {"settings": settings}
    report("Extraction", facts, rows, numbers, options.json)


if __name__ == "__main__":
    main()
