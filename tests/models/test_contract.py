"""What every registered family owes the engine and the DAG, on networks of random weights."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fungi_audio.api import Arrays
from fungi_audio.engine.batch import embeddings
from fungi_audio.engine.encode import encode
from fungi_audio.engine.gradient import gradient
from fungi_audio.engine.inputs import Pool
from fungi_audio.engine.projection import Head, make_head, make_signs
from fungi_audio.engine.shard import shard_rows
from fungi_audio.errors import ConfigError
from fungi_audio.frontends import named
from fungi_audio.frontends.base import Statistics
from fungi_audio.frontends.views import view_keys
from fungi_audio.models.base import Backbone, Inputs
from fungi_audio.models.blocks import Block
from fungi_audio.models.checkpoints import Checkpoint
from fungi_audio.models.definitions import presets
from fungi_audio.objectives import build_objective
from fungi_audio.objectives.extract import of_inputs
from fungi_audio.registry import REGISTRY, module
from fungi_audio.run.config import check
from tests.tools.workflow import ROOT

KINDS = {"ssast": ["tiny-patch", "tiny-frame"], "atst": ["small-frame", "small-clip"]}  # huggingface: its own tests
CASES = [(family, kind) for family, kinds in KINDS.items() for kind in kinds]
LENGTHS = (12_000, 7000, 12_000, 16_000)  # samples
TARGETS = ["attn.proj", "attn.qkv", "mlp.fc1", "mlp.fc2", "blocks.9.mlp.fc1"]
MEASURED = Statistics(-6.0, 4.0)


def network(family: str, kind: str, frames: int = 64, **options: Any) -> Backbone:
    state = module("family", family).random_state(kind, 1)
    more = {"frames": frames} if family == "ssast" else {"kind": kind.partition("-")[2]}
    backbone: Backbone = module("family", family).read(Checkpoint(state, {}, Path(kind)), more | options)
    return backbone


def pool(backbone: Backbone, views: int = 0, rows: np.ndarray | None = None) -> Pool:
    random = np.random.default_rng(0)
    waves = [torch.from_numpy(0.1 * random.normal(size=count)).float() for count in LENGTHS]
    values = Arrays([backbone.frontend(wave).numpy() for wave in waves])
    rows = np.arange(len(LENGTHS)) if rows is None else rows
    keys = view_keys(1, "view", [f"clip {row}" for row in rows], range(views)) if views else None
    return Pool(backbone.frontend, values, rows, MEASURED, keys)


def embedded(backbone: Backbone, inputs: Pool, chunk: int = 4) -> torch.Tensor:
    parts = encode(backbone, inputs, lambda x, _: {"made": embeddings(backbone, x)}, chunk)
    return torch.cat([part["made"] for _, part in parts])


def error(value: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest relative error of a clip."""
    value, expected = value.double().flatten(1), expected.double().flatten(1)
    return float(((value - expected).norm(dim=1) / expected.norm(dim=1)).max())


def cosine(value: torch.Tensor, expected: torch.Tensor) -> float:
    """Smallest cosine of a clip; gradients are far below the eps of torch's own."""
    value, expected = (torch.nn.functional.normalize(x.double().flatten(1), eps=0) for x in (value, expected))
    return float((value * expected).sum(1).min())


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_batches_shards_and_order_are_irrelevant(family: str, kind: str) -> None:
    backbone = network(family, kind)
    together = embedded(backbone, pool(backbone))
    alone = torch.cat([embedded(backbone, pool(backbone, rows=np.array([row]))) for row in range(len(LENGTHS))])
    shards = [embedded(backbone, pool(backbone, rows=shard_rows(len(LENGTHS), number, 3))) for number in range(3)]
    order = np.array([2, 0, 3, 1])
    assert error(together, alone) < 1e-5
    assert error(torch.cat(shards), together) < 1e-5
    assert error(embedded(backbone, pool(backbone, rows=order), chunk=3), together[order]) < 1e-5


def by_autograd(backbone: Backbone, objective: Any, x: Inputs) -> torch.Tensor:
    """The gradient of one clip's loss through the whole network, `[1, out, in + 1]`."""
    layer: Any = backbone.layer
    parameters = [layer.weight, *([layer.bias] if layer.bias is not None else [])]
    for parameter in parameters:
        parameter.requires_grad_(True)
    embedding = backbone.embedding(x).unflatten(0, (1, -1)).double()
    found = torch.autograd.grad(objective.loss(embedding).sum(), parameters)
    for parameter in parameters:
        parameter.requires_grad_(False)
    return torch.cat([found[0].flatten(1), *(part.unsqueeze(1) for part in found[1:])], dim=1).unsqueeze(0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("family", "kind"), CASES)
