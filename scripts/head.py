"""The random head of an objective."""

from fungi_audio.engine.projection import make_head, save_head
from fungi_audio.models.load import load_backbone
from joblog import job

FRAMES = 1024  # any input length will do: the head's shape does not depend on it

with job(snakemake):
    backbone = load_backbone(snakemake.input.checkpoint, FRAMES, snakemake.params.family)
    head = make_head(backbone.width, snakemake.params.seed, snakemake.wildcards.objective)
    save_head(snakemake.output[0], head)
