"""Embeddings of a fold's comparison clips: random training clips, two views each."""

import pandas as pd
import torch

from fungi_audio.datasets import folds
from fungi_audio.engine import shard
from fungi_audio.engine.device import claim
from fungi_audio.engine.encode import encode_all
from fungi_audio.engine.negatives import VIEWS, choose, save
from joblog import job

params, wildcards = snakemake.params, snakemake.wildcards

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    clips = pd.read_parquet(snakemake.input.clips)
    train = folds.split(clips, wildcards.fold).train
    rows = choose(train, int(wildcards.clips), params.seed, wildcards.dataset, wildcards.fold)
    statistics = shard.open_statistics(snakemake.input.statistics, params.statistics)
    source = shard.source(snakemake.input.fbank, statistics, clips, rows, params.seed, VIEWS, stream="comparison")
    frames = source.fbank.shape[1]
    backbone = shard.open_backbone(snakemake.input.checkpoint, frames, params.backbone, device, params.precision)
    activations = encode_all(backbone, source, "comparison clips")
    embedding = backbone.pooled(type(activations)(*(tensor.to(device) for tensor in activations)))
    save(snakemake.output[0], embedding, clips["clip_id"].iloc[rows].tolist(), shard.made_on(device, params.precision))
