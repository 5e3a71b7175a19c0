"""One BAM file to all blocks of alignments: oncoarena against decompression alone, pysam and finaletoolkit, in one run.

    python bench/alignments.py [--reads 8000000] [--rounds 3] [--bam FILE.bam] [--finaletoolkit PATH]

The file is simulated: paired-end cell-free DNA on hg38, sorted, with its index, at the usual level of compression; or
give one of your own of hg38. A round runs each of these once, in a process of its own, after one warm-up of oncoarena
that leaves its compiled kernels on disk:

oncoarena      all blocks by ``read_object``, with its default options
object         the same, without the start of Python and numba: what each further object costs a worker
bgzip          ``bgzip -d -c`` to /dev/null: decompression, the physical limit
samtools       ``samtools view -c`` with the same filters: a count, no block
pysam          a loop that makes coverage, short and long, and lengths
finaletoolkit  ``frag-length-bins``, ``coverage`` (5 Mb: it pays for every bin) and ``delfi`` (100 kb to 5 Mb, without
               its GC correction; the 2bit genome it asks for is written here, all one base): a block each.
               ``end-motifs`` takes longer than these together, and is left out

A program that is not there is named and left out. Printed are median CPU seconds of whole processes (user and system,
children too), the median of the ratios round by round, and peak memory; the fragments counted must be equal.
"""

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIRED, EXCLUDED, MIN_MAPQ = 67, 3852, 30


def simulate(folder: Path, n_reads: int) -> None:
    """Write one BAM file, that of the first sample of a simulated cohort."""
    from oncoarena.simulation.cfdna import simulate_cohort

    simulate_cohort(
        folder, n_samples=4, n_reads=n_reads, level=6, map_samples=lambda write, tasks: [write(tasks[0])]
    )


def run_oncoarena(bam: str) -> dict[str, float]:
    """Read as the pipeline does, ``read_object`` in its steps."""
    import time

    from oncoarena.assays import alignments
    from oncoarena.kernels import bam_walk, fragment_tally

    # So that the time of the object does not hold the start of numba.
    with open(bam, "rb") as stream:
        bam_walk.read_header(stream, bam)
    started = time.process_time()
    with open(bam, "rb") as stream:
        (part,) = alignments.plan_parts(None, os.path.getsize(bam), bam, alignments.Options())
        tally = alignments.read_part(stream, bam, alignments.Options(), part, sample_id="bench")
    alignments.finish_object(tally, bam, alignments.Options(), sample_id="bench")
    object_seconds = time.process_time() - started
    counts = dict(zip(fragment_tally.COUNTERS, tally.counts.counters.tolist(), strict=True))
    n_fragments = counts["n_fragments"] + counts["n_excluded_region"] + counts["n_other_length"]
    return {"n_fragments": n_fragments, "object_seconds": object_seconds}


