"""Edits of argument lists: only what was meant, in the manner of the place."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, LLAMA, MIXTRAL, Answer, Serving, tuner

from tuner.checks.edit import Change, Edit, NotEditable, edits_for, spliced
from tuner.checks.reread import require_nothing_lost
from tuner.manifests.find import launches_in
from tuner.manifests.shell import launches as shell

FLAG, TRUE = "--compilation-config", '{"fast_moe_cold_start": true}'
POD = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: c\n    command: [vllm, serve]\n"
KSERVE = """apiVersion: a
kind: LLMInferenceService
spec:
  model: {uri: "hf://a/b"}
  template:
    containers:
    - name: main
"""


def changed(name: str, text: str, change: Change, launch: int = 0) -> str:
    """The text with a change of one launch's arguments."""
    words = launches_in(name, text)[launch].words
    return spliced(text, edits_for(text, words, change))


def appended(name: str, text: str) -> str:
    """The text with the config behind all arguments."""
    return changed(name, text, Change((), (FLAG, TRUE), len(launches_in(name, text)[0].words)))


BEHIND = {
    "a list": (
        "x.yaml",
        POD + "    args:  # why\n    - m  # model\n    -   --port\n    -   '1'  # port\n    env: []\n",
        "    -   '1'  # port\n",
        f"    -   '1'  # port\n    -   {FLAG}\n    -   '{TRUE}'\n",
    ),
    "a list of double quotes": (
        "x.yaml",
        POD + '    args:\n      - "m"\n      - "--x"\n',
        '      - "--x"\n',
        f'      - "--x"\n      - "{FLAG}"\n      - \'{TRUE}\'\n',
    ),
    "a list that ends the file": (
        "x.yaml",
        POD + "    args:\n    - m",
        "    - m",
        f"    - m\n    - {FLAG}\n    - '{TRUE}'",
    ),
    "a list with Windows line ends": (
        "x.yaml",
        (POD + "    args:\n    - m\n    env: []\n").replace("\n", "\r\n"),
        "    - m\r\n",
        f"    - m\r\n    - {FLAG}\r\n    - '{TRUE}'\r\n",
    ),
    "a list in brackets": ("x.yaml", POD + "    args: ['m',  'x' ] # c\n", "'x' ]", f"'x', '{FLAG}', '{TRUE}' ]"),
    "an exec form": (
        "Dockerfile",
        'FROM a\nENTRYPOINT ["vllm", "serve", \\\n  "m"]\n',
        '"m"]',
        f'"m", "{FLAG}", {json.dumps(TRUE)}]',
    ),
    "a line": ("x.sh", "vllm serve m --x 1 & # c\n", "--x 1 &", f"--x 1 {FLAG} '{TRUE}' &"),
    "lines": ("x.sh", "vllm serve m \\\n  --x 1 \\\n  --y\n", "  --y\n", f"  --y \\\n  {FLAG} '{TRUE}'\n"),
    "lines that end with a backslash": (
        "x.sh",
        "vllm serve m \\\n  --y \\\n\necho\n",
        "  --y \\",
        f"  --y \\\n  {FLAG} '{TRUE}' \\",
    ),
    "a shell script in YAML": (
        "x.yaml",
        "run: |\n  vllm serve m \\\n    --x\nb: 1\n",
        "    --x\n",
        f"    --x \\\n    {FLAG} '{TRUE}'\n",
    ),
    "a folded script in YAML": (
        "x.yaml",
        "run: >\n  vllm serve m\n  --x 1\nb: 1\n",
        "  --x 1\n",
        f"  --x 1\n  {FLAG} '{TRUE}'\n",
    ),
    "KServe's evaluated list": (
        "x.yaml",
        KSERVE + "      args:\n      - --x\n",
        "      - --x\n",
        f"      - --x\n      - {FLAG}\n      - '''{TRUE}'''\n",
    ),
}


