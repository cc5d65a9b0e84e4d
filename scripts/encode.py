"""What the trunk stores of one shard of a dataset, for the clean clips or their views."""

from pathlib import Path

import pandas as pd
import torch

from fungi_audio.engine import shard
from fungi_audio.engine.device import claim
from joblog import job

params, files = snakemake.params, snakemake.input
named = dict(files.items())

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    clips = pd.read_parquet(files.clips)
    rows = shard.shard_rows(len(clips), int(snakemake.wildcards.shard), params.shards)
    backbone = shard.open_backbone(files.checkpoint, params.backbone, device, params.precision)
    opened = shard.open_values(backbone.frontend, clips, rows, named, params.statistics, snakemake.config["data_root"])
    inputs = shard.pool(backbone.frontend, *opened, clips, rows, params.seed, params.views)
    key = shard.file_key(dict(params), device.type, files=list(files))
    shard.encode_to(Path(snakemake.output[0]), backbone, inputs, key, shard.made_on(device, params.precision))