def run_pysam(bam: str) -> dict[str, float]:
    """Count with pysam as most scripts do."""
    from collections import Counter

    import pysam

    n_fragments, coverage, short, long, lengths = 0, Counter(), Counter(), Counter(), Counter()
    with pysam.AlignmentFile(bam) as file:
        for read in file.fetch(until_eof=True):
            if read.flag & REQUIRED != REQUIRED or read.flag & EXCLUDED or read.mapping_quality < MIN_MAPQ:
                continue
            n_fragments += 1
            length = abs(read.template_length)
            middle = min(read.reference_start, read.next_reference_start) + length // 2
            coverage[read.reference_id, middle // 100_000] += 1
            lengths[length] += 1
            if 100 <= length <= 150:
                short[read.reference_id, middle // 5_000_000] += 1
            elif 151 <= length <= 220:
                long[read.reference_id, middle // 5_000_000] += 1
    return {"n_fragments": n_fragments}


FINALETOOLKIT = ("frag-length-bins", "coverage", "delfi")
RUNNERS = {"oncoarena": run_oncoarena, "pysam": run_pysam}


def write_genome(folder: Path) -> None:
    """Write what finaletoolkit asks for: sizes, bins of 100 kb and a 2bit genome of one base."""
    from oncoarena.genomes import CHROMOSOME_SETS, genome

    sizes = genome("hg38").sizes
    autosomes = {name: sizes[name] for name in CHROMOSOME_SETS["autosomes"]}
    (folder / "sizes.tsv").write_text("".join(f"{name}\t{size}\n" for name, size in autosomes.items()))
    for width in (100_000, 5_000_000):
        with open(folder / f"{width}.bed", "w") as stream:
            for name, size in autosomes.items():
                starts = range(0, size - width, width)
                stream.writelines(f"{name}\t{start}\t{start + width}\n" for start in starts)
    with open(folder / "genome.2bit", "wb") as stream:
        stream.write(struct.pack("<IIII", 0x1A412743, 0, len(sizes), 0))
        offset = 16 + sum(1 + len(name) + 4 for name in sizes)
        for name, size in sizes.items():
            stream.write(struct.pack("<B", len(name)) + name.encode() + struct.pack("<I", offset))
            offset += 16 + -(-size // 4)
        for size in sizes.values():
            stream.write(struct.pack("<IIII", size, 0, 0, 0))
            # Zeros that take no room on disk: T, T, T ...
            stream.seek(-(-size // 4), os.SEEK_CUR)
        stream.truncate(offset)


def commands(bam: str, folder: Path, finaletoolkit: str) -> dict[str, list[str]]:
    """List the commands of a round, by name; say which are left out."""
    genome, sizes = str(folder / "genome.2bit"), str(folder / "sizes.tsv")
    bins, large_bins = str(folder / "100000.bed"), str(folder / "5000000.bed")
    delfi = [finaletoolkit, "delfi", "--no-gc-correct", "--no-remove-nocov"]
    listed = {
        "oncoarena": [sys.executable, __file__, "--alone", "oncoarena", bam],
        "bgzip": ["bgzip", "-d", "-c", bam],
        "samtools": [*f"samtools view -c -f {REQUIRED} -F {EXCLUDED} -q {MIN_MAPQ}".split(), bam],
        "pysam": [sys.executable, __file__, "--alone", "pysam", bam],
        "frag-length-bins": [finaletoolkit, "frag-length-bins", bam],
        "coverage": [finaletoolkit, "coverage", bam, large_bins],
        "delfi": [*delfi, bam, sizes, genome, bins],
    }
    missing = {command[0] for command in listed.values() if shutil.which(command[0]) is None}
    for program in sorted(missing):
        print(f"{program} is not there: left out")
    return {name: command for name, command in listed.items() if command[0] not in missing}


def measure(name: str, command: list[str], folder: Path) -> tuple[float, float, str]:
    """Run a command; return its CPU seconds, its peak memory in MB and what it printed (nothing for bgzip)."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    output, log = folder / "output", folder / "log"
    with open(os.devnull if name == "bgzip" else output, "w") as printed, open(log, "w") as complaints:
        process = subprocess.Popen(command, env=environment, stdout=printed, stderr=complaints)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} failed:\n{log.read_text()[-2000:]}")
    printed = "" if name == "bgzip" else output.read_text()
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed


def count_of(name: str, printed: str) -> int | None:
    """Find the number of fragments in what a command printed; None where it prints none."""
    if name in RUNNERS:
        return int(json.loads(printed)["n_fragments"])
    if name == "samtools":
        return int(printed)
    if name == "frag-length-bins":
        return sum(int(line.split("\t")[2]) for line in printed.splitlines()[1:])
    return None


def main() -> None:
    """Run the comparison, or one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reads", type=int, default=8_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bam", help="a sorted BAM file of hg38 instead of a simulated one")
    parser.add_argument("--finaletoolkit", default="finaletoolkit", help="path of the program")
    parser.add_argument("--prepare", nargs=2, metavar=("FOLDER", "READS"), help=argparse.SUPPRESS)
    parser.add_argument("--alone", nargs=2, metavar=("NAME", "BAM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(RUNNERS[options.alone[0]](options.alone[1])))
        return
    if options.prepare:
        write_genome(Path(options.prepare[0]))
        if int(options.prepare[1]):
            simulate(Path(options.prepare[0]), int(options.prepare[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: a large parent would count as the peak memory of its children.
        n_reads = 0 if options.bam else options.reads
        subprocess.run([sys.executable, __file__, "--prepare", name, str(n_reads)], check=True)
        bam = options.bam or str(next(folder.glob("alignments/*.bam")))
        listed = commands(bam, folder, options.finaletoolkit)
        measure("oncoarena", listed["oncoarena"], folder)
        seconds = {name: [] for name in [*listed, "object"]}
        memory = dict.fromkeys(listed, 0.0)
        for _ in range(options.rounds):
            found = {}
            for name, command in listed.items():
                used, peak, printed = measure(name, command, folder)
                seconds[name].append(used)
                memory[name] = max(memory[name], peak)
                found[name] = count_of(name, printed)
                if name == "oncoarena":
                    seconds["object"].append(json.loads(printed)["object_seconds"])
            counts = {count for count in found.values() if count is not None}
            if len(counts) != 1:
                raise SystemExit(f"the counts of fragments differ: {found}")
        report(os.path.getsize(bam), counts.pop(), seconds, memory)


def report(n_bytes: int, n_fragments: int, seconds: dict[str, list[float]], memory: dict[str, float]) -> None:
    """Print medians, ratios and peaks."""
    peers = [seconds[name] for name in FINALETOOLKIT if name in seconds]
    if peers:
        seconds["finaletoolkit"] = [sum(used) for used in zip(*peers, strict=True)]
    print(f"{n_bytes / 1e6:.0f} MB, {n_fragments} fragments; each against oncoarena in the same round")
    for name, used in seconds.items():
        ratio = statistics.median(
            theirs / ours for theirs, ours in zip(used, seconds["oncoarena"], strict=True)
        )
        peak = f"{memory[name]:8.0f} MB peak" if name in memory else ""
        print(f"{name:<18}{statistics.median(used):8.2f} CPU s{ratio:8.2f} x{peak}")


if __name__ == "__main__":
    main()