@pytest.mark.parametrize("case", BEHIND)
def test_arguments_are_put_behind(case: str) -> None:
    """Indentation, quotes, comments and line ends are those of the neighbours; nothing else changes."""
    name, text, old, new = BEHIND[case]
    assert text.count(old) == 1
    after = appended(name, text)
    assert after == text.replace(old, new)
    assert launches_in(name, after)[0].args == (*launches_in(name, text)[0].args, FLAG, TRUE)


def test_a_value_is_replaced_where_it_stands() -> None:
    """Only the value's own text changes, the comment behind it stays."""
    text = POD + "    args: # a\n    - m\n    - -cc  # short\n    - '{}'  # empty\n    - --x\n"
    after = changed("x.yaml", text, Change((1, 2), (FLAG, TRUE), 1))
    assert after == text.replace("- -cc ", f"- {FLAG} ").replace("'{}'", f"'{TRUE}'")


def test_a_value_of_several_lines_is_replaced() -> None:
    """A block scalar among the items becomes one line."""
    text = POD + f"    args:\n    - m\n    - {FLAG}\n    - |\n      {{\n      }}\n    - --x\n"
    after = changed("x.yaml", text, Change((1, 2), (FLAG, TRUE), 1))
    assert after == text.replace("|\n      {\n      }\n", f"'{TRUE}'\n")


@pytest.mark.parametrize(
    ("text", "removed", "expected"),
    [
        ("[m, -cc.a=1, --x, -cc.b=2]", (1, 3), f"[m, --x, {FLAG}, '{TRUE}']"),
        ("[-cc.a=1, m]", (0,), f"[m, {FLAG}, '{TRUE}']"),
        (
            "\n    - m\n    - -cc.a=1 # c\n    - --x\n    - -cc.b=2",
            (1, 3),
            f"\n    - m\n    - --x\n    - {FLAG}\n    - '{TRUE}'",
        ),
    ],
)
def test_scattered_keys_become_one_config(text: str, removed: tuple[int, ...], expected: str) -> None:
    """What is merged goes from where it stood, with its line."""
    before = f"{POD}    args: {text}\n    env: []\n"
    end = 4 if len(removed) == 2 else 2
    after = changed("x.yaml", before, Change(removed, (FLAG, TRUE), end))
    assert after == f"{POD}    args: {expected}\n    env: []\n"


def test_shell_words_are_taken_out() -> None:
    """With the space or the continuation in front of them."""
    text = "vllm serve m -cc.a=1 --x \\\n  -cc.b=2 \\\n  --y\n"
    after = changed("x.sh", text, Change((1, 3), (FLAG, TRUE), 5))
    assert after == f"vllm serve m --x \\\n  --y \\\n  {FLAG} '{TRUE}'\n"


@pytest.mark.parametrize(
    "text",
    [
        'command: "vllm serve m"\n',
        POD + "    args:\n    - - m\n",
        POD + "    args:\n    -\n      m\n",
    ],
)
def test_places_that_cannot_be_edited(text: str) -> None:
    """Quoted scripts, nested lists, items below their mark: left alone, and said so."""
    with pytest.raises(NotEditable, match=r"by hand|no argument list"):
        appended("x.yaml", text)


def test_edits_that_overlap_are_refused() -> None:
    """Two different changes of one place are none."""
    with pytest.raises(NotEditable, match="one list"):
        spliced("abcdef", [Edit(1, 3, "x"), Edit(2, 4, "y")])
    assert spliced("abcdef", [Edit(1, 3, "x"), Edit(1, 3, "x"), Edit(1, 1, "_")]) == "a_xdef"


# ---- what an edit may not lose


