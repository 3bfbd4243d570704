"""The pure parts of the acceptance run: how pods are compared, what another webhook changes, and the page.

The run itself, `make acceptance`, needs etcd and kube-apiserver.
"""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from tools.acceptance import other_webhook, page
from tools.acceptance.debian import with_source_packages
from tools.acceptance.latency import Latency, kinds, share_of
from tools.acceptance.pods import (
    PODS,
    UNSAFE,
    container,
    copy_to_create,
    differences,
    labelled,
    pod_of,
    without_admission,
)
from tools.acceptance.progress import BrokenPromiseError, require
from tools.acceptance.promises import PROMISES, Row, by_place
from tools.acceptance.rollout import Rollout
from tuner.manifests.managed import LABEL, MANAGED, SKIP_REASON

ROOT = Path(__file__).parents[1]
WRITTEN = ["--compilation-config", '{"fast_moe_cold_start": false}']


def stored(pod: dict[str, Any], **annotations: str) -> dict[str, Any]:
    """A pod as an API server stores it, with annotations of admission."""
    kept = copy.deepcopy(pod)
    kept["metadata"] |= {"name": "llm-x7k2p", "uid": "705ab4f5", "resourceVersion": "7", "managedFields": [{}]}
    kept["status"] = {"phase": "Pending"}
    if annotations:
        kept["metadata"]["annotations"] = {
            f"admission.vllm-moe-tuner/{name}": text for name, text in annotations.items()
        }
    return kept


def test_equal_documents_do_not_differ() -> None:
    """Whatever their order of members."""
    assert list(differences({"a": [1, {"b": None}], "c": ""}, {"c": "", "a": [1, {"b": None}]})) == []


@pytest.mark.parametrize(
    ("left", "right", "places"),
    [
        ({"a": 1}, {"a": 2}, ["/a"]),
        ({"a": None}, {}, ["/a"]),
        ({}, {"a": None}, ["/a"]),
        ({"a": [1, 2]}, {"a": [1]}, ["/a/1"]),
        ({"a": []}, {"a": [None]}, ["/a/0"]),
        ({"a": {"b": 1}}, {"a": [1]}, ["/a"]),
        ([{"a": 1}, 2], [{"a": 3}, 4], ["/0/a", "/1"]),
    ],
)
def test_each_place_that_differs_is_named(left: object, right: object, places: list[str]) -> None:
    """A member that is missing, an item that is too many, and another value."""
    assert list(differences(left, right)) == places


def test_stored_pods_are_compared_without_our_label_and_annotations() -> None:
    """And without what differs between two creations of one pod; everything else counts."""
    pod = PODS["an unsafe model"]
    ours = stored(labelled(pod), decision="fast_moe_cold_start=false", verdict="conditional")
    assert list(differences(without_admission(ours), without_admission(stored(pod)))) == []
    changed = copy.deepcopy(ours)
    changed["spec"]["containers"][0]["args"] += ["--port", "1"]
    changed["metadata"]["annotations"]["team"] = "a"
    places = ["/metadata/annotations", "/spec/containers/0/args/1", "/spec/containers/0/args/2"]
    assert list(differences(without_admission(changed), without_admission(stored(pod)))) == places


def test_a_pod_is_sent_again_with_its_label_and_annotations() -> None:
    """As somebody copies it, so that admission meets what it wrote before."""
    kept = stored(labelled(PODS["in a script"]), **{"skip-reason": "in a script"})
    again = copy_to_create(kept)
    assert again["metadata"] == {
        "generateName": "llm-",
        "labels": {"app": "llm", LABEL: MANAGED},
        "annotations": {SKIP_REASON: "in a script"},
    }
    assert again["spec"] == kept["spec"]


def test_pods_of_the_run_stay_as_they_are() -> None:
    """The label belongs to a copy."""
    before = copy.deepcopy(PODS)
    for pod in PODS.values():
        assert labelled(pod)["metadata"]["labels"][LABEL] == MANAGED
    assert before == PODS


@pytest.mark.parametrize(
    "change", [other_webhook.SIDECAR, other_webhook.ARGUMENT, other_webhook.LAUNCH, other_webhook.NOTHING]
)
def test_the_other_webhook_changes_a_pod_once(change: str) -> None:
    """A second review of the pod has no patch, as an API server expects."""
    pod = pod_of(container(UNSAFE))
    patched = jsonpatch.apply_patch(pod, other_webhook.patch_of(change, pod))
    assert (patched == pod) is (change == other_webhook.NOTHING)
    assert other_webhook.patch_of(change, patched) == []


