"""A proved launch gets its `true` together with the cache root of its proof, or else the `false` that is safe."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_environment import MIXTRAL, Serving, tuner

from tuner.checks.cache_place import CACHE_HOME
from tuner.checks.edit import spliced, variable_edit
from tuner.manifests.find import launches_in
from tuner.manifests.launch import VariablePlace

FLAG, TRUE, FALSE = "--compilation-config", '{"fast_moe_cold_start": true}', '{"fast_moe_cold_start": false}'
NAME = "VLLM_CACHE_ROOT"
OF_A_PROOF = r"/tuner-proof/[0-9a-f]{16}"
HEAD = "apiVersion: v1\nkind: Pod\nmetadata: {name: llm}\nspec:\n  containers:\n"
IMAGE, OFFICIAL = "registry:5000/vllm:1", "vllm/vllm-openai-cpu:v0.19.1"


@pytest.fixture
def options(serving: Serving, store: Path, tmp_path: Path) -> list[Any]:
    """The environment of the image, and a store with the verdict and the plain proof of one model."""
    file = tmp_path / "image.json"
    file.write_text(tuner("env", "--json", "--python", serving.python).out, encoding="utf-8")
    return ["--store", serving.store_of(store, MIXTRAL), "--environment", file]


def manifest(folder: Path, text: str, name: str = "pod.yaml") -> Path:
    """A file with a manifest."""
    file = folder / name
    file.write_text(text, encoding="utf-8", newline="")
    return file


def written(options: list[Any], file: Path) -> str:
    """The text after `apply --write`, which a second run leaves as it is, and which a check has nothing against."""
    tuner("apply", "--write", *options, file, code=0)
    with file.open(encoding="utf-8", newline="") as stream:
        after = stream.read()
    again = tuner("apply", "--write", *options, file, code=0)
    assert (again.out, again.err) == ("", "")
    assert file.read_bytes() == after.encode()
    checked = tuner("check", "--json", *options, file, code=0).document
    assert [launch["outcome"] for launch in checked["launches"]] == ["matches"] * len(checked["launches"])
    assert not [finding for finding in checked["findings"] if finding["rule"] in {"flag-unproved", "launch-unproved"}]
    return after


def root_in(text: str) -> str:
    """The cache root of a proof that stands in a text."""
    match = re.search(rf"[~\w./-]*{OF_A_PROOF}", text)
    assert match, text
    return match[0]


BLOCK = f"""  - name: vllm
    image: {IMAGE}  # pinned
    # what is served
    args:
    - --port=1
    - --model={MIXTRAL}
