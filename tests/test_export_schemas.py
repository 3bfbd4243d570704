"""Every exported manifest against the schemas that its project publishes."""

from pathlib import Path

import kubernetes_validate
import pytest
from exported import CLUSTER, CONDITIONAL, NASTY, UNIFORM, Bench, bench_in
from manifest_schemas import DEFINITIONS, MINORS, complaints, core_complaints, definition, manifest_complaints

from tuner.exports.formats import Format

TLS = ("--ssl-certfile", "/tls/c")
"""A cache is warmed without."""
CASES = {
    "plain": (),
    "cached": ("--cache-root", "/cache", "--", "-tp", "4", "-pp", "2", "--port", "8080", *TLS),
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


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", [form for form in CLUSTER if form != Format.HELM_PRODUCTION_STACK])
def test_a_manifest_is_what_its_schema_allows(bench: Bench, model: str, form: str, case: str) -> None:
    """Core kinds strictly in four minor releases; the others by their own definition."""
    words = [word for word in CASES[case] if form != Format.WARM_JOB or word not in TLS]
    documents = bench.documents(form, *words, model=model)
    assert documents
    assert manifest_complaints(form, documents) == []


@pytest.mark.parametrize("case", CASES)
def test_values_are_what_the_chart_allows(bench: Bench, model: str, case: str) -> None:
    """The chart's schema; of HTTPS in a probe it knows nothing, though the chart passes it on."""
    form = Format.HELM_PRODUCTION_STACK
    found = manifest_complaints(form, bench.documents(form, *CASES[case], model=model))
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
