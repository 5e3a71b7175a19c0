"""Train one hypothesis on one part of the splits: unpack `snakemake`, call one library function."""

from oncoarena import store
from oncoarena.logs import log_to
from oncoarena.refits import Refit
from oncoarena.runs import run_part
from oncoarena.specs import spec_from_dict

with log_to(snakemake.log[0]):
    run_part(
        spec_from_dict(snakemake.params.spec),
        splits_receipt=snakemake.input.splits,
        assay_receipts=list(snakemake.input.assays),
        part=int(snakemake.wildcards.part),
        n_parts=snakemake.params.n_parts,
        study_seed=snakemake.params.seed,
        threads=snakemake.threads,
        gpu=snakemake.resources.gpu,
        uri=store.parent(snakemake.output.run),
        save_models=snakemake.params.save_models,
        explain=snakemake.params.explain,
        refit=Refit(**snakemake.params.refit) if snakemake.params.refit else None,
    )
