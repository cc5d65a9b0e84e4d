"""The random sign projection of a backbone's gradients."""

from fungi_audio.engine.projection import make_signs, save_signs
from fungi_audio.models.load import load_backbone
from joblog import job

FRAMES = 1024  # any input length will do: the gradient's shape does not depend on it

with job(snakemake):
    backbone = load_backbone(snakemake.input.checkpoint, FRAMES, snakemake.params.family)
    dim = snakemake.params.dim or backbone.width
    save_signs(snakemake.output[0], make_signs(dim, *backbone.gradient_shape, snakemake.params.seed))
