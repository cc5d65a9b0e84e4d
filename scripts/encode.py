"""Activations of one shard of a dataset, for the clean clips or their views."""

from pathlib import Path

import pandas as pd
import torch

from fungi_audio import extract
from fungi_audio.device import claim
from joblog import job

params = snakemake.params

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    clips = pd.read_parquet(snakemake.input.clips)
    rows = extract.shard_rows(len(clips), int(snakemake.wildcards.shard), params.shards)
    statistics = extract.open_statistics(snakemake.input.statistics, params.statistics)
    source = extract.source(snakemake.input.fbank, statistics, clips, rows, params.seed, params.views)
    frames = source.fbank.shape[1]
    backbone = extract.open_backbone(snakemake.input.checkpoint, frames, params.backbone, device, params.precision)
    key = extract.file_key(dict(params), str(device), statistics, files=list(snakemake.input))
    extract.encode_to(Path(snakemake.output[0]), backbone, source, key)
