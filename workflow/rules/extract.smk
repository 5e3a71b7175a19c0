# Objects to frozen blocks. Snakemake tracks receipts; the blocks themselves are written by the library.


# Which samples make a shard depends on the sizes of their objects, known only when the sheet is.
checkpoint plan_shards:
    input:
        f"{RESULTS}/samples.parquet",
    output:
        f"{RESULTS}/shards/{{assay}}/shards.json",
    log:
        f"{RESULTS}/logs/plan_shards/{{assay}}.log",
    localrule: True
    conda:
        "../envs/oncoarena.yaml"
    params:
        assay=lambda wildcards: dataclasses.asdict(STUDY.assay(wildcards.assay)),
        limits={"shard_samples": STUDY.shard_samples, "shard_gb": STUDY.shard_gb},
        code=code("oncoarena.plan"),
    script:
        "../scripts/plan_shards.py"


rule extract:
    input:
        samples=f"{RESULTS}/samples.parquet",
        shards=f"{RESULTS}/shards/{{assay}}/shards.json",
        files=lambda wildcards: plan.local_inputs(STUDY.assay(wildcards.assay)),
    output:
        f"{RESULTS}/shards/{{assay}}/{{shard}}/receipt.json",
    log:
        f"{RESULTS}/logs/extract/{{assay}}.{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract/{{assay}}.{{shard}}.tsv"
    conda:
        "../envs/oncoarena.yaml"
    threads: lambda wildcards: 1 if STUDY.assay(wildcards.assay).matrix else 8
    resources:
        # A matrix is in memory as a whole; of objects only what each worker has at hand.
        mem_mb=lambda wildcards, input, threads, attempt: attempt
        * max(
            1500 * threads,
            4000,
            int(20 * input.size_mb) if STUDY.assay(wildcards.assay).matrix else 0,
        ),
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
            f"{RESULTS}/shards/{wildcards.assay}/{shard}/receipt.json"
            for shard in range(len(shards_of(wildcards.assay)))
        ],
    output:
        f"{RESULTS}/blocks/{{assay}}.json",
    log:
        f"{RESULTS}/logs/freeze/{{assay}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/freeze/{{assay}}.tsv"
    conda:
        "../envs/oncoarena.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 4000,
    params:
        assay=lambda wildcards: dataclasses.asdict(STUDY.assay(wildcards.assay)),
        code=code("oncoarena.freezing"),
    script:
        "../scripts/freeze.py"
