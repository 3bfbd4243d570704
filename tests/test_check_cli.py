"""`tuner check` as a command: text, JSON, SARIF, exit codes, and what it leaves alone."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from fake_environment import ERNIE, LLAMA, MIXTRAL, Serving, tuner, tuner_process

from tuner.checks.rules.registry import RULES
from tuner.manifests import files
from tuner.manifests.files import is_manifest

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "tests" / "schemas" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
SCRIPT = "vllm serve {} --compilation-config '{{\"fast_moe_cold_start\": {}}}'\n"


@pytest.fixture
def store(serving: Serving, store: Path) -> Path:
    """A store with a safe and an unsafe verdict."""
    return serving.store_of(store, MIXTRAL, ERNIE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Manifests: a contradiction, a right one, a Helm template, a binary, one of git's, and a text."""
    where = tmp_path / "deploy"
    (where / ".git").mkdir(parents=True)
    (where / "bad.sh").write_text(f"#!/bin/sh\n{SCRIPT.format(ERNIE, 'true')}", encoding="utf-8")
    (where / "good.sh").write_text(SCRIPT.format(MIXTRAL, "true"), encoding="utf-8")
    (where / "template.yaml").write_text("{{- if .Values.x }}\nargs: [vllm]\n{{ end }}\n", encoding="utf-8")
    (where / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (where / "notes.txt").write_text("vllm serve no\n", encoding="utf-8")
    (where / ".git" / "x.sh").write_text("vllm serve no\n", encoding="utf-8")
    return where


def test_text_is_one_line_a_finding(folder: Path, store: Path) -> None:
    """Path, line, level, sentence and rule, as compilers print them; then a line that sums up."""
    answer = tuner("check", "--store", store, "--vllm-version", "0.19.1", folder, code=5)
    first, *_, levels, last = answer.out.splitlines()
    assert first.startswith(f"{folder}/bad.sh:2: error: fast_moe_cold_start is true, and the verdict is conditional")
    assert first.endswith("(flag-contradicts-verdict)")
    assert levels == "1 error, 1 warning, 2 notes"
    assert last == "2 launches in 4 files: 0 match, 1 contradicts, 1 not proved, 0 could not be judged"
    assert "\x1b" not in answer.out
    assert "good.sh:1: warning: fast_moe_cold_start is true (holds for: the plain launch), and code that" in answer.out
    assert answer.err == ""


def test_json_is_one_versioned_document(folder: Path, store: Path) -> None:
    """Launches, findings and counts."""
    document = tuner("check", "--json", "--store", store, "--vllm-version", "0.19.1", folder, code=5).document
    assert document["schema_version"] == 1
    assert document["summary"] == {
        "files": 4,
        "launches": 2,
        "outcomes": {"matches": 0, "contradicts": 1, "unproved": 1, "unjudged": 0},
        "unread": 0,
        "findings": {"file-unreadable": 2, "flag-contradicts-verdict": 1, "flag-unproved": 1},
    }
    assert [launch["outcome"] for launch in document["launches"]] == ["contradicts", "unproved"]
    assert [launch["verdict"] for launch in document["launches"]] == ["conditional", "uniform"]
    unreadable = [finding["message"] for finding in document["findings"] if finding["rule"] == "file-unreadable"]
    assert "not UTF-8" in unreadable[0]
    assert "not YAML" in unreadable[1]


def test_sarif_is_valid(folder: Path, store: Path) -> None:
    """The log agrees with the published schema, and its results name rules that it describes."""
    log = tuner("check", "--format", "sarif", "--store", store, "--vllm-version", "0.19.1", folder, code=5).document
    jsonschema.validate(log, SCHEMA)
    (run,) = log["runs"]
    named = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert named == [rule.id for rule in RULES]
    assert all(named[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    worst = run["results"][0]
    assert (worst["ruleId"], worst["level"]) == ("flag-contradicts-verdict", "error")
    place = worst["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"].endswith("/bad.sh")
    assert place["region"] == {"startLine": 2}


def test_sarif_of_the_public_manifests_is_valid(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of real manifests, with relative addresses, is valid too; the schema refuses what is none."""
    monkeypatch.chdir(ROOT)
    path = "tests/manifests/vllm-project--production-stack"
    log = tuner("check", "--format", "sarif", "--store", store, path, code=0).document
    jsonschema.validate(log, SCHEMA)
    assert len(log["runs"][0]["results"]) > 50
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**log, "version": "2.0.0"}, SCHEMA)


def test_keys_are_not_printed(tmp_path: Path, store: Path) -> None:
    """The API key of a server stays out of the document, in each of its spellings."""
    (tmp_path / "x.sh").write_text("vllm serve m --api-key one 1st --api_key=two --seed 1\n", encoding="utf-8")
    answer = tuner("check", "--json", "--store", store, tmp_path / "x.sh", code=0)
    assert answer.document["launches"][0]["args"] == ["m", "--api-key", "***", "***", "--api_key=***", "--seed", "1"]
    assert "one" not in answer.out.replace("none", "")


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--fail-on-unknown",), 3)])
def test_strict_ends_with_3_where_nothing_was_judged(
    tmp_path: Path, store: Path, options: tuple[str, ...], code: int
) -> None:
    """Notes alone end with 0; with --fail-on-unknown what could not be judged counts."""
    (tmp_path / "x.sh").write_text("vllm serve somebody/model\n", encoding="utf-8")
    tuner("check", "--store", store, *options, tmp_path / "x.sh", code=code)


def test_nothing_at_a_path(tmp_path: Path) -> None:
    """A path that does not exist is an error, in JSON too."""
    answer = tuner("check", "--json", tmp_path / "nowhere", code=1)
    assert "There is no file or folder" in answer.document["error"]["message"]
    assert answer.document["error"]["hint"]


def test_a_folder_without_manifests(tmp_path: Path) -> None:
    """Nothing is found in nothing."""
    *_, last = tuner("check", tmp_path, code=0).out.splitlines()
    assert last == "0 launches in 0 files: 0 match, 0 contradict, 0 could not be judged"


def test_a_damaged_store_is_an_error(tmp_path: Path) -> None:
    """It is never taken for an empty one."""
    (tmp_path / "x.sh").write_text(f"vllm serve {LLAMA}\n", encoding="utf-8")
    (tmp_path / "store").write_text("no database\n" * 100, encoding="utf-8")
    options = ("--store", tmp_path / "store", "--vllm-version", "0.19.1")
    assert tuner("check", *options, tmp_path / "x.sh", code=1).err


def test_the_network_is_not_used(tmp_path: Path, store: Path) -> None:
    """In a process of its own, with an address that answers nothing: a hub id is a note at once, a draft too."""
    draft = '{"model": "somebody/draft", "num_speculative_tokens": 1}'
    (tmp_path / "x.sh").write_text(f"vllm serve {MIXTRAL} --speculative-config '{draft}'\nvllm serve a/b\n")
    answer = tuner_process(
        "check", "--json", "--store", store, "--vllm-version", "0.19.1", tmp_path / "x.sh",
        env={"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}, code=0,
    )  # fmt: skip
    said = [finding["message"] for finding in answer.document["findings"] if finding["rule"] == "model-unknown"]
    assert len(said) == 1
    assert "looked up: a/b is neither a folder here nor in the local hub cache. Give --configs DIR." in said[0]
    assert answer.document["launches"][0]["verdict"] == "uniform"


def test_a_file_that_is_named_is_read_whatever_its_name(tmp_path: Path, store: Path) -> None:
    """A script without a suffix is shell text; a file that is named twice is read once."""
    (tmp_path / "start").write_text("vllm serve x/y\n", encoding="utf-8")
    document = tuner("check", "--json", "--store", store, tmp_path / "start", tmp_path / "start", code=0).document
    assert document["summary"]["launches"] == 1


def test_a_file_that_is_too_large_is_named(tmp_path: Path) -> None:
    """It is not read to its end."""
    (tmp_path / "big.yaml").write_bytes(b"# " * (2 * 2**20 + 1))
    found = tuner("check", "--json", tmp_path, code=0).document["findings"]
    assert [one["message"] for one in found] == ["Nothing in it was checked: it is larger than 4 MiB."]


def test_the_hook_takes_every_file_that_a_folder_walk_takes() -> None:
    """Its pattern is a copy of what the tool knows."""
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    pattern = re.compile(hook.partition("files: '")[2].partition("'\n")[0])
    suffixes = files.YAML_SUFFIXES | files.SHELL_SUFFIXES | files.MARKDOWN_SUFFIXES | files.RESTRUCTURED_SUFFIXES
    suffixes |= files.UNIT_SUFFIXES | files.CONFIG_SUFFIXES | files.SCANNED_SUFFIXES
    names = [
        *(f"deploy/x{suffix}" for suffix in suffixes),
        *files.RECIPE_NAMES,
        "Makefile",
        "Dockerfile.cuda",
        "a.Dockerfile",
    ]
    assert all(is_manifest(name) and pattern.search(name) for name in names)
    assert not any(is_manifest(name) or pattern.search(name) for name in ("x.txt", "x.json", "deploy/readme"))


def test_the_hook_and_the_action_call_what_exists() -> None:
    """The pre-commit hook and the workflow example run this command with options it has."""
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    action = (ROOT / "examples" / "github-action" / "check-manifests.yaml").read_text(encoding="utf-8")
    options = tuner("check", "--help", code=0).out
    assert "entry: tuner check" in hook
    for option in ("--format", "sarif", "--environment", "--store"):
        assert option in action
        assert option in options