def test_the_other_webhook_adds_a_launch_without_what_we_wrote() -> None:
    """Its container is unsafe until ours is asked again."""
    pod = pod_of(container(UNSAFE, *WRITTEN))
    patched = jsonpatch.apply_patch(pod, other_webhook.patch_of(other_webhook.LAUNCH, pod))
    assert patched["spec"]["containers"][1]["args"] == [UNSAFE, "--port", "8001"]


def test_the_place_of_the_compilation_config_does_not_count() -> None:
    """In front of another webhook's arguments or behind them; its value does."""
    first = by_place(pod_of(container(UNSAFE, *WRITTEN, *other_webhook.ADDED)))
    assert first == by_place(pod_of(container(UNSAFE, *other_webhook.ADDED, *WRITTEN)))
    other = by_place(pod_of(container(UNSAFE, *other_webhook.ADDED, WRITTEN[0], "{}")))
    assert list(differences(first, other)) == ["/spec/containers/0/args/4"]


def test_a_share_is_the_value_of_nearest_rank() -> None:
    """Of a hundred values the 99th in order, of one the value itself, and of none nothing."""
    hundred = [float(number) for number in range(100, 0, -1)]
    assert (share_of(hundred, 50), share_of(hundred, 99), share_of(hundred, 100)) == (50, 99, 100)
    assert (share_of([7.0], 99), share_of([2.0, 1.0], 50), share_of([3.0, 1.0, 2.0], 50)) == (7, 1, 2)
    with pytest.raises(ValueError, match="no values"):
        share_of([], 50)


def test_each_measured_launch_is_another_one_where_it_should_be() -> None:
    """Else the service would answer from memory; the first kind of pod asks no webhook."""
    plain, _, same, another = kinds().values()
    assert LABEL not in plain(0)["metadata"]["labels"]
    assert same(1) == same(2)
    assert another(1)["spec"] != another(2)["spec"]
    assert {make(0)["metadata"]["labels"][LABEL] for make in (same, another)} == {MANAGED}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Types: deb\nURIs: x\nSuites: bookworm\n", "Types: deb deb-src\nURIs: x\nSuites: bookworm\n"),
        ("Types: deb deb-src\nURIs: x\n", "Types: deb deb-src\nURIs: x\n"),
        ("# deb x y\ndeb [a=b] x y main\n", "# deb x y\ndeb [a=b] x y main\ndeb-src [a=b] x y main\n"),
    ],
)
def test_an_archive_is_asked_for_source_packages_too(text: str, wanted: str) -> None:
    """In both forms in which a machine names it."""
    assert with_source_packages(text) == wanted


def test_a_promise_that_does_not_hold_ends_the_run() -> None:
    """With what was promised and seen."""
    require(["something"], "holds")
    with pytest.raises(BrokenPromiseError, match="a pod is stored"):
        require([], "a pod is stored")
    assert all(promise.__doc__ for promise in PROMISES)


def test_the_page_has_what_the_run_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each promise, kind of pod, rollout and latency, with medians beside the first; no draft is left beside it."""
    monkeypatch.setattr("tools.evidence.page.PAGES", tmp_path)
    seconds = tuple(number / 1000 for number in range(1, 201))
    run = page.Run(
        day="2026-11-29",
        versions={"tuner": "0.2.0", "etcd": "3.4.23"},
        packages=["etcd-server 3.4.23-4"],
        rows=[Row("a labelled pod", "stored | as written", 24)],
        decisions={"in a script": "the launch stands in a script"},
        latencies=[Latency("no webhook", seconds), Latency("the service", tuple(2 * each for each in seconds))],
        rollouts=[Rollout("of one template", 200, 3)],
        load=3.25,
    )
    page.write_page(run)
    text = (tmp_path / page.PAGE).read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == [page.PAGE]
    for line in (
        "| etcd | 3.4.23 |",
        "| a labelled pod | stored / as written | 24 |",
        "| in a script | the launch stands in a script |",
        "| no webhook | 100.0 |  | 198.0 | 200 |",
        "| the service | 200.0 | +100.0 | 396.0 | 200 |",
        "for 200 pods of each kind.",
        "| of one template | 200 | 3 |",
        "Debian's packages: etcd-server 3.4.23-4.",
    ):
        assert line in text


def test_the_command_wants_a_folder_outside_of_the_repository() -> None:
    """What it keeps there is large, and not the project's; it says so before it fetches anything."""
    for words in ([], ["--folder", str(ROOT / "kept")]):
        command = [sys.executable, "-m", "tools.acceptance", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "outside of" in done.stderr or "required: --folder" in done.stderr
    assert not (ROOT / "kept").exists()
