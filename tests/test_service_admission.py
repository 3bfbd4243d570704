"""`POST /v1/admission`: labelled pods get what `tuner apply` would write, everything else passes as it is."""

import base64
import copy
import json
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import yaml
from fake_environment import ERNIE, LLAMA, MIXTRAL, MODELS, SETTABLE, Serving, serving_in, tuner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_bench import Bench, Setting, bench, tokens_in

from tuner.checks.cache_place import CACHE_HOME
from tuner.checks.examine import Knowledge
from tuner.environment.document import environment_document
from tuner.manifests.managed import ANNOTATIONS, COMPONENT, DECISION, KEY, LABEL, SKIP_REASON, VERDICT
from tuner.service import admission
from tuner.service.admission import Judged, judge
from tuner.service.endpoints import MAX_REVIEW

IMAGE = "registry:5000/vllm:1"
UNIFORM, CONDITIONAL = "mistralai/Mixtral-8x7B-v0.1", "baidu/ERNIE-4.5-VL-28B-A3B-PT"
SERVE = ["vllm", "serve"]
MODULE = ["python3", "-m", "vllm.entrypoints.openai.api_server"]
LINES = f"set -e\nvllm serve {CONDITIONAL} \\\n  --port 1\n"
ROOT = "VLLM_CACHE_ROOT"
SECRET = {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}
VARIABLES = [{"name": "A", "value": "ü & <b>"}, {"name": "B", "valueFrom": SECRET}]
BELOW = {"name": "c", "mountPath": f"{CACHE_HOME}/.cache/vllm/torch_compile_cache"}
SAFE = '{"fast_moe_cold_start": false}'


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> tuple[Serving, Path]:
    """An environment, and a store with verdicts reached in it, which no test here changes."""
    folder = tmp_path_factory.mktemp("ground")
    serving = serving_in(folder / "env", SETTABLE)
    return serving, serving.store_of(folder / "verdicts.sqlite", MIXTRAL, ERNIE, LLAMA)


def service_of(serving: Serving, store: Path) -> Bench:
    """A service with configs by name, and the environment of one image."""
    return bench(Setting(store, configs=MODELS, images=(("registry:5000/*", serving.read()),)))


@pytest.fixture
def service(ground: tuple[Serving, Path]) -> Bench:
    """A service that remembers nothing yet."""
    return service_of(*ground)


def pod_of(*containers: dict[str, Any], label: str = "managed", **metadata: Any) -> dict[str, Any]:
    """A labelled pod as an API server sends it."""
    labels = {LABEL: label, "app": "llm"}
    spec = {"containers": list(containers), "volumes": [{"name": "kube-api-access-x7k2p", "projected": {}}]}
    return {"metadata": {"generateName": "llm-", "labels": labels, **metadata}, "spec": spec}


def container(*args: Any, **fields: Any) -> dict[str, Any]:
    """A container that serves."""
    return {"name": "vllm", "image": IMAGE, "command": SERVE, "args": list(args), **fields}


def review_of(pod: object, **request: Any) -> dict[str, Any]:
    """The question of an API server."""
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    asked = {"uid": "705ab4f5-6393", "kind": kind, "operation": "CREATE", "object": pod, **request}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}


