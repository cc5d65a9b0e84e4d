"""Embeddings of a dataset's clips, labelled or not, from any layer of a trained model."""

import pandas as pd
import torch

from fungi_audio.datasets.datafiles import place
from fungi_audio.engine import shard
from fungi_audio.engine.device import claim
from fungi_audio.files import features
from fungi_audio.files.whole import sha256, whole_folder
from fungi_audio.training import apply
from joblog import job

params, files = snakemake.params, snakemake.input
settings = params.settings

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    clips = pd.read_parquet(files.clips)
    root = place(clips, files.audio, snakemake.config["data_root"], snakemake.threads)
    configured = (params.dataset["mean"], params.dataset["std"])
    statistics = shard.open_statistics(files.statistics, configured) if files.statistics else None
    stride = tuple(params.stride) if params.stride else None
    model = apply.open_model(files.model, params.dataset["target_length"], statistics, stride, settings["pooling"])
    metadata = {
        "dataset": settings["dataset"],
        "backbone": settings["model"],
        "checkpoint": sha256(files.model),
        "feature": snakemake.wildcards.embedding,
        "objective": "embedding",
        "settings": {key: settings[key] for key in ("layer", "tokens", "pooling")},
        "shape": [*model.network.grid, model.network.width] if settings["tokens"] else None,
        "fold": "all",
    } | shard.made_on(device, "fp32")
    paths = [root / wav for wav in clips["wav"]]
    mels = apply.log_mels(paths, model.network.frames, snakemake.threads)
    with whole_folder(snakemake.output[0]) as folder, mels as fbank:
        parts = apply.embeddings(model, fbank, settings["layer"], settings["tokens"], device)
        for number, (first, part) in enumerate(parts):
            rows = clips.iloc[first : first + len(part)]
            features.write(folder / f"part-{number}.parquet", rows, part, metadata)
