# Objects to frozen blocks. Snakemake tracks receipts; the blocks themselves are written by the library.


# Which samples make a shard depends on the sizes of their objects, known only when the sheet is.
checkpoint plan_shards:
    input:
        result("samples.parquet"),
    output:
        result("shards/{assay}/shards.json"),
    log:
        record("logs/plan_shards/{assay}.log"),
    localrule: True
    conda:
        "../envs/oncoarena.yaml"
    params:
        assay=lambda wildcards: dataclasses.asdict(STUDY.assay(wildcards.assay)),
        limits={
            "shard_samples": STUDY.shard_samples,
            "shard_gb": STUDY.shard_gb,
            "most_shards": plan.most_shards(STUDY),
        },
        code=code("oncoarena.plan"),
    script:
        "../scripts/plan_shards.py"


rule extract:
    input:
        samples=result("samples.parquet"),
        shards=result("shards/{assay}/shards.json"),
        files=lambda wildcards: [
            given(uri) for uri in reach.tracked(STUDY.assay(wildcards.assay))
        ],
    output:
        result("shards/{assay}/{shard}/receipt.json"),
    log:
        record("logs/extract/{assay}.{shard}.log"),
    benchmark:
        record("benchmarks/extract/{assay}.{shard}.tsv")
    conda:
        "../envs/oncoarena.yaml"
    threads: lambda wildcards, input: extraction(wildcards, input).threads
    resources:
        **asks(extraction),
    params:
        assay=lambda wildcards: dataclasses.asdict(STUDY.assay(wildcards.assay)),
        on_bad_sample=STUDY.on_bad_sample,
        code=lambda wildcards: code(
            "oncoarena.extraction", f"oncoarena.assays.{wildcards.assay}"
        ),
    script:
        "../scripts/extract.py"


rule freeze:
    input:
        lambda wildcards: [
            result(f"shards/{wildcards.assay}/{shard}/receipt.json")
            for shard in range(len(shards_of(wildcards.assay)))
        ],
    output:
        result("blocks/{assay}.json"),
    log:
        record("logs/freeze/{assay}.log"),
    benchmark:
        record("benchmarks/freeze/{assay}.tsv")
    conda:
        "../envs/oncoarena.yaml"
    resources:
        **asks(resources.FREEZE),
    params:
        assay=lambda wildcards: dataclasses.asdict(STUDY.assay(wildcards.assay)),
        on_bad_sample=STUDY.on_bad_sample,
        code=code("oncoarena.freezing"),
    script:
        "../scripts/freeze.py"