"""
COMMAND = f"  - name: vllm\n    image: {IMAGE}\n    command: [vllm, serve, {MIXTRAL}]\n"
LISTS = {
    "no list": (
        BLOCK.replace("    args", "    command: [vllm, serve]\n    args"),
        "    env:\n    - name: {n}\n      value: {r}\n",
    ),
    "no list, indented items": (
        COMMAND.replace(f"[vllm, serve, {MIXTRAL}]", f"\n      - vllm\n      - serve\n      - {MIXTRAL}"),
        "    env:\n      - name: {n}\n        value: {r}\n",
    ),
    "no list, arguments in brackets": (COMMAND, "    env: [{{name: {n}, value: {r}}}]\n"),
    "a list in lines": (
        COMMAND + '    env:\n    - name: A\n      value: "1"  # why\n    # behind\n    ports: []\n',
        '    - name: {n}\n      value: "{r}"\n',
    ),
    "a list with a secret": (
        COMMAND + "    env:\n      -  name: A\n         valueFrom:\n           secretKeyRef: {name: s, key: k}\n",
        "      -  name: {n}\n         value: {r}\n",
    ),
    "a list with a long text": (
        COMMAND + "    env:\n    - name: A\n      value: |\n        one\n\n        two\n\n    ports: []\n",
        "    - name: {n}\n      value: {r}\n",
    ),
    "a list with items in braces": (
        COMMAND + "    env:\n    - {name: A, value: 'b'}\n",
        "    - {{name: {n}, value: '{r}'}}\n",
    ),
    "a list with items in wide braces": (
        COMMAND + "    env:\n    - { name: A, value: b }",
        "    - {{ name: {n}, value: {r} }}",
    ),
    "a list in brackets": (
        COMMAND + "    env: [{name: A, value: b}] # c\n",
        "    env: [{{name: A, value: b}}, {{name: {n}, value: {r}}}] # c\n",
    ),
    "an empty list": (COMMAND + "    env: []\n", "    env: [{{name: {n}, value: {r}}}]\n"),
    "a container in braces": (
        f"  - {{name: vllm, image: i:1, command: [vllm, serve, {MIXTRAL}], ports: []}}\n",
        "image: i:1, env: [{{name: {n}, value: {r}}}], command",
    ),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("line_break", ["\n", "\r\n"], ids=["unix", "windows"])
def test_the_variable_is_written_as_the_container_is(
    name: str, line_break: str, options: list[Any], tmp_path: Path
) -> None:
    """Behind the variables that are there, in their form, and everything else stays as it is."""
    container, expected = LISTS[name]
    before = (HEAD + container).replace("\n", line_break)
    after = written(options, manifest(tmp_path, before))
    root = root_in(after)
    assert root.startswith("~/.cache/vllm/")
    assert expected.format(n=NAME, r=root).replace("\n", line_break) in after
    old, new = yaml.safe_load(before)["spec"]["containers"][0], yaml.safe_load(after)["spec"]["containers"][0]
    assert new.pop("env") == [*(old.pop("env", None) or []), {"name": NAME, "value": root}]
    vector = "args" if "args" in old else "command"
    assert new.pop(vector) == [*old.pop(vector), FLAG, TRUE]
    assert new == old
    lines = [line for line in before.splitlines() if "[" not in line]
    assert [line for line in after.splitlines() if line in lines] == lines


def test_a_file_of_json_stays_json(options: list[Any], tmp_path: Path) -> None:
    """The list is made, or gets one item more, in JSON."""
    container = {"name": "vllm", "image": IMAGE, "command": ["vllm", "serve"], "args": [str(MIXTRAL)]}
    for variables in ([], [{"name": "A", "value": "ü"}]):
        given = container | ({"env": variables} if variables else {})
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "llm"}, "spec": {"containers": [given]}}
        for indent in (None, 2):
            file = manifest(tmp_path, json.dumps(pod, indent=indent), "pod.json")
            new = json.loads(written(options, file))["spec"]["containers"][0]
            assert new["args"] == [str(MIXTRAL), FLAG, TRUE]
            assert new["env"][:-1] == variables
            assert re.fullmatch(rf"~/\.cache/vllm{OF_A_PROOF}", new["env"][-1]["value"])


@pytest.mark.parametrize(
    ("variables", "parent"),
    [("HOME: /home/me", "/home/me/.cache/vllm"), ("XDG_CACHE_HOME: /x y, HOME: /h", "/x y/vllm")],
)
def test_the_root_lies_where_the_caches_lie(variables: str, parent: str, options: list[Any], tmp_path: Path) -> None:
    """Below the folder that the variables of the container say, quoted where YAML needs it."""
    pairs = (pair.split(": ") for pair in variables.split(", "))
    env = "".join(f"    - name: {name}\n      value: {value}\n" for name, value in pairs)
    after = written(options, manifest(tmp_path, f"{HEAD}{COMMAND}    env:\n{env}"))
    assert re.fullmatch(f"{parent}{OF_A_PROOF}", yaml.safe_load(after)["spec"]["containers"][0]["env"][-1]["value"])


def test_a_true_of_the_users_own_gets_the_variable(options: list[Any], tmp_path: Path) -> None:
    """The argument is right already, and without the variable code of another launch might run."""
    container = COMMAND.replace(f"{MIXTRAL}]", f"{MIXTRAL}, {FLAG}, '{TRUE}']")
    file = manifest(tmp_path, HEAD + container)
    checked = tuner("check", *options, file)
    assert f"set {NAME}=~/.cache/vllm" in " ".join(checked.out.split())
    after = written(options, file)
    assert after.replace(f"    env: [{{name: {NAME}, value: {root_in(after)}}}]\n", "") == HEAD + container


def test_a_variable_that_is_right_stays(options: list[Any], tmp_path: Path) -> None:
    """Whoever wrote it; the launch gets its `true`."""
    root = root_in(tuner("apply", *options, manifest(tmp_path, HEAD + COMMAND), code=0).out)
    before = f"{HEAD}{COMMAND}    env: [{{name: {NAME}, value: {root}}}]\n"
    assert written(options, manifest(tmp_path, before)).replace(f", {FLAG}, '{TRUE}'", "") == before


def test_a_launch_that_leaves_the_flag_on_lacks_the_variable(options: list[Any], tmp_path: Path) -> None:
    """VLLM turns the flag on by itself; a proved launch without the cache root of its proof is a warning."""
    file = manifest(tmp_path, HEAD + COMMAND)
    document = tuner("check", "--json", *options, file, code=0).document
    assert [finding["rule"] for finding in document["findings"]] == ["flag-unproved"]
    assert f"set {NAME}=~/.cache/vllm/tuner-proof/" in document["findings"][0]["message"]


def test_a_warm_up_and_a_deployment_of_two_containers(options: list[Any], tmp_path: Path) -> None:
    """Each container gets its own; a container that does not serve gets none."""
    pod = HEAD.replace("v1\nkind: Pod", "apps/v1\nkind: Deployment")
    text = pod.replace("spec:\n", "spec:\n  template:\n    spec:\n").replace("  containers", "      containers")
    fields = ("name: {0}", "image: i:1", "command: [vllm, serve, {1}]", "env: [{{name: A, value: b}}]")
    container = "      - " + "\n        ".join(fields) + "\n"
    both = container.format("one", MIXTRAL) + container.format("two", MIXTRAL)
    proxy = "      - name: proxy\n        image: envoy:1\n        env: [{name: A, value: b}]\n"
    after = written(options, manifest(tmp_path, text + both + proxy))
    containers = yaml.safe_load(after)["spec"]["template"]["spec"]["containers"]
    assert [len(each["env"]) for each in containers] == [2, 2, 1]


SET = f"    env:\n    - name: {NAME}\n      "
VOLUME = "    volumeMounts:\n    - {{name: cache, mountPath: {}{}}}\n"
READ_ONLY = "    securityContext: {readOnlyRootFilesystem: true}\n"
UNWRITABLE = {
    "a value of the user's": (SET + "value: /cache\n", "the container sets VLLM_CACHE_ROOT itself"),
    "a value from elsewhere": (
        SET + "valueFrom: {configMapKeyRef: {name: a, key: b}}\n",
        "the container sets VLLM_CACHE_ROOT itself",
    ),
    "a root of another proof": (
        SET + "value: ~/.cache/vllm/tuner-proof/0123456789abcdef\n",
        "the container sets VLLM_CACHE_ROOT itself",
    ),
    "envFrom": ("    envFrom: [{configMapRef: {name: a}}]\n", "envFrom may set VLLM_CACHE_ROOT"),
    "a home from elsewhere": (
        "    env: [{name: HOME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n",
        "the value of HOME is not written here",
    ),
    "variables of a mapping": ("    env: {A: b}\n", "no variable can be added"),
    "no list of variables": ("    env:\n", "no variable can be added"),
    "a list with a name for others": ("    env: &e [{name: A, value: b}]\n", "no variable can be added"),
    "a volume below the cache root": (
        VOLUME.format(f"{CACHE_HOME}/.cache/vllm/torch_compile_cache", ""),
        f"caches would leave the volume at {CACHE_HOME}/.cache/vllm/torch_compile_cache",
    ),
    "a volume below the cache root of another home": (
        VOLUME.format("/home/me/.cache/vllm/torch_compile_cache/", ""),
        "caches would leave the volume at /home/me/.cache/vllm/torch_compile_cache/",
    ),
    "a read-only volume": (
        VOLUME.format("/data/.cache", ", readOnly: true") + "    env: [{name: HOME, value: /data}]\n",
        "the volume at /data/.cache is mounted to be read only",
    ),
    "a read-only container": (READ_ONLY, "the container's own file system is read-only"),
    "a read-only container whose home is not known": (
        READ_ONLY + VOLUME.format(f"{CACHE_HOME}/.cache", ""),
        "the container's own file system is read-only",
    ),
}


def falsely(options: list[Any], file: Path) -> tuple[str, str]:
    """The text with its `false`, and what the first run says; a second run and a check are content."""
    first = tuner("apply", *options, file, code=0)
    after = written(options, file)
    assert TRUE not in after
    return after, " ".join(first.err.split())


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_cannot_get_the_variable_gets_false(name: str, options: list[Any], tmp_path: Path) -> None:
    """With the reason and the variable; nothing else changes, and never what the user set."""
    fields, why = UNWRITABLE[name]
    before = HEAD + COMMAND + fields
    after, warning = falsely(options, manifest(tmp_path, before))
    assert after.replace(f", {FLAG}, '{FALSE}'", "") == before
    assert "pod.yaml:6: fast_moe_cold_start=false is written, although this launch is proved" in warning
    assert f", so {NAME}=" in warning
    assert why in warning


WRITABLE = {
    "a volume of a home that is stated": VOLUME.format("/data", "")
    + READ_ONLY
    + "    env: [{name: HOME, value: /data}]\n",
    "a volume for proofs": VOLUME.format(f"{CACHE_HOME}/.cache/vllm/tuner-proof", ""),
    "a volume for something else": VOLUME.format("/models", ", readOnly: true"),
    "a volume beside the cache root": VOLUME.format(f"{CACHE_HOME}/.cache/vllm-other/x", ""),
}


@pytest.mark.parametrize("name", WRITABLE)
def test_volumes_that_hold_the_root(name: str, options: list[Any], tmp_path: Path) -> None:
    """The variable is written where caches lie on the same volume as before, or on none."""
    assert TRUE in written(options, manifest(tmp_path, HEAD + COMMAND + WRITABLE[name]))


def test_the_home_of_vllms_own_image_is_known(options: list[Any], tmp_path: Path) -> None:
    """Its user is root, so that a volume there holds the caches, and a volume elsewhere does not."""
    pod = HEAD + COMMAND.replace(IMAGE, OFFICIAL) + READ_ONLY
    assert TRUE in written(options, manifest(tmp_path, pod + VOLUME.format(CACHE_HOME, "")))
    falsely(options, manifest(tmp_path, pod + VOLUME.format("/data", "")))
    falsely(options, manifest(tmp_path, pod + VOLUME.format(CACHE_HOME, ", readOnly: true")))


OTHER_FORMS = {
    "a script": ("run.sh", f"#!/bin/sh\nvllm serve {MIXTRAL}\n"),
    "a patch of a pod": ("pod.yaml", f"{HEAD}  - name: c\n    command: [vllm, serve, {MIXTRAL}]\n    env: []\n"),
    "a wrapper": (
        "pod.yaml",
        f"{HEAD}  - name: c\n    image: {IMAGE}\n    command: [env, A=b, vllm, serve, {MIXTRAL}]\n",
    ),
    "a program in front": (
        "pod.yaml",
        f"{HEAD}  - name: c\n    image: {IMAGE}\n    command: [python3, start.py, vllm, serve, {MIXTRAL}]\n",
    ),
    "Compose": ("compose.yaml", f"services:\n  v:\n    command: [vllm, serve, {MIXTRAL}]\n    environment: {{A: b}}\n"),
    "an operator": (
        "x.yaml",
        f"apiVersion: a/v1\nkind: Thing\nspec:\n  containers:\n{COMMAND}",
    ),
    "values of a chart": (
        "values.yaml",
        f"main:\n  name: c\n  image: {IMAGE}\n  command: [vllm, serve, {MIXTRAL}]\n  env: []\n",
    ),
    "a Dockerfile": ("Dockerfile", f'FROM a\nENTRYPOINT ["vllm", "serve", "{MIXTRAL}"]\n'),
}


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_forms_without_such_a_list_get_false(name: str, options: list[Any], tmp_path: Path) -> None:
    """What is set for vLLM there is not known, or cannot be edited, so that the slower start is written."""
    file, text = OTHER_FORMS[name]
    after, warning = falsely(options, manifest(tmp_path, text, file))
    assert after.count("fast_moe_cold_start") == 1
    assert NAME not in after
    assert "no variable can be added" in warning


OF_SHELL = f"  - name: c\n    image: {IMAGE}\n" + "    command: [{}]\n    args:\n    - |\n      {}\n"
PLAIN_SCRIPTS = {
    "one command": ("sh, -c", f"vllm serve {MIXTRAL}"),
    "a command on several lines": ("/bin/bash, -c", f"exec vllm serve \\\n        {MIXTRAL} \\\n        --port 1"),
    "options of the shell, and a module": (
        "bash, -c",
        f"set -euo pipefail\n      python3 -m vllm.entrypoints.openai.api_server --model {MIXTRAL}",
    ),
    "another command behind it": ("sh, -c", f"vllm serve {MIXTRAL}\n      export VLLM_CACHE_ROOT=/c"),
}


@pytest.mark.parametrize("name", PLAIN_SCRIPTS)
def test_a_script_that_begins_with_the_launch(name: str, options: list[Any], tmp_path: Path) -> None:
    """The shell hands the variables of the container to vLLM."""
    after = written(options, manifest(tmp_path, HEAD + OF_SHELL.format(*PLAIN_SCRIPTS[name])))
    container = yaml.safe_load(after)["spec"]["containers"][0]
    assert container["env"] == [{"name": NAME, "value": root_in(after)}]
    assert TRUE in container["args"][0]


OTHER_SCRIPTS = {
    "a file is read": ("sh, -c", f". ./env.sh\n      vllm serve {MIXTRAL}"),
    "a folder is entered": ("sh, -c", f"cd /x && vllm serve {MIXTRAL}"),
    "a home is set": ("sh, -c", f"HOME=/x vllm serve {MIXTRAL}"),
    "another root is set": ("sh, -c", f"export {NAME}=/c\n      vllm serve {MIXTRAL}"),
    "a wrapper": ("sh, -c", f"env -i vllm serve {MIXTRAL}"),
    "a shell that reads files": ("bash, -lc", f"vllm serve {MIXTRAL}"),
}


@pytest.mark.parametrize("name", OTHER_SCRIPTS)
def test_a_script_that_may_change_variables(name: str, options: list[Any], tmp_path: Path) -> None:
    """What vLLM's variables are is not certain, so that the slower start is written."""
    after, _ = falsely(options, manifest(tmp_path, HEAD + OF_SHELL.format(*OTHER_SCRIPTS[name])))
    assert FALSE in after
    assert "env:" not in after


