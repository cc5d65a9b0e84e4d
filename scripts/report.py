"""The report of a run: one HTML file, and its answer as text."""

from fungi_audio.files import provenance
from fungi_audio.files.whole import write_text
from fungi_audio.report import answer, page, results, run, settings
from joblog import job

params, input, output = snakemake.params, snakemake.input, snakemake.output

with job(snakemake):
    maps = dict(zip(map(tuple, params.pairs), input.maps, strict=True))
    scores, pairs = results.read(
        input.table, input.comparisons, input.predictions, maps, settings.baseline(params.config)
    )
    html = page.render(
        scores, pairs, params.config, params.rules["graph"], params.rules["jobs"],
        run.rule_times("results/benchmarks"), run.facts(pairs), provenance.commit(provenance.ROOT),
    )  # fmt: skip
    write_text(output.html, html)
    write_text(output.answer, answer.text(pairs, bool(settings.unreal(params.config))))
