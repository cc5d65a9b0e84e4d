"""The library alone: features of a batch without Snakemake."""

import numpy as np
import pytest
import soundfile
from safetensors.torch import save_file

from fungi_audio import Extractor, FungiError, load_audio
from tests.golden import formula

FEATURES = {
    "embedding": {"objective": "embedding"},
    "kl": {"objective": "kl", "temperature": 15},
    "simclr": {"objective": "simclr", "views": 4},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_file(formula.state_dict("patch"), path)
    return path


@pytest.fixture(scope="module")
def fbank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    paths = [folder / f"{i}.wav" for i in range(3)]
    for path, clip in zip(paths, formula.clips(), strict=True):
        soundfile.write(path, clip, 16_000)
    return load_audio(paths, 128)


def test_features_do_not_depend_on_the_batch(checkpoint, fbank):
    options = {"mean": formula.MEAN, "std": formula.STD, "features": FEATURES, "comparison": fbank}
    extractor = Extractor(checkpoint, 128, **options)
    together = extractor(fbank, ["a", "b", "c"])
    assert {name: value.shape for name, value in together.items()} == dict.fromkeys(FEATURES, (3, 192))
    alone = extractor(fbank[1:2], ["b"])
    for name in FEATURES:
        error = np.linalg.norm(alone[name][0] - together[name][1]) / np.linalg.norm(together[name][1])
        assert error < 1e-6, name


def test_simclr_asks_for_comparison_clips(checkpoint):
    with pytest.raises(FungiError, match="comparison"):
        Extractor(checkpoint, 128, features={"simclr": FEATURES["simclr"]})


def test_views_of_comparison_clips_belong_to_their_names(checkpoint, fbank):
    options = {"features": {"simclr": FEATURES["simclr"]}, "comparison": fbank}
    named, numbered, unnamed = (
        Extractor(checkpoint, 128, comparison_ids=ids, **options)(fbank)["simclr"]
        for ids in (["a", "b", "c"], ["0", "1", "2"], None)
    )
    assert np.array_equal(numbered, unnamed) and not np.allclose(named, unnamed)


def test_mistakes_in_settings_are_told(checkpoint, fbank):
    for settings, message in [
        ({"objective": "kl", "temprature": 3}, r"objective kl: .*'temprature'; it takes head, temperature"),
        ({"objective": "mpc"}, "'x' needs the heads of the pretraining"),
    ]:
        with pytest.raises(FungiError, match=message):
            Extractor(checkpoint, 128, features={"x": settings})
    with pytest.raises(FungiError, match="2 clip ids for 3 clips"):
        Extractor(checkpoint, 128)(fbank, ["a", "b"])


def test_wrong_input_length(checkpoint, fbank):
    with pytest.raises(FungiError, match=r"expected \[512, 128\]"):
        Extractor(checkpoint, 512)(fbank)
