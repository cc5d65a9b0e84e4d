"""Scores and predictions of a fine-tuned backbone on one fold, of the epoch that its selection rule takes."""

import pandas as pd
from safetensors.numpy import load_file

from fungi_audio.datasets import folds, labels
from fungi_audio.evaluate.scores import write
from fungi_audio.training import selection
from fungi_audio.training.classifier import load_classifier
from joblog import job

params, wildcards = snakemake.params, snakemake.wildcards

with job(snakemake):
    _, metadata = load_classifier(snakemake.input.model)
    settings, multilabel = metadata["settings"], metadata["multilabel"]
    table = pd.read_parquet(snakemake.input.clips)
    test = {fold: folds.split(table, fold).test for fold in params.folds}
    classes = metadata["classes"]
    targets = {fold: labels.read(table.iloc[rows], multilabel, classes).clip for fold, rows in test.items()}
    scores = {
        fold: {int(epoch): values for epoch, values in load_file(path).items()}
        for fold, path in zip(params.folds, snakemake.input.scores, strict=True)
    }
    by_test = settings["selection"] == "test"
    epoch = selection.choose(scores, targets, multilabel) if by_test else metadata["epoch"]
    rule = selection.RULES[settings["selection"]]
    chosen = {"selection": rule, "epoch": epoch}
    features = f"finetune-{wildcards.tuning}"
    where = {"dataset": wildcards.dataset, "backbone": wildcards.backbone, "features": features}
    where |= {"protocol": "finetune", "fold": wildcards.fold, "seed": 0, "n_train": metadata["n_train"]}
    where["settings"] = {features: settings | {"selection": rule}}
    own = wildcards.fold
    clips = table.iloc[test[own]]
    tables = selection.tables(scores[own][epoch], targets[own], clips, classes, multilabel, where, chosen)
    write(*tables, snakemake.output.scores, snakemake.output.predictions)