def test_hooked_gradients_equal_autograd(family: str, kind: str, target: str) -> None:
    backbone = network(family, kind, target=target, gradient_tokens="all")
    head = make_head(backbone.width, 1, "test")
    comparison = torch.randn(6, backbone.width, generator=torch.Generator().manual_seed(1))
    for views in (1, 2):
        objective = (
            build_objective("kl", head=head)
            if views == 1
            else build_objective("simclr", head=head, comparison=comparison, views=2)
        )
        inputs = pool(backbone, views=views if views > 1 else 0, rows=np.array([1, 0]))
        batch = inputs.load(np.arange(2 * views), torch.device("cpu"))
        found = objective.compute(backbone, batch).matrix()
        for clip in range(2):
            numbers = np.arange(clip * views, (clip + 1) * views)
            expected = by_autograd(backbone, objective, inputs.load(numbers, torch.device("cpu")))
            assert error(found[clip : clip + 1], expected) < 1e-4


def test_stored_activations_give_what_the_hook_gives() -> None:
    backbone = network("ssast", "tiny-patch")
    batch = pool(backbone).load(np.arange(4), torch.device("cpu"))
    objective = build_objective("kl", head=make_head(192, 1, "kl"))
    stored = objective.compute(backbone, backbone.trunk(batch)).matrix()
    assert error(objective.compute(backbone, batch).matrix(), stored) < 1e-6


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_bf16(family: str, kind: str) -> None:
    made = []
    for dtype in (torch.float32, torch.bfloat16):
        backbone = network(family, kind).set_precision(dtype)
        batch = pool(backbone).load(np.arange(4), torch.device("cpu"))
        objective = build_objective("kl", head=make_head(backbone.width, 1, "kl"))
        made.append((embeddings(backbone, batch), objective.compute(backbone, batch).matrix()))
    (embedding, gradients), (low, rough) = made
    assert cosine(low, embedding) > 0.999 and cosine(rough, gradients) > 0.99


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for what fake tensors cannot do: autograd from the hook, page-locked memory, and asking for values.
    What is on the GPU counts as finite, the lengths (on the CPU) as different, so that masks are made."""
    monkeypatch.setattr(FakeTensor, "__bool__", lambda self: self.device.type == "cuda", raising=False)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(
        torch.autograd, "grad", lambda _, outputs, **options: [torch.empty_like(one) for one in outputs]
    )
    monkeypatch.setattr(Block, "freeze", lambda self, dtype: (self.attn.to(dtype), self.mlp.to(dtype)))


@pytest.mark.parametrize(("family", "kind"), CASES)
@pytest.mark.usefixtures("fake_gpu")
def test_the_way_of_a_gpu_without_one(family: str, kind: str) -> None:
    """Under fake tensors on "cuda", from the values of unequal clips to a projected gradient, nothing stays behind."""
    backbone = network(family, kind).set_precision(torch.bfloat16)
    clean, augmented = pool(backbone), pool(backbone, views=2)
    numbers, width = np.arange(len(LENGTHS)), backbone.width
    head, signs = make_head(width, 1, "made"), make_signs(64, *backbone.gradient_shape, 1)

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")

    with FakeTensorMode(allow_non_fake_inputs=True):
        for name, parameter in list(backbone.named_parameters()):
            owner, _, own = name.rpartition(".")
            setattr(backbone.get_submodule(owner), own, torch.nn.Parameter(fake(parameter), requires_grad=False))
        on_gpu, signs = Head(*map(fake, head)), signs._replace(bits=fake(signs.bits))
        simclr = build_objective("simclr", head=on_gpu, comparison=fake(torch.empty(6, width)), views=2)
        batch = clean.load(numbers, torch.device("cuda"))
        views = augmented.load(np.arange(2 * len(LENGTHS)), torch.device("cuda"))
        embedding = backbone.embedding(batch)
        projected = [
            build_objective("kl", head=on_gpu).features(backbone, batch, signs),
            simclr.features(backbone, views, signs),
        ]
        made = [batch.values, views.values, embedding, backbone.scene(batch), *projected]
        if backbone.shapes:
            stored = backbone.trunk(batch)
            made += [*stored.values(), build_objective("kl", head=on_gpu).features(backbone, stored, signs)]
        assert {tensor.device.type for tensor in made} == {"cuda"}
        assert batch.lengths.device.type == "cpu"  # asking for them waits for no GPU
        assert embedding.dtype == torch.float32 and {len(one) for one in projected} == {len(LENGTHS)}


@pytest.mark.parametrize(("family", "kind"), CASES)
@pytest.mark.parametrize("frames", [64, 400, 1020])  # of 10 ms; the last are more than a chunk
def test_cost_model_knows_the_work(family: str, kind: str, frames: int) -> None:
    backbone = network(family, kind, frames)
    definition = module("definition", family)
    options = {name: option["default"] for name, option in definition.OPTIONS.items()} | {
        "kind": kind.partition("-")[2]
    }
    batch = Inputs.alike(torch.zeros(1, frames, backbone.frontend.columns))
    # The counter does not know the CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.embedding(batch)
    assert counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
    predicted = definition.shape(options, f"random:{kind}").forward_flops(frames / 100)
    assert predicted / 1.25 < counter.get_total_flops() < 1.25 * predicted


@pytest.mark.parametrize("family", REGISTRY["definition"])
def test_definitions(family: str) -> None:
    definition = module("definition", family)
    assert REGISTRY["family"].keys() == REGISTRY["definition"].keys()
    assert all(option["description"] and "default" in option for option in definition.OPTIONS.values())
    options = {name: option["default"] for name, option in definition.OPTIONS.items()}
    definition.check(options)
    read = definition.reading(options, {"target_length": 64})
    if read.inputs:
        front = named(read.inputs)
        assert front.name == read.inputs and front.rate == read.rate
        assert front.frames == (None if read.seconds is None else round(100 * read.seconds))
    assert set(definition.SHAPING) <= definition.OPTIONS.keys() and isinstance(definition.FRAMES, bool)
    code = f"import sys, fungi_audio.models.{family}.definition; sys.exit('torch' in sys.modules)"
    assert not subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "scripts")}).returncode


def test_presets_are_good_definitions() -> None:
    backbones = {name: {"family": preset.family, "checkpoint": name} for name, preset in presets().items()}
    datasets = {"birds": {"layout": "csv", "source": "birds", "target_length": 512, "folds": [1, 2]}}
    run = {"datasets": ["birds"], "backbones": list(backbones), "features": ["embedding"]}
    config = {
        "run": run,
        "datasets": datasets,
        "backbones": backbones,
        "features": {"embedding": {"objective": "embedding"}},
    }
    found = check(config, ROOT / "schemas" / "config.schema.yaml")["backbones"]
    for name, preset in presets().items():
        assert preset.options.items() <= found[name].items()
        module("definition", preset.family).check(found[name])


def test_features_of_unequal_clips_equal_those_of_single_ones() -> None:
    backbone = network("atst", "small-frame")
    signs = make_signs(64, *backbone.gradient_shape, 1)
    comparison = torch.randn(6, 384, generator=torch.Generator().manual_seed(1))
    objective = build_objective("simclr", head=make_head(384, 1, "simclr"), comparison=comparison, views=2)

    def features(rows: list[int]) -> torch.Tensor:
        inputs = pool(backbone, views=2, rows=np.array(rows))
        names = [f"clip {row}" for row in rows]
        return torch.from_numpy(np.concatenate(list(of_inputs(backbone, objective, inputs, signs, names, 1))))

    assert error(features([0, 1, 2, 3]), torch.cat([features([row]) for row in range(4)])) < 1e-4


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("blocks.11.norm1", "is no layer of a block|is no layer"),
        ("blocks.12.attn.proj", "behind the pooled block|is no layer"),
        ("attn.everything", "is no layer"),
    ],
)
@pytest.mark.parametrize("family", KINDS)
def test_targets_that_are_none(family: str, target: str, message: str) -> None:
    definition = module("definition", family)
    options = {name: option["default"] for name, option in definition.OPTIONS.items()}
    with pytest.raises(ConfigError, match=message):
        definition.check(options | {"target": target})


def test_a_loss_that_does_not_reach_the_target() -> None:
    backbone = network("ssast", "tiny-patch")
    batch = pool(backbone).load(np.arange(2), torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"the loss does not depend on blocks\.11\.attn\.proj"):
        gradient(backbone, lambda: batch.values.sum((1, 2)))
    with torch.inference_mode():
        made = gradient(backbone, lambda: backbone.embedding(batch).exp().sum(1)).matrix()
    assert error(made, gradient(backbone, lambda: backbone.embedding(batch).exp().sum(1)).matrix()) == 0
