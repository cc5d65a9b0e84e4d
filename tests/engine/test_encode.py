"""The engine gives the same numbers whatever the batch, the chunk, the order, the shard, the threads, or a kill."""

import logging
import os
import shutil
import signal
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.naive import Naive
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fungi_audio.api import Arrays
from fungi_audio.engine import encode, shard
from fungi_audio.engine import negatives as comparison
from fungi_audio.engine.batch import embeddings
from fungi_audio.engine.inputs import Pool
from fungi_audio.engine.projection import make_head, make_signs
from fungi_audio.errors import ConfigError, NumericalError, out_of_memory
from fungi_audio.files import activations
from fungi_audio.frontends.base import Statistics
from fungi_audio.frontends.kaldi import Fbank, normalise
from fungi_audio.frontends.views import noise_and_roll, view_keys
from fungi_audio.models.base import Inputs
from fungi_audio.models.ssast import network as ssast
from fungi_audio.objectives import build_objective, extract

CLIPS, FRAMES, VIEWS = 7, 48, 3
MEAN, STD = -6.6, 5.4
STATE = ssast.random_state("tiny-patch", 1)
MADE = {"precision": "float32", "device": "CPU"}


def small_backbone(**options: object) -> ssast.SSAST:
    return ssast.build(STATE, FRAMES, layer=2, **options)


Stored = dict[str, torch.Tensor]
POSITIONS = FRAMES * 128 // 100  # of an input, as batches are sized


def source(views: int = VIEWS, rows: np.ndarray | None = None) -> Pool:
    fbank = np.random.default_rng(0).normal(MEAN, STD, (CLIPS, FRAMES, ssast.MEL)).astype(np.float32)
    rows = np.arange(CLIPS) if rows is None else rows
    names = [f"clip {row}" for row in rows]
    keys = view_keys(1, "view", names, range(views)) if views else None
    return Pool(Fbank(FRAMES), Arrays(fbank), rows, Statistics(MEAN, STD), keys)


def run(inputs: Pool, backbone: ssast.SSAST, chunk: int = CLIPS) -> Stored:
    parts = [part for _, part in encode.encode(backbone, inputs, lambda x, _: backbone.trunk(x), chunk)]
    return {name: torch.cat([part[name] for part in parts]) for name in backbone.shapes}


def assert_equal(value: torch.Tensor, reference: torch.Tensor, tolerance: float = 1e-6) -> None:
    error = (value.double() - reference.double()).flatten(1).norm(dim=1) / reference.double().flatten(1).norm(dim=1)
    assert error.max() < tolerance


@pytest.fixture(scope="module")
def reference() -> Stored:
    return run(source(), small_backbone())


@settings(max_examples=12, deadline=None)
@given(size=st.integers(1, 30), chunk=st.integers(1, 9))
def test_batch_and_chunk_do_not_matter(reference, size, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "batch_positions", lambda *_: size * POSITIONS)
        for name, value in run(source(), small_backbone(), chunk).items():
            assert_equal(value, reference[name])


@settings(max_examples=5, deadline=None)
@given(rows=st.permutations(range(CLIPS)))
def test_order_does_not_matter(reference, rows):
    inputs = run(source(rows=np.array(rows)), small_backbone())["inputs"].unflatten(0, (CLIPS, VIEWS))
    assert_equal(inputs, reference["inputs"].unflatten(0, (CLIPS, VIEWS))[rows])


def test_shards_do_not_matter(reference):
    shards = [source(rows=shard.shard_rows(CLIPS, number, 3)) for number in range(3)]
    assert_equal(torch.cat([run(shard, small_backbone())["inputs"] for shard in shards]), reference["inputs"])


def test_threads_do_not_matter(reference):
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert_equal(run(source(), small_backbone())["inputs"], reference["inputs"])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("objective", ["kl", "simclr"])
def test_features_do_not_depend_on_the_batch(reference, objective):
    backbone = small_backbone()
    views = VIEWS if objective == "simclr" else 1
    options = {"views": VIEWS, "comparison": torch.randn(8, 192)} if objective == "simclr" else {}
    loss = build_objective(objective, head=make_head(192, 1, objective), **options)
    signs = make_signs(192, 192, 193, 1)
    together = loss.features(backbone, reference, signs)
    starts = range(0, len(reference["inputs"]), views)
    clips = [{name: tensor[first : first + views] for name, tensor in reference.items()} for first in starts]
    assert_equal(torch.cat([loss.features(backbone, clip, signs) for clip in clips]), together)


