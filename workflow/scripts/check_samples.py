"""Check the sample sheet: unpack `snakemake`, call one library function."""

from oncoarena import store
from oncoarena.logs import log_to
from oncoarena.samples import read_samples

with log_to(snakemake.log[0]):
    needs = vars(snakemake.params.needs)
    store.write_table(snakemake.output[0], read_samples(snakemake.input[0], **needs))
