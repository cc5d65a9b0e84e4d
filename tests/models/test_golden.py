"""Parity with the public reference implementation, from waveforms to projected gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fungi_audio.engine.batch import Batch, embeddings
from fungi_audio.engine.projection import Head, make_signs, project
from fungi_audio.frontends.kaldi import Fbank
from fungi_audio.frontends.kaldi import normalise as kaldi_normalise
from fungi_audio.models import checkpoints
from fungi_audio.models.base import Inputs
from fungi_audio.models.load import load_backbone
from fungi_audio.models.ssast import network as ssast
from fungi_audio.objectives import build_objective
from tests.golden import formula

KINDS = ["patch", "frame"]


def relative(value, reference) -> float:
    """Largest relative L2 error of a clip."""
    value, reference = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (value, reference))
    return float((np.linalg.norm(value - reference, axis=1) / np.linalg.norm(reference, axis=1)).max())


def cosine(value, reference) -> float:
    """Smallest cosine of a clip."""
    value, reference = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (value, reference))
    return float(((value * reference).sum(1) / np.linalg.norm(value, axis=1) / np.linalg.norm(reference, axis=1)).min())


def log_mels(pcm: np.ndarray) -> torch.Tensor:
    waveforms = torch.tensor(pcm).float() / 32768
    return torch.stack([Fbank(128)(w) for w in waveforms])


def normalise(mel: torch.Tensor) -> torch.Tensor:
    return kaldi_normalise(mel, formula.MEAN, formula.STD)


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return log_mels(formula.clips())


@pytest.fixture(scope="module")
def views(clips) -> torch.Tensor:
    made = [
        formula.view(clips[c], 3000 + 4 * c + v, formula.VIEW_LEVELS[c][v], formula.VIEW_SHIFTS[c][v])
        for c in range(3)
        for v in range(4)
    ]
    return normalise(torch.stack(made))


@pytest.fixture(scope="module")
def negative_views() -> torch.Tensor:
    mels = log_mels(formula.negative_clips())
    made = [
        formula.view(mels[m], 3100 + 2 * m + v, formula.NEGATIVE_LEVELS[m][v], formula.NEGATIVE_SHIFTS[m][v])
        for m in range(4)
        for v in range(2)
    ]
    return normalise(torch.stack(made))


@pytest.fixture(scope="module", params=KINDS)
def golden(request):
    arrays = np.load(formula.HERE / f"golden_tiny_{request.param}.npz")
    return formula.state_dict(request.param), arrays


def network(state, precision=torch.float32, **options):
    return ssast.build(state, 128, **options).set_precision(precision)


def batch(backbone, values: torch.Tensor) -> Batch:
    """Normalised log-mels as the engine hands them to losses: stored where the backbone stores its trunk."""
    inputs = Inputs.alike(values)
    return backbone.trunk(inputs) if backbone.shapes else inputs


def test_log_mel(golden, clips):
    _, arrays = golden
    mel = normalise(clips)
    assert np.allclose(mel.mean((1, 2)), arrays["fbank_mean"], atol=1e-5)
    assert np.allclose(mel.std((1, 2), correction=0), arrays["fbank_std"], atol=1e-5)
    if "fbank_clip0" in arrays:
        assert np.allclose(mel[0], arrays["fbank_clip0"], atol=2e-3)  # stored as float16


def test_views(golden, views):
    _, arrays = golden
    assert np.allclose(views.mean((1, 2)).view(3, 4), arrays["view_mean"], atol=1e-5)
    assert np.allclose(views.std((1, 2), correction=0).view(3, 4), arrays["view_std"], atol=1e-5)


@pytest.mark.parametrize(("pooling", "name"), [("cls", "ft_cls"), ("avg", "ft_avgtok")])
def test_embedding(golden, clips, pooling, name):
    state, arrays = golden
    backbone = network(state, pooling=pooling, gradient_tokens="all")
    assert relative(embeddings(backbone, batch(backbone, normalise(clips))), arrays[name]) < 1e-5


@pytest.mark.parametrize(("tokens", "name"), [("first", "tok0"), ("all", "all")])
def test_kl(golden, clips, tokens, name):
    state, arrays = golden
    objective = build_objective("kl", head=formula.head(1000), temperature=15.0)
    for precision in (torch.float32, torch.bfloat16):
        backbone = network(state, precision, gradient_tokens=tokens)
        activations = batch(backbone, normalise(clips))
        feature = objective.features(backbone, activations, formula.signs())
        if precision == torch.float32:
            assert relative(feature, arrays[f"kl_{name}"]) < 3e-4
            raw = objective.compute(backbone, activations).matrix().flatten(1).norm(dim=1)
            norms = arrays["kl_raw_norm_f64"][0 if tokens == "first" else 1]
            assert np.allclose(raw, norms, rtol=1e-4, atol=0)
            loss = objective.loss(embeddings(backbone, activations).double().unsqueeze(1))
            assert np.allclose(loss, arrays["kl_loss_f64"], rtol=1e-4, atol=0)
        else:
            assert cosine(feature, arrays[f"kl_{name}"]) > 0.999


@pytest.mark.parametrize(("loss", "suffix"), [("reference", ""), ("corrected", "_corrected")])
def test_simclr(golden, views, negative_views, loss, suffix):
    state, arrays = golden
    for precision in (torch.float32, torch.bfloat16):
        backbone = network(state, precision)
        comparison = embeddings(backbone, batch(backbone, negative_views))
        options = {"head": formula.head(1002), "comparison": comparison, "views": 4, "temperature": 0.07, "loss": loss}
        objective = build_objective("simclr", **options)
        activations = batch(backbone, views)
        feature = objective.features(backbone, activations, formula.signs())
        if precision == torch.float32:
            embedding = embeddings(backbone, activations).double().view(3, 4, -1)
            assert np.allclose(objective.loss(embedding) / 4, arrays[f"sim_loss{suffix}"], atol=5e-5)
            assert relative(feature, arrays[f"sim_tok0{suffix}"]) < 5e-5
            if loss == "reference":
                assert relative(objective.head(comparison), arrays["sim_negatives"]) < 1e-5
                assert relative(objective.head(embedding).flatten(0, 1), arrays["sim_features"].reshape(12, -1)) < 1e-5
        else:
            assert cosine(feature, arrays[f"sim_tok0{suffix}"]) > 0.999


def test_gradient_equals_autograd_over_all_tokens(golden, clips):
    """The short tail gives what autograd gives on the whole network, for cls and avg pooling."""
    state, _ = golden
    for pooling in ("cls", "avg"):
        backbone = network(state, pooling=pooling, gradient_tokens="all")
        objective = build_objective("kl", head=formula.head(1000))
        terms = objective.compute(backbone, batch(backbone, normalise(clips)))
        layer = backbone.layer.requires_grad_()
        for clip, gradient in zip(normalise(clips), terms.matrix(), strict=True):
            hidden = backbone.hidden(backbone.patch_embed(clip.unsqueeze(0)))
            loss = objective.loss(backbone.pool(hidden).double().unsqueeze(1)).sum()
            weight, bias = torch.autograd.grad(loss, (layer.weight, layer.bias))
            assert relative([gradient], [torch.cat([weight, bias.unsqueeze(1)], 1)]) < 1e-4


class TestShared:
    """The larger set of real audio, beside a development checkout."""

    @pytest.fixture
    def folder(self, shared) -> Path:
        return shared / "golden"

    @pytest.mark.parametrize(
        ("names", "key"), [("names", "esc512_raw"), ("names_1s", "sc128_raw"), ("edge_names", "edge128_raw")]
    )
    def test_log_mel(self, folder, names, key):
        """Within 1e-4, or within the float32 rounding of a quiet bin beside a loud one in the same frame.

        The power spectrum is exact to about 1e-7 of a frame's largest amplitude. The reference's own values are
        up to 4e-3 from float64 in such bins.
        """
        arrays = np.load(folder / "fbank.npz")
        for name, reference in zip(arrays[names], arrays[key], strict=True):
            mel = Fbank(len(reference)).read(folder / "wav" / str(name)).numpy()
            energy = np.exp(reference.astype(np.float64))
            amplitude = np.sqrt(energy / energy.max(1, keepdims=True))
            assert (abs(mel - reference) <= np.maximum(1e-4, 2e-5 / amplitude)).all()
            assert (abs(mel - reference) > 1e-4).mean() < 0.07

    @pytest.mark.parametrize("length", [128, 512, 1024, 1200])
    def test_positions(self, folder, length):
        state = checkpoints.load(folder / "ssast_tiny_patch.pth").state
        expected = np.load(folder / "embeddings_tiny.npz")[f"pos_embed_{length}"]
        assert abs(ssast.build(state, length).pos_embed.numpy() - expected).max() < 1e-6

    @pytest.mark.parametrize("length", [512, 128])
    def test_embedding(self, folder, length):
        inputs = torch.tensor(np.load(folder / "fbank.npz")["esc512_norm" if length == 512 else "sc128_norm"])
        expected = np.load(folder / "embeddings_tiny.npz")
        for pooling, name in [("cls", "ft_cls"), ("avg", "ft_avgtok")]:
            backbone = load_backbone(
                folder / "ssast_tiny_patch.pth", frames=length, pooling=pooling, gradient_tokens="all"
            )
            assert relative(embeddings(backbone, batch(backbone, inputs)), expected[f"{name}_{length}"]) < 1e-5

    def test_signs(self, folder):
        expected = np.load(folder / "projection_tiny.npz")["signs_packed"]
        assert (make_signs(192, 192, 193, 42).bits.numpy() == expected).all()

    @pytest.mark.parametrize(("tokens", "name"), [("first", "tok0"), ("all", "alltok")])
    @pytest.mark.parametrize("length", [512, 128])
    def test_kl(self, folder, length, tokens, name):
        inputs = torch.tensor(np.load(folder / "fbank.npz")["esc512_norm" if length == 512 else "sc128_norm"])
        arrays = np.load(folder / "kl_tiny.npz")
        head = Head(*(torch.tensor(arrays[f"head_{part}_{length}"]) for part in ("weight", "bias")))
        objective = build_objective("kl", head=head, temperature=15.0)
        for precision in (torch.float32, torch.bfloat16):
            backbone = load_backbone(folder / "ssast_tiny_patch.pth", frames=length, gradient_tokens=tokens)
            terms = objective.compute(backbone, batch(backbone.set_precision(precision), inputs))
            projected = project(terms, make_signs(192, 192, 193, 42))
            if precision == torch.float32:
                assert relative(terms.matrix(), arrays[f"raw_{name}_{length}"]) < 1e-3
                assert relative(projected, arrays[f"projected_{name}_{length}"]) < 1e-3
            else:
                assert cosine(projected, arrays[f"projected_{name}_{length}"]) > 0.999

    @pytest.mark.parametrize(("loss", "suffix"), [("reference", ""), ("corrected", "_corrected")])
    @pytest.mark.parametrize(("tokens", "name"), [("first", "tok0"), ("all", "alltok")])
    @pytest.mark.parametrize("length", [512, 128])
    def test_simclr(self, folder, length, tokens, name, loss, suffix):
        arrays = np.load(folder / "simclr_tiny.npz")
        head = Head(*(torch.tensor(arrays[f"head_{part}_{length}"]) for part in ("weight", "bias")))
        inputs = torch.tensor(arrays[f"views_{length}"]).flatten(0, 1)
        for precision in (torch.float32, torch.bfloat16):
            backbone = load_backbone(folder / "ssast_tiny_patch.pth", frames=length, gradient_tokens=tokens)
            backbone.set_precision(precision)
            objective = build_objective("simclr", head=head, comparison=torch.zeros(1, 192), views=4, loss=loss)
            objective.comparison = F.normalize(torch.tensor(arrays[f"negatives_{length}"]).double(), dim=-1)
            if precision == torch.bfloat16:
                if length == 512:  # its comparison inputs are not in the set, and bf16 views need bf16 negatives
                    continue
                negatives = torch.tensor(arrays["negative_views_128"]).flatten(0, 1)
                features = head(embeddings(backbone, batch(backbone, negatives)).double())
                objective.comparison = F.normalize(features, dim=-1)
            terms = objective.compute(backbone, batch(backbone, inputs))
            expected = arrays[f"raw_{name}{suffix}_{length}"]
            if precision == torch.float32:
                assert relative(terms.matrix(), expected) < 1e-3
            else:
                assert cosine(terms.matrix(), expected) > 0.999
