"""ATST-Frame and ATST-Clip against the numbers of the public implementation, and what may not matter."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from fungi_audio.errors import CheckpointError, ConfigError, DataError
from fungi_audio.frontends.dbmel import DbMel
from fungi_audio.frontends.views import noise_and_roll, view_keys
from fungi_audio.models.atst.definition import WIDTHS
from fungi_audio.models.atst.network import ATST, random_state, read
from fungi_audio.models.base import Inputs
from fungi_audio.models.checkpoints import Checkpoint, load
from fungi_audio.objectives import build_objective
from tests.golden.atst import formula

BOTH = ("loud", "quiet")
LENGTHS = (1000, 4000, 10_000, 10_020, 13_700, 25_000)  # milliseconds


def network(name: str, **options: Any) -> ATST:
    kind, size = name.split("_")
    state = formula.encoder(WIDTHS[size], kind == "clip")
    return read(Checkpoint(state, {}, Path(name)), {"kind": kind, **options})


def batch(model: ATST, *clips: tuple[str, int]) -> Inputs:
    """Clips as the engine hands them over: normalised, padded with 0."""
    waves = [formula.waveform(*clip) for clip in clips]
    values = [model.frontend.normalise(model.frontend(wave).unsqueeze(0), None)[0] for wave in waves]
    lengths = torch.tensor([len(value) for value in values])
    padded = torch.zeros(len(values), int(lengths.max()), 64)
    for row, value in zip(padded, values, strict=True):
        row[: len(value)] = value
    return Inputs(padded, lengths)


def relative(value: torch.Tensor, reference: np.ndarray) -> float:
    """Largest relative L2 error of a clip."""
    found, expected = value.double().numpy(), np.atleast_2d(reference).astype(float)
    return float((np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)).max())


def arrays(name: str) -> Any:
    return np.load(formula.HERE / f"{name}.npz")


@pytest.fixture(scope="module")
def frame() -> ATST:
    return network("frame_small")


def assert_statistics(model: ATST, lengths: Iterable[int], expected: np.ndarray) -> None:
    """Mean, population deviation, least and most of both clips at each length."""
    for length, both in zip(lengths, expected, strict=True):
        for which, row in zip(BOTH, both, strict=True):
            mel = batch(model, (which, length)).values.double()
            found = torch.stack([mel.mean(), mel.std(correction=0), mel.min(), mel.max()])
            assert np.abs(found.numpy() - row).max() < 1e-4


@torch.no_grad()
def test_front_end(frame: ATST) -> None:
    expected = arrays("frame_small")
    assert_statistics(frame, LENGTHS, expected["mel_stats"])
    for which in BOTH:
        found = batch(frame, (which, 1000)).values[0].T.numpy()
        assert np.abs(found - expected[f"mel_{which}"]).max() < 1e-4
    silent = frame.frontend.normalise(frame.frontend(torch.zeros(16_000)).unsqueeze(0), None)
    assert silent.shape == (1, 101, 64) and torch.allclose(silent, torch.tensor(-1.3123), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("length", LENGTHS)
def test_scenes_and_time_steps(frame: ATST, length: int) -> None:
    expected = arrays("frame_small")
    assert relative(frame.scene(batch(frame, *((which, length) for which in BOTH))), expected[f"scene_{length}"]) < 1e-5
    steps = frame.timestamps(batch(frame, ("loud", length)))
    sums = formula.token_sums(steps.values[0], 384).numpy()
    assert sums.shape == expected[f"ts_{length}"].shape and np.abs(sums - expected[f"ts_{length}"]).max() < 1e-4
    assert torch.equal(steps.milliseconds, 40.0 * torch.arange(len(sums)))


@torch.no_grad()
def test_features_of_the_linear_evaluation() -> None:
    expected, model = arrays("frame_small"), network("frame_small", rule="linear")
    found = model.scene(batch(model, ("loud", 13700), ("quiet", 4000)))
    assert relative(found, expected["linear_13700_4000"]) < 1e-5
    model.frontend = DbMel()  # the same rule of chunks without the crop
    for length in (15500, 25000):
        assert relative(model.scene(batch(model, ("loud", length))), expected[f"linear_nocrop_{length}"]) < 1e-5


@torch.no_grad()
def test_tokens_of_the_last_block() -> None:
    expected = arrays("frame_small")["tokens_last_1000"]
    model = network("frame_small", blocks=1)
    steps = model.timestamps(batch(model, ("loud", 1000)))
    assert np.abs(steps.values[0].numpy() - expected.astype(float)).max() < 4e-3
    assert model.scene_width == 384


def assert_gradient(model: ATST, expected: Any, clip: str, tokens: str = "") -> None:
    """Projected gradient, its norm before that, and the loss; `tokens` is the golden set's name of those that count."""
    which, length = clip.split("_")
    inputs = batch(model, (which, int(length)))
    objective = build_objective("kl", head=formula.head(model.width))
    found = objective.compute(model, inputs).matrix()
    projected = formula.project(found)
    for kind in ("kl", "kl64"):  # of the published code in float32, in float64
        assert relative(projected, expected[f"{kind}_{tokens}{clip}"]) < 1e-3
    norms = np.atleast_1d(expected[f"kl_norm64_{clip}"])  # all tokens, the first
    assert found.norm().item() == pytest.approx(norms[int(tokens == "tok0_")], rel=1e-3, abs=0)
    with torch.no_grad():
        loss = objective.loss(model.embedding(inputs).double().unsqueeze(1)).item()
    assert loss == pytest.approx(expected[f"kl_loss64_{clip}"].item(), rel=1e-5, abs=0)


