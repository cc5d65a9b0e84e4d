"""The results tables of a run: long CSV, comparisons, Markdown, LaTeX."""

from fungi_audio.evaluate import cost_table, render, table
from fungi_audio.files.whole import write_text
from joblog import job

params, output = snakemake.params, snakemake.output

with job(snakemake):
    skipped = dict(zip(params.datasets, snakemake.input.skipped, strict=True))
    scores = table.collect(snakemake.input.scores, skipped)
    baseline = params.baseline[0] if params.baseline else None
    comparisons = table.comparisons(scores, snakemake.input.predictions, baseline, params.seed)
    jobs = {(dataset, backbone, name): cost_table.Jobs(**files) for dataset, backbone, name, files in params.extraction}
    costs = cost_table.cost_table(jobs, params.combinations)
    captions = render.notes(scores, params.synthetic, params.seeded)
    write_text(output.csv, table.to_csv(scores.merge(costs, how="left")))
    write_text(output.comparisons, table.to_csv(comparisons))
    write_text(output.markdown, render.markdown(scores, comparisons, costs, captions, baseline))
    write_text(output.latex, render.latex(scores, comparisons, captions, baseline))
