"""Predicted time and memory of the heavy jobs: for run-time and memory requests and shard counts.

Every time is work divided by a rate: multiply-adds of the transformer counted from its shapes, over the
rate the device achieves (`gpu_tflops`, `cpu_gflops` of the config's `cluster:`), and per-clip times of
SoX and the front end measured on one core of a server CPU. `minutes` turns a prediction into a request
with a margin. Nothing here imports torch: the module runs while the DAG is built.
"""

import math
from typing import Any

from ..models.definitions import Reading, Shape
from ..models.ssast.definition import PATCHES, STRIDES, WIDTHS, trunk

FBANK_SECONDS = 0.0008  #: reading a second of 16 kHz audio and taking its fbank, one core
STEP_SECONDS = {  #: a clip of some seconds, one core; on a local disk a half (resample) to a tenth (place) of it
    "unpack": 0.002,
    "synthesise": 0.02,
    "index": 0.005,
    "resample": 0.02,
    "place": 0.01,
}
UNKNOWN_SECONDS = 10.0  #: of a clip, where the dataset's definition has neither `seconds:` nor `target_length:`
UNKNOWN_CLIPS = 50_000  #: assumed for run times when the dataset's definition has no `clips:`

SHARD_SECONDS = 20 * 60  #: what one encode job of the base model should take
SHARD_TFLOPS = 60  #: rate that shards are sized for; fixed, so that no edit of the cluster's settings moves clips
SHARD_GB = 4  #: activations that one encode job holds

SAFETY = 3  #: requested time over predicted time: slower disks, busy nodes, a cold page cache
JOB_SECONDS = 120  #: starting Python and torch, loading a checkpoint
LOWEST_MINUTES = 5
LOWEST_SHARED_MINUTES = 3  #: the only one of its group, started on a slow file system

PYTHON_MB = 1_000  #: snakemake, Python, numpy, pyarrow
CLIP_BYTES = 2_500  #: names, paths and findings of a clip, in a job that looks at all of them
SOX_MB = 50
TORCH_MB = 3_500  #: torch and its libraries, with a CUDA context
VALUES_PER_SECOND = 12_800  #: of a log-mel; a raw waveform has a few more
BATCH_CLIPS = 64  #: clips whose log-mels a core holds at once
BATCH_TOKENS = 3_000  #: tokens of one batch of the trunk on the CPU (`encode.LARGEST_BATCH`)
LIVE_CLIPS = 256  #: clips whose gradients wait for their projection (`objectives.extract.LIVE_CLIPS`)
GRADIENT_CLIPS = 1024  #: clips whose gradients are projected at once (`objectives.extract.GRADIENT_CLIPS`)
PROJECTED_ROWS = 16  #: rows of the gradient that are formed at once (`projection.project`)
HEAD_WIDTH = 64
MODEL_COPIES = 7  #: weights, gradient, Adam's two moments, the best so far, what is read or written to go on
READ_AHEAD = 16  #: batches that the loader's processes of a training hold


BASE = trunk(WIDTHS["base"], PATCHES["patch"], STRIDES[PATCHES["patch"]], stored=4 * WIDTHS["base"])


def clip_seconds(dataset: dict[str, Any], reading: Reading | None = None) -> float:
    """How long a clip of a dataset is, as a backbone reads it: all alike, or about what the definition says."""
    if reading is not None and reading.seconds is not None:
        return reading.seconds
    if frames := dataset.get("target_length"):
        return float(frames / 100)
    return float(dataset.get("seconds") or UNKNOWN_SECONDS)


def rate(cluster: dict[str, Any], device: str, cores: int = 1) -> float:
    """Operations per second of one extraction job; `auto` counts on the GPU that the job asks for."""
    return cluster["cpu_gflops"] * 1e9 * cores if device == "cpu" else cluster["gpu_tflops"] * 1e12


def clips(dataset: dict[str, Any]) -> int:
    """Clips of a dataset's definition, or a guess when it does not say."""
    return dataset.get("clips") or UNKNOWN_CLIPS


def encode_seconds(clips: float, views: int, seconds: float, shape: Shape, rate: float) -> float:
    """Time to encode `views` forwards of each clip of so many seconds; reading the cache hides behind it."""
    return clips * views * shape.forward_flops(seconds) / rate


def gradient_seconds(clips: float, folds: int, shape: Shape, rate: float) -> float:
    """Time to form and project one gradient `[width, width + 1]` to `width` numbers, per clip and fold."""
    width = shape.width
    return clips * folds * 2 * width * (width * (width + 1)) / rate


def inputs_seconds(clips: int, seconds: float, cores: int) -> float:
    """Time of the front end's cache of clips of so many seconds (about 4 ms for 5 s)."""
    return clips * seconds * FBANK_SECONDS / cores


