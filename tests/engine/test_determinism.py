"""The same clips give the same features and the same table, however the work is cut up and ordered."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from fungi_audio.engine import encode, shard
from fungi_audio.engine.projection import make_head, make_signs
from fungi_audio.evaluate import scores
from fungi_audio.files import activations, features
from fungi_audio.frontends import cache as fbank_cache
from fungi_audio.frontends.base import Statistics
from fungi_audio.frontends.cache import Cache
from fungi_audio.frontends.kaldi import Fbank
from fungi_audio.models.base import Inputs
from fungi_audio.models.ssast import network as ssast
from fungi_audio.objectives import extract

CLIPS, FRAMES, VIEWS, SEED = 24, 48, 2, 1
STATE = ssast.random_state("tiny-patch", SEED)
COMPARISON = torch.randn(8, 192, generator=torch.Generator().manual_seed(SEED))
SETTINGS = {
    "pca": None,
    "knn": {"k": [1, 3], "votes": ["uniform", "cosine"], "temperature": 0.07},
    "linear": {"l2": {"values": 3, "from": -6, "to": 0}},
    "few_shot": {"shots": [2], "draws": 2},
}
FEATURES: dict[str, dict[str, Any]] = {
    "embedding": {"objective": "embedding"},
    "kl": {"objective": "kl", "temperature": 15},
    "simclr": {"objective": "simclr", "views": VIEWS},
}


class Way(NamedTuple):
    """How the work is done; none of it may show."""

    shards: int = 1
    batch: int = 8
    chunk: int = CLIPS
    gradient_batch: int = 1024
    threads: int = 1
    workers: int = 1
    shuffled: bool = False
    dtype: torch.dtype = torch.float32
    device: str = "cpu"


class Result(NamedTuple):
    features: dict[str, np.ndarray]
    table: pd.DataFrame


WAYS = {
    "three shards": Way(shards=3),
    "batches of one": Way(batch=1),
    "one large batch": Way(batch=1000),
    "chunks of five clips": Way(chunk=5),
    "gradients clip by clip": Way(gradient_batch=1),
    "two threads": Way(threads=2),
    "two loader processes": Way(workers=2),
    "clips in another order": Way(shuffled=True),
    "all at once": Way(5, 3, 4, 7, 2, 2, True),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for number in range(CLIPS):
        tone = np.sin(2 * np.pi * 200 * 2 ** (number % 3) * np.arange(8000 + 50 * number) / 16_000)
        soundfile.write(folder / f"{number:02d}.wav", 0.2 * tone + 0.1 * random.normal(size=len(tone)), 16_000)
    return folder


def run(clips: Path, folder: Path, way: Way) -> Result:
    """From 16 kHz audio to scores, by way of the files of a run."""
    names = sorted(path.name for path in clips.glob("*.wav"))
    if way.shuffled:
        names = [names[index] for index in np.random.default_rng(5).permutation(CLIPS)]
    number = [int(name[:2]) for name in names]
    labels = [f"tone {n % 3}" for n in number]
    table = pd.DataFrame({"clip_id": names, "label": labels, "fold": [n // 3 % 2 + 1 for n in number], "split": None})
    cache = folder / "fbank.npy"
    fbank_cache.build([clips / name for name in names], Fbank(FRAMES), cache, way.workers)
    backbone = ssast.build(STATE, FRAMES, layer=2).to(way.device).set_precision(way.dtype)
    parts: dict[str, list[str | Path]] = {name: [] for name in FEATURES}
    for number in range(way.shards):
        rows = shard.shard_rows(CLIPS, number, way.shards)
        for name, settings in FEATURES.items():
            where = (backbone.frontend, Cache(cache), Statistics(-6.0, 5.0))
            source = shard.pool(*where, table, rows, SEED, settings.get("views", 0))
            path = folder / f"{name}-{number}.safetensors"
            shard.encode_to(path, backbone, source, "key", {})
            artifacts = {"head": make_head(192, SEED, name)} if name != "embedding" else {}
            artifacts |= {"comparison": COMPARISON} if name == "simclr" else {}
            objective = extract.objective_for(settings, **artifacts)
            signs = make_signs(192, 192, 193, SEED) if artifacts else None
            batches = activations.read(path, way.gradient_batch)
            feature = np.concatenate(
                list(extract.of_stored(backbone, objective, batches, signs, table["clip_id"].iloc[rows].tolist()))
            )
            parts[name].append(folder / f"{name}-{number}.parquet")
            metadata = {"dataset": "tones", "backbone": "tiny", "settings": settings}
            features.write(parts[name][-1], table.iloc[rows], feature, metadata)
    values = {name: features.read(files)[1] for name, files in parts.items()}
    frames = [scores.evaluate(parts, fold, SETTINGS, SEED)[0] for fold in ("1", "2")]
    return Result(values, pd.concat(frames, ignore_index=True))


def run_with(clips: Path, folder: Path, way: Way) -> Result:
    threads = torch.get_num_threads()
    torch.set_num_threads(way.threads)
    try:
        with pytest.MonkeyPatch.context() as patch:
            positions = FRAMES * 128 // 100
            patch.setattr(encode, "batch_positions", lambda *_: way.batch * positions)
            patch.setattr(shard, "_chunk", lambda *_: way.chunk)
            return run(clips, folder, way)
    finally:
        torch.set_num_threads(threads)


def difference(one: Result, other: Result) -> float:
    """The largest relative difference of a clip's feature."""
    pairs = [(one.features[name], other.features[name]) for name in FEATURES]
    return max((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max() for a, b in pairs)


def cosine(one: Result, other: Result) -> float:
    """The lowest cosine between a clip's features."""
    pairs = [(one.features[name], other.features[name]) for name in FEATURES]
    return min(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() for a, b in pairs)


@pytest.fixture(scope="module")
def reference(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run_with(clips, tmp_path_factory.mktemp("reference"), Way())


@pytest.fixture(scope="module")
def reference_bf16(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run_with(clips, tmp_path_factory.mktemp("bf16"), Way(dtype=torch.bfloat16))


@pytest.mark.fault("determinism", "{way}, fp32 on the CPU", "features within 1e-6, the same table")
@pytest.mark.parametrize("way", WAYS)
def test_fp32(way: str, clips: Path, tmp_path: Path, reference: Result) -> None:
    result = run_with(clips, tmp_path, WAYS[way])
    assert difference(result, reference) < 1e-6
    pd.testing.assert_frame_equal(result.table, reference.table, check_exact=True)


@pytest.mark.fault("determinism", "gradients of {size} clips at once, fp32 on the CPU", "features within 1e-7")
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 11, 33])
@pytest.mark.parametrize("name", FEATURES)
def test_only_the_gradients_batch_changes(size: int, name: str) -> None:
    clips, views = 70, VIEWS if name == "simclr" else 1
    backbone = ssast.build(STATE, FRAMES, layer=2, gradient_tokens="all")
    inputs = torch.randn(clips * views, FRAMES, 128, generator=torch.Generator().manual_seed(2))
    trunk = backbone.trunk(Inputs.alike(inputs))
    artifacts = {"head": make_head(192, SEED, name)} if name != "embedding" else {}
    artifacts |= {"comparison": COMPARISON} if name == "simclr" else {}
    objective, signs = extract.objective_for(FEATURES[name], **artifacts), make_signs(192, 192, 193, SEED)
    whole = objective.features(backbone, trunk, signs)
    starts = range(0, clips * views, size * views)
    parts = [{name: tensor[first : first + size * views] for name, tensor in trunk.items()} for first in starts]
    cut = torch.cat([objective.features(backbone, part, signs) for part in parts])
    assert ((cut - whole).norm(dim=1) / whole.norm(dim=1)).max() < 1e-7


@pytest.mark.fault("determinism", "{way}, bf16 on the CPU", "features within 0.01")
@pytest.mark.parametrize("way", ["three shards", "batches of one", "clips in another order", "all at once"])
def test_bf16(way: str, clips: Path, tmp_path: Path, reference_bf16: Result) -> None:
    result = run_with(clips, tmp_path, WAYS[way]._replace(dtype=torch.bfloat16))
    assert difference(result, reference_bf16) < 0.01


@pytest.mark.fault("determinism", "bf16 instead of fp32 on the CPU", "features point the same way: cosine above 0.999")
def test_bf16_against_fp32(reference: Result, reference_bf16: Result) -> None:
    assert cosine(reference_bf16, reference) > 0.999


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.fault("determinism", "a GPU instead of the CPU, fp32, {way}", "features within 0.01")
@pytest.mark.parametrize("way", ["three shards", "all at once"])
def test_gpu(way: str, clips: Path, tmp_path: Path, reference: Result) -> None:
    result = run_with(clips, tmp_path, WAYS[way]._replace(device="cuda"))
    assert difference(result, reference) < 0.01
