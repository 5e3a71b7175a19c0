"""Single-sample VCFs to SBS-96 and 1 Mb bins: oncoarena against SigProfilerMatrixGenerator and cyvcf2, in one run.

    python bench/variants.py [--files 200] [--variants 5000] [--rounds 3] [--cyvcf2 PYTHON] [--sigprofiler PYTHON]

The peers are found in the Pythons given (this one by default); a peer that is not there is named and left out. The
genome is synthetic: chr20, chr21 and chr22 as long as in hg38. SigProfiler cannot install a genome without a network,
so its folder of chromosomes (one byte a base, no gene anywhere) is written here, and its check sums are registered.
cyvcf2 gets the best case: the chromosomes in memory, and classes counted by NumPy. Printed are median CPU seconds of
whole processes (user and system, children too), a round being one run of each in turn after one warm-up of oncoarena,
and the median of the ratios round by round; the matrices must be equal.
"""

import argparse
import hashlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CHROMOSOMES = {"chr20": 64_444_167, "chr21": 46_709_983, "chr22": 50_818_468}
LINE_BASES = 60
GENOME = "oncoarena_bench"


def write_genome(folder: Path) -> dict[str, np.ndarray]:
    """Write FASTA, index and SigProfiler's chromosomes; return codes (0 to 3) of the bases."""
    rng = np.random.default_rng(0)
    codes, index, sums = {}, [], {}
    strings = folder / "sigprofiler" / "tsb" / GENOME
    strings.mkdir(parents=True)
    with open(folder / "genome.fa", "wb") as stream:
        for name, size in CHROMOSOMES.items():
            codes[name] = rng.integers(0, 4, size, dtype=np.uint8)
            stream.write(f">{name}\n".encode())
            index.append(f"{name}\t{size}\t{stream.tell()}\t{LINE_BASES}\t{LINE_BASES + 1}\n")
            text = np.frombuffer(b"ACGT", np.uint8)[codes[name]]
            n_whole = size // LINE_BASES * LINE_BASES
            lines = np.full((n_whole // LINE_BASES, LINE_BASES + 1), 10, np.uint8)
            lines[:, :LINE_BASES] = text[:n_whole].reshape(-1, LINE_BASES)
            stream.write(lines.tobytes() + text[n_whole:].tobytes() + b"\n")
            short = name.removeprefix("chr")
            (strings / f"{short}.txt").write_bytes(codes[name].tobytes())
            sums[short] = hashlib.md5(codes[name].tobytes()).hexdigest()
    (folder / "genome.fa.fai").write_text("".join(index))
    (folder / "sums.json").write_text(json.dumps(sums))
    return codes


def write_vcfs(folder: Path, codes: dict[str, np.ndarray], n_files: int, n_variants: int) -> None:
    """Write VCFs of one sample each, as Mutect2 would: GT, AD and AF of a tumour."""
    (folder / "vcf").mkdir()
    header = ["##fileformat=VCFv4.2"]
    header += [f"##contig=<ID={name},length={size}>" for name, size in CHROMOSOMES.items()]
    header += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">']
    header += ['##FORMAT=<ID=AD,Number=R,Type=Integer,Description="depths">']
    header += ['##FORMAT=<ID=AF,Number=A,Type=Float,Description="share">']
    header += ['##INFO=<ID=DP,Number=1,Type=Integer,Description="depth">']
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t"
    names = list(CHROMOSOMES)
    shares = np.array(list(CHROMOSOMES.values())) / sum(CHROMOSOMES.values())
    for number in range(n_files):
        rng = np.random.default_rng(number)
        lines = []
        for name, n in zip(names, rng.multinomial(n_variants, shares), strict=True):
            # 1-based; SigProfiler drops what has no two neighbours on either side.
            pos = np.unique(rng.integers(3, CHROMOSOMES[name] - 2, n))
            ref = codes[name][pos - 1]
            alt = (ref + rng.integers(1, 4, len(pos))) % 4
            depth = rng.integers(20, 200, len(pos))
            for place, a, b, d in zip(pos.tolist(), ref.tolist(), alt.tolist(), depth.tolist(), strict=True):
                fields = f"GT:AD:AF\t0/1:{d},{d // 3}:{d // 3 / (d + d // 3):.3f}"
                lines.append(f"{name}\t{place}\t.\t{'ACGT'[a]}\t{'ACGT'[b]}\t.\tPASS\tDP={d}\t{fields}\n")
        text = "\n".join([*header, f"{columns}s{number:04d}"]) + "\n" + "".join(lines)
        (folder / "vcf" / f"s{number:04d}.vcf").write_text(text)


def run_oncoarena(folder: Path) -> dict[str, np.ndarray]:
    """Read as the pipeline does, one file after the other."""
    from oncoarena.assays import variants

    options = variants.Options(genome="hg38", reference=str(folder / "genome.fa"))
    spectra, densities = [], []
    for path in sorted((folder / "vcf").iterdir()):
        with open(path, "rb") as stream:
            found = variants.read_object(stream, str(path), options, sample_id=path.stem)
        spectra.append(found["mutation_spectrum"].values)
        densities.append(found["mutation_bins"].values)
    names = found["mutation_spectrum"].features["id"].to_numpy().astype(str)
    chrom = found["mutation_bins"].features["chrom"].isin(list(CHROMOSOMES)).to_numpy()
    return {"names": names, "spectrum": np.stack(spectra), "bins": np.stack(densities)[:, chrom]}


def run_cyvcf2(folder: Path) -> dict[str, np.ndarray]:
    """Loop over variants; look up and count with NumPy."""
    from cyvcf2 import VCF

    names = [f"{a}[{change}]{b}" for change in _CHANGES for a in "ACGT" for b in "ACGT"]
    table = np.full((4, 4, 4, 4), -1)
    for number, name in enumerate(names):
        before, ref, alt, behind = ("ACGT".index(name[at]) for at in (0, 2, 4, 6))
        table[before, ref, alt, behind] = table[3 - behind, 3 - ref, 3 - alt, 3 - before] = number
    lookup = np.zeros(256, np.uint8)
    lookup[np.frombuffer(b"ACGT", np.uint8)] = np.arange(4)
    sequences = {}
    with open(folder / "genome.fa.fai") as index, open(folder / "genome.fa", "rb") as fasta:
        for line in index:
            name, size, offset, _, _ = line.split("\t")
            fasta.seek(int(offset))
            text = fasta.read(int(size) + int(size) // LINE_BASES).replace(b"\n", b"")[: int(size)]
            sequences[name] = lookup[np.frombuffer(text, np.uint8)]
    first, n_bins = {}, 0
    for name, size in CHROMOSOMES.items():
        first[name] = n_bins
        n_bins += -(-size // 1_000_000)
    spectra, densities = [], []
    for path in sorted((folder / "vcf").iterdir()):
        found = {name: ([], []) for name in CHROMOSOMES}
        for variant in VCF(str(path)):
            if variant.FILTER is None and variant.is_snp:
                positions, bases = found[variant.CHROM]
                positions.append(variant.POS - 1)
                bases.append("ACGT".index(variant.REF) * 4 + "ACGT".index(variant.ALT[0]))
        spectrum, density = np.zeros(96), np.zeros(n_bins)
        for name, (positions, bases) in found.items():
            pos, pair, sequence = np.array(positions, int), np.array(bases, int), sequences[name]
            classes = table[sequence[pos - 1], pair // 4, pair % 4, sequence[pos + 1]]
            spectrum += np.bincount(classes, minlength=96)
            density += np.bincount(first[name] + pos // 1_000_000, minlength=n_bins)
        spectra.append(spectrum)
        densities.append(density)
    return {"names": np.array(names), "spectrum": np.stack(spectra), "bins": np.stack(densities)}


def run_sigprofiler(folder: Path) -> dict[str, np.ndarray]:
    """Run SigProfilerMatrixGenerator 1.4 with its defaults, on a copy of the VCFs that it makes itself."""
    os.environ["SIGPROFILERMATRIXGENERATOR_VOLUME"] = str(folder / "sigprofiler")
    scripts = "SigProfilerMatrixGenerator.scripts"
    generator = importlib.import_module(f"{scripts}.SigProfilerMatrixGeneratorFunc")
    manager = importlib.import_module(f"{scripts}.reference_genome_manager")
    manager.CHECKSUMS[GENOME] = json.loads((folder / "sums.json").read_text())
    with tempfile.TemporaryDirectory(dir=folder) as output:
        matrices = generator.SigProfilerMatrixGeneratorFunc(
            "bench", GENOME, str(folder / "vcf"), output_directory=output, plot=False
        )
    matrix = matrices["96"]
    return {"names": matrix.index.to_numpy().astype(str), "spectrum": matrix[sorted(matrix)].to_numpy().T}


_CHANGES = ("C>A", "C>G", "C>T", "T>A", "T>C", "T>G")
RUNNERS = {"oncoarena": run_oncoarena, "cyvcf2": run_cyvcf2, "sigprofiler": run_sigprofiler}
MODULES = {"oncoarena": "oncoarena", "cyvcf2": "cyvcf2", "sigprofiler": "SigProfilerMatrixGenerator"}


def cpu_seconds(python: str, name: str, folder: Path) -> tuple[float, float]:
    """Run a reader in a process of its own; return its CPU seconds and peak memory in MB."""
    command = [python, __file__, "--alone", name, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with open(folder / f"{name}.log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} failed:\n{(folder / f'{name}.log').read_text()[-2000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def is_there(python: str, name: str) -> bool:
    """Whether a Python can import a reader."""
    return subprocess.run([python, "-c", f"import {MODULES[name]}"], capture_output=True).returncode == 0


def compare(folder: Path, names: list[str]) -> None:
    """Stop where a peer's matrix is not oncoarena's."""
    ours = np.load(folder / "oncoarena.npz")
    order = np.argsort(ours["names"])
    for name in names[1:]:
        theirs = np.load(folder / f"{name}.npz")
        their_order = np.argsort(theirs["names"])
        assert (theirs["names"][their_order] == ours["names"][order]).all()
        assert (theirs["spectrum"][:, their_order] == ours["spectrum"][:, order]).all(), name
        assert "bins" not in theirs or (theirs["bins"] == ours["bins"]).all(), name


def main() -> None:
    """Run the comparison, or one reader alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--variants", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cyvcf2", default=sys.executable, help="a Python that has cyvcf2")
    parser.add_argument(
        "--sigprofiler", default=sys.executable, help="a Python that has SigProfilerMatrixGenerator"
    )
    parser.add_argument("--write", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--alone", nargs=2, metavar=("READER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        name, folder = options.alone[0], Path(options.alone[1])
        np.savez(folder / f"{name}.npz", **RUNNERS[name](folder))
        return
    if options.write:
        write_vcfs(Path(options.write), write_genome(Path(options.write)), options.files, options.variants)
        return
    pythons = {"oncoarena": sys.executable, "cyvcf2": options.cyvcf2, "sigprofiler": options.sigprofiler}
    names = [name for name in RUNNERS if is_there(pythons[name], name)]
    for name in sorted(set(RUNNERS) - set(names)):
        print(f"{name}: not in {pythons[name]}, left out")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        # Not in this process: a child begins with the peak memory of its parent.
        size = ["--files", str(options.files), "--variants", str(options.variants)]
        subprocess.run([sys.executable, __file__, "--write", text, *size], check=True)
        cpu_seconds(pythons["oncoarena"], "oncoarena", folder)
        measured = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                measured[name].append(cpu_seconds(pythons[name], name, folder))
        compare(folder, names)
        n_bytes = sum(path.stat().st_size for path in (folder / "vcf").iterdir())
    print(
        f"{options.files} VCFs x {options.variants} SNVs, {n_bytes / 1e6:.0f} MB of text; matrices are equal"
    )
    for name in names:
        seconds, memory = (statistics.median(column) for column in zip(*measured[name], strict=True))
        ratios = [other[0] / own[0] for other, own in zip(measured[name], measured["oncoarena"], strict=True)]
        print(f"{name:<12}{seconds:9.2f} CPU s{memory:8.0f} MB peak{statistics.median(ratios):8.1f} x")


if __name__ == "__main__":
    main()
