"""Objects of a few samples, read to shards and frozen, as the jobs of a study do."""

import pandas as pd

from oncoarena import store
from oncoarena.extraction import extract_shard
from oncoarena.freezing import freeze_blocks
from oncoarena.plan import plan_shards


def write_objects(folder, profiles):
    """One file a sample; ``profiles`` maps a sample to its {gene: value} in the order of the file."""
    rows = []
    folder.mkdir(exist_ok=True)
    for name, genes in profiles.items():
        path = folder / f"{name}.tsv"
        path.write_text("gene\tvalue\n" + "".join(f"{gene}\t{value}\n" for gene, value in genes.items()))
        rows.append((name, str(path)))
    return pd.DataFrame(rows, columns=["sample_id", "file"])


def freeze(folder, samples, plan, shard_samples=2, **options):
    """Extract shards of so many samples and freeze them; return the assay's receipt and that of its first block."""
    shards = []
    for number, shard in enumerate(plan_shards(plan, samples, shard_samples, 1000)):
        rows = samples.iloc[shard["first"] : shard["end"]]
        extract_shard(plan, rows, str(folder / f"shards/{number}"), **options)
        shards.append(str(folder / f"shards/{number}/receipt.json"))
    receipt = freeze_blocks(
        plan,
        shards,
        str(folder / "blocks"),
        str(folder / f"blocks/{plan.name}.json"),
        options.get("on_bad_sample", "stop"),
    )
    return receipt, store.read_json(next(iter(receipt["blocks"].values())))
