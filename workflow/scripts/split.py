"""Decide the splits: unpack `snakemake`, call one library function for each table."""

from oncoarena import store
from oncoarena.freezing import admitted_samples
from oncoarena.logs import log_to
from oncoarena.runs import write_splits
from oncoarena.splits import SplitPlan, make_splits

with log_to(snakemake.log[0]):
    listed, needs = store.read_table(snakemake.input.samples), snakemake.params
    samples = admitted_samples(listed, list(snakemake.input.assays), needs.min_patients)
    splits = make_splits(samples, SplitPlan(**needs.plan))
    store.write_table(snakemake.output.splits, splits)
    folder = store.parent(snakemake.output.receipt)
    write_splits(samples, splits, needs.covariates, folder)
