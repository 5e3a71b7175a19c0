# Cohorts that a user need not bring, and the checked sample sheet.


rule fetch_srbct:
    output:
        samples=made("resources/srbct/samples.tsv"),
        matrix=made("resources/srbct/expression.tsv.gz"),
    log:
        local("resources/logs/fetch_srbct.log"),
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
        samples=made("resources/nci60/samples.tsv"),
        matrix=made("resources/nci60/expression.parquet"),
    log:
        local("resources/logs/fetch_nci60.log"),
    params:
        cohort="nci60",
        code=code("oncoarena.demo"),


if STUDY.simulate is not None:

    rule simulate:
        output:
            [made(f"resources/{name}") for name in plan.simulated_files(STUDY)],
        log:
            record("logs/simulate.log"),
        benchmark:
            record("benchmarks/simulate.tsv")
        conda:
            "../envs/oncoarena.yaml"
        threads: resources.SIMULATE.threads
        resources:
            **asks(resources.SIMULATE),
        params:
            request=dict(STUDY.simulate),
            code=code(
                f"oncoarena.simulation.{STUDY.simulate.get('kind', 'expression')}"
            ),
        script:
            "../scripts/simulate.py"


rule check_samples:
    input:
        given(STUDY.samples),
    output:
        result("samples.parquet"),
    log:
        record("logs/check_samples.log"),
    benchmark:
        record("benchmarks/check_samples.tsv")
    localrule: True
    conda:
        "../envs/oncoarena.yaml"
    params:
        # They decide what is refused, nothing of the table, and are checked before the first job of every run: an
        # object, which Snakemake hands on but does not compare. A further stratum trains nothing again.
        needs=types.SimpleNamespace(**STUDY.sheet_needs()),
        code=code("oncoarena.samples"),
    script:
        "../scripts/check_samples.py"