LOST = {
    "an argument": ("m --x 1 -cc '{\"a\": 1}'", 'm --x -cc \'{"a": 1, "b": 2}\'', "other arguments"),
    "the order": ("m --x 1 --y 2", "m --y 2 --x 1 -cc '{\"b\": 2}'", "other arguments"),
    "a key": ("m -cc '{\"a\": 1}'", "m -cc '{\"b\": 2}'", "drop a"),
    "a value": ("m -cc '{\"a\": [1, NaN]}'", 'm -cc \'{"a": [1], "b": 2}\'', "drop a"),
    "the user's config behind a second": ("m -cc '{\"a\": 1}'", "m -cc '{\"a\": 1}' -cc '{\"b\": 2}'", "two compil"),
    "the user's config behind a dotted key": ("m -cc '{\"a\": 1}'", "m -cc '{\"a\": 1}' -cc.b=2", "two compil"),
    "what is hidden": ('m "$@"', 'm "$@" -cc.b=2', "is not written here"),
    "what a config file holds": ("m --config no.yaml", "m --config no.yaml -cc.b=2", "no.yaml is not written here"),
    "the server": ("m", "m -cc 3", "vLLM would refuse the launch"),
}


@pytest.mark.parametrize("case", LOST)
def test_a_faulty_edit_is_seen_when_it_is_read_again(case: str) -> None:
    """Whatever made the edit, a launch that lost something by it is named."""
    before, after, said = LOST[case]
    text = f"vllm serve {after}\n"
    (old,), (new,) = launches_in("x.sh", f"vllm serve {before}\n"), launches_in("x.sh", text)
    with pytest.raises(NotEditable, match=said):
        require_nothing_lost("x.sh", text, old, new)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("m --x", "m --x -cc '{\"b\": 2}'"),
        ("m -cc.a=1 --x -cc.c=x", 'm --x -cc \'{"a": 1, "c": "x", "b": 2}\''),
        ("m -cc '{\"a\": NaN}' -tp $TP", 'm -cc \'{"a": NaN, "b": 2}\' -tp $TP'),
        ("m -cc '{\"fast_moe_cold_start\": null}'", "m -cc '{\"fast_moe_cold_start\": false}'"),
    ],
)
def test_an_edit_that_lost_nothing_passes(before: str, after: str) -> None:
    """Merged keys, numbers that JSON lacks, sizes from variables, a null for the flag."""
    text = f"vllm serve {after}\n"
    (old,), (new,) = launches_in("x.sh", f"vllm serve {before}\n"), launches_in("x.sh", text)
    require_nothing_lost("x.sh", text, old, new)


# ---- the command


