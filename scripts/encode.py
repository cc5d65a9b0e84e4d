"""Activations of one shard of a dataset, for the clean clips or their views."""

from pathlib import Path

import pandas as pd
import torch

from fungi_audio.engine import shard
from fungi_audio.engine.device import claim
from joblog import job

params = snakemake.params

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    clips = pd.read_parquet(snakemake.input.clips)
    rows = shard.shard_rows(len(clips), int(snakemake.wildcards.shard), params.shards)
    statistics = shard.open_statistics(snakemake.input.statistics, params.statistics)
    source = shard.source(snakemake.input.fbank, statistics, clips, rows, params.seed, params.views)
    frames = source.fbank.shape[1]
    backbone = shard.open_backbone(snakemake.input.checkpoint, frames, params.backbone, device, params.precision)
    key = shard.file_key(dict(params), device.type, statistics, files=list(snakemake.input))
    shard.encode_to(Path(snakemake.output[0]), backbone, source, key, shard.made_on(device, params.precision))
