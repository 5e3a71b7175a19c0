"""Deal samples to extraction jobs: unpack `snakemake`, call one library function."""

from oncoarena import store
from oncoarena.logs import log_to
from oncoarena.plan import plan_shards
from oncoarena.study import assay_from_dict

with log_to(snakemake.log[0]):
    plan, samples = assay_from_dict(snakemake.params.assay), store.read_table(snakemake.input[0])
    store.write_json(snakemake.output[0], plan_shards(plan, samples, **snakemake.params.limits))
