"""Decide the splits: unpack `snakemake`, call one library function for each table."""

from pathlib import Path

from oncoarena import store
from oncoarena.logs import log_to
from oncoarena.runs import write_splits
from oncoarena.splits import SplitPlan, make_splits

with log_to(snakemake.log[0]):
    samples = store.read_table(snakemake.input[0])
    splits = make_splits(samples, SplitPlan(**snakemake.params.plan))
    store.write_table(snakemake.output.splits, splits)
    folder = str(Path(snakemake.output.receipt).parent)
    write_splits(samples, splits, snakemake.params.covariates, folder)