@pytest.fixture
def options(serving: Serving, store: Path, tmp_path: Path) -> list[Any]:
    """The environment and a store with verdicts of three models."""
    file = tmp_path / "image.json"
    file.write_text(tuner("env", "--json", "--python", serving.python).out, encoding="utf-8")
    return ["--store", serving.store_of(store, MIXTRAL, ERNIE, LLAMA), "--environment", file]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script with three launches: one of each kind of verdict."""
    path = tmp_path / "run.sh"
    lines = [f"vllm serve {MIXTRAL} -cc.mode=3", f"vllm serve {ERNIE}  # text", f"vllm serve {LLAMA}"]
    path.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(0o750)
    return path


def test_the_diff_is_shown_and_nothing_is_written(options: list[Any], script: Path) -> None:
    """By default a unified diff on stdout, and the file as it was."""
    before = script.read_bytes()
    answer = tuner("apply", *options, script, code=0)
    assert script.read_bytes() == before
    minus = [line for line in answer.out.splitlines() if line.startswith("-") and line[:3] != "---"]
    plus = [line for line in answer.out.splitlines() if line.startswith("+") and line[:3] != "+++"]
    assert (len(minus), len(plus)) == (2, 2)
    assert f"+vllm serve {ERNIE} {FLAG} '{TRUE.replace('true', 'false')}'  # text" in plus


def test_written_is_what_serve_would_launch(options: list[Any], serving: Serving, script: Path) -> None:
    """The arguments in the file are those of `tuner serve`, the mode stays, and a second time nothing changes."""
    given = [launch.args for launch in launches_in("run.sh", script.read_text())]
    assert "2 launches changed" in tuner("apply", "--write", *options, script, code=0).out
    written = [launch.args for launch in launches_in("run.sh", script.read_text())]
    for before, after in zip(given, written, strict=True):
        command: Answer = tuner("serve", "--dry-run", *options[:2], "--python", serving.python, *before, code=0)
        words = shlex.split(command.out)
        assert tuple(words[words.index("serve") + 1 :]) == after
    assert script.stat().st_mode & 0o777 == 0o750
    assert tuner("apply", "--write", *options, script, code=0).out == ""
    assert not [path for path in script.parent.iterdir() if path.name.startswith(".run")]


def test_a_match_by_version_never_writes_true(options: list[Any], script: Path) -> None:
    """The unsafe model gets its `false`; the safe one is left alone and named, and the command ends with 1."""
    script.write_text(script.read_text().replace(" -cc.mode=3", ""), encoding="utf-8")
    answer = tuner("apply", "--write", *options[:2], "--vllm-version", "0.19.1", script, code=1)
    assert f"{script}:2: only the vLLM version was matched, so fast_moe_cold_start=true is not written" in answer.err
    first, second, third = (launch.args for launch in launches_in("run.sh", script.read_text()))
    assert first == (str(MIXTRAL),)
    assert second == (str(ERNIE), FLAG, TRUE.replace("true", "false"))
    assert third == (str(LLAMA),)


def test_an_unsafe_value_of_the_users_changes_with_override_alone(options: list[Any], script: Path) -> None:
    """Without it the file stays, the launch is named, and the command ends with 5."""
    script.write_text(f"vllm serve {ERNIE} {FLAG} '{TRUE}'\n", encoding="utf-8")
    answer = tuner("apply", "--write", *options, script, code=5)
    assert "contradicts what is known" in answer.err
    assert "--override changes your value" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert script.read_text() == f"vllm serve {ERNIE} {FLAG} '{TRUE}'\n"
    tuner("apply", "--write", "--override", *options, script, code=0)
    assert script.read_text() == f"vllm serve {ERNIE} {FLAG} '{TRUE.replace('true', 'false')}'\n"


def test_override_keeps_the_other_keys(options: list[Any], script: Path) -> None:
    """The value of the flag changes, and nothing else; a value that is not refused stays as it is."""
    kept = f"vllm serve {LLAMA} {FLAG} '{TRUE}' --port 1\n"
    unsafe = f"vllm serve {ERNIE} -cc.mode=3 -cc.fast_moe_cold_start=true --seed 1\n"
    script.write_text(unsafe + kept, encoding="utf-8")
    tuner("apply", "--write", "--override", *options, script, code=0)
    both = json.dumps({"mode": 3, "fast_moe_cold_start": False})
    assert script.read_text() == f"vllm serve {ERNIE} --seed 1 {FLAG} '{both}'\n{kept}"


def test_nothing_is_written_for_an_unknown_model(options: list[Any], script: Path) -> None:
    """The launch is named with the cause, and the command ends with 3."""
    script.write_text("vllm serve /models/Some-MoE\n", encoding="utf-8")
    answer = tuner("apply", "--write", *options, script, code=3)
    assert f"{script}:1: nothing is written, because " in answer.err
    assert script.read_text() == "vllm serve /models/Some-MoE\n"


def test_dropped_keys_are_kept(options: list[Any], script: Path) -> None:
    """JSON beside dotted keys becomes one config with all of them; another launch than the plain one gets false."""
    script.write_text(f"vllm serve {LLAMA} -cc '{{\"mode\": 3}}' --x -cc.cache_dir=/c\n", encoding="utf-8")
    tuner("apply", "--write", *options, script, code=0)
    both = json.dumps({"mode": 3, "cache_dir": "/c", "fast_moe_cold_start": False})
    assert script.read_text() == f"vllm serve {LLAMA} {FLAG} '{both}' --x\n"


def test_a_number_that_json_lacks_is_kept(options: list[Any], script: Path) -> None:
    """VLLM reads it, so it is written as it was."""
    own = '"inductor_compile_config": {"a": [NaN, -Infinity]}'
    script.write_text(f"vllm serve {ERNIE} -cc '{{{own}}}'\n", encoding="utf-8")
    tuner("apply", "--write", *options, script, code=0)
    assert script.read_text() == f"vllm serve {ERNIE} {FLAG} '{{{own}, \"fast_moe_cold_start\": false}}'\n"


def test_hidden_arguments_are_left_alone(options: list[Any], script: Path) -> None:
    """What an array holds may be a compilation config; one more would replace it."""
    script.write_text(f'vllm serve {ERNIE} "${{ARGS[@]}}"\n', encoding="utf-8")
    assert "may hold a compilation config" in tuner("apply", *options, script, code=1).err


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ('-cc "$CC"', "$CC"),
        ("-cc.cudagraph_mode=$MODE", "$MODE"),
        ("-cc.fast_moe_cold_start=$FLAG", "$FLAG"),
        ('-cc "{\\"cudagraph_mode\\": \\"$MODE\\"}"', "$MODE"),
    ],
)
def test_a_value_of_the_config_that_is_not_written_is_left_alone(
    options: list[Any], script: Path, config: str, named: str
) -> None:
    """Merged into one config it would stand in single quotes, where a shell puts nothing in."""
    text = f"vllm serve {ERNIE} {config}\n"
    script.write_text(text, encoding="utf-8")
    assert named in tuner("apply", "--write", *options, script, code=1).err
    assert script.read_text() == text


def test_a_launch_whose_vllm_is_not_known_is_named(options: list[Any], tmp_path: Path) -> None:
    """The environment is for another platform, and the tag of the image tells no version: exit 3, nothing written."""
    file = tmp_path / "pod.yaml"
    file.write_text(POD + f"    image: vllm/vllm-openai:latest\n    args: [{ERNIE}]\n", encoding="utf-8")
    answer = tuner("apply", "--write", *options, file, code=3)
    assert "nothing is written, because the environment given is of platform cpu" in answer.err
    assert FLAG not in file.read_text()


COMPOSE = """services:
  vllm:
    image: {image}
    entrypoint:
      - bash
      - -c
      - |
        {before}
        exec vllm serve {words}
      - --
    command: [--model, m]
