# The report, and what a person sees at the end of a run.
import time

from fungi_audio.files.whole import sha256
from fungi_audio.report import settings, summary

STARTED = time.monotonic()


report: "../report/workflow.rst"


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


rule map:
    input:
        lambda wildcards: sum(map_parts(wildcards).values(), []),
    output:
        reported(
            "results/maps/{dataset}/{backbone}.parquet",
            "map",
            dataset="{dataset}",
            backbone="{backbone}",
        ),
    log:
        "logs/map/{dataset}/{backbone}.log",
    benchmark:
        "results/benchmarks/map/{dataset}/{backbone}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **cpu_job(
            lambda wildcards: 20 * len(COMBINATIONS),
            lambda wildcards: cost.PYTHON_MB
            + 16
            * cost.clips(dataset(wildcards))
            * shape_of(wildcards.backbone).width
            * len(config["run"]["features"])
            // 10**6,
        ),
    params:
        parts=lambda wildcards: map_parts(wildcards),
        combinations=COMBINATIONS,
        seed=config["seed"],
        code=code_digest("report.maps"),
    script:
        "../scripts/map.py"


rule report:
    input:
        table="results/table.csv",
        comparisons="results/comparisons.csv",
        predictions=evaluations("predictions.parquet"),
        maps=[
            f"results/maps/{name}/{backbone}.parquet"
            for name, backbone in product(
                config["run"]["datasets"], config["run"]["backbones"]
            )
        ],
    output:
        html=reported("results/report.html", "report", file="report", format="HTML"),
        answer=reported("results/answer.txt", "answer", file="answer", format="text"),
    log:
        "logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    localrule: True  # only the main process knows all rules of the run
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        **cpu_job(seconds=120),
    params:
        pairs=[
            *product(config["run"]["datasets"], config["run"]["backbones"]),
        ],
        config=settings.used(config),
        rules=rule_graph,
        code=code_digest("report.page", "report.run"),
        page=[
            sha256(path)
            for path in sorted(PROJECT.glob("scripts/fungi_audio/report/page.*"))
        ],
    script:
        "../scripts/report.py"


onsuccess:
    done = [job for job in workflow.dag.finished_jobs if job.output]
    made = [str(path) for job in done for path in job.output]
    print(summary.success(made, len(done), time.monotonic() - STARTED))


onerror:
    print(summary.failure(failed_jobs(), log))
