"""One masked-patch feature (mpc or mpg) of one shard of a dataset."""

import pandas as pd
import torch

from fungi_audio.engine import extract, shard
from fungi_audio.engine.device import claim
from fungi_audio.engine.encode import resolve_precision
from fungi_audio.engine.projection import load_signs
from fungi_audio.files import features, unfinished
from fungi_audio.models.ssast.pretext import load_pretext
from fungi_audio.models.weights import load
from fungi_audio.objectives import build_objective
from joblog import job

params, wildcards, files = snakemake.params, snakemake.wildcards, snakemake.input

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    table = pd.read_parquet(files.clips)
    rows = shard.shard_rows(len(table), int(wildcards.shard), params.shards)
    clips = table.iloc[rows]
    statistics = shard.open_statistics(files.statistics, params.statistics)
    source = shard.source(files.fbank, statistics, table, rows, params.seed, 0)
    model = load_pretext(load(files.checkpoint), source.fbank.shape[1]).to(device)
    model.v.set_precision(resolve_precision(params.precision, device))
    signs = load_signs(files.signs)
    objective = build_objective(**params.settings, model=model)
    metadata = extract.metadata(wildcards, params.settings, files.checkpoint, signs, params.seed)
    metadata |= shard.made_on(device, params.precision)
    key = shard.file_key(dict(params), device.type, files=list(files))
    with unfinished.rows(snakemake.output[0], len(signs.bits), key) as kept:
        parts = objective.features(source, clips["clip_id"].tolist(), params.seed, signs, kept.done)
        features.write(snakemake.output[0], clips, kept.extend(parts), metadata)