def response_to(service: Bench, review: object) -> dict[str, Any]:
    """The answer, which always lets the object through."""
    answer = service.client.post("/v1/admission", content=json.dumps(review))
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document["apiVersion"], document["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = document["response"]
    assert (response["uid"], response["allowed"]) == ("705ab4f5-6393", True)
    return response


def operations(response: dict[str, Any]) -> list[dict[str, Any]]:
    """The patch in an answer."""
    if "patch" not in response:
        assert "patchType" not in response
        return []
    assert response["patchType"] == "JSONPatch"
    decoded: list[dict[str, Any]] = json.loads(base64.b64decode(response["patch"], validate=True))
    assert decoded, "an empty patch is none"
    return decoded


def admitted(service: Bench, pod: dict[str, Any]) -> dict[str, Any]:
    """The pod as it is stored; its patch is tests in front and changes behind."""
    patch = operations(response_to(service, review_of(pod)))
    is_test = [operation["op"] == "test" for operation in patch]
    assert is_test == sorted(is_test, reverse=True)
    patched: dict[str, Any] = jsonpatch.apply_patch(pod, patch)
    return patched


def annotations(pod: dict[str, Any]) -> dict[str, str]:
    """The annotations of admission."""
    return {name: text for name, text in (pod["metadata"].get("annotations") or {}).items() if name in ANNOTATIONS}


def applied(serving: Serving, store: Path, pod: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The pod's containers as `tuner apply --write` leaves them in a file."""
    saved, manifest = folder / "env.json", folder / "pod.yaml"
    saved.write_text(json.dumps(environment_document(serving.read())), encoding="utf-8")
    manifest.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", **pod}), encoding="utf-8")
    tuner("apply", manifest, "--write", "--environment", saved, "--configs", MODELS, "--store", store)
    written: dict[str, Any] = yaml.safe_load(manifest.read_text(encoding="utf-8"))["spec"]
    return written


PODS: dict[str, dict[str, Any]] = {
    "plain": pod_of(container(CONDITIONAL)),
    "a config": pod_of(container(CONDITIONAL, "--compilation-config", '{"mode": 3, "note": "ü\\u2028"}')),
    "dotted": pod_of(container(CONDITIONAL, "-cc.cudagraph_mode=PIECEWISE", "--max-model-len", "8")),
    "right": pod_of(container(CONDITIONAL, "--compilation-config", SAFE)),
    "a true of the user's": pod_of(container(CONDITIONAL, "-cc.fast_moe_cold_start=true")),
    "in the command": pod_of({"name": "vllm", "image": IMAGE, "command": [*SERVE, CONDITIONAL]}),
    "module": pod_of(container("--model", CONDITIONAL, command=MODULE)),
    "script": pod_of(container(f"exec vllm serve {CONDITIONAL}", command=["sh", "-c"])),
    "script with lines": pod_of(container(LINES, command=["bash", "-c"])),
    "a variable": pod_of(container("$(MODEL)", env=[{"name": "MODEL", "value": CONDITIONAL}])),
    "hidden": pod_of(container(CONDITIONAL, "$(EXTRA)")),
    "an unknown model": pod_of(container("somebody/unknown")),
    "a path": pod_of(container("/etc")),
    "a file": pod_of(container(CONDITIONAL, "--config", "/etc/hostname.yaml")),
    "proved": pod_of(container(UNIFORM)),
    "proved, with variables": pod_of(container(UNIFORM, env=VARIABLES)),
    "proved, with an empty list": pod_of(container(UNIFORM, env=[])),
    "proved, without a name": pod_of({"image": IMAGE, "command": [*SERVE, UNIFORM]}),
    "proved, beside another": pod_of(container(CONDITIONAL, name="a"), container(UNIFORM, env=VARIABLES)),
    "proved, with a root": pod_of(container(UNIFORM, env=[{"name": ROOT, "value": "/cache"}])),
    "proved, with a root from elsewhere": pod_of(container(UNIFORM, env=[{"name": ROOT, "valueFrom": SECRET}])),
    "proved, with variables from elsewhere": pod_of(container(UNIFORM, envFrom=[{"secretRef": {"name": "s"}}])),
    "proved, and read-only": pod_of(container(UNIFORM, securityContext={"readOnlyRootFilesystem": True})),
    "proved, with a volume below the root": pod_of(container(UNIFORM, volumeMounts=[BELOW])),
    "proved, in a script": pod_of(container(f"exec vllm serve {UNIFORM}", command=["sh", "-c"])),
    "two": pod_of(container(CONDITIONAL), container(CONDITIONAL, "--port", "1", name="other")),
    "half": pod_of(container(CONDITIONAL), container(f"vllm serve {CONDITIONAL}", command=["sh", "-c"], name="other")),
    "beside others": pod_of({"name": "proxy", "image": "envoy:1"}, container(CONDITIONAL)),
    "by version": pod_of(container(CONDITIONAL, image="vllm/vllm-openai:v0.19.1")),
    "no vllm": pod_of({"name": "web", "image": "nginx:1", "args": ["-g", "daemon off;"]}),
}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_gets_what_apply_would_write(
    name: str, service: Bench, ground: tuple[Serving, Path], tmp_path: Path
) -> None:
    """The containers are those of the edited manifest, and beside them only our annotations change."""
    before = copy.deepcopy(PODS[name])
    pod = admitted(service, PODS[name])
    assert pod["spec"] == applied(*ground, before, tmp_path)
    pod["metadata"].pop("annotations")
    assert pod["metadata"] == before["metadata"]


@pytest.mark.parametrize("name", PODS)
def test_a_pod_that_comes_back_is_left_alone(name: str, service: Bench) -> None:
    """The answer to a pod that was patched has no patch, whether it is remembered or decided anew."""
    pod = admitted(service, PODS[name])
    assert {DECISION, SKIP_REASON} & set(annotations(pod))
    assert operations(response_to(service, review_of(pod))) == []
    assert response_to(service, review_of(PODS[name])) == response_to(service, review_of(PODS[name]))


def test_an_unsafe_launch_is_written_with_its_evidence(service: Bench) -> None:
    """The arguments are merged, and the annotations name verdict and key."""
    pod = PODS["a config"]
    patch = operations(response_to(service, review_of(pod)))
    patched = jsonpatch.apply_patch(pod, patch)
    config = json.loads(patched["spec"]["containers"][0]["args"][-1])
    assert config == {"mode": 3, "note": "ü\u2028", "fast_moe_cold_start": False}
    texts = annotations(patched)
    assert (texts[DECISION], texts[VERDICT], len(texts[KEY])) == ("fast_moe_cold_start=false", "conditional", 64)
    assert SKIP_REASON not in texts


def what_is_tested(response: dict[str, Any]) -> dict[str, Any]:
    """What the patch of an answer tests: path and value."""
    return {each["path"]: each["value"] for each in operations(response) if each["op"] == "test"}


def test_a_patch_tests_the_containers_that_it_changes(service: Bench) -> None:
    """Their names and their lists are as they were."""
    args = PODS["dotted"]["spec"]["containers"][0]["args"]
    wanted = {"/spec/containers/0/name": "vllm", "/spec/containers/0/args": args}
    assert what_is_tested(response_to(service, review_of(PODS["dotted"]))) == wanted


@pytest.mark.parametrize("text", ["a & b", "<|im_end|>", "a > b", "ü", "\u2028", "two\nlines", "\b\f", "\x7f"])
def test_a_patch_tests_nothing_that_encoders_write_differently(text: str, service: Bench) -> None:
    """API servers compare bytes of JSON, so such a test would refuse the pod; it is patched all the same."""
    pod = pod_of(container(CONDITIONAL, "--served-model-name", text), annotations={VERDICT: text})
    response = response_to(service, review_of(pod))
    assert set(what_is_tested(response)) == {"/spec/containers/0/name"}
    assert annotations(jsonpatch.apply_patch(pod, operations(response)))[DECISION] == "fast_moe_cold_start=false"


PROVED = ("proved", "proved, with variables", "proved, with an empty list", "proved, without a name")


@pytest.mark.parametrize("name", PROVED)
def test_a_proved_launch_gets_its_cache_root(name: str, service: Bench) -> None:
    """The variable stands behind those that are there, none of which is written anew."""
    before = PODS[name]["spec"]["containers"][0]
    patched = admitted(service, PODS[name])
    after = patched["spec"]["containers"][0]
    added = after.pop("env")[len(before.get("env", [])) :]
    assert [(each["name"], each["value"].rpartition("/")[0]) for each in added] == [(ROOT, "~/.cache/vllm/tuner-proof")]
    vector = "args" if "args" in before else "command"
    assert json.loads(after.pop(vector)[-1]) == {"fast_moe_cold_start": True}
    assert after == {field: value for field, value in before.items() if field not in {"env", vector}}
    assert (annotations(patched)[DECISION], annotations(patched)[VERDICT]) == ("fast_moe_cold_start=true", "uniform")
    written = [each for each in operations(response_to(service, review_of(PODS[name]))) if "/env" in each["path"]]
    path = "/spec/containers/0/env" + ("/-" if "env" in before else "")
    assert [(each["op"], each["path"]) for each in written] == [("add", path)]


FALSE_BECAUSE = {
    "proved, with a root": "the container sets VLLM_CACHE_ROOT itself",
    "proved, with a root from elsewhere": "the container sets VLLM_CACHE_ROOT itself",
    "proved, with variables from elsewhere": "envFrom may set VLLM_CACHE_ROOT",
    "proved, and read-only": "file system is read-only",
    "proved, with a volume below the root": "caches would leave the volume",
}


@pytest.mark.parametrize("name", FALSE_BECAUSE)
def test_a_proved_launch_without_its_cache_root_gets_false(name: str, service: Bench) -> None:
    """A warning says why, and nothing that the user set is touched."""
    before = PODS[name]["spec"]["containers"][0]
    response = response_to(service, review_of(PODS[name]))
    patched = jsonpatch.apply_patch(PODS[name], operations(response))
    after = patched["spec"]["containers"][0]
    assert json.loads(after["args"][-1]) == {"fast_moe_cold_start": False}
    assert {**after, "args": before["args"]} == before
    assert annotations(patched)[DECISION] == "fast_moe_cold_start=false"
    (warning,) = response["warnings"]
    assert "fast_moe_cold_start=false is written, although this launch is proved" in warning
    assert FALSE_BECAUSE[name] in warning


REASONS = {
    "script": "state it as lists in `command` and `args`",
    "script with lines": "state it as lists in `command` and `args`",
    "a true of the user's": "the verdict is conditional",
    "hidden": "$(EXTRA)",
    "an unknown model": "somebody/unknown",
    "a path": "there is no folder of the model /etc",
    "a file": "--config /etc/hostname.yaml",
    "half": "other: the launch stands in a script",
    "no vllm": "no container starts vLLM",
}


@pytest.mark.parametrize("name", REASONS)
def test_a_launch_that_is_left_alone_says_why(name: str, service: Bench) -> None:
    """As an annotation, as a warning to whoever creates the pod, and in the audit log."""
    response = response_to(service, review_of(PODS[name]))
    text = annotations(jsonpatch.apply_patch(PODS[name], operations(response)))[SKIP_REASON]
    assert REASONS[name] in text
    assert any(REASONS[name] in warning for warning in response["warnings"])
    assert response["auditAnnotations"]["skip-reason"] == text


def test_two_launches_of_a_pod_are_told_apart(service: Bench) -> None:
    """Each is named by its container, in decisions and in reasons."""
    texts = annotations(admitted(service, PODS["two"]))
    assert texts[DECISION] == "vllm: fast_moe_cold_start=false; other: fast_moe_cold_start=false"


def test_annotations_of_before_do_not_stay(service: Bench) -> None:
    """What a template carried from another pod is replaced or removed; annotations of others stay."""
    stale = {SKIP_REASON: "old", VERDICT: "uniform", "team": "a"}
    pod = admitted(service, pod_of(container(CONDITIONAL), annotations=stale))
    assert pod["metadata"]["annotations"]["team"] == "a"
    assert (annotations(pod)[VERDICT], SKIP_REASON in annotations(pod)) == ("conditional", False)


PASSED = {
    "no label": pod_of(container(CONDITIONAL), labels={"app": "llm"}),
    "no labels": pod_of(container(CONDITIONAL), labels=None),
    "another value": pod_of(container(CONDITIONAL), label="off"),
    "a value that is no text": pod_of(container(CONDITIONAL), labels={LABEL: ["managed"]}),
    "the service itself": pod_of(container(CONDITIONAL), labels={LABEL: "managed", COMPONENT: "service"}),
    "no metadata": {"spec": {}},
    "nothing": None,
}


@pytest.mark.parametrize("name", PASSED)
def test_what_does_not_ask_is_not_touched(name: str, service: Bench) -> None:
    """Without the label there is neither a patch nor a warning, and never for the service's own pods."""
    assert set(response_to(service, review_of(PASSED[name]))) == {"uid", "allowed"}


REQUESTS: dict[str, dict[str, Any]] = {
    "an update": {"operation": "UPDATE"},
    "a deletion": {"operation": "DELETE", "object": None},
    "a part": {"subResource": "ephemeralcontainers"},
    "another kind": {"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}},
    "another group": {"kind": {"group": "example.org", "version": "v1", "kind": "Pod"}},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_only_the_creation_of_a_pod_is_looked_at(name: str, service: Bench) -> None:
    """Arguments of a pod that runs cannot change, and templates are edited with `tuner apply`."""
    assert set(response_to(service, review_of(PODS["plain"], **REQUESTS[name]))) == {"uid", "allowed"}


NO_REVIEWS: dict[str, Any] = {
    "no object": [],
    "an empty one": {},
    "another version": {**review_of(None), "apiVersion": "admission.k8s.io/v1beta1"},
    "no uid": review_of(None, uid=""),
    "a uid that is none": review_of(None, uid=7),
    "a long uid": review_of(None, uid="u" * 1000),
    "no kind": review_of(None, kind=None),
    "a pod that is none": review_of("pod"),
    "a list": review_of([]),
}


@pytest.mark.parametrize("name", NO_REVIEWS)
def test_what_is_no_review_is_refused(name: str, service: Bench) -> None:
    """With 400 and a sentence, so that the failure policy of the webhook decides."""
    answer = service.client.post("/v1/admission", json=NO_REVIEWS[name])
    assert (answer.status_code, answer.json()["error"]["kind"]) == (400, "usage")


def test_half_a_surrogate_pair_is_the_clients_fault(service: Bench) -> None:
    """JSON can spell half a character, which no text in UTF-8 holds. As an id it is given back as it came."""
    spelt = json.dumps({**review_of(None), "kind": "\ud800"})
    assert service.client.post("/v1/admission", content=spelt).status_code == 400
    answer = service.client.post("/v1/admission", content=json.dumps(review_of(None, uid="\ud800")))
    assert answer.json()["response"]["uid"] == "\ud800"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": NaN}', b"[" * 5000, b'{"kind": "a", "kind": "b"}'])
def test_what_is_no_json_is_refused(body: bytes, service: Bench) -> None:
    """Likewise."""
    assert service.client.post("/v1/admission", content=body).status_code == 400


HOSTILE: dict[str, Any] = {
    "no spec": {"metadata": {"labels": {LABEL: "managed"}}},
    "a spec that is none": {"metadata": {"labels": {LABEL: "managed"}}, "spec": "x"},
    "containers that are none": {**pod_of(), "spec": {"containers": {"name": "vllm"}}},
    "a container that is none": pod_of(7),  # type: ignore[arg-type]
    "args that are none": pod_of({**container(), "args": {"a": 1}}),
    "args of all kinds": pod_of(container(CONDITIONAL, None, 7, True, {"a": []}, ["--x"], 1e308)),
    "half a character": pod_of(container(CONDITIONAL, "\ud800")),
    "a number that is none": pod_of(container(CONDITIONAL, float("inf"))),
    "control characters": pod_of(container(CONDITIONAL, "\0\x1b[31m\x85\u2028")),
    "an image that is none": pod_of(container(CONDITIONAL, image=["x"])),
    "variables that are none": pod_of(container(CONDITIONAL, env={"a": [1]})),
    "variables of variables": pod_of(
        container("$(A9)", env=[{"name": f"A{n}", "value": f"$(A{n - 1})" * 50} for n in range(1, 10)])
    ),
    "a long argument": pod_of(container(CONDITIONAL, "x" * 2**20)),
    "many arguments": pod_of(container(CONDITIONAL, *["--x"] * 20_000)),
    "many containers": pod_of(*[container(CONDITIONAL, name=f"c{n}") for n in range(40)]),
    "deep": pod_of(container(CONDITIONAL, "--hf-overrides", '{"a":' * 90 + "1" + "}" * 90)),
    "a broken script": pod_of(container("vllm serve 'm $(( ${", command=["sh", "-c"])),
    "annotations that are none": pod_of(container(CONDITIONAL), annotations=["a"]),
    "an annotation that is none": pod_of(container(CONDITIONAL), annotations={DECISION: {"a": 1}}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pod_is_let_through(name: str, service: Bench) -> None:
    """The answer comes, its patch fits, and a pod that cannot be read says so where it can carry it."""
    body = json.dumps(review_of(HOSTILE[name]))
    answer = service.client.post("/v1/admission", content=body)
    assert answer.status_code == 200, answer.text
    response = answer.json()["response"]
    assert response["allowed"] is True
    assert all(len(warning) <= 250 and warning.isprintable() for warning in response.get("warnings", []))
    patched = jsonpatch.apply_patch(HOSTILE[name], operations(response))
    assert operations(response_to(service, review_of(patched))) == []
    if name == "annotations that are none":
        assert patched == HOSTILE[name]
    else:
        assert annotations(patched)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [
    *(("metadata",), ("metadata", "labels"), ("metadata", "annotations"), ("spec",), ("spec", "containers")),
    *(("spec", "containers", 0), ("spec", "initContainers")),
    *(("spec", "containers", 0, name) for name in ("args", "command", "image", "env", "name", "envFrom")),
    *(("spec", "containers", 0, "volumeMounts"), ("spec", "containers", 0, "securityContext")),
    ("spec", "securityContext"),
]


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from(PLACES), value=JSON, name=st.sampled_from(["a config", "proved, with variables"]))
def test_no_pod_makes_a_fault(service: Bench, place: tuple[Any, ...], value: Any, name: str) -> None:
    """Whatever stands anywhere in a labelled pod, it is let through."""
    pod = copy.deepcopy(PODS[name])
    inner: Any = pod
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    assert response_to(service, review_of(pod))["allowed"] is True


def test_the_address_may_say_how_long_is_waited(service: Bench) -> None:
    """An API server puts its limit behind the path of every webhook (`timeout=2s`)."""
    answer = service.client.post("/v1/admission?timeout=2s", json=review_of(PODS["plain"]))
    assert (answer.status_code, "patch" in answer.json()["response"]) == (200, True)


def test_a_review_that_is_too_long_is_refused(service: Bench) -> None:
    """An API server takes no object of that size."""
    assert service.client.post("/v1/admission", content=b" " * (MAX_REVIEW + 1)).status_code == 413


def test_an_api_server_needs_no_token(ground: tuple[Serving, Path], tmp_path: Path) -> None:
    """It has none to send; the webhook's certificate tells it whom it asks."""
    guarded = bench(Setting(ground[1], **tokens_in(tmp_path), loopback_only=False))
    assert guarded.client.post("/v1/admission", json=review_of(None)).status_code == 200


def test_pods_of_one_template_are_decided_once(service: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, volumes of tokens, their mounts and other fields do not count, until the store changes."""
    decided: list[str] = []

    def counted(text: str, knowledge: Knowledge) -> Judged:
        decided.append(text)
        return judge(text, knowledge)

    monkeypatch.setattr(admission, "judge", counted)
    for number in range(5):
        token = {"name": f"kube-api-access-{number}", "mountPath": "/var/run/secrets/x", "readOnly": True}
        pod = pod_of(container(CONDITIONAL, volumeMounts=[token]), name=f"llm-{number}")
        pod["spec"]["volumes"][0]["name"] = f"kube-api-access-{number}"
        assert operations(response_to(service, review_of(pod)))
    assert len(decided) == 1


def test_reviews_are_counted_by_their_outcome(service: Bench) -> None:
    """With the time that they took."""
    for name in ("plain", "right", "script"):
        response_to(service, review_of(PODS[name]))
    response_to(service, review_of(PASSED["no label"]))
    metrics = service.client.get("/metrics").text
    for outcome in ("patched", "right", "skipped", "passed"):
        assert f'tuner_admissions_total{{outcome="{outcome}"}} 1.0' in metrics
    assert 'tuner_answer_seconds_count{endpoint="/v1/admission"} 4.0' in metrics


def test_a_damaged_store_is_no_answer(ground: tuple[Serving, Path], tmp_path: Path) -> None:
    """503, so that a pod that requires a decision does not start without one."""
    store = tmp_path / "verdicts.sqlite"
    service = service_of(ground[0], store)
    store.write_bytes(b"no database, of more than sixteen bytes" * 100)
    assert service.client.post("/v1/admission", json=review_of(PODS["plain"])).status_code == 503


def test_what_is_not_a_mixture_of_experts_is_decided_too(service: Bench) -> None:
    """A dense model is looked up as any other."""
    assert DECISION in annotations(admitted(service, pod_of(container("meta-llama/Meta-Llama-3.1-8B"))))
