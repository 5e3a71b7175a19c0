# One rule fans out over all hypotheses and the parts of the splits; a second trains them again, on less of the training
# part or with other seeds, a job for each purpose: a change of one key trains nothing else again.


rule train:
    input:
        splits=result("splits/receipt.json"),
        assays=lambda wildcards: [
            result(f"blocks/{name}.json")
            for name in STUDY.assays_of(spec_of(wildcards))
        ],
        files=lambda wildcards: [
            given(uri) for uri in reach.tracked(spec_of(wildcards).training)
        ],
    output:
        predictions=result("runs/{hypothesis}/{part}/predictions.parquet"),
        attributions=result("runs/{hypothesis}/{part}/attributions.parquet"),
        run=result("runs/{hypothesis}/{part}/run.json"),
    log:
        record("logs/train/{hypothesis}.{part}.log"),
    benchmark:
        record("benchmarks/train/{hypothesis}.{part}.tsv")
    conda:
        "../envs/oncoarena.yaml"
    threads: lambda wildcards: spec_of(wildcards).resources.threads
    resources:
        **asks(training),
    params:
        # What decides the result: an edit of any of these, and of no other hypothesis, trains it again.
        # Snakemake compares params of plain types only and silently skips objects: hence asdict.
        spec=lambda wildcards: dataclasses.asdict(spec_of(wildcards).training),
        seed=STUDY.seed,
        n_parts=STUDY.splits.parts,
        save_models=STUDY.save_models,
        explain=STUDY.explain,
        refit=None,
        code=lambda wildcards: code(
            "oncoarena.training", spec_of(wildcards).training.module
        ),
        versions=lambda wildcards: provenance.framework_versions(
            spec_of(wildcards).training.framework
        ),
    script:
        "../scripts/train.py"


use rule train as train_again with:
    output:
        predictions=result("runs/{hypothesis}/{part}/{purpose}/predictions.parquet"),
        run=result("runs/{hypothesis}/{part}/{purpose}/run.json"),
    log:
        record("logs/train_again/{hypothesis}.{part}.{purpose}.log"),
    benchmark:
        record("benchmarks/train_again/{hypothesis}.{part}.{purpose}.tsv")
    params:
        spec=lambda wildcards: dataclasses.asdict(spec_of(wildcards).training),
        seed=STUDY.seed,
        n_parts=STUDY.splits.parts,
        save_models=False,
        explain=False,
        refit=lambda wildcards: dataclasses.asdict(
            STUDY.refit(spec_of(wildcards), wildcards.purpose)
        ),
        code=lambda wildcards: code(
            "oncoarena.training", spec_of(wildcards).training.module
        ),
        versions=lambda wildcards: provenance.framework_versions(
            spec_of(wildcards).training.framework
        ),
