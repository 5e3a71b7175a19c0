"""Fetch a demo cohort: unpack `snakemake`, call one library function."""

from pathlib import Path

from oncoarena.demo import fetch_demo
from oncoarena.logs import log_to

with log_to(snakemake.log[0]):
    fetch_demo(snakemake.params.cohort, Path(snakemake.output.samples).parent)
