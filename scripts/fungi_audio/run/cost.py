"""Predicted time and memory of the heavy jobs: for run-time and memory requests and shard counts.

Every time is work divided by a rate: multiply-adds of the transformer counted from its shapes, over the
rate the device achieves (`gpu_tflops`, `cpu_gflops` of the config's `cluster:`), and per-clip times of
SoX and the front end measured on one core of a server CPU. `minutes` turns a prediction into a request
with a margin. Nothing here imports torch: the module runs while the DAG is built.
"""

import math
from dataclasses import dataclass
from typing import Any

from ..models.ssast.definition import MEL, PATCHES, STRIDES, patch_grid

FRAME_SECONDS = 0.01  #: hop of the front end
FBANK_SECONDS = 0.0008  #: reading a second of 16 kHz audio and taking its fbank, one core
STEP_SECONDS = {  #: a clip of some seconds, one core; on a local disk a half (resample) to a tenth (place) of it
    "unpack": 0.002,
    "synthesise": 0.02,
    "index": 0.005,
    "resample": 0.02,
    "place": 0.01,
}
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
BATCH_CLIPS = 64  #: clips whose log-mels a core holds at once
BATCH_TOKENS = 3_000  #: tokens of one batch of the trunk on the CPU (`encode.LARGEST_BATCH`)
GRADIENT_CLIPS = 1024  #: clips whose gradients are projected at once (`extract.GRADIENT_CLIPS`)
PROJECTED_ROWS = 16  #: rows of the gradient that are formed at once (`projection.project`)
WIDTHS = {"tiny": 192, "small": 384, "base": 768}
DEPTH = 12
HEAD_WIDTH = 64
MODEL_COPIES = 7  #: weights, gradient, Adam's two moments, the best so far, what is read or written to go on
READ_AHEAD = 16  #: batches that the loader's processes of a training hold


@dataclass(frozen=True)
class Trunk:
    """Shape of a transformer: embedding width, blocks, patch and stride as (mel bins, frames)."""

    width: int = 768
    depth: int = DEPTH
    patch: tuple[int, int] = PATCHES["patch"]
    stride: tuple[int, int] = STRIDES[PATCHES["patch"]]


def trunk(backbone: dict[str, Any]) -> Trunk:
    """Shape of a backbone as far as its definition tells.

    The size and patch kind are read from the checkpoint's name; an own file that names neither counts
    as a base patch model, the most expensive one.
    """
    checkpoint = str(backbone["checkpoint"]).lower()
    width = next((width for size, width in WIDTHS.items() if size in checkpoint), WIDTHS["base"])
    patch = PATCHES["frame" if "frame" in checkpoint else "patch"]
    mel, time = backbone.get("stride") or STRIDES[patch]
    return Trunk(width=width, patch=patch, stride=(mel, time))


def tokens(frames: int, trunk: Trunk) -> int:
    """Patch tokens of a `[MEL, frames]` spectrogram, one patch at least, and the two special ones."""
    grid = patch_grid(max(frames, trunk.patch[1]), trunk.patch, trunk.stride)
    return grid.mel * grid.time + 2


def forward_flops(width: int, depth: int, tokens: int) -> int:
    """Operations of one forward pass: a multiply-add counts as two.

    Per block: qkv, projection and the four-fold MLP (12 width² weights, each used once a token) and the
    two attention products. The patch embedding and the norms (below 2 %) are left out, the number of
    heads does not matter.
    """
    return depth * (2 * tokens * 12 * width**2 + 4 * tokens**2 * width)


def rate(cluster: dict[str, Any], device: str, cores: int = 1) -> float:
    """Operations per second of one extraction job; `auto` counts on the GPU that the job asks for."""
    return cluster["cpu_gflops"] * 1e9 * cores if device == "cpu" else cluster["gpu_tflops"] * 1e12


def clips(dataset: dict[str, Any]) -> int:
    """Clips of a dataset's definition, or a guess when it does not say."""
    return dataset.get("clips") or UNKNOWN_CLIPS


def encode_seconds(clips: float, views: int, frames: int, trunk: Trunk, rate: float) -> float:
    """Time to encode `views` forwards of each clip; reading the log-mel cache hides behind it."""
    return clips * views * forward_flops(trunk.width, trunk.depth, tokens(frames, trunk)) / rate


