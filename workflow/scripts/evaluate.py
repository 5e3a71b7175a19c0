"""Judge all hypotheses: unpack `snakemake`, call one library function."""

from oncoarena import store
from oncoarena.logs import log_to
from oncoarena.results import evaluate

with log_to(snakemake.log[0]):
    evaluate(
        samples_uri=snakemake.input.samples,
        splits_uri=snakemake.input.splits,
        prediction_uris=list(snakemake.input.predictions),
        run_uris=list(snakemake.input.runs),
        refit_uris=[uri for uri in snakemake.input.refits if uri.endswith("run.json")],
        endpoint_uri=snakemake.input.endpoint,
        assay_receipts=list(snakemake.input.assays),
        threads=snakemake.threads,
        results=store.parent(snakemake.output.evaluation),
        **snakemake.params.study,
    )