@pytest.mark.parametrize("clip", ["loud_1000", "quiet_1000", "loud_10020", "loud_13700"])
def test_gradients_of_frame(frame: ATST, clip: str) -> None:
    assert_gradient(frame, arrays("frame_small"), clip)


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["feat12_loud_1000", "feat12_quiet_1000", "feat12_loud_6000", "feat12_loud_10000", "feat12_loud_13700"]
)
def test_features_of_clip(name: str) -> None:
    model = network("clip_small")
    _, which, length = name.split("_")
    assert relative(model.scene(batch(model, (which, int(length)))), arrays("clip_small")[name]) < 1e-5


@torch.no_grad()
def test_last_block_of_clip() -> None:
    model, expected = network("clip_small", blocks=1), arrays("clip_small")
    assert relative(model.scene(batch(model, ("loud", 10000), ("quiet", 4000))), expected["feat1_mixed"]) < 1e-5
    assert_tokens(model, 1000, expected)
    model.frontend = DbMel()
    assert relative(model.scene(batch(model, ("loud", 25000))), expected["feat1_nocrop_loud_25000"]) < 1e-5


def assert_tokens(model: ATST, length: int, expected: Any) -> None:
    """ATST-Clip's last block after the norm: the cls token is in the embedding, the others are the time steps."""
    tokens = expected[f"tokens_last_loud_{length}"].astype(float)
    inputs = batch(model, ("loud", length))
    assert np.abs(model.embedding(inputs)[0, : model.channels].numpy() - tokens[0]).max() < 4e-3
    steps = model.timestamps(inputs).values[0].numpy()
    assert steps[:, -model.channels :].shape == tokens[1:].shape
    assert np.abs(steps[:, -model.channels :] - tokens[1:]).max() < 4e-3


@pytest.mark.parametrize(("tokens", "name"), [("all", "all_"), ("first", "tok0_")])
@pytest.mark.parametrize("clip", ["loud_1000", "loud_10000"])
def test_gradients_of_clip(tokens: str, name: str, clip: str) -> None:
    assert_gradient(network("clip_small", gradient_tokens=tokens), arrays("clip_small"), clip, name)


