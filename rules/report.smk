# The report, and what a person sees at the end of a run.


include: "helpers/report.smk"


report: "../report/workflow.rst"


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