def gradient_seconds(clips: float, folds: int, trunk: Trunk, rate: float) -> float:
    """Time to form and project one gradient `[width, width + 1]` to `width` numbers, per clip and fold."""
    width = trunk.width
    return clips * folds * 2 * width * (width * (width + 1)) / rate


def fbank_seconds(clips: int, frames: int, cores: int) -> float:
    """Time of the log-mel cache of clips of `frames` (about 4 ms for 5 s)."""
    return clips * frames * FRAME_SECONDS * FBANK_SECONDS / cores


def step_seconds(step: str, clips: int, cores: int) -> float:
    """Time of one of the `STEP_SECONDS`: what happens to the files of a dataset before their log-mels."""
    return clips * STEP_SECONDS[step] / cores


def training_seconds(samples: float, frames: int, trunk: Trunk, rate: float) -> float:
    """Time of `samples` forward and backward passes (a backward costs two forwards)."""
    return 3 * encode_seconds(samples, 1, frames, trunk, rate)


def activation_bytes(clips: float, views: int, trunk: Trunk) -> float:
    """Size of stored activations: target layer's input and residual stream of two tokens, fp32."""
    return clips * views * 4 * trunk.width * 4


def encode_mb(clips: float, views: int, frames: int, trunk: Trunk) -> int:
    """Memory of an encode job: model and copy, a batch's activations (all in fp32) and the shard's result."""
    n = tokens(frames, trunk)
    model = 2 * 12 * trunk.depth * trunk.width**2
    inputs = max(1, BATCH_TOKENS // n)
    batch = inputs * (MEL * frames + n * 16 * trunk.width + 12 * n**2)
    return PYTHON_MB + TORCH_MB + math.ceil((4 * (model + batch) + activation_bytes(clips, views, trunk)) / 1e6)


def gradient_mb(clips: float, views: int, trunk: Trunk) -> int:
    """Memory of a gradient job: model, a block of rows of signs and of a batch's gradients, activations, features."""
    model = 12 * trunk.depth * trunk.width**2
    block = (trunk.width + GRADIENT_CLIPS) * PROJECTED_ROWS * (trunk.width + 1)
    arrays = 4 * (model + block + clips * trunk.width)
    return PYTHON_MB + TORCH_MB + math.ceil((arrays + 2 * activation_bytes(GRADIENT_CLIPS, views, trunk)) / 1e6)


def training_mb(trunk: Trunk, frames: int, batch: float, processes: int = 1, kept: float = 0) -> int:
    """Memory of a training: torch, weights and Adam's moments in every process, the log-mels that are read ahead.

    Args:
        batch: clips of a step, of all processes.
        kept: clips whose activations wait in main memory for the backward pass; 0 on a GPU.
    """
    n = tokens(frames, trunk)
    model = MODEL_COPIES * 12 * trunk.depth * trunk.width**2
    ahead = READ_AHEAD * batch * MEL * frames
    activations = kept * trunk.depth * (16 * n * trunk.width + 2 * (trunk.width // HEAD_WIDTH) * n**2)
    return PYTHON_MB + math.ceil(processes * (TORCH_MB + 4 * model / 1e6) + 4 * (ahead + activations) / 1e6)


def fbank_mb(clips: int, frames: int, cores: int) -> int:
    """Memory of the log-mel cache's job: each core holds one batch, the file is memory-mapped."""
    return step_mb(clips, 0) + cores * (400 + math.ceil(4 * BATCH_CLIPS * frames * MEL / 1e6))


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
    base, clips = Trunk(), dataset.get("clips") or 0
    seconds = encode_seconds(clips, views, dataset["target_length"], base, SHARD_TFLOPS * 1e12)
    size = activation_bytes(clips, views, base)
    return max(1, math.ceil(seconds / SHARD_SECONDS), math.ceil(size / (SHARD_GB * 1e9)))


def minutes(seconds: float, attempt: int = 1, shared: bool = False) -> int:
    """Run time to ask for: the prediction with its margin, more on every attempt; `shared`: of a job among others."""
    start, lowest = (0, LOWEST_SHARED_MINUTES) if shared else (JOB_SECONDS, LOWEST_MINUTES)
    return attempt * max(lowest, math.ceil((start + SAFETY * seconds) / 60))
