"""The random head of an objective."""

from fungi_audio.backbones import load_backbone
from fungi_audio.projection import make_head, save_head
from joblog import job

FRAMES = 1024  # any input length will do: the head's shape does not depend on it

with job(snakemake):
    backbone = load_backbone(snakemake.input.checkpoint, FRAMES, snakemake.params.family)
    head = make_head(backbone.width, snakemake.params.seed, snakemake.wildcards.objective)
    save_head(snakemake.output[0], head)