def step_seconds(step: str, clips: int, cores: int) -> float:
    """Time of one of the `STEP_SECONDS`: what happens to the files of a dataset before their log-mels."""
    return clips * STEP_SECONDS[step] / cores


def training_seconds(samples: float, seconds: float, shape: Shape, rate: float) -> float:
    """Time of `samples` forward and backward passes (a backward costs two forwards)."""
    return 3 * encode_seconds(samples, 1, seconds, shape, rate)


def activation_bytes(clips: float, views: int, shape: Shape) -> float:
    """Size of what is stored of the trunk, fp32; of SSAST the target's input and the residual stream."""
    return clips * views * shape.stored * 4


def encode_mb(clips: float, views: int, seconds: float, shape: Shape) -> int:
    """Memory of an encode job: model and copy, a batch's activations (all in fp32) and the shard's result."""
    n = shape.tokens(seconds)
    model = 2 * 12 * shape.depth * shape.width**2
    inputs = max(1, BATCH_TOKENS // n)
    batch = inputs * (VALUES_PER_SECOND * seconds + n * 16 * shape.width + 12 * n**2)
    return PYTHON_MB + TORCH_MB + math.ceil((4 * (model + batch) + activation_bytes(clips, views, shape)) / 1e6)


def gradient_mb(clips: float, views: int, shape: Shape) -> int:
    """Memory of a gradient job: model, a block of rows of signs and of a batch's gradients, activations, features."""
    model = 12 * shape.depth * shape.width**2
    block = (shape.width + GRADIENT_CLIPS) * PROJECTED_ROWS * (shape.width + 1)
    arrays = 4 * (model + block + clips * shape.width)
    return PYTHON_MB + TORCH_MB + math.ceil((arrays + 2 * activation_bytes(GRADIENT_CLIPS, views, shape)) / 1e6)


def live_mb(shape: Shape) -> int:
    """Memory of gradients that are formed before they are projected together, and of a block of rows of signs."""
    block = (shape.width + LIVE_CLIPS) * PROJECTED_ROWS * (shape.width + 1)
    return math.ceil(4 * (LIVE_CLIPS * shape.width * (shape.width + 1) + block) / 1e6)


def training_mb(shape: Shape, seconds: float, batch: float, processes: int = 1, kept: float = 0) -> int:
    """Memory of a training: torch, weights and Adam's moments in every process, the log-mels that are read ahead.

    Args:
        batch: clips of a step, of all processes.
        kept: clips whose activations wait in main memory for the backward pass; 0 on a GPU.
    """
    n = shape.tokens(seconds)
    model = MODEL_COPIES * 12 * shape.depth * shape.width**2
    ahead = READ_AHEAD * batch * VALUES_PER_SECOND * seconds
    activations = kept * shape.depth * (16 * n * shape.width + 2 * (shape.width // HEAD_WIDTH) * n**2)
    return PYTHON_MB + math.ceil(processes * (TORCH_MB + 4 * model / 1e6) + 4 * (ahead + activations) / 1e6)


def inputs_mb(clips: int, seconds: float, values: float, cores: int) -> int:
    """Memory of the cache's job: each core holds one batch of `values` numbers a second, the file is memory-mapped."""
    return step_mb(clips, 0) + cores * (400 + math.ceil(4 * BATCH_CLIPS * seconds * values / 1e6))


def step_mb(clips: int, cores: int) -> int:
    """Memory of a step: the dataset's table with its paths, one SoX a core."""
    return PYTHON_MB + SOX_MB * cores + math.ceil(clips * CLIP_BYTES / 1e6)


def shards(dataset: dict[str, Any], views: int) -> int:
    """Encode jobs that a dataset splits into for a pass of `views` forwards a clip.

    The definition's own `shards` wins; an unknown number of clips makes one shard. Otherwise one job of
    the base patch model takes `SHARD_SECONDS` at `SHARD_TFLOPS` and holds `SHARD_GB` at most. The count
    depends on the dataset and the pass only, so that adding a backbone, a feature or a faster GPU keeps
    what is extracted.
    """
    if dataset.get("shards"):
        return int(dataset["shards"])
    clips = dataset.get("clips") or 0
    seconds = encode_seconds(clips, views, clip_seconds(dataset), BASE, SHARD_TFLOPS * 1e12)
    size = activation_bytes(clips, views, BASE)
    return max(1, math.ceil(seconds / SHARD_SECONDS), math.ceil(size / (SHARD_GB * 1e9)))


def minutes(seconds: float, attempt: int = 1, shared: bool = False) -> int:
    """Run time to ask for: the prediction with its margin, more on every attempt; `shared`: of a job among others."""
    start, lowest = (0, LOWEST_SHARED_MINUTES) if shared else (JOB_SECONDS, LOWEST_MINUTES)
    return attempt * max(lowest, math.ceil((start + SAFETY * seconds) / 60))
