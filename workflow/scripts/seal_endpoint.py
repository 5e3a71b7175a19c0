"""Write the endpoint down: unpack `snakemake`, call one library function."""

from oncoarena.logs import log_to
from oncoarena.sealing import seal_endpoint

with log_to(snakemake.log[0]):
    seal_endpoint(snakemake.output[0], snakemake.params.endpoint)
