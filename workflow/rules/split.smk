# Every split of the study, decided once, for all hypotheses alike.


rule split:
    input:
        samples=result("samples.parquet"),
        # A sample that could not be read takes no part in any split.
        assays=[result(f"blocks/{item.name}.json") for item in STUDY.assays],
    output:
        splits=result("splits.parquet"),
        receipt=result("splits/receipt.json"),
    log:
        record("logs/split.log"),
    benchmark:
        record("benchmarks/split.tsv")
    conda:
        "../envs/oncoarena.yaml"
    resources:
        **asks(resources.SPLIT),
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
        result("endpoint.json"),
    log:
        record("logs/seal_endpoint.log"),
    priority: 100
    localrule: True
    conda:
        "../envs/oncoarena.yaml"
    params:
        endpoint=STUDY.endpoint(),
        code=code("oncoarena.sealing"),
    script:
        "../scripts/seal_endpoint.py"
