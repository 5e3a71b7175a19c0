"""Extract one shard of an assay: unpack `snakemake`, call one library function."""

from oncoarena import store
from oncoarena.compute import object_pool
from oncoarena.extraction import extract_shard
from oncoarena.logs import log_to
from oncoarena.progress import Progress
from oncoarena.study import assay_from_dict

if __name__ == "__main__":  # Dask's worker processes import this file again
    with log_to(snakemake.log[0]) as terminal:
        plan, number = assay_from_dict(snakemake.params.assay), int(snakemake.wildcards.shard)
        shard = store.read_json(snakemake.input.shards)[number]
        rows = store.read_table(snakemake.input.samples).iloc[shard["first"] : shard["end"]]
        uri, stop = store.parent(snakemake.output[0]), snakemake.params.on_bad_sample
        n_workers, memory_mb = min(snakemake.threads, len(rows)), snakemake.resources.mem_mb
        # Where it runs decides nothing of the result: no param, for a changed one would read all objects again.
        scheduler = snakemake.config.get("compute", {}).get("dask", {}).get("scheduler")
        with object_pool(n_workers, memory_mb, scheduler) as pool:
            shown = Progress(f"{plan.name} {number}", terminal)
            extract_shard(plan, rows, uri, pool=pool, on_bad_sample=stop, progress=shown)
