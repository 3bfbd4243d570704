"""The warm-up of a launch: what names it, and whether there was one."""

from collections.abc import Mapping
from pathlib import Path

from cache.compiled.warm_record import WarmRecord, read_records
from cache.key import digest
from cache.secrets import without_keys
from tuner.launch.cache_root import cache_root, name_of_proof, proof_root
from tuner.launch.plan import Plan, launch_factors


def launch_digest(plan: Plan, environ: Mapping[str, str]) -> str:
    """Names a launch: what it starts, where, with which of vLLM's variables."""
    return digest({**launch_factors(plan.subject, environ), "args": without_keys(plan.launch.args)})[:32]


def recorded(plan: Plan, environ: Mapping[str, str]) -> WarmRecord | None:
    """The record of this very launch below its cache root; None if there is none here."""
    name = launch_digest(plan, environ)
    records, _ = read_records(Path(_local_root(plan, environ)))
    return next((record for record in records if record.digest == name), None)


def _local_root(plan: Plan, environ: Mapping[str, str]) -> str:
    """The cache root that a launch would have here; one below `~` was written for any machine."""
    location = plan.launch.cache["location"]
    if not location.startswith("~"):
        return location
    own, proof = cache_root(environ)[0], name_of_proof(location)
    return proof_root(own, proof) if proof else own