"""


@pytest.mark.parametrize(
    "words",
    [
        '"$$@"',
        "$$@",
        "$$*",
        '"$${{@}}"',
        '"$${{@:2}}"',
        '{model} "$$@"',
        "{model} $${{ARGS}}",
        "{model} $$ARGS",
        '{model} "$${{ARGS[@]}}"',
        "{model} $$(cat args)",
        '{model} --port 1 "$$1"',
        '{model} --served-model-name x"$$@"',
        "{model} ${{ARGS}}",
        "{model} $ARGS",
        '{model} "$@"',
        "$$$$@",
    ],
)
@pytest.mark.parametrize("image", ["vllm/vllm-openai-cpu:v0.19.1", "vllm/vllm-openai:v0.19.1"])
def test_what_compose_doubles_hides_arguments_too(options: list[Any], tmp_path: Path, words: str, image: str) -> None:
    """Compose writes the shell's `$` as `$$`; what stands for other arguments is left alone as it is elsewhere."""
    file = tmp_path / "compose.yaml"
    text = COMPOSE.format(image=image, before="ARGS=--x", words=words.format(model=ERNIE))
    file.write_text(text, encoding="utf-8")
    if "ARGS" in words and "$$" in words and "[@]" not in words:  # the script itself says what it is
        tuner("apply", "--write", *options, file, code=0)
        assert FLAG in file.read_text()
        file.write_text(text.replace("ARGS=--x", "ARGS=$$(cat args)"), encoding="utf-8")
    assert "may hold a compilation config" in tuner("apply", *options, file, code=1).err


