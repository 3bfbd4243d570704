"""Every exported manifest against the schemas that its project publishes, closed so that a misspelt key is found."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from closed_schema import closed, complaints
from exported import CLUSTER, CONDITIONAL, NASTY, UNIFORM, Bench, bench_in
from manifest_argv import patch_in, patched

from tuner.export import Format

SCHEMAS = Path(__file__).parent / "schemas"
MINORS = ("1.37", "1.36", "1.35", "1.34")
"""The latest minor release of Kubernetes that kubernetes-validate has, and three older ones."""
PATCHES = {Format.DEPLOYMENT_PATCH, Format.KUSTOMIZE, Format.LLM_D}
DEFINITIONS = {
    "InferenceService": ("kserve_inferenceservices", "v1beta1"),
    "LLMInferenceService": ("kserve_llminferenceservices", "v1alpha2"),
    "LeaderWorkerSet": ("lws_leaderworkersets", "v1"),
}
"""Kind -> file of its definition and the version that is exported."""
CORE = {"ConfigMap", "Deployment", "PersistentVolumeClaim", "Service"}
CASES = {
    "plain": (),
    "cached": ("--cache-root", "/cache", "--", "-tp", "4", "-pp", "2", "--port", "8080", "--ssl-certfile", "/tls/c"),
    "nasty": ("--name", "moe", "--", *NASTY),
}


@pytest.fixture(scope="module", params=["flag-live", "current"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Each release, on GPUs."""
    return bench_in(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(params=[UNIFORM, CONDITIONAL])
def model(request: pytest.FixtureRequest) -> str:
    """A safe model and an unsafe one."""
    return str(request.param)


@cache
def definition(file: str, version: str) -> dict[str, Any]:
    """The closed schema of one version of a custom resource."""
    text = gzip.decompress((SCHEMAS / f"{file}.yaml.gz").read_bytes())
    loaded = next(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    one = next(entry for entry in loaded["spec"]["versions"] if entry["name"] == version)
    found: dict[str, Any] = closed(one["schema"]["openAPIV3Schema"])
    return found


@cache
def chart() -> dict[str, Any]:
    """The closed schema of the chart's values."""
    found: dict[str, Any] = closed(json.loads((SCHEMAS / "production-stack_values.schema.json").read_text()))
    return found


def core_complaints(document: dict[str, Any], minor: str) -> list[str]:
    """What Kubernetes' own schema of a minor release says, strictly."""
    try:
        kubernetes_validate.validate(document, minor, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error)]
    return []


def manifests(form: Format, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What reaches the cluster: patches applied to a Deployment there is."""
    return [patched(patch_in(form, documents))] if form in PATCHES else documents


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", [form for form in CLUSTER if form is not Format.HELM_PRODUCTION_STACK])
def test_a_manifest_is_what_its_schema_allows(bench: Bench, model: str, form: Format, case: str) -> None:
    """Core kinds strictly in four minor releases; the others by their own definition."""
    documents = manifests(form, bench.documents(form, *CASES[case], model=model))
    assert documents
    for document in documents:
        if document["kind"] in CORE:
            found = [said for minor in MINORS for said in core_complaints(document, minor)]
        else:
            file, version = DEFINITIONS[document["kind"]]
            assert document["apiVersion"].endswith(f"/{version}")
            found = complaints(document, definition(file, version))
        assert not found


@pytest.mark.parametrize("case", CASES)
def test_values_are_what_the_chart_allows(bench: Bench, model: str, case: str) -> None:
    """The chart's schema; of HTTPS in a probe it knows nothing, though the chart passes it on."""
    values = bench.documents("helm-production-stack", *CASES[case], model=model)
    found = [said for one in values for said in complaints(one, chart())]
    probes = ("startupProbe", "livenessProbe", "readinessProbe") if case == "cached" else ()
    said = "Additional properties are not allowed ('scheme' was unexpected)"
    assert sorted(found) == sorted(f"$.servingEngineSpec.{probe}.httpGet: {said}" for probe in probes)


def test_the_minors_are_the_latest_and_three_older() -> None:
    """When kubernetes-validate brings a newer release, this list is brought up too."""
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    there = {tuple(map(int, path.name.split("-")[0].lstrip("v").split(".")[:2])) for path in folder.iterdir()}
    latest = sorted(there)[-4:]
    assert [f"{major}.{minor}" for major, minor in reversed(latest)] == list(MINORS)


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_the_closed_schemas_find_a_misspelt_key(bench: Bench, kind: str) -> None:
    """A check that cannot fail would prove nothing."""
    forms = {"InferenceService": Format.KSERVE_INFERENCESERVICE, "LeaderWorkerSet": Format.LEADERWORKERSET}
    form = forms.get(kind, Format.KSERVE_LLMINFERENCESERVICE)
    document = next(one for one in bench.documents(form) if one["kind"] == kind)
    assert complaints({**document, "spec": {**document["spec"], "replica": 1}}, definition(*DEFINITIONS[kind]))


def test_strict_validation_finds_a_misspelt_key(bench: Bench) -> None:
    """As above, of Kubernetes' own kinds, four levels down."""
    document = bench.documents("deployment")[0]
    document["spec"]["template"]["spec"]["containers"][0]["arg"] = []
    assert core_complaints(document, MINORS[0])