def test_containers_that_share_a_part(options: list[Any], tmp_path: Path) -> None:
    """A container that another one merges gets no variable, which the other one would get, too."""
    merged = f"  - &c\n    name: a\n    image: {IMAGE}\n    command: [vllm, serve]\n    args: [{MIXTRAL}]\n"
    other = f"  - <<: *c\n    name: b\n    args: [{MIXTRAL}, --port, '1']\n"
    after = written(options, manifest(tmp_path, HEAD + merged + other))
    first, second = yaml.safe_load(after)["spec"]["containers"]
    assert ("env" in first, first["args"][-1]) == (False, FALSE)
    assert ([each["name"] for each in second["env"]], second["args"][-1]) == ([NAME], TRUE)


def test_a_list_that_is_written_elsewhere_gets_none(options: list[Any], tmp_path: Path) -> None:
    """It may be of other containers, too."""
    shared = "x-env: &e\n  env: [{name: A, value: b}]\n"
    for text in (
        f"{shared}{HEAD}{COMMAND}    <<: *e\n",
        f"x: &e [{{name: A, value: b}}]\n{HEAD}{COMMAND}    env: *e\n",
    ):
        after, _ = falsely(options, manifest(tmp_path, text))
        assert NAME not in after


def test_a_pod_in_a_config_map(options: list[Any], tmp_path: Path) -> None:
    """A whole manifest in a text of another one is edited where it stands."""
    inner = "".join(
        f"    {line}\n" for line in (HEAD + BLOCK.replace("args:", "command: [vllm, serve]\n    args:")).splitlines()
    )
    text = f"apiVersion: v1\nkind: ConfigMap\ndata:\n  pod.yaml: |\n{inner}"
    after = written(options, manifest(tmp_path, text, "map.yaml"))
    inside = yaml.safe_load(yaml.safe_load(after)["data"]["pod.yaml"])["spec"]["containers"][0]
    assert inside["env"] == [{"name": NAME, "value": root_in(after)}]


