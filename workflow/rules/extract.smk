# Objects to frozen blocks. Snakemake tracks receipts; the blocks themselves are written by the library.


rule extract:
    input:
        samples=f"{RESULTS}/samples.parquet",
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
        mem_mb=lambda wildcards, input, attempt: attempt
        * max(4000, int(20 * input.size_mb)),
    params:
        assay=lambda wildcards: dataclasses.asdict(STUDY.assay(wildcards.assay)),
        shard_samples=STUDY.shard_samples,
        code=lambda wildcards: code(
            "oncoarena.extraction", f"oncoarena.assays.{wildcards.assay}"
        ),
    script:
        "../scripts/extract.py"


rule freeze:
    input:
        lambda wildcards: plan.shard_receipts(STUDY, wildcards.assay),
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
        code=code("oncoarena.extraction"),
    script:
        "../scripts/freeze.py"
