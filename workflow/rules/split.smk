# Every split of the study, decided once, for all hypotheses alike.


rule split:
    input:
        samples=f"{RESULTS}/samples.parquet",
        # A sample that could not be read takes no part in any split.
        assays=[f"{RESULTS}/blocks/{item.name}.json" for item in STUDY.assays],
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
        min_patients=STUDY.splits.min_patients(),
        covariates=list(STUDY.covariates),
        code=code("oncoarena.splits", "oncoarena.runs", "oncoarena.freezing"),
    script:
        "../scripts/split.py"


# What is measured and how, written down before a model is trained: it needs nothing and goes first. No input of
# training, not even an ancient one: Snakemake looks for no other change of a job behind one that will run.
rule seal_endpoint:
    output:
        f"{RESULTS}/endpoint.json",
    log:
        f"{RESULTS}/logs/seal_endpoint.log",
    priority: 100
    localrule: True
    conda:
        "../envs/oncoarena.yaml"
    params:
        endpoint=STUDY.endpoint(),
        code=code("oncoarena.sealing"),
    script:
        "../scripts/seal_endpoint.py"
