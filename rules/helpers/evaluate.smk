# What the rules of evaluate.smk ask.
import re
from itertools import combinations, product

COMBINATIONS = [
    "+".join(names)
    for size in range(1, len(config["run"]["features"]) + 1)
    for names in combinations(config["run"]["features"], size)
]


def combination_parts(wildcards):
    """The Parquet parts of every feature of a combination, by feature."""
    names = wildcards.combination.split("+")
    return {
        name: feature_parts(wildcards.dataset, wildcards.backbone, name, wildcards.fold)
        for name in names
    }


def evaluate_cost(wildcards):
    """Seconds: measured 5 ms a clip at ESC-50's size with ten few-shot draws."""
    return 0.005 * cost.clips(dataset(wildcards))


def evaluate_memory(wildcards):
    """The blocks, their concatenation and float64 copies of a part of it."""
    values = (
        cost.clips(dataset(wildcards))
        * shape_of(wildcards.backbone).width
        * len(wildcards.combination.split("+"))
    )
    return cost.PYTHON_MB + 16 * values // 10**6


def evaluations(suffix):
    """One file for every dataset, backbone, combination and fold of the run, then fine-tuned models."""
    frozen = [
        f"results/evaluation/{name}/{backbone}/{combination}/{fold}.{suffix}"
        for name, backbone, combination in product(
            config["run"]["datasets"], config["run"]["backbones"], COMBINATIONS
        )
        for fold in folds(name)
    ]
    return frozen + finetuned(suffix) + transfers(suffix)


def evaluated():
    """The datasets that have rows in the table."""
    run = config["run"]
    tuned = [config["finetune"][name]["dataset"] for name in run["finetune"]]
    tuned += [config["transfer"][name]["dataset"] for name in run["transfer"]]
    return list(dict.fromkeys([*run["datasets"], *tuned]))


STAGES = {
    "activations": "encode",
    "negatives": "negatives",
    "head": "head",
    "signs": "projection",
}


def extraction(name, backbone, feature):
    """Benchmark files of the jobs from log-mels to a feature, for all folds, and its parts for one fold."""
    shards = range(part_count(name, feature))
    files = {}
    for fold, shard in product(folds(name), shards):
        job = SimpleNamespace(
            dataset=name,
            backbone=backbone,
            feature=feature,
            fold=feature_fold(feature, fold),
            shard=shard,
        )
        files[f"feature/{name}/{backbone}/{feature}/{job.fold}/{shard}"] = None
        for key, path in feature_inputs(job).items():
            if key in STAGES:
                made = Path(path).with_suffix("").parts[2:]
                files["/".join([STAGES[key], *made])] = None
    return {
        "benchmarks": [f"results/benchmarks/{file}.tsv" for file in files],
        "parts": feature_parts(name, backbone, feature, folds(name)[0]),
    }
