"""Simulate a cohort: unpack `snakemake`, call one library function."""

from pathlib import Path

from oncoarena import simulation
from oncoarena.logs import log_to

if __name__ == "__main__":  # worker processes import this file again
    with log_to(snakemake.log[0]):
        simulation.simulate(Path(snakemake.output[0]).parent, snakemake.params.request, snakemake.threads)
