"""What a study will cost: hand-computed hours, requests and prices, and tables that say where they are wrong."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oncoarena
from object_store import s3_environment, s3_server
from oncoarena import costs, prices, printed_plan, store
from oncoarena.errors import InputError
from oncoarena.extraction import extract_shard
from oncoarena.refits import Thresholds
from oncoarena.resources import Need, extraction_need
from oncoarena.specs import HypothesisSpec, Resources, TrainingSpec
from oncoarena.splits import SplitPlan
from oncoarena.study import AssayPlan, Study, assay_module

PRICES = """\
# toy prices
item	kind	queue	vcpus	memory_gib	gpus	gbps	usd	unit	spot_discount	region	date	source
r.small	instance	memory	4	64	0	8	0.36	hour	0.5	moon-1	2026-01-02	toy
r.large	instance	memory	32	512	0	64	2.88	hour	0.5	moon-1	2026-01-01	toy
g.one	instance	gpu	4	16	1	8	1.00	hour	0.4	moon-1	2026-01-01	toy
g.four	instance	gpu	32	64	4	8	8.00	hour	0.4	moon-1	2026-01-01	toy
m.one	instance	small	2	8	0	8	0.10	hour	0.6	moon-1	2026-01-01	toy
x.dear	instance	-	2	8	0	8	9.99	hour	0.6	moon-1	2026-01-01	toy
s3_get	service	-	-	-	-	-	0.0004	1000 requests	-	moon-1	2026-01-01	toy
s3_put	service	-	-	-	-	-	0.005	1000 requests	-	moon-1	2026-01-01	toy
s3_storage	service	-	-	-	-	-	0.02	GB-month	-	moon-1	2026-01-01	toy
transfer_region	service	-	-	-	-	-	0.02	GB	-	moon-1	2026-01-01	toy
nat_gateway	service	-	-	-	-	-	0.05	GB	-	moon-1	2026-01-01	toy
kms	service	-	-	-	-	-	0.003	1000 requests	-	moon-1	2026-01-01	toy
"""
RATES = """\
item	value	unit	date	source
expression	7	vCPU-seconds per GB	2026-01-01	toy
alignments	7	vCPU-seconds per GB	2026-01-01	toy
s3	1	vCPU-seconds per GB	2026-01-01	toy
request	0	seconds	2026-01-01	toy
efficiency	1	share	2026-01-01	toy
start	0	minutes	2026-01-01	toy
"""


@pytest.fixture
def tables(tmp_path):
    (tmp_path / "prices.tsv").write_text(PRICES)
    (tmp_path / "rates.tsv").write_text(RATES)
    return {
        "prices": prices.read_prices(str(tmp_path / "prices.tsv")),
        "rates": prices.read_rates(str(tmp_path / "rates.tsv")),
    }


def hypothesis_spec(name, **resources):
    training = TrainingSpec(name, "oncoarena.hypotheses.prior_only", "numpy")
    return HypothesisSpec(training, name, "claim", Resources(**resources), "")


def study(folder="results/toy", *, assay="alignments", matrix=None, specs=(), **keys):
    options = assay_module(assay).Options()
    plan = AssayPlan(assay, options, matrix=matrix, column=None if matrix else assay)
    splits, thresholds = SplitPlan("kfold"), Thresholds(inner_folds=0)
    return Study("toy", "no-sheet.tsv", str(folder), 0, (plan,), splits, specs, thresholds=thresholds, **keys)


def step_of(plan, name, queue=None):
    (found,) = [step for step in plan.steps if step.name == name and queue in (None, step.queue)]
    return found


def edited(tables, **rates):
    return {**tables, "rates": {**tables["rates"], **rates}}


def test_estimate__extraction_by_hand(tables):
    # Four objects of 3 GB are one shard: 12 GB by 8 vCPU-seconds are 96, whatever the number of threads.
    n_bytes = {"alignments": np.full(4, 3 * 10**9)}
    need = extraction_need(study().assays[0], {"first": 0, "end": 4, "n_bytes": 12 * 10**9}, 0)
    step = step_of(costs.estimate(study(), n_bytes, **tables), "extract alignments")
    assert (step.n_jobs, step.n_bytes) == (1, 12 * 10**9)
    assert step.vcpu_hours == pytest.approx(96 / 3600)
    # Both nodes are USD 0.09 a vCPU and 16 GiB a vCPU: what is scarcer, vCPUs or memory, decides the share.
    share = max(need.threads / 32, need.mem_mb / (512 * 1024 * 0.93))
    assert step.usd == pytest.approx(2.88 * share * 96 / need.threads / 3600)
    assert step.usd_spot == pytest.approx(step.usd / 2)


def test_estimate__start_of_nodes_efficiency_and_latency_are_added(tables):
    n_bytes = {"alignments": np.full(4, 3 * 10**9)}
    plain = step_of(costs.estimate(study(), n_bytes, **tables), "extract alignments")
    threads = plain.most.threads

    def hours(**rates):
        step = step_of(costs.estimate(study(), n_bytes, **edited(tables, **rates)), "extract alignments")
        return step.longest_hours

    assert hours(start=6) == pytest.approx(plain.longest_hours + 0.1)
    assert hours(efficiency=0.5) == pytest.approx(plain.longest_hours * 2)
    # Sixteen at a time the facts and, of each block, one; one in each worker.
    n_blocks = len(study().assays[0].blocks())
    assert hours(request=1) == pytest.approx(
        plain.longest_hours + (4 * (1 + n_blocks) / 16 + 4 / threads) / 3600
    )


def test_estimate__a_slow_network_is_what_counts(tables):
    n_bytes = {"alignments": np.full(4, 3 * 10**9)}
    fast = edited(tables, alignments=0.0, s3=0.0)
    step = step_of(costs.estimate(study(), n_bytes, **fast), "extract alignments")
    (node,) = [item for item in tables["prices"].instances if item.name == step.nodes[0][0]]
    assert step.longest_hours == pytest.approx(12e9 * 8 / (node.gbps * 1e9 * node.share(step.most)) / 3600)


def test_estimate__requests_by_hand(tables):
    # 20 MB are 3 ranges of 8 MiB; facts are asked before and after; each block is read back by one.
    n_bytes, n_blocks = (
        {"expression": np.full(2, 20_000_000)},
        len(study(assay="expression").assays[0].blocks()),
    )
    plan = costs.estimate(study(assay="expression"), n_bytes, **tables)
    step = step_of(plan, "extract expression")
    assert (step.n_gets, step.n_puts) == (2 * (3 + 2 + n_blocks), 2 + 3)
    assert plan.requests_usd == pytest.approx((step.n_gets * 0.0004 + step.n_puts * 0.005) / 1000)
    # An alignment of 1 GB is cut into four parts of 256 MB: 120 ranges, a header and facts a part, its index.
    whole = study(assay="alignments")
    step = step_of(costs.estimate(whole, {"alignments": np.array([10**9])}, **tables), "extract alignments")
    assert step.n_gets == 120 + 4 + (1 + 4 + 5) + len(whole.assays[0].blocks())


def test_requests__are_those_that_a_real_extraction_makes(tmp_path, monkeypatch):
    import fsspec
    import pandas as pd
    import s3fs

    counted = []
    true_call = s3fs.S3FileSystem._call_s3

    async def call(filesystem, method, *arguments, **options):
        counted.append(method)
        return await true_call(filesystem, method, *arguments, **options)

    with s3_server(tmp_path) as port, s3_environment(port):
        filesystem = fsspec.filesystem("s3")
        for row in range(6):
            lines = [f"g{gene}\t{gene * row}" for gene in range(2000)]
            filesystem.pipe(f"genomics/s{row}.tsv", "\n".join(["gene_id\tcount", *lines]).encode())
        samples = pd.DataFrame(
            {
                "sample_id": [f"s{row}" for row in range(6)],
                "expression": [f"s3://genomics/s{row}.tsv" for row in range(6)],
            }
        )
        monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call)
        assay = study(assay="expression").assays[0]
        extract_shard(assay, samples, "s3://genomics/shard")
        sizes = costs.bytes_of_objects(study(assay="expression"), samples)["expression"]
    n_gets, n_puts = costs._requests(sizes, 0, len(assay.blocks()))
    reading = sum(method in ("get_object", "head_object") for method in counted)
    # Beside its objects a shard has a fixed number of small files.
    assert n_gets <= reading < n_gets + 40
    assert sum(method == "put_object" for method in counted) < n_puts + 20


def test_estimate__training_is_bounded_by_its_time_limit_until_it_was_measured(tables):
    specs = (hypothesis_spec("deep", gpu=1, runtime=120), hypothesis_spec("flat", runtime=30, mem_mb=2000))
    toy, n_bytes = study(specs=specs), {"alignments": np.array([1])}
    plan = costs.estimate(toy, n_bytes, **tables)
    gpu, small = step_of(plan, "train", "gpu"), step_of(plan, "train", "small")
    assert (gpu.n_jobs, gpu.gpu_hours, gpu.usd, gpu.basis) == (1, 2.0, 2.0, costs.AT_MOST)
    assert gpu.usd_spot == pytest.approx(1.2)
    assert small.usd == pytest.approx(0.5 * 0.10 * 0.5)
    again = costs.estimate(toy, n_bytes, **tables, measured={"train/deep.0": 36.0})
    assert step_of(again, "train", "gpu").gpu_hours == pytest.approx(0.01)
    assert step_of(again, "train", "gpu").basis == costs.MEASURED
    assert step_of(again, "train", "small").basis == costs.AT_MOST


def test_wall_hours__jobs_wait_where_the_queue_is_full(tables):
    specs = tuple(hypothesis_spec(f"deep{number}", gpu=1, runtime=60) for number in range(4))
    n_bytes = {"alignments": np.array([1])}

    def hours(vcpus):
        limits = costs.Limits(gpu=vcpus)
        return costs.estimate(study(specs=specs), n_bytes, **tables, limits=limits).wall_hours("train")

    assert [hours(16), hours(8), hours(4)] == pytest.approx([1.0, 2.0, 4.0])


def test_estimate__says_what_it_does_not_know(tables):
    unknown = costs.estimate(study(), {}, **tables).unknown
    assert unknown == ("alignments: its objects are not known before the sample sheet is made",)
    some = costs.estimate(study(), {"alignments": np.array([5, -1, -1])}, **tables)
    assert some.unknown == ("alignments: 2 objects are not there yet and counted as empty",)
    assert step_of(some, "extract alignments").n_bytes == 5
    matrix = costs.estimate(
        study(assay="expression", matrix="s3://bucket/m"), {"expression": np.array([-1])}, **tables
    )
    assert matrix.unknown == ("expression: the matrix is not there yet and counted as empty",)
    no_rate = {**tables, "rates": {k: v for k, v in tables["rates"].items() if k != "alignments"}}
    assert "rate is not in rates.tsv" in costs.estimate(study(), {}, **no_rate).unknown[1]


def test_estimate__warns_of_a_job_that_no_node_may_take(tables):
    plan = costs.estimate(
        study(), {"alignments": np.full(200, 10**9)}, **tables, limits=costs.Limits(memory=2)
    )
    assert len(plan.warnings) == 1
    assert "it would wait for ever" in plan.warnings[0]


def test_cheapest__refuses_what_no_node_holds(tables):
    with pytest.raises(
        InputError, match=r"no instance of queue 'gpu' has 4 vCPUs, 1000 MB and 9 GPUs; add one"
    ):
        tables["prices"].cheapest(Need(threads=4, mem_mb=1000, gpu=9, queue="gpu"))
    assert tables["prices"].cheapest(Need(gpu=1, queue="gpu", mem_mb=4000)).name == "g.one"
    assert tables["prices"].cheapest(Need(gpu=3, queue="gpu", mem_mb=4000)).name == "g.four"


SHIPPED = {"prices": prices.read_prices(), "rates": prices.read_rates()}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=30), st.integers(1, 50))
def test_estimate__more_bytes_never_cost_less(sizes, factor):
    few, many = (
        step_of(
            costs.estimate(study(), {"alignments": np.array(sizes) * times}, **SHIPPED), "extract alignments"
        )
        for times in (1, factor)
    )
    for name in ("n_bytes", "n_gets", "vcpu_hours", "usd", "usd_spot"):
        assert getattr(many, name) >= getattr(few, name) * (1 - 1e-9), name


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "4	64	0	8	0.36",
            "4	64	0	8	cheap",
            r"row 3: column 'usd': found 'cheap', expected a number from 0",
        ),
        (
            "4	64	0	8	0.36",
            "4.5	64	0	8	0.36",
            r"row 3: column 'vcpus': found '4.5', expected a whole number",
        ),
        ("0.36	hour	0.5", "0.36	hour	1.5", r"row 3: column 'spot_discount': found '1.5'"),
        ("0.36	hour", "nan	hour", r"row 3: column 'usd': found 'nan'"),
        (
            "r.small	instance	memory",
            "r.small	instance	memori",
            r"row 3: column 'queue': found 'memori'",
        ),
        (
            "r.small	instance",
            "r.small	node",
            r"row 3: column 'kind': found 'node', expected instance or service",
        ),
        ("r.large	instance", "r.small	instance", r"row 4: 'r.small' stands on row 3 too"),
        ("kms	service", "kmz	service", r"item 'kms' is missing; did you mean 'kmz'"),
        ("	toy\nr.large", "\nr.large", r"row 3: has 12 cells, the header has 13"),
        ("	gbps	", "	gbit	", r"row 2: column 'gbps' is missing; did you mean 'gpus'"),
        ("moon-1	2026-01-02", "mars-1	2026-01-02", r"prices of several regions \(mars-1, moon-1\)"),
        (PRICES, "# nothing\n", r"has no rows"),
    ],
)
def test_read_prices__says_file_row_and_column(tmp_path, old, new, complaint):
    assert PRICES.count(old) == 1
    path = tmp_path / "mine.tsv"
    path.write_text(PRICES.replace(old, new))
    with pytest.raises(InputError, match=rf"mine\.tsv: {complaint}"):
        prices.read_prices(str(path))


def test_read_rates__says_file_row_and_column(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text(RATES.replace("efficiency	1", "efficiency	0"))
    with pytest.raises(InputError, match=r"mine\.tsv: row 6: column 'value': found '0', expected a number"):
        prices.read_rates(str(path))
    path.write_text(RATES.replace("request	", "requests	"))
    with pytest.raises(InputError, match=r"item 'request' is missing; did you mean 'requests'"):
        prices.read_rates(str(path))


def test_shipped_tables__serve_every_queue_and_say_how_far_to_trust_them():
    table, rates = prices.read_prices(), prices.read_rates()
    assert {item.queue for item in table.instances} == {*prices.QUEUES, "-"}
    for name in ("r5", "r6i", "g4dn", "g5", "p4d", "m5", "m6i"):  # the families of infra/oncoarena.yaml
        assert any(item.name.startswith(f"{name}.") for item in table.instances)
    assert {"alignments", "expression", "variants", "methylation", "segments"} <= set(rates)
    text = Path(oncoarena.__file__).with_name("cost_data").joinpath("prices.tsv").read_text()
    assert "as remembered on 2026-11-23" in text
    assert "CHECK BEFORE RELYING ON THEM" in text


def test_measured_seconds__of_an_earlier_run(tmp_path):
    toy = study(tmp_path, specs=(hypothesis_spec("deep"), hypothesis_spec("flat")))
    header = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    store.write_text(f"{tmp_path}/benchmarks/train/deep.0.tsv", header + "12.5" + "\t0" * 9 + "\n")
    store.write_text(f"{tmp_path}/benchmarks/split.tsv", header + "NA" + "\tNA" * 9 + "\n")
    assert costs.measured_seconds(toy) == {"train/deep.0": 12.5}


def test_print_plan__columns_are_aligned_and_assumptions_said(tmp_path):
    for row in range(12):
        (tmp_path / f"s{row}.bam").write_bytes(b"x" * 10**6)
    lines = [f"s{row}\tp{row}\t{'ab'[row % 2]}\t{tmp_path}/s{row}.bam" for row in range(12)]
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text("sample_id\tpatient_id\tlabel\talignments\n" + "\n".join(lines))
    toy = study(tmp_path / "results", specs=(hypothesis_spec("deep", gpu=1),))
    toy = Study(**{**vars(toy), "samples": str(sheet)})
    stream = io.StringIO()
    printed_plan.print_plan(toy, stream)
    said = stream.getvalue()
    assert said.startswith("Plan of study toy: 12 samples, 6 jobs, on AWS from nothing to the report\n")
    header, *rows = said.split("\n\n")[1].splitlines()
    end = header.index("USD spot") + len("USD spot")
    assert all(row[end : end + 2] in ("  ", "--", "") and row[end - 1] != " " for row in rows)
    assert "as remembered on 2026-11-23: check before relying on them" in said
    assert "at most USD" in said
    assert "Not known" not in said
    absent = io.StringIO()
    printed_plan.print_plan(study(tmp_path / "results"), absent)
    assert "samples not known yet" in absent.getvalue()
    assert (
        "Not known  alignments: its objects are not known before the sample sheet is made"
        in absent.getvalue()
    )
