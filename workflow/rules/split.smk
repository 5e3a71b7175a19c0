# Every split of the study, decided once, for all hypotheses alike.


rule split:
    input:
        f"{RESULTS}/samples.parquet",
    output:
        splits=f"{RESULTS}/splits.parquet",
        receipt=f"{RESULTS}/splits/receipt.json",
    log:
        f"{RESULTS}/logs/split.log",
    benchmark:
        f"{RESULTS}/benchmarks/split.tsv"
    conda:
        "../envs/oncoarena.yaml"
    params:
        plan=dataclasses.asdict(STUDY.splits),
        covariates=list(STUDY.covariates),
        code=code("oncoarena.splits", "oncoarena.runs"),
    script:
        "../scripts/split.py"
