"""Join the shards of an assay into frozen blocks: unpack `snakemake`, call one library function."""

from oncoarena import store
from oncoarena.freezing import freeze_blocks
from oncoarena.logs import log_to
from oncoarena.study import assay_from_dict

with log_to(snakemake.log[0]):
    plan, receipt = assay_from_dict(snakemake.params.assay), snakemake.output[0]
    stop = snakemake.params.on_bad_sample
    freeze_blocks(plan, list(snakemake.input), store.parent(receipt), receipt, stop)
