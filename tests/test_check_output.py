"""How `tuner check` shows what it sees: formats, choices, suppressions, standard input, unforged lines."""

import json
import os
from pathlib import Path

import pytest
from fake_environment import tuner

BAD = "vllm serve m --compilation-config 3\n"
"""A launch that vLLM 0.19.1 refuses."""
POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n"
    "    image: vllm/vllm-openai:v0.19.1\n"
)


def checked(folder: Path, text: str, *options: object, name: str = "x.sh", code: int = 0) -> str:
    """What a check of one file prints."""
    (folder / name).write_text(text, encoding="utf-8")
    return tuner("check", "--vllm-version", "0.19.1", *options, folder / name, code=code).out


def test_json_is_short_for_its_format(tmp_path: Path) -> None:
    """Both print the same document; with another format they contradict each other."""
    assert checked(tmp_path, BAD, "--json", code=1) == checked(tmp_path, BAD, "--format", "json", code=1)
    (tmp_path / "x.sh").write_text(BAD, encoding="utf-8")
    answer = tuner("check", "--json", "--format", "sarif", tmp_path, code=2)
    assert "contradict each other" in answer.err


def test_sarif_links_the_page_of_each_rule(tmp_path: Path) -> None:
    """The address ends with the page's path."""
    log = json.loads(checked(tmp_path, BAD, "--format", "sarif", code=1))
    for rule in log["runs"][0]["tool"]["driver"]["rules"]:
        assert rule["helpUri"].endswith(f"/docs/rules/{rule['id']}.md")


def test_github_shows_findings_beside_the_lines(tmp_path: Path) -> None:
    """One command a finding; what separates properties is escaped in a name."""
    out = checked(tmp_path, BAD, "--format", "github", name="100%,a:b.sh", code=1)
    error = next(line for line in out.splitlines() if line.startswith("::error "))
    assert f"file={tmp_path}/100%25%2Ca%3Ab.sh,line=1,title=tuner arguments-refused::" in error
    assert out.splitlines()[-1].startswith("1 launch in 1 file: ")


HOSTILE = "n\n::stop-commands::x\n0 launches in 1 file: all fine\r\x1b[2J\x07\u202e"


