# What the rules of report.smk ask.
import time
from fungi_audio.files.whole import sha256
from fungi_audio.report import settings, summary

STARTED = time.monotonic()


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
