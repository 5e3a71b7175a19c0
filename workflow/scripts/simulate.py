"""Simulate a cohort: unpack `snakemake`, call one library function."""

from pathlib import Path

from oncoarena.logs import log_to
from oncoarena.simulate import simulate_cohort

with log_to(snakemake.log[0]):
    simulate_cohort(Path(snakemake.output.samples).parent, **snakemake.params.options)
