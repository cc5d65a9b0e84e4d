"""The random head of an objective."""

import torch

from fungi_audio.engine.projection import make_head, save_head
from fungi_audio.engine.shard import open_backbone
from joblog import job

params = snakemake.params

with job(snakemake):
    backbone = open_backbone(snakemake.input.checkpoint, params.backbone, torch.device("cpu"), "fp32")
    save_head(snakemake.output[0], make_head(backbone.width, params.seed, snakemake.wildcards.objective))