@pytest.mark.parametrize("output", ["text", "github"])
def test_no_line_can_be_forged(tmp_path: Path, output: str) -> None:
    """Names of containers, images and files add no line, and no control character reaches a terminal."""
    pod = json.loads(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": HOSTILE}}))
    image = f"vllm/vllm-openai:latest{HOSTILE}"
    pod["spec"] = {"containers": [{"name": HOSTILE, "image": image, "args": ["--model", HOSTILE]}]}
    folder = tmp_path / "d\n::error::x\x1b[31m"
    folder.mkdir()
    (folder / "x.yaml").write_text(json.dumps(pod), encoding="utf-8")
    answer = tuner("check", "--format", output, folder, code=0)
    lines = answer.out.splitlines()
    assert len(lines) > 2
    begin = f"{tmp_path}/d" if output == "text" else "::"
    assert all(line.startswith(begin) for line in lines[:-2])
    assert all("::stop-commands" not in line.partition(" ")[0] for line in lines)
    assert [char for char in answer.out if not char.isprintable() and char != "\n"] == []


def test_a_name_that_begins_like_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in this folder cannot begin a line with what GitHub takes for a command."""
    monkeypatch.chdir(tmp_path)
    Path("::error::x.sh").write_text(BAD, encoding="utf-8")
    assert tuner("check", "--vllm-version", "0.19.1", "::error::x.sh", code=1).out.startswith("./::error::x.sh:1: ")


def test_quiet_shows_errors_alone(tmp_path: Path) -> None:
    """The last two lines stay, and count everything."""
    lines = checked(tmp_path, BAD + "vllm serve $M\n", "-q", code=1).splitlines()
    assert [line.partition("(")[2] for line in lines[:-2]] == ["arguments-refused)"]
    assert lines[-2] == "1 error, 0 warnings, 1 note"
    assert lines[-1] == "2 launches in 1 file: 0 match, 0 contradict, 1 has an error, 1 could not be judged"


def test_rules_are_selected_and_left_out(tmp_path: Path) -> None:
    """The exit code heeds the choice, the outcome of a launch does not; a name that no rule has is refused."""
    selected = json.loads(checked(tmp_path, BAD, "--json", "--select", "model-unknown,flag-unproved"))
    assert selected["findings"] == []
    assert selected["launches"][0]["outcome"] == "faulty"
    left = json.loads(checked(tmp_path, "vllm serve $M\n", "--json", "--ignore", "flag-unproved"))
    assert [finding["rule"] for finding in left["findings"]] == ["model-unknown"]
    (tmp_path / "x.sh").write_text(BAD, encoding="utf-8")
    assert "There is no rule nonsense" in tuner("check", "--select", "nonsense", tmp_path, code=2).err


@pytest.mark.parametrize(
    "text",
    [
        BAD.replace("\n", "  # tuner: ignore[arguments-refused]\n"),
        f"# tuner: ignore[arguments-refused]\n{BAD}",
        f"#tuner:ignore[image-unpinned,  arguments-refused]\n{BAD}",
        "# tuner: ignore[arguments-refused]\nvllm serve m \\\n  --seed 1 \\\n  --compilation-config 3\n",
    ],
)
def test_a_comment_suppresses_a_finding(tmp_path: Path, text: str) -> None:
    """On the line or above it; at the first line of a launch it is for all of the launch."""
    rules = [finding["rule"] for finding in json.loads(checked(tmp_path, text, "--json"))["findings"]]
    assert "arguments-refused" not in rules


@pytest.mark.parametrize(
    "text",
    [
        f"# tuner: ignore[arguments-refused]\n\n{BAD}",
        f"{BAD}# tuner: ignore[arguments-refused]\n",
        f"true  # tuner: ignore[arguments-refused]\n{BAD}",
        f"# tuner: ignore[no-such-rule]\n{BAD}",
    ],
)
def test_a_comment_elsewhere_suppresses_nothing(tmp_path: Path, text: str) -> None:
    """The finding stays, and the comment is a note of its own."""
    document = json.loads(checked(tmp_path, text, "--json", code=1))
    rules = [finding["rule"] for finding in document["findings"]]
    assert {"arguments-refused", "suppression-unused"} <= set(rules)


def test_a_comment_for_a_rule_that_is_not_wanted_is_no_finding(tmp_path: Path) -> None:
    """What was not looked for cannot be missed."""
    text = f"# tuner: ignore[image-unpinned]\n{BAD}"
    out = json.loads(checked(tmp_path, text, "--json", "--ignore", "image-unpinned", code=1))
    assert "suppression-unused" not in [finding["rule"] for finding in out["findings"]]


def test_standard_input_holds_yaml() -> None:
    """`helm template . | tuner check -`: several documents, comments that suppress, and the same exit codes."""
    text = f"{POD}    args: [--model, m, --compilation-config, '3']\n---\n{POD}    args: [--model, m]\n"
    answer = tuner("check", "-", stdin=text, code=1)
    assert answer.out.startswith("<stdin>:")
    assert "2 launches in 1 file: 0 match, 0 contradict, 1 has an error" in answer.out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "standard input is empty"),
        (" \n", "standard input is empty"),
        ("FROM vllm/vllm-openai:v0.19.1\nCMD [--model, m]\n", "a script or a Dockerfile in the place of YAML"),
        ("# start\nvllm serve m -cc '{\"mode\": 3}'\n", "a script or a Dockerfile in the place of YAML"),
        ("#!/bin/sh\nset -e\nvllm serve m\n", "a script or a Dockerfile in the place of YAML"),
    ],
)
def test_standard_input_that_is_not_a_manifest_is_a_note(text: str, message: str) -> None:
    """As where the command before the pipe failed: exit 3 with `--fail-on-unknown`."""
    assert message in tuner("check", "-", "--fail-on-unknown", stdin=text, code=3).out


def test_a_rule_that_does_not_exist_is_named_beside_all_rules() -> None:
    """The list fits a terminal."""
    lines = tuner("check", "-", "--select", "nothing", stdin=POD, code=2).err.splitlines()
    assert lines[0] == "tuner: There is no rule nothing."
    assert max(map(len, lines)) <= 80
    assert "unsafe-release" in lines[-1] + lines[-2]


def test_standard_input_is_not_edited_in_place() -> None:
    """There is no file to write to."""
    config = Path(__file__).parents[1] / "examples" / "models"
    text = f"{POD}    args: [--model, Qwen/Qwen3-30B-A3B]\n"
    assert tuner("apply", "--configs", config, "-", stdin=text, code=0).out.startswith("--- a/<stdin>\n")
    answer = tuner("apply", "--write", "--configs", config, "-", stdin=text, code=2)
    assert "Standard input cannot be edited in place" in answer.err
    assert "Standard input cannot be edited in place" in tuner("check", "--fix", "-", stdin=POD, code=2).err


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Named it is an error, with the way that works; in a folder it is a note, and nothing waits."""
    os.mkfifo(tmp_path / "x.yaml")
    answer = tuner("check", tmp_path / "x.yaml", code=1)
    assert "x.yaml is not a regular file" in answer.err
    assert "`... | tuner check -`" in answer.err
    assert "it is not a regular file. (file-unreadable)" in tuner("check", tmp_path, code=0).out
    assert "is not a regular file" in tuner("apply", tmp_path / "x.yaml", code=1).err
    tuner("check", "/dev/zero", code=1)


def test_a_launch_with_another_error_contradicts_nothing(tmp_path: Path) -> None:
    """It has a count of its own, in text and JSON, which is there only if it is not zero."""
    script = tmp_path / "run.sh"
    script.write_text("vllm serve ./m --cc '{}'\n")
    answer = tuner("check", script, "--vllm-version", "0.19.1")
    assert (
        answer.out.splitlines()[-1]
        == "1 launch in 1 file: 0 match, 0 contradict, 1 has an error, 0 could not be judged"
    )
    document = json.loads(tuner("check", script, "--vllm-version", "0.19.1", "--json").out)
    assert document["launches"][0]["outcome"] == "faulty"
    assert document["summary"]["outcomes"] == {
        "matches": 0,
        "contradicts": 0,
        "faulty": 1,
        "unproved": 0,
        "unjudged": 0,
    }


def test_a_model_in_a_variable_is_no_folder(tmp_path: Path) -> None:
    """The message says that its value is not written here."""
    script = tmp_path / "run.sh"
    script.write_text('vllm serve "$MODEL"\n')
    answer = tuner("check", script, "--vllm-version", "0.19.1")
    assert "the value of $MODEL is not written here." in answer.out
