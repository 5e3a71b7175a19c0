"""Extract one shard of an assay: unpack `snakemake`, call one library function."""

from oncoarena import store
from oncoarena.costs import reading_seconds
from oncoarena.extraction import extract_shard
from oncoarena.logs import log_to
from oncoarena.pools import n_workers_worth, object_pool
from oncoarena.prices import read_rates
from oncoarena.progress import Progress
from oncoarena.study import assay_from_dict

if __name__ == "__main__":  # Dask's worker processes import this file again
    with log_to(snakemake.log[0]) as terminal:
        plan, number = assay_from_dict(snakemake.params.assay), int(snakemake.wildcards.shard)
        shard = store.read_json(snakemake.input.shards)[number]
        rows = store.read_table(snakemake.input.samples).iloc[shard["first"] : shard["end"]]
        uri, stop = store.parent(snakemake.output[0]), snakemake.params.on_bad_sample
        is_remote = plan.matrix is None and rows[plan.column].map(store.is_remote).any()
        seconds = sum(reading_seconds(plan.name, shard["n_bytes"], len(rows), read_rates(), is_remote))
        # A large object is many tasks: it may keep more processes busy than there are objects.
        n_workers, memory_mb = n_workers_worth(seconds, snakemake.threads), snakemake.resources.mem_mb
        # Where it runs decides nothing of the result: no param, for a changed one would read all objects again.
        scheduler = snakemake.config.get("compute", {}).get("dask", {}).get("scheduler")
        where = f"{n_workers} of {snakemake.threads} processes" if scheduler is None else scheduler
        what = f"{len(rows)} objects, {shard['n_bytes'] / 1e6:.1f} MB" if plan.matrix is None else plan.matrix
        print(f"{what}: {where}", flush=True)
        with object_pool(n_workers, memory_mb, scheduler) as pool:
            shown = Progress(f"{plan.name} {number}", terminal)
            extract_shard(plan, rows, uri, pool=pool, on_bad_sample=stop, progress=shown)
