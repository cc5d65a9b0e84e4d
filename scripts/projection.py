"""The random sign projection of a backbone's gradients."""

import torch

from fungi_audio.engine.projection import make_signs, save_signs
from fungi_audio.engine.shard import open_backbone
from joblog import job

params = snakemake.params

with job(snakemake):
    backbone = open_backbone(snakemake.input.checkpoint, params.backbone, torch.device("cpu"), "fp32")
    dim = params.dim or backbone.width
    save_signs(snakemake.output[0], make_signs(dim, *backbone.gradient_shape, params.seed))