def test_clips_of_bf16_features_point_the_same_way(reference):
    low = run(source(), small_backbone().set_precision(torch.bfloat16))
    for name, value in low.items():
        assert torch.cosine_similarity(value.flatten(1), reference[name].flatten(1)).min() > 0.999


def test_published_algorithm_gives_the_same_features(reference):
    backbone, signs, head = small_backbone(), make_signs(192, 192, 193, 1), make_head(192, 1, "kl")
    naive, comparison = Naive(small_backbone(), signs), torch.randn(8, 192)
    inputs = source()
    views = normalise(
        noise_and_roll(torch.from_numpy(inputs.values.values).repeat_interleave(VIEWS, 0), inputs.keys), MEAN, STD
    )
    simclr = build_objective("simclr", head=head, comparison=comparison, views=VIEWS)
    plain = naive.simclr(views.unflatten(0, (CLIPS, VIEWS)), head, comparison).detach()
    assert_equal(simclr.features(backbone, reference, signs), plain, 1e-4)
    kl = build_objective("kl", head=head)
    assert_equal(kl.features(backbone, reference, signs), naive.kl(views, head).detach(), 1e-3)
    assert_equal(embeddings(backbone, reference), naive.embedding(views), 1e-5)


class Scarce(ssast.SSAST):
    """A backbone that has memory for a few inputs only."""

    room = 2
    error: type[Exception] = torch.OutOfMemoryError

    def trunk(self, x: Inputs) -> Stored:
        if len(x.lengths) > self.room:
            raise self.error("out of memory")
        return super().trunk(x)


def scarce(room: int, error: type[Exception]) -> Scarce:
    backbone = small_backbone()
    backbone.__class__ = Scarce
    backbone.room, backbone.error = room, error
    return backbone


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
@pytest.mark.fault("activations", "memory runs out ({error.__name__})", "smaller batches, the same numbers")
def test_batch_halves_when_memory_runs_out(reference, caplog, monkeypatch, error):
    monkeypatch.setattr(encode, "batch_positions", lambda *_: 16 * POSITIONS)
    with caplog.at_level(logging.WARNING):
        parts = run(source(), scarce(2, error), chunk=4)
    assert [record.args for record in caplog.records] == [(6,), (3,), (1,)]  # a chunk has 12 inputs
    for name, value in parts.items():
        assert_equal(value, reference[name])


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_error_ends_the_work(caplog, error):
    with pytest.raises(error):
        run(source(), scarce(0, error))
    assert (len(caplog.records) > 0) == (error is torch.OutOfMemoryError)


def test_a_cpu_that_runs_out_of_memory_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


def encode_and_die(path: Path, calls: int) -> None:
    """Encode to `path`; SIGKILL hits at the trunk's call number `calls`."""
    backbone, made = small_backbone(), 0
    trunk = backbone.trunk

    def mortal(x: Inputs) -> Stored:
        nonlocal made
        made += 1
        if made > calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return trunk(x)

    backbone.trunk = mortal  # type: ignore[method-assign]
    shard._chunk = lambda *_: 2
    shard.encode_to(path, backbone, source(), "key", MADE)


@pytest.fixture(scope="module")
def remains(tmp_path_factory) -> Path:
    """What a job leaves that was killed in its third chunk."""
    folder = tmp_path_factory.mktemp("killed")
    child = get_context("spawn").Process(target=encode_and_die, args=(folder / "shard.safetensors", 2))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not (folder / "shard.safetensors").exists()
    return folder


