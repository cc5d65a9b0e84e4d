"""Embeddings over time of one shard of a dataset."""

import pandas as pd
import torch

from fungi_audio.engine import shard
from fungi_audio.engine.device import claim
from fungi_audio.engine.timestamps import timestamps
from fungi_audio.files import features
from fungi_audio.files.whole import sha256
from joblog import job

params, wildcards, files = snakemake.params, snakemake.wildcards, snakemake.input
named = dict(files.items())

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    table = pd.read_parquet(files.clips)
    rows = shard.shard_rows(len(table), int(wildcards.shard), params.shards)
    backbone = shard.open_backbone(files.checkpoint, params.backbone, device, params.precision)
    opened = shard.open_values(backbone.frontend, table, rows, named, params.statistics, snakemake.config["data_root"])
    pool = shard.pool(backbone.frontend, *opened, table, rows, 0, 0)
    metadata = {
        "dataset": wildcards.dataset,
        "backbone": wildcards.backbone,
        "checkpoint": sha256(files.checkpoint),
        "feature": "embedding-frames",
        "objective": "embedding",
        "settings": {},
        "fold": "all",
        "backbone_settings": dict(params.backbone),
        "frontend": backbone.frontend.name,
    } | shard.made_on(device, params.precision)
    features.write_frames(snakemake.output[0], table.iloc[rows], timestamps(backbone, pool), metadata)
