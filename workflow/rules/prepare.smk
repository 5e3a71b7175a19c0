# Cohorts that a user need not bring, and the checked sample sheet.


rule fetch_srbct:
    output:
        samples="resources/srbct/samples.tsv",
        matrix="resources/srbct/expression.tsv.gz",
    log:
        "resources/logs/fetch_srbct.log",
    localrule: True
    conda:
        "../envs/oncoarena.yaml"
    params:
        cohort="srbct",
        code=code("oncoarena.demo"),
    script:
        "../scripts/fetch_demo.py"


use rule fetch_srbct as fetch_nci60 with:
    output:
        samples="resources/nci60/samples.tsv",
        matrix="resources/nci60/expression.parquet",
    log:
        "resources/logs/fetch_nci60.log",
    params:
        cohort="nci60",
        code=code("oncoarena.demo"),


if STUDY.simulate is not None:

    rule simulate:
        output:
            [f"resources/{name}" for name in plan.simulated_files(STUDY)],
        log:
            f"{RESULTS}/logs/simulate.log",
        benchmark:
            f"{RESULTS}/benchmarks/simulate.tsv"
        conda:
            "../envs/oncoarena.yaml"
        threads: 8
        params:
            request=dict(STUDY.simulate),
            code=code(
                f"oncoarena.simulation.{STUDY.simulate.get('kind', 'expression')}"
            ),
        script:
            "../scripts/simulate.py"


rule check_samples:
    input:
        STUDY.samples,
    output:
        f"{RESULTS}/samples.parquet",
    log:
        f"{RESULTS}/logs/check_samples.log",
    benchmark:
        f"{RESULTS}/benchmarks/check_samples.tsv"
    conda:
        "../envs/oncoarena.yaml"
    params:
        needs=STUDY.sheet_needs(),
        code=code("oncoarena.samples"),
    script:
        "../scripts/check_samples.py"
