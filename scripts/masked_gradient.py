"""One masked-patch feature (mpc or mpg) of one shard of a dataset."""

import pandas as pd
import torch

from fungi_audio import extract, features, unfinished
from fungi_audio.backbones.checkpoints import load
from fungi_audio.device import claim
from fungi_audio.encode import resolve_precision
from fungi_audio.objectives import build_objective
from fungi_audio.projection import load_signs
from fungi_audio.training.pretext import load_pretext
from joblog import job

params, wildcards, files = snakemake.params, snakemake.wildcards, snakemake.input

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    table = pd.read_parquet(files.clips)
    shard = extract.shard_rows(len(table), int(wildcards.shard), params.shards)
    clips = table.iloc[shard]
    statistics = extract.open_statistics(files.statistics, params.statistics)
    source = extract.source(files.fbank, statistics, table, shard, params.seed, 0)
    model = load_pretext(load(files.checkpoint), source.fbank.shape[1]).to(device)
    model.v.set_precision(resolve_precision(params.precision, device))
    signs = load_signs(files.signs)
    objective = build_objective(**params.settings, model=model)
    metadata = extract.metadata(wildcards, params.settings, files.checkpoint, signs, params.seed)
    metadata |= extract.made_on(device, params.precision)
    key = extract.file_key(dict(params), str(device), files=list(files))
    with unfinished.rows(snakemake.output[0], len(signs.bits), key) as rows:
        parts = objective.features(source, clips["clip_id"].tolist(), params.seed, signs, rows.done)
        features.write(snakemake.output[0], clips, rows.extend(parts), metadata)