def test_compose_fills_in_a_single_dollar_itself(options: list[Any], tmp_path: Path) -> None:
    """`$NAME` is not the script's variable of that name, and `$$NAME` is."""
    file = tmp_path / "compose.yaml"
    text = COMPOSE.format(image="x", before=f"MODEL={ERNIE}", words='"{}MODEL"')
    file.write_text(text.replace("{}", "$$"), encoding="utf-8")
    assert launches_in(file.name, file.read_text())[0].args == (str(ERNIE),)
    tuner("apply", "--write", *options, file, code=0)
    assert f'exec vllm serve "$$MODEL" {FLAG}' in file.read_text()
    (other,) = launches_in(file.name, text.replace("{}", "$"))
    assert (other.args, other.words[0].unknown) == (("$MODEL",), True)


def test_the_kubelet_halves_dollars_too(options: list[Any], tmp_path: Path) -> None:
    """In a container's script `$$@` is the shell's `$@` (k8s.io, expansion of `command` and `args`)."""
    file = tmp_path / "pod.yaml"
    script = (
        POD.replace("[vllm, serve]", "[sh, -c]") + f'    args:\n    - |\n      vllm serve {ERNIE} "$$@"\n    - --\n'
    )
    file.write_text(script, encoding="utf-8")
    assert "may hold a compilation config" in tuner("apply", *options, file, code=1).err