def test_only_the_version_is_known(options: list[Any], tmp_path: Path) -> None:
    """Neither `true` nor its variable is written, and the message asks for the environment."""
    pod = HEAD + COMMAND.replace(IMAGE, OFFICIAL)
    file = manifest(tmp_path, pod)
    answer = tuner("apply", "--write", *options[:2], file, code=1)
    assert "only the vLLM version was matched, so fast_moe_cold_start=true is not written" in answer.err
    assert file.read_text() == pod


@pytest.mark.parametrize(
    ("value", "quote", "expected"),
    [
        ("/a/b", "", "/a/b"),
        ("~/a", "", "~/a"),
        ("~", "", "'~'"),
        ("/a b", "", "'/a b'"),
        ("/a: b #c", "", "'/a: b #c'"),
        ("/it's", "'", "'/it''s'"),
        ("/a", '"', '"/a"'),
        ("/$(A)", "", "'/$$(A)'"),
        ("/a\nb", "'", '"/a\\nb"'),
    ],
)
def test_a_value_is_read_as_it_was_meant(value: str, quote: str, expected: str) -> None:
    """Quoted where YAML would read something else, and with dollars that Kubernetes leaves alone."""
    place = VariablePlace(0, "- name: ", "\n  value: ", "\n", quote)
    text = spliced("", [variable_edit(place, "A", value)])
    assert text == f"- name: A\n  value: {expected}\n"
    pod = f"{HEAD}  - name: c\n    command: [vllm, serve, m]\n    env:\n    {text.replace(chr(10), chr(10) + '    ')}\n"
    assert launches_in("x.yaml", pod)[0].env == {"A": value}
