"""Scores of a fine-tuned checkpoint on another dataset, without training; all it needs is in the checkpoint."""

import pandas as pd
import torch

from fungi_audio.datasets.datafiles import place
from fungi_audio.engine.device import claim
from fungi_audio.evaluate.scores import write
from fungi_audio.training import apply, selection
from fungi_audio.training.classifier import load_classifier
from joblog import job

params, wildcards, files = snakemake.params, snakemake.wildcards, snakemake.input

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    classifier, metadata = load_classifier(files.model)
    model = apply.Model(classifier.v, classifier, (metadata["mean"], metadata["std"]))
    clips = pd.read_parquet(files.clips)
    root = place(clips, files.audio, snakemake.config["data_root"], snakemake.threads)
    shared = apply.shared_clips(clips, metadata["classes"], wildcards.fold, params.multilabel)
    test = clips.iloc[shared.rows]
    with apply.log_mels([root / wav for wav in test["wav"]], model.network.frames, snakemake.threads) as fbank:
        scores = apply.scores_of(model, fbank, shared, metadata["settings"]["loss"], device)
    features = f"transfer-{wildcards.transfer}"
    where = {"dataset": wildcards.dataset, "backbone": metadata["settings"]["backbone"], "features": features}
    where |= {"protocol": "finetune", "fold": wildcards.fold, "seed": 0, "n_train": 0}
    trained = {key: metadata[key] for key in ("finetune", "fold", "epoch")}
    where["settings"] = {features: trained | {"trained on": metadata["settings"]["dataset"]}}
    chosen = {"selection": "none on this dataset", "classes": len(shared.classes)}
    tables = selection.tables(scores, shared.targets, test, shared.classes, params.multilabel, where, chosen)
    write(*tables, snakemake.output.scores, snakemake.output.predictions)