def test_nothing_is_added_behind_what_was_not_seen_to_hide(
    options: list[Any], script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that takes `"$@"` for one argument is a fault: the written text still stops the edit."""
    monkeypatch.setattr(shell, "_hides_arguments", lambda *_: "")
    script.write_text(f'vllm serve {ERNIE} --x "$@"\n', encoding="utf-8")
    assert "would come before the added arguments" in tuner("apply", "--write", *options, script, code=1).err
    assert FLAG not in script.read_text()


def test_a_tag_that_contradicts_the_environment_stops_the_edit(options: list[Any], tmp_path: Path) -> None:
    """In a pod and in a service: both versions are named, nothing is written, and the command ends with 1."""
    image = "registry.example.com/ai/vllm-openai:v0.10.2-nixl"
    (tmp_path / "d").mkdir()
    pod, compose = tmp_path / "d" / "pod.yaml", tmp_path / "d" / "compose.yaml"
    pod.write_text(POD + f"    image: {image}\n    args: [{ERNIE}]\n", encoding="utf-8")
    compose.write_text(COMPOSE.format(image=image, before="", words=ERNIE), encoding="utf-8")
    answer = tuner("apply", "--write", *options, tmp_path / "d", code=1)
    assert answer.err.count(f"has vLLM 0.19.1, and the image {image} says vLLM 0.10.2") == 2
    assert answer.out == ""
    assert FLAG not in pod.read_text() + compose.read_text()


def test_a_service_of_another_platform_never_gets_true(options: list[Any], tmp_path: Path) -> None:
    """A service may build an image under any name, so the environment given counts, but not for a `true`."""
    file = tmp_path / "compose.yaml"
    file.write_text(COMPOSE.format(image="vllm/vllm-openai:v0.19.1", before="", words=MIXTRAL), encoding="utf-8")
    tuner("apply", "--write", *options, file)
    assert "true" not in file.read_text()


def test_lists_that_launches_share(options: list[Any], tmp_path: Path) -> None:
    """One list for two launches is edited if both want the same, else left alone; a list of its own is preferred."""
    shared = 'l: &l\n- "--port"\n- "1"\nservingEngineSpec: {modelSpec: [\n'
    case = "{{name: m, modelURL: {}, vllmConfig: {{extraArgs: *l}}}},\n"
    file = tmp_path / "x.yaml"
    file.write_text(shared + case.format(ERNIE) * 2 + "]}\n", encoding="utf-8")
    tuner("apply", "--write", *options, file, code=0)
    assert file.read_text().count(FLAG) == 1
    file.write_text(shared + case.format(ERNIE) + case.format(LLAMA) + "]}\n", encoding="utf-8")
    assert str(file) in tuner("apply", "--write", *options, file, code=1).err
    assert FLAG not in file.read_text()
    container = "  - {{name: c, command: {}, args: [{}, '--host=x']}}\n"
    pod = container.format("&c [vllm, serve]", ERNIE) + container.format("*c", LLAMA)
    file.write_text(POD.partition("  - name")[0] + pod, encoding="utf-8")
    tuner("apply", "--write", *options, file, code=0)
    assert [launch.args[-1] for launch in launches_in("x.yaml", file.read_text())] == [
        TRUE.replace("true", "false"),
        "--host=x",
    ]


def test_a_file_behind_a_link_stays_behind_it(options: list[Any], script: Path, tmp_path: Path) -> None:
    """The target is edited; the link is a link."""
    link = tmp_path / "link.sh"
    link.symlink_to(script)
    tuner("apply", "--write", *options, link, code=0)
    assert link.is_symlink()
    assert FLAG in script.read_text()


def test_a_file_that_is_no_yaml_is_left_alone(options: list[Any], tmp_path: Path) -> None:
    """It is named, and the others are edited."""
    (tmp_path / "t.yaml").write_text("a: {{ .Values.x }}\n  b: vllm\n", encoding="utf-8")
    (tmp_path / "u.sh").write_text(f"vllm serve {ERNIE}\n", encoding="utf-8")
    answer = tuner("apply", "--write", *options, tmp_path / "t.yaml", tmp_path / "u.sh", code=1)
    assert "t.yaml: it is not YAML" in answer.err
    assert FLAG in (tmp_path / "u.sh").read_text()


def test_a_command_in_plain_yaml_is_edited(options: list[Any], tmp_path: Path) -> None:
    """A Compose command on one line takes JSON without the spaces that YAML would take for a key's."""
    file = tmp_path / "compose.yaml"
    service = "services:\n  v:\n    image: vllm/vllm-openai:v0.19.1\n    command: {}\n"
    file.write_text(service.format(f"--model {ERNIE} --port 1"), encoding="utf-8")
    tuner("apply", "--write", *options, file, code=0)
    assert file.read_text() == service.format(
        f"--model {ERNIE} --port 1 {FLAG} '{TRUE.replace('true', 'false').replace(': ', ':')}'"
    )


# ---- check --fix


def test_check_fixes_and_reports_what_is_left(options: list[Any], script: Path) -> None:
    """The files say what `apply --write` writes, and the result is that of a check of the edited files."""
    twin = script.with_name("twin.sh")
    twin.write_bytes(script.read_bytes())
    tuner("apply", "--write", *options, twin, code=0)
    assert "flag-left-on" in tuner("check", *options, script, code=0).out
    answer = tuner("check", "--fix", *options, script, code=0)
    assert script.read_bytes() == twin.read_bytes()
    assert f"{script}: 2 launches changed" in answer.err
    assert "flag-left-on" not in answer.out
    assert tuner("check", "--fix", *options, script, code=0).err == ""


def test_check_fix_leaves_an_unsafe_value_without_override(options: list[Any], script: Path) -> None:
    """The contradiction stays a finding, with exit 5; with --override the value changes, and nothing is left."""
    script.write_text(f"vllm serve {ERNIE} {FLAG} '{TRUE}'\n", encoding="utf-8")
    answer = tuner("check", "--fix", *options, script, code=5)
    assert "flag-contradicts-verdict" in answer.out
    assert TRUE in script.read_text()
    tuner("check", "--fix", "--override", *options, script, code=0)
    assert TRUE.replace("true", "false") in script.read_text()
    assert "without --fix" in tuner("check", "--override", *options, script, code=2).err


def test_a_launch_that_cannot_be_edited_ends_a_fix_with_1(options: list[Any], script: Path) -> None:
    """What should have been edited and could not be is named, though a check alone would not be red."""
    script.write_text(f"sh -c 'vllm serve {ERNIE}'\n", encoding="utf-8")
    tuner("check", *options, script, code=0)
    answer = tuner("check", "--fix", *options, script, code=1)
    assert "edit them by hand" in answer.err
