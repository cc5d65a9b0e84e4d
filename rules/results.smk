# What the rules of evaluation and report ask: inputs, lists of results, costs.
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
        * trunk_of(wildcards.backbone).width
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
    "comparison": "comparison",
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
        files[f"gradient/{name}/{backbone}/{feature}/{job.fold}/{shard}"] = None
        inputs = gradient_inputs(job)
        if feature in MASKED:
            inputs = {"signs": inputs["signs"]}
        for key, path in inputs.items():
            if key in STAGES:
                made = Path(path).with_suffix("").parts[2:]
                files["/".join([STAGES[key], *made])] = None
    return {
        "benchmarks": [f"results/benchmarks/{file}.tsv" for file in files],
        "parts": feature_parts(name, backbone, feature, folds(name)[0]),
    }


def map_parts(wildcards):
    """The Parquet parts of every feature of the run, as the first fold sees them."""
    fold = folds(wildcards.dataset)[0]
    return {
        name: feature_parts(wildcards.dataset, wildcards.backbone, name, fold)
        for name in config["run"]["features"]
    }


def rule_graph(wildcards):
    """Rules that the report needs -> the rules whose files they read, and the number of their jobs."""
    dag = workflow.dag
    target = next(job for job in dag.jobs if job.rule.name == "report")
    graph, jobs = {}, {}
    for job in dag.bfs(dag.dependencies, target):
        jobs[job.rule.name] = jobs.get(job.rule.name, 0) + 1
        sources = graph.setdefault(job.rule.name, set())
        sources |= {source.rule.name for source in dag.dependencies[job]}
    return {
        "graph": {rule: sorted(graph[rule]) for rule in sorted(graph)},
        "jobs": dict(sorted(jobs.items())),
    }


def failed_jobs():
    """The jobs that failed, in words, and their logs; of a group those that began and did not end."""
    failed = {}
    for some in workflow.scheduler.failed:
        jobs = {str(job.log[0]): job for job in getattr(some, "jobs", [some])}
        for path in summary.stopped(list(jobs)):
            job = jobs[path]
            failed[" ".join([job.rule.name, *map(str, job.wildcards)])] = [path]
    return failed