@pytest.mark.fault("activations", "killed (SIGKILL) in its third chunk", "two chunks kept, the same numbers")
def test_killed_job_goes_on_after_its_last_chunk(reference, remains, tmp_path, monkeypatch):
    path = Path(shutil.copytree(remains, tmp_path / "run")) / "shard.safetensors"
    encoded = []
    backbone = small_backbone()
    monkeypatch.setattr(shard, "_chunk", lambda *_: 2)
    load = Pool.load
    monkeypatch.setattr(Pool, "load", lambda pool, *values: encoded.append(values[0]) or load(pool, *values))
    shard.encode_to(path, backbone, source(), "key", MADE)
    assert min(inputs.min() for inputs in encoded) == 2 * 2 * VIEWS
    for name, expected in reference.items():
        assert_equal(torch.from_numpy(load_file(path)[name]).flatten(0, 1), expected)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.fault("activations", "killed, then run with other settings", "starts afresh")
def test_other_settings_start_afresh(reference, remains, tmp_path):
    path = Path(shutil.copytree(remains, tmp_path / "run")) / "shard.safetensors"
    shard.encode_to(path, small_backbone(), source(), "another key", MADE)
    assert_equal(torch.from_numpy(load_file(path)["inputs"]).flatten(0, 1), reference["inputs"])
    assert list(path.parent.iterdir()) == [path]


def test_half_of_the_remains_starts_afresh(reference, remains, tmp_path):
    path = Path(shutil.copytree(remains, tmp_path / "run")) / "shard.safetensors"
    next(path.parent.glob(".*.part")).unlink()
    shard.encode_to(path, small_backbone(), source(), "key", MADE)
    assert_equal(torch.from_numpy(load_file(path)["inputs"]).flatten(0, 1), reference["inputs"])
    assert activations.made_on(path) == MADE


def test_shard_without_clips(tmp_path):
    path = tmp_path / "shard.safetensors"
    shard.encode_to(path, small_backbone(), source(rows=np.arange(0)), "key", MADE)
    assert list(activations.read(path, 10)) == []


def test_comparison_clips_of_another_precision_are_refused(tmp_path):
    path = tmp_path / "1.safetensors"
    written = set()
    for _ in range(8):
        comparison.save(path, torch.ones(4, 3), ["a", "b"], MADE)
        written.add(path.read_bytes())
    assert len(written) == 1
    assert comparison.load(path, "float32").shape == (4, 3)
    with pytest.raises(ConfigError, match=r"encoded in float32 \(CPU\), the views in bfloat16; set `precision`"):
        comparison.load(path, "bfloat16")


def test_a_loss_that_is_not_finite_names_the_clip():
    names = [f"clip {number}" for number in range(5)]
    backbone, head = small_backbone(), make_head(192, 1, "kl")
    batches = [(2, {"inputs": torch.ones(3, 2, 192), "context": torch.ones(3, 2, 192)})]
    batches[0][1]["context"][1] = torch.nan
    with pytest.raises(NumericalError, match="not finite for 1 clips: clip 3"):
        list(
            extract.of_stored(backbone, build_objective("kl", head=head), batches, make_signs(192, 192, 193, 1), names)
        )


def test_live_encoding_with_average_pooling_equals_autograd():
    backbone = small_backbone(pooling="avg", gradient_tokens="all")
    signs = make_signs(192, 192, 193, 1)
    loss = build_objective("kl", head=make_head(192, 1, "kl"))
    inputs = source(views=0)
    names = [f"clip {row}" for row in range(CLIPS)]
    parts = extract.of_inputs(backbone, loss, inputs, signs, names, seed=1)
    features = torch.from_numpy(np.concatenate(list(parts)))

    target = backbone.layer.requires_grad_()
    dense = signs.expand(0, 192).double()
    for clip, feature in zip(inputs.values.values, features, strict=True):
        fbank = (torch.from_numpy(clip).unsqueeze(0) - MEAN) / (2 * STD)
        embedding = backbone.pool(backbone.hidden(backbone.patch_embed(fbank)))
        gradients = torch.autograd.grad(loss.loss(embedding.unsqueeze(0).double()).sum(), [target.weight, target.bias])
        gradient = torch.cat([gradients[0], gradients[1].unsqueeze(1)], dim=1).double()
        assert_equal(feature.unsqueeze(0), (dense @ gradient.flatten()).unsqueeze(0) / 192**0.5, 1e-4)