def test_base_frame() -> None:
    model, expected = network("frame_base"), arrays("frame_base")
    assert_gradient(model, expected, "loud_4000")
    with torch.no_grad():
        assert_statistics(model, [4000], expected["mel_stats"])
        found = model.scene(batch(model, *((which, 4000) for which in BOTH)))
        assert relative(found, expected["scene_4000"]) < 1e-5
        steps = model.timestamps(batch(model, ("loud", 4000)))
    assert np.abs(formula.token_sums(steps.values[0], 768).numpy() - expected["ts_4000"]).max() < 1e-4


@torch.no_grad()
def test_base_clip() -> None:
    model, expected = network("clip_base"), arrays("clip_base")
    assert relative(model.scene(batch(model, ("loud", 4000))), expected["feat12_loud_4000"]) < 1e-5
    assert_tokens(model, 4000, expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["frame_small", "clip_small"])
def test_a_clip_does_not_depend_on_its_batch(name: str) -> None:
    model = network(name)
    clips = [("loud", 600), ("quiet", 12_500), ("loud", 10_020), ("quiet", 3000)]
    together = model.scene(batch(model, *clips))
    steps = model.timestamps(batch(model, *clips))
    for row, clip in enumerate(clips):
        alone = batch(model, clip)
        assert relative(together[row : row + 1], model.scene(alone).numpy()) < 1e-5
        own = model.timestamps(alone).values[0]
        assert torch.allclose(steps.values[row, : steps.lengths[row]], own, atol=1e-4)


@torch.no_grad()
def test_corrected_rules() -> None:
    """Chunks of 1,000 frames without the tail: 10.02 s are the first 250 tokens; a mean over the chunk's own tokens."""
    model = network("frame_small", chunk_frames=1000, blocks=1)
    inputs = batch(model, ("loud", 10_020))
    assert torch.allclose(model.embedding(inputs), model.timestamps(inputs).values[:, :250].mean(1), atol=1e-5)
    model = network("clip_small", mean="corrected", blocks=1)
    inputs = batch(model, ("loud", 10_000))  # two chunks: 601 and 400 frames
    tokens = model.timestamps(inputs).values[0]
    expected = (tokens[:150].mean(0) + tokens[150:].mean(0)) / 2
    assert torch.allclose(model.embedding(inputs)[0, 384:], expected, atol=1e-5)


def test_views_belong_to_their_clips(frame: ATST) -> None:
    values = frame.frontend(formula.waveform("loud", 1000)).expand(4, -1, -1)
    keys = view_keys(1, "view", ["a", "b"], range(2))
    views = frame.frontend.view(values, keys)
    assert torch.equal(frame.frontend.view(values[:2], keys[2:]), views[2:])
    noise = (views - values).abs().amax((1, 2))
    assert (views != values).any() and (noise > 0).all()
    floor = torch.zeros(4, 100, 64)  # the noise of natural logarithms, in dB
    expected = noise_and_roll(floor, keys) * 10 / np.log(10)
    assert torch.allclose(frame.frontend.view(floor, keys), expected, rtol=1e-6, atol=0)


def test_a_clip_that_cannot_be_reflected(frame: ATST, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(512), 16_000)
    with pytest.raises(DataError, match="512 samples"):
        frame.frontend.read(tmp_path / "short.wav")


