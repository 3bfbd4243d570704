"""No text crashes the readers: they find launches, or say in one sentence that the text is not what its name says."""

import json
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.verdicts.store import VerdictStore
from tuner.checks.apply import change_for
from tuner.checks.edit import NotEditable, edits_for, spliced
from tuner.checks.examine import Knowledge, examine
from tuner.checks.findings import launch_findings
from tuner.manifests.find import launches_in
from tuner.manifests.shell.lexer import commands

POD = {"apiVersion": "v1", "kind": "Pod"}
NAMES = ("x.yaml", "x.sh", "x.md", "Dockerfile", "x.json", "x.service", "x.container")
KEYS = st.sampled_from(
    re.findall(
        r"\w+",
        "apiVersion kind metadata name spec template containers command args env value image volumes volumeMounts data "
        "startupProbe servingEngineSpec modelSpec modelURL vllmConfig extraArgs modelArtifacts decode uri predictor "
        "model modelFormat prefill mountPath services entrypoint environment extends service file build backend roles "
        "vllm_config model_loading_config engine_kwargs mainContainer extraPodSpec initContainers source path",
    )
)
IMAGES = ["vllm/vllm-openai:v0.19.1", "--compilation-config", '{"a": 1}', "main", "$(X)", "true", "", "'", "-", "```"]
KINDS = ["vllm", "serve", "vllm serve m", "sh", "-c", "LLMInferenceService", "InferenceService", "Pod", "VLLMRuntime"]
VALUES = st.sampled_from([*KINDS, *IMAGES])
TREES = st.recursive(
    VALUES | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=40,
)
OPTIONS = [
    "-cc",
    "-cc.mode=3",
    "-cc.a.b+",
    "-tp",
    "--config",
    "-O",
    "--speculative-config",
    "--model",
    "--",
    "$X",
    "...",
]
WORDS = st.text(alphabet="ab'\"\\ $`#&;|<>(){}*~\n-=é", min_size=1, max_size=8)


def read(name: str, text: str) -> None:
    """Read a text; the only refusal is a ValueError of one line."""
    said = "read"
    try:
        launches_in(name, text)
    except ValueError as error:
        said = str(error)
    assert said
    assert "\n" not in said


def written(tree: object) -> str:
    """A tree as YAML in brackets, every text in double quotes."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key}: {written(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(written, tree)) + "]"
    return "~" if tree is None else '"' + str(tree).replace("\\", "\\\\").replace('"', '\\"') + '"'


@settings(max_examples=400)
@given(st.dictionaries(KEYS, TREES, min_size=1, max_size=6))
def test_documents_of_the_right_words_in_the_wrong_places(tree: dict[str, object]) -> None:
    """Known keys with values of every type are read without a crash."""
    read("x.yaml", written(tree | {"apiVersion": "v1"}))
    read("x.yaml", written(tree))


@settings(max_examples=300)
@given(st.text(alphabet="abvllm serve:-[]{}&*!|>'\"%@`#,?\n\t \\$<=~é\x00\x85", max_size=60), st.sampled_from(NAMES))
def test_any_text(text: str, name: str) -> None:
    """Text of YAML's and the shell's own characters is read or refused, whatever the file's name."""
    read(name, text)
    read(name, f"vllm serve {text}")
    read("x.service", f"[Service]\nExecStart=vllm serve {text}")
    read("compose.yaml", f"services: {{a: {{image: vllm/vllm-openai, command: {json.dumps(text)}}}}}")
    read("x.md", f"1. ```yaml\n   a: |\n     {text}\n   ```\n")


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]",
        "&a {<<: *a, command: *a}",
        "a: &a {command: [*a]}",
        "[" * 5000,
        "{a: " * 200,
        "a: !!python/object:os.system x",
        "%YAML 9.9\n---\na: 1",
        "a: !<tag:x> [1]",
        "? [a, b]\n: c",
        "\ufeffapiVersion: v1",
        "a: *nobody",
        "--- |\n vllm serve m\n...\n--- >\n vllm serve n",
        "a: 1\na: 2\nrun: vllm serve m\nrun: vllm serve n",
        "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]\n" for i in range(30)),
    ],
)
def test_traps_of_yaml(text: str) -> None:
    """Recursive and exploding anchors, depth, tags, marks and keys that are not texts."""
    read("x.yaml", text)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(VALUES, WORDS, st.sampled_from(OPTIONS)), max_size=8),
    st.sampled_from([None, "0.14.1", "0.15.1", "0.16.0", "0.19.1", "0.33.0", "1.0.0"]),
)
def test_any_arguments(tmp_path: Path, args: list[str], version: str | None) -> None:
    """Arguments of every kind are examined, and edited or left alone; each finding is a sentence with a line."""
    text = json.dumps({**POD, "spec": {"containers": [{"command": ["vllm", "serve", "m", *args]}]}})
    knowledge = Knowledge(VerdictStore(tmp_path / "verdicts.sqlite"), vllm_version=version, cold_start=1.0)
    for launch in launches_in("x.json", text):
        known = examine("x.json", launch, knowledge)
        for found in launch_findings(known):
            assert found.line >= 1
            assert found.message.strip().endswith(".")
        with suppress(NotEditable):
            change = change_for(known)
            if change is not None:
                edits = edits_for(text, launch.words, change)
                (after,) = launches_in("x.json", spliced(text, edits))
                assert after.args == change.of(launch.args)


def test_json_that_is_too_deep(tmp_path: Path) -> None:
    """It is refused, not a crash."""
    text = "vllm serve m --compilation-config '" + "[" * 100_000 + "'\n"
    (launch,) = launches_in("x.sh", text)
    assert examine("x.sh", launch, Knowledge(VerdictStore(tmp_path / "v"))).refusal


def quoted(word: str) -> str:
    """A word in single quotes, as every shell reads it."""
    return "'" + word.replace("'", "'\\''") + "'"


@settings(max_examples=150)
@given(st.lists(st.tuples(WORDS.filter(lambda word: "\n" not in word), st.booleans()), min_size=1, max_size=4))
def test_words_are_those_of_bash(words: list[tuple[str, bool]]) -> None:
    """What the reader takes for the words of a command is what bash gives to it, quotes and backslashes included.

    Half of the words are quoted; the others have a backslash before each character.
    """
    line = " ".join(quoted(word) if whole else "".join(f"\\{char}" for char in word) for word, whole in words)
    said = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout.decode()
    found = [token.text() for command in commands(line) for token in command]
    assert found == said.split("\0")[:-1]


@given(WORDS)
def test_double_quotes_are_those_of_bash(word: str) -> None:
    """Inside double quotes a backslash is one, but before the five characters that it escapes."""
    inner = "".join(f"\\{char}" if char in '"$`\\' else char for char in word)
    said = subprocess.run(["bash", "-c", f'printf "%s" "{inner}"'], capture_output=True, check=True).stdout.decode()
    found = [token.text() for command in commands(f'x "{inner}"') for token in command]
    assert found == ["x", said]
