"""Render the report from the tables: unpack `snakemake`, call one library function."""

from oncoarena import store
from oncoarena.logs import log_to
from oncoarena.results import write_report

with log_to(snakemake.log[0]):
    write_report(
        run_uris=list(snakemake.input.runs),
        endpoint_uri=snakemake.input.endpoint,
        assay_uris=list(snakemake.input.assays),
        benchmark_uris=list(snakemake.input.benchmarks),
        results=store.parent(snakemake.output.report),
        config=snakemake.params.config,
        command=snakemake.params.command,
        **snakemake.params.study,
    )