@pytest.mark.parametrize("layout", ["lightning", "student", "older", "fine-tuned", "bare"])
def test_layouts_of_files(layout: str, tmp_path: Path) -> None:
    kind = "clip" if layout == "older" else "frame"
    state = random_state(f"small-{kind}", 1)
    other = {key: value + 1 for key, value in state.items()}
    content: Any = {
        "lightning": {
            "state_dict": {f"model.student.encoder.{key}": value for key, value in other.items()}
            | {f"model.teacher.encoder.{key}": value for key, value in state.items()}
            | {"model.teacher.projector.0.weight": torch.zeros(2, 2)},
            "hyper_parameters": {"arch": "small", "n_mels": 64},
            "epoch": 3,
        },
        "student": {"state_dict": {f"model.student.encoder.{key}": value for key, value in state.items()}},
        "older": {
            "teacher": {f"module.backbone.{key}": value for key, value in state.items()}
            | {"module.head.mlp.0.weight": torch.zeros(2, 2)},
            "args": argparse.Namespace(arch="ast", anchor_len=[6.0]),
            "student": {},
        },
        "fine-tuned": {f"encoder.encoder.{key}": value for key, value in state.items()},
        "bare": state,
    }[layout]
    torch.save(content, tmp_path / "model.ckpt")
    model = read(load(tmp_path / "model.ckpt"), {"kind": kind})
    assert torch.equal(model.pos_embed, state["pos_embed"])


def test_files_that_do_not_fit() -> None:
    state = random_state("small-frame", 1)
    with pytest.raises(CheckpointError, match=r"is no ATST; .*family: huggingface"):
        names = ("feature_extractor.conv_layers.0.conv.weight", "encoder.layers.0.attention.k_proj.weight")
        read(Checkpoint(dict.fromkeys(names, torch.zeros(2)), {}, Path("x.pth")), {"kind": "frame"})
    with pytest.raises(CheckpointError, match=r"has no ATST where expected: names that begin with model\.teacher"):
        read(Checkpoint({f"net.{key}": tensor for key, tensor in state.items()}, {}, Path("x.pth")), {"kind": "frame"})
    with pytest.raises(ConfigError, match="is ATST-Frame; write `kind: frame`"):
        read(Checkpoint(state, {}, Path("x.pth")), {"kind": "clip"})
    for key, value, message in [
        ("blocks.3.mlp.fc1.bias", None, r"lacks blocks\.3\.mlp\.fc1\.bias"),
        ("blocks.12.norm1.bias", torch.zeros(384), "has what ATST has not: blocks.12"),
        ("pos_embed", torch.zeros(1, 250, 384), r"pos_embed has shape \(1, 250, 384\), expected \(1, 251, 384\)"),
    ]:
        changed = {name: tensor for name, tensor in state.items() if name != key}
        changed |= {} if value is None else {key: value}
        with pytest.raises(CheckpointError, match=message):
            read(Checkpoint(changed, {}, Path("x.pth")), {"kind": "frame"})


@pytest.mark.parametrize(
    ("options", "metadata", "message"),
    [
        ({}, {"hyper_parameters": {"win_length": 640}}, "x.ckpt: trained with win_length 640"),
        ({"rule": "linear"}, {"hyper_parameters": {"anchor_len": 6.0}}, "write `chunk_frames: 601`"),
        ({"kind": "clip"}, {"hyper_parameters": {"train_len": 9.0}}, "write `chunk_frames: 901`"),
        ({"kind": "clip"}, {"args": {"anchor_len": [9.0, 6.0]}}, "write `chunk_frames: 901`"),
        ({"kind": "clip", "chunk_frames": 901}, {"args": {"anchor_len": [9.0, 6.0]}}, ""),
        ({"kind": "clip"}, {"args": {"anchor_len": [6.0, 6.0], "pos_type": "cut"}}, ""),
        ({}, {"hyper_parameters": {"anchor_len": 6.0, "win_length": 1024, "avg_blocks": 0}}, ""),  # library: 1001
        ({}, {"hyper_parameters": None, "args": "ast"}, ""),
    ],
)
def test_what_a_file_says_of_its_training(
    options: dict[str, Any], metadata: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind = options.get("kind", "frame")
    read(Checkpoint(random_state(f"small-{kind}", 1), metadata, Path("x.ckpt")), {"kind": kind} | options)
    assert message in caplog.text and len(caplog.records) == bool(message)
