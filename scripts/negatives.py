"""Embeddings of a fold's comparison clips: random training clips, two views each."""

import pandas as pd
import torch

from fungi_audio.datasets import folds
from fungi_audio.engine import negatives, shard
from fungi_audio.engine.device import claim
from joblog import job

params, wildcards, files = snakemake.params, snakemake.wildcards, snakemake.input
named = dict(files.items())

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    clips = pd.read_parquet(files.clips)
    train = folds.split(clips, wildcards.fold).train
    rows = negatives.choose(train, int(wildcards.clips), params.seed, wildcards.dataset, wildcards.fold)
    backbone = shard.open_backbone(files.checkpoint, params.backbone, device, params.precision)
    opened = shard.open_values(backbone.frontend, clips, rows, named, params.statistics, snakemake.config["data_root"])
    inputs = shard.pool(backbone.frontend, *opened, clips, rows, params.seed, negatives.VIEWS, stream=negatives.STREAM)
    made = shard.made_on(device, params.precision)
    negatives.save(snakemake.output[0], negatives.embed(backbone, inputs), clips["clip_id"].iloc[rows].tolist(), made)
