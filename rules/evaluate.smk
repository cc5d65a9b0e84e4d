# Features -> scores and predictions of every combination and fold -> the results tables.


include: "helpers/evaluate.smk"


rule evaluate:
    input:
        lambda wildcards: sum(combination_parts(wildcards).values(), []),
    output:
        scores=reported(
            "results/evaluation/{dataset}/{backbone}/{combination}/{fold}.csv",
            "scores",
            dataset="{dataset}",
            backbone="{backbone}",
            features="{combination}",
            fold="{fold}",
        ),
        predictions=reported(
            "results/evaluation/{dataset}/{backbone}/{combination}/{fold}.predictions.parquet",
            "predictions",
            dataset="{dataset}",
            backbone="{backbone}",
            features="{combination}",
            fold="{fold}",
        ),
    log:
        "logs/evaluate/{dataset}/{backbone}/{combination}/{fold}.log",
    benchmark:
        "results/benchmarks/evaluate/{dataset}/{backbone}/{combination}/{fold}.tsv"
    wildcard_constraints:
        combination="|".join(map(re.escape, COMBINATIONS)),
    group:
        shared("evaluate", evaluate_cost)
    conda:
        "../envs/evaluate.yaml"
    threads: 1
    resources:
        **cpu_job(evaluate_cost, evaluate_memory, group="evaluate"),
    params:
        parts=combination_parts,
        settings=config["evaluation"],
        seed=config["seed"],
        multilabel=lambda wildcards: dataset(wildcards)["multilabel"],
        code=code_digest("evaluate.scores"),
    script:
        "../scripts/evaluate.py"


rule table:
    input:
        scores=evaluations("csv"),
        predictions=evaluations("predictions.parquet"),
        skipped=[f"results/{name}/skipped.csv" for name in evaluated()],
    output:
        csv=reported("results/table.csv", "table", table="scores", format="CSV"),
        markdown=reported(
            "results/table.md", "table_text", table="means", format="Markdown"
        ),
        latex=reported("results/table.tex", "table_text", table="means", format="LaTeX"),
        comparisons=reported(
            "results/comparisons.csv", "comparisons", table="differences", format="CSV"
        ),
    log:
        "logs/table.log",
    benchmark:
        "results/benchmarks/table.tsv"
    localrule: LIGHT
    conda:
        "../envs/evaluate.yaml"
    threads: 1
    resources:
        **cpu_job(seconds=300),
    params:
        baseline=[
            name
            for name in config["run"]["features"]
            if config["features"][name]["objective"] == "embedding"
        ][:1],
        combinations=COMBINATIONS,
        datasets=evaluated(),
        extraction=[
            [*where, extraction(*where)]
            for where in product(
                config["run"]["datasets"],
                config["run"]["backbones"],
                config["run"]["features"],
            )
        ],
        synthetic=[
            name
            for name in config["run"]["datasets"]
            if config["datasets"][name]["layout"] == "synthetic"
        ],
        seeded=[
            name
            for name in config["run"]["backbones"]
            if config["backbones"][name]["checkpoint"].startswith("random:")
        ],
        seed=config["seed"],
        code=code_digest("evaluate.table", "evaluate.render", "evaluate.cost_table"),
    script:
        "../scripts/table.py"
