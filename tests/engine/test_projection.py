"""The projection without the dense matrix equals the one with it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fungi_audio.engine.gradient import Factors
from fungi_audio.engine.projection import (
    Formed,
    load_head,
    load_signs,
    make_head,
    make_signs,
    project,
    save_head,
    save_signs,
)
from fungi_audio.errors import ConfigError


def with_ones(inputs: torch.Tensor) -> torch.Tensor:
    return torch.cat([inputs, inputs.new_ones(*inputs.shape[:-1], 1)], dim=-1)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 5),
    terms=st.integers(1, 4),
    rows=st.integers(1, 6).map(lambda groups: 8 * groups),
    width=st.integers(1, 20),
    bias=st.booleans(),
    k=st.integers(1, 9),
)
def test_equals_the_dense_product(n, terms, rows, width, bias, k):
    signs = make_signs(k, rows, width + bias, 3)
    delta, inputs = torch.randn(n, terms, rows), torch.randn(n, terms, width)
    full = with_ones(inputs) if bias else inputs
    gradient = (delta.transpose(1, 2).double() @ full.double()).flatten(1)
    expected = gradient @ signs.expand(0, rows).double().T * k**-0.5
    error = (project(Factors(delta, full), signs) - expected).norm(dim=1)
    assert (error <= 1e-6 * gradient.norm(dim=1)).all()
    formed = project(Formed(Factors(delta, full).matrix()), signs)
    assert ((formed - expected).norm(dim=1) <= 1e-6 * gradient.norm(dim=1)).all()


def test_clips_do_not_depend_on_their_batch():
    signs = make_signs(192, 192, 193, 1)
    delta, inputs = torch.randn(40, 2, 192), with_ones(torch.randn(40, 2, 192))
    together = project(Factors(delta, inputs), signs)
    for first, last in ((0, 1), (3, 20), (20, 40)):
        part = project(Factors(delta[first:last], inputs[first:last]), signs)
        assert ((part - together[first:last]).norm(dim=1) / part.norm(dim=1)).max() < 1e-7


def test_norms_survive():
    signs = make_signs(512, 64, 65, 1)
    delta, inputs = torch.randn(50, 1, 64), torch.randn(50, 1, 64)
    norms = delta.norm(dim=2) * (inputs.square().sum(2) + 1).sqrt()
    ratio = project(Factors(delta, with_ones(inputs)), signs).norm(dim=1) / norms.squeeze(1)
    assert abs(ratio.mean() - 1) < 0.03
    assert ratio.std() < 2 / 512**0.5


def test_signs_are_the_published_stream():
    torch.manual_seed(42)
    published = torch.where(torch.rand(5, 16 * 9) > 0.5, 1.0, -1.0)
    assert torch.equal(make_signs(5, 16, 9, 42).expand(0, 16), published)


def test_rows_come_in_eights():
    with pytest.raises(ConfigError, match="12 outputs"):
        make_signs(4, 12, 5, 1)


def test_artifacts_round_trip(tmp_path):
    signs, head = make_signs(6, 16, 17, 1), make_head(8, 1, "kl")
    save_signs(tmp_path / "signs.safetensors", signs)
    save_head(tmp_path / "head.safetensors", head)
    loaded, loaded_head = load_signs(tmp_path / "signs.safetensors"), load_head(tmp_path / "head.safetensors")
    assert loaded.digest == signs.digest
    assert (loaded.rows, loaded.columns) == (16, 17)
    assert all(torch.equal(a, b) for a, b in zip(head, loaded_head, strict=True))


def test_heads_belong_to_their_name():
    heads = [make_head(8, seed, name).weight for seed, name in ((1, "kl"), (1, "simclr"), (2, "kl"))]
    assert torch.equal(heads[0], make_head(8, 1, "kl").weight)
    assert not torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert max(float(head.abs().max()) for head in heads) <= 8**-0.5
