"""Embeddings of a fold's comparison clips: random training clips, two views each."""

import pandas as pd
import torch

from fungi_audio import extract
from fungi_audio.comparison import VIEWS, choose, save
from fungi_audio.datasets import folds
from fungi_audio.device import claim
from fungi_audio.encode import encode_all
from joblog import job

params, wildcards = snakemake.params, snakemake.wildcards

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    clips = pd.read_parquet(snakemake.input.clips)
    train = folds.split(clips, wildcards.fold).train
    rows = choose(train, int(wildcards.clips), params.seed, wildcards.dataset, wildcards.fold)
    statistics = extract.open_statistics(snakemake.input.statistics, params.statistics)
    source = extract.source(snakemake.input.fbank, statistics, clips, rows, params.seed, VIEWS, stream="comparison")
    frames = source.fbank.shape[1]
    backbone = extract.open_backbone(snakemake.input.checkpoint, frames, params.backbone, device, params.precision)
    activations = encode_all(backbone, source, "comparison clips")
    save(snakemake.output[0], backbone.pooled(type(activations)(*(t.to(device) for t in activations))), clips, rows)
