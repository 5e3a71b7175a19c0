"""Extract one shard of an assay: unpack `snakemake`, call one library function."""

from pathlib import Path

from oncoarena import store
from oncoarena.compute import object_map
from oncoarena.extraction import extract_shard
from oncoarena.logs import log_to
from oncoarena.study import assay_from_dict

if __name__ == "__main__":  # Dask's worker processes import this file again
    with log_to(snakemake.log[0]):
        size, shard = snakemake.params.shard_samples, int(snakemake.wildcards.shard)
        plan = assay_from_dict(snakemake.params.assay)
        samples = store.read_table(snakemake.input.samples)
        rows = samples if plan.matrix else samples.iloc[shard * size : (shard + 1) * size]
        with object_map(snakemake.threads, snakemake.resources.mem_mb) as map_objects:
            extract_shard(plan, rows, str(Path(snakemake.output[0]).parent), map_objects)
