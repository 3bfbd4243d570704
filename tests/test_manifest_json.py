"""Manifests in JSON: read as YAML reads them, many times faster, and still JSON when they were edited."""

import json
from pathlib import Path
from typing import Any

import pytest
from effort import calls_of
from fake_environment import ERNIE, MODELS, Serving, tuner
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.environment.document import environment_document
from tuner.manifests.find import launches_in
from tuner.manifests.yaml.documents import read_documents
from tuner.manifests.yaml.json_source import json_document
from tuner.manifests.yaml.source import Mapping, Node, Scalar, yaml_documents

TEXTS = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def shape(node: Node) -> Any:
    """A node with its places; whether it is JSON is left out."""
    if isinstance(node, Scalar):
        return node.text, node.style, node.start, node.stop, node.line
    if isinstance(node, Mapping):
        return [(name, shape(value)) for name, value in node.pairs], node.start, node.stop, node.line
    return list(map(shape, node.items)), node.flow, node.start, node.stop, node.line


@settings(max_examples=100, deadline=None, database=None)
@given(
    value=st.lists(VALUES, max_size=3) | st.dictionaries(TEXTS, VALUES, max_size=3), indent=st.sampled_from([None, 2])
)
def test_json_is_read_as_yaml_reads_it(value: Any, indent: int | None) -> None:
    """The same values at the same places."""
    text = json.dumps(value, indent=indent)
    document = json_document(text)
    assert document is not None
    assert [shape(document)] == [shape(node) for node in yaml_documents(text, None)]


@pytest.mark.parametrize(
    "text", ["", "a: 1", "{a: 1}", '{"a": 1}\n---\n{}', '{"a": 1,}', "[1 2]", '{"a" 1}', "[" * 200]
)
def test_what_is_no_json_is_left_to_yaml(text: str) -> None:
    """Such as flow mappings without quotes, several documents, and texts that are nested too deeply."""
    assert json_document(text) is None


def test_pods_of_a_whole_cluster_are_read_as_json() -> None:
    """A megabyte of `kubectl get pods -o json` takes a call for each value; YAML takes one for each character."""
    container = {"name": "vllm", "image": "a/b:1", "command": ["vllm", "serve"], "args": ["m", "--port", "1"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container], "volumes": [{"name": "x"}] * 20}}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod] * 300}, indent=4)
    assert len(read_documents(text)) == 1
    assert calls_of(lambda: read_documents(text)) < len(text)


def test_an_edited_file_is_still_json(serving: Serving, store: Path, tmp_path: Path) -> None:
    """What is added is written as JSON, and read as a launch with the safe value."""
    serving.store_of(store, ERNIE)
    saved, manifest = tmp_path / "env.json", tmp_path / "pod.json"
    saved.write_text(json.dumps(environment_document(serving.read())), encoding="utf-8")
    args = ["serve", "baidu/ERNIE-4.5-VL-28B-A3B-PT"]
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"command": ["vllm"], "args": args}]}}
    manifest.write_text(json.dumps(pod, indent=2), encoding="utf-8")
    tuner("apply", manifest, "--write", "--environment", saved, "--configs", MODELS, "--store", store, code=0)
    text = manifest.read_text(encoding="utf-8")
    added = ["--compilation-config", '{"fast_moe_cold_start": false}']
    assert json.loads(text)["spec"]["containers"][0]["args"] == [*args, *added]
    assert launches_in("pod.json", text)[0].args == ("baidu/ERNIE-4.5-VL-28B-A3B-PT", *added)
