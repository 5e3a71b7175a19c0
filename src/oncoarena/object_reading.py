"""Reading one object of a shard: whole, or by the parts that its index allows, and keeping what was found."""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from oncoarena import kept, store
from oncoarena.assays import SampleFeatures
from oncoarena.errors import InputError
from oncoarena.objects import ObjectFacts, ObjectStream, check_unchanged, open_ahead
from oncoarena.pools import ObjectJob
from oncoarena.study import AssayPlan, assay_module

INDEX_LIMIT_BYTES = 1 << 30
"""No index is longer; what claims to be is not read into memory."""


@dataclass(frozen=True)
class _Found:
    """What was found in an object, by block, and its digest, n_bytes and the seconds that it took."""

    blocks: dict[str, SampleFeatures]
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Part:
    """What was counted in one range of an object."""

    tally: Any
    digests: tuple[str, ...]
    n_bytes: int
    seconds: float


@dataclass(frozen=True)
class ObjectReading:
    """One object: what it is read with, what the store said of it, and where what is found is kept.

    It crosses to a worker process by pickling.
    """

    plan: AssayPlan
    annotation: pd.DataFrame | None
    sample_id: str
    uri: str
    facts: ObjectFacts
    folder: str
    key: str

    def plan_parts(self) -> list[Any]:
        """Cut the object at what its index says, if it has one; return no parts for one that is read whole."""
        module, uri, n_bytes = assay_module(self.plan.name), self.uri, self.facts.n_bytes
        if not hasattr(module, "plan_parts") or n_bytes <= self.plan.options.part_mb * 1_000_000:
            return []
        stem, _, ending = uri.rpartition(".")
        for suffix in module.index_suffixes(uri):
            # Both ways of naming are common: sample.bam.bai and sample.bai.
            for index_uri in (uri + suffix, stem + suffix if ending else ""):
                if index_uri and store.exists(index_uri):
                    with store.open_object(index_uri) as (stream, raw):
                        if raw.facts.n_bytes > INDEX_LIMIT_BYTES:
                            raise InputError(f"{index_uri}: is too long for an index; make it anew")
                        return module.plan_parts(stream, n_bytes, uri, self.plan.options)
        return module.plan_parts(None, n_bytes, uri, self.plan.options)

    def job(self, parts: list[Any] | Exception) -> ObjectJob:
        """Return the job that reads the object, by the ``parts`` that were planned; its result is a summary."""
        aside = store.is_remote(self.uri) or store.is_remote(self.folder)
        if isinstance(parts, Exception):
            return ObjectJob((parts,), _fail, _first, _same)
        if len(parts) <= 1:
            n_bytes = self.facts.n_bytes
            return ObjectJob(
                (None,), self._read_whole, _first, self._finish_whole, self._open_ahead, n_bytes, aside
            )
        return ObjectJob(tuple(parts), self._read_part, self._merge_parts, self._finish_parts)

    @contextlib.contextmanager
    def _told_of_change(self) -> Iterator[None]:
        """Where reading fails, ask whether the object was replaced: then that is the reason, whatever was found."""
        try:
            yield
        except InputError:
            check_unchanged(self.uri, self.facts)
            raise

    def _open_ahead(self) -> ObjectStream:
        return open_ahead(self.uri, self.facts)

    def _read_whole(self, opened: ObjectStream | None) -> _Found:
        started = time.perf_counter()
        module, options = assay_module(self.plan.name), self.plan.options
        with (
            self._told_of_change(),
            store.open_object(self.uri, facts=self.facts, opened=opened) as (stream, raw),
        ):
            blocks = module.read_object(
                stream, self.uri, options, sample_id=self.sample_id, annotation=self.annotation
            )
            digest = raw.digest()
        facts = {"digest": digest, "n_bytes": self.facts.n_bytes, "seconds": time.perf_counter() - started}
        return _Found(blocks, facts)

    def _finish_whole(self, found: _Found) -> dict[str, Any]:
        check_unchanged(self.uri, self.facts)
        return self._keep(found)

    def _read_part(self, part: Any) -> _Part:
        started = time.perf_counter()
        module, options = assay_module(self.plan.name), self.plan.options
        with (
            self._told_of_change(),
            store.open_object(self.uri, part.first_byte, part.end_byte, facts=self.facts) as (stream, raw),
        ):
            tally = module.read_part(
                stream, self.uri, options, part, sample_id=self.sample_id, annotation=self.annotation
            )
            digest = raw.finish()
        return _Part(tally, (digest,), self.facts.n_bytes, time.perf_counter() - started)

    def _merge_parts(self, first: _Part, second: _Part) -> _Part:
        tally = assay_module(self.plan.name).merge_parts(first.tally, second.tally)
        return _Part(tally, first.digests + second.digests, first.n_bytes, first.seconds + second.seconds)

    def _finish_parts(self, whole: _Part) -> dict[str, Any]:
        started = time.perf_counter()
        blocks = assay_module(self.plan.name).finish_object(
            whole.tally, self.uri, self.plan.options, sample_id=self.sample_id, annotation=self.annotation
        )
        joined = hashlib.sha256("\n".join(whole.digests).encode()).hexdigest()
        digest = f"sha256-of-{len(whole.digests)}-parts:{joined}"
        seconds = whole.seconds + time.perf_counter() - started
        return self._keep(_Found(blocks, {"digest": digest, "n_bytes": whole.n_bytes, "seconds": seconds}))

    def _keep(self, found: _Found) -> dict[str, Any]:
        """Keep what was found and return its summary."""
        offered = self.plan.blocks()
        absent = [name for name in offered if name not in found.blocks]
        if absent:
            raise InputError(
                f"{self.uri}: does not give block {absent[0]!r}, which {self.plan.name} offers with these options; "
                "give the file what it needs, or change the options"
            )
        return kept.keep(self.folder, self.key, {name: found.blocks[name] for name in offered}, found.facts)


def _first(first: Any, _: Any) -> Any:
    return first


def _same(value: Any) -> Any:
    return value


def _fail(error: Exception) -> None:
    raise error
