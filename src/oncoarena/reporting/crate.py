"""Describe an exported study as an RO-Crate: JSON-LD that says what each file is and what made it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from oncoarena.reporting.glossary import metric

METADATA = "ro-crate-metadata.json"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
SOFTWARE_LICENCE = "https://spdx.org/licenses/BSD-3-Clause"

_ENCODINGS = {
    "tsv": "text/tab-separated-values",
    "svg": "image/svg+xml",
    "html": "text/html",
    "pdf": "application/pdf",
    "json": "application/json",
}


@dataclass(frozen=True)
class Member:
    """One file of the crate: path below its root, name and description, size (bytes) and digest."""

    path: str
    name: str
    description: str
    size: int
    digest: str


def describe(
    study: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
    members: Sequence[Member],
    *,
    published: str,
    licence: str | None = None,
) -> dict[str, Any]:
    """Describe a study and its files.

    Parameters: ``study`` and ``runs`` as for the report; ``published``, an ISO 8601 date; ``licence``, the
    URL of the licence under which the results are given, None where nobody has said.
    Returns the content of ro-crate-metadata.json.
    Source: RO-Crate 1.1, https://w3id.org/ro/crate/1.1.
    """
    name = str(study["study"])
    software = _software(study, runs)
    hypotheses = [_hypothesis(run) for run in runs]
    files = [_file(member) for member in members]
    terms = _licence(licence)
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{name}: rival hypotheses judged on the same samples",
        "description": _description(study, runs),
        "datePublished": published,
        "license": {"@id": terms["@id"]},
        "hasPart": [_link(file) for file in files],
        "mentions": [{"@id": "#evaluation"}],
    }
    action = {
        "@id": "#evaluation",
        "@type": "CreateAction",
        "name": f"Evaluation of {name}",
        "description": str(study.get("command") or "Made by oncoarena."),
        "endTime": published,
        "instrument": [_link(entity) for entity in software],
        "object": [_link(entity) for entity in hypotheses],
        "result": [_link(file) for file in files],
    }
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": SPECIFICATION},
        "about": {"@id": "./"},
    }
    return {
        "@context": f"{SPECIFICATION}/context",
        "@graph": [descriptor, root, *files, action, *software, *hypotheses, terms],
    }


def _link(entity: Mapping[str, Any]) -> dict[str, str]:
    return {"@id": entity["@id"]}


def _description(study: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    sentences = [
        f"{len(runs)} hypotheses on the classes {', '.join(map(str, study['classes']))}; "
        f"primary metric {metric(str(study['primary_metric'])).title}.",
        *map(str, study.get("verdict") or []),
    ]
    return " ".join(sentences)


def _file(member: Member) -> dict[str, Any]:
    return {
        "@id": quote(member.path),
        "@type": "File",
        "name": member.name,
        "description": member.description,
        "encodingFormat": _ENCODINGS[member.path.rpartition(".")[2]],
        "contentSize": str(member.size),
        "identifier": member.digest,
    }


def _software(study: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """List every package and version that the study or one of its runs names."""
    provenance = study.get("provenance") or {}
    named = [provenance.get("versions") or {}, *(run.get("versions") or {} for run in runs)]
    found = dict.fromkeys(
        (str(name), str(version)) for versions in named for name, version in versions.items()
    )
    if not any(name == "oncoarena" for name, _ in found):
        found[("oncoarena", "not recorded")] = None
    return [
        {
            "@id": f"#software-{quote(name)}-{quote(version, safe='')}",
            "@type": "SoftwareApplication",
            "name": name,
            "softwareVersion": version,
        }
        | ({"license": {"@id": SOFTWARE_LICENCE}} if name == "oncoarena" else {})
        for name, version in sorted(found)
        if version != "not installed"
    ]


def _hypothesis(run: Mapping[str, Any]) -> dict[str, Any]:
    entity = {
        "@id": f"#hypothesis-{quote(str(run['hypothesis']), safe='')}",
        "@type": "SoftwareSourceCode",
        "name": str(run.get("title") or run["hypothesis"]),
        "alternateName": str(run["hypothesis"]),
        "description": " ".join(str(run.get("claim") or "No claim was given.").split()),
    }
    return entity | ({"identifier": str(run["code_digest"])} if run.get("code_digest") else {})


def _licence(licence: str | None) -> dict[str, Any]:
    if licence:
        return {
            "@id": licence,
            "@type": "CreativeWork",
            "name": licence.rpartition("/")[2] or licence,
            "description": "The licence under which these results are given.",
        }
    return {
        "@id": "#licence",
        "@type": "CreativeWork",
        "name": "To be stated by the authors",
        "description": "Nobody has said under which terms these results may be used; ask the authors.",
    }
