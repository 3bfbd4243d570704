"""`kubectl get pods -o json | tuner check - --service URL`: pods that started without an answer of the service."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from fake_environment import ERNIE, MODELS, SETTABLE, Answer, Serving, serving_in, tuner
from live_service import Live, live_service

from tuner.environment.document import environment_document
from tuner.manifests.managed import COMPONENT, DECISION, LABEL, SKIP_REASON

CONDITIONAL = "baidu/ERNIE-4.5-VL-28B-A3B-PT"
IMAGE = "registry:5000/vllm:1"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service that has a verdict and the environment of an image, by a `tuner.toml`."""
    folder = tmp_path_factory.mktemp("live")
    serving: Serving = serving_in(folder / "env", SETTABLE)
    store = serving.store_of(folder / "verdicts.sqlite", ERNIE)
    (folder / "env.json").write_text(json.dumps(environment_document(serving.read())), encoding="utf-8")
    settings = f'configs = "{MODELS}"\n[images]\n"registry:5000/*" = "env.json"\n'
    (folder / "tuner.toml").write_text(settings, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with live_service(folder, "--store", store) as running:
            yield running


def pod(name: str, label: str = "managed", args: Any = (CONDITIONAL,), **metadata: Any) -> dict[str, Any]:
    """A pod as `kubectl get` prints it."""
    container = {"name": "vllm", "image": IMAGE, "command": ["vllm", "serve"], "args": list(args)}
    labels = {LABEL: label} | metadata.pop("labels", {})
    about = {"name": name, "namespace": "ml", "uid": "u", "labels": labels, **metadata}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": {"containers": [container]}, "status": {}}


def listed(*pods: Mapping[str, Any]) -> str:
    """What `kubectl get pods -o json` prints."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(pods)}, indent=4)


def checked(live: Live, text: str, *options: object, code: int) -> Answer:
    """What the command answers."""
    return tuner("check", "-", "--service", live.url, "--select", "pod-unadmitted", *options, stdin=text, code=code)


def messages(live: Live, text: str, code: int) -> dict[int, str]:
    """Line of each finding -> its message."""
    findings = checked(live, text, "--json", code=code).document["findings"]
    return {finding["line"]: f"{finding['level']}: {finding['message']}" for finding in findings}


def test_a_pod_that_the_service_never_saw_is_named(live: Live) -> None:
    """With its line, and what it would get; one that requires an answer is an error."""
    text = listed(pod("a"), pod("b", annotations={DECISION: "x"}), pod("c", "required"), pod("d", args=["$(X)"]))
    found = messages(live, text, code=1)
    lines = text.splitlines()
    assert [lines[line - 1].strip() for line in found] == ["{"] * 3
    first, third, last = found.values()
    assert first.startswith("warning: Pod ml/a asks for a decision, and started without an answer of the service.")
    assert 'It would now get --compilation-config {"fast_moe_cold_start": false}.' in first
    assert third.startswith("error: Pod ml/c ")
    assert "It would now be left alone: " in last


HANDLED = {
    "decided": pod("a", annotations={DECISION: "x"}),
    "left alone": pod("a", annotations={SKIP_REASON: "x"}),
    "no label": pod("a", "off"),
    "the service itself": pod("a", labels={COMPONENT: "service"}),
    "another kind": {**pod("a"), "kind": "Deployment"},
}


@pytest.mark.parametrize("name", HANDLED)
def test_other_pods_are_not_named(name: str, live: Live) -> None:
    """Those with an annotation, without the label, of the service, and what is no pod."""
    assert messages(live, listed(HANDLED[name]), code=0) == {}


def test_yaml_and_a_single_pod_are_read_as_well(live: Live) -> None:
    """As `kubectl get -o yaml` prints them; a pod with the right arguments was still missed."""
    right = pod("a", args=[CONDITIONAL, "--compilation-config", '{"fast_moe_cold_start": false}'])
    (message,) = messages(live, yaml.safe_dump(right), code=0).values()
    assert message.endswith("Its arguments are right as they are.")


def test_a_pod_that_was_missed_is_a_doubt(live: Live) -> None:
    """With --fail-on-unknown the check ends with 3."""
    checked(live, listed(pod("a")), "--fail-on-unknown", code=3)


def test_without_the_option_manifests_are_not_asked_about() -> None:
    """A manifest that was not admitted yet has no annotation either."""
    answer = tuner("check", "-", "--select", "pod-unadmitted", "--json", stdin=listed(pod("a")), code=0)
    assert answer.document["findings"] == []


def test_a_service_that_cannot_be_asked_is_named() -> None:
    """And nothing is said of the pods."""
    service = "http://127.0.0.1:9"
    answer = tuner("check", "-", "--service", service, stdin=listed(pod("a")), code=1)
    assert "127.0.0.1:9" in answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
