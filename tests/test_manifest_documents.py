"""Launches in documents of documents: each argument is read, and stands where it says.

Compose files, fenced blocks of Markdown, and YAML inside YAML.
"""

import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest
from fuzz.limit import limited

from tuner.checks.edit import Change, NotEditable, edits_for, spliced
from tuner.checks.examine import read_arguments
from tuner.manifests.find import launches_in
from tuner.manifests.launch import Form, ManifestLaunch
from tuner.manifests.mentions.unread import unread_launches

IMAGE = "vllm/vllm-openai:v0.19.1"
MODEL = "baidu/ERNIE-4.5-VL-28B-A3B-PT"
FLAG, TRUE = "--compilation-config", '{"fast_moe_cold_start": true}'
POD = f"""apiVersion: apps/v1
kind: Deployment
metadata: {{name: v}}
spec:
  template:
    spec:
      containers:
      - name: c
        image: {IMAGE}
        args:
        - --model
        - {MODEL}
"""


def only(name: str, text: str) -> ManifestLaunch:
    """The one launch in a text."""
    (launch,) = launches_in(name, text)
    return launch


def appended(name: str, text: str) -> str:
    """The text with the config behind all arguments of its one launch; it is read again as just that."""
    launch = only(name, text)
    edited = spliced(text, edits_for(text, launch.words, Change((), (FLAG, TRUE), len(launch.words))))
    assert only(name, edited).args == (*launch.args, FLAG, TRUE)
    return edited


def require_places(text: str, launches: Sequence[ManifestLaunch]) -> None:
    """Every word that can be edited is written where it says, on the line that it says."""
    for word in (word for launch in launches for word in launch.words if word.owner is not None):
        written = text[word.start : word.stop]
        if word.owner is not None and word.owner.form is Form.SHELL:
            assert shlex.split(written.replace("$$", "$")) == [word.text]
        else:
            assert word.text in written.replace("$$", "$").replace("''", "'").replace('\\"', '"')
        assert word.line == text.count("\n", 0, word.start) + 1


def compose(service: str) -> str:
    """A Compose file with one service."""
    return "services:\n  vllm:\n" + textwrap.indent(textwrap.dedent(service), "    ")


@pytest.mark.parametrize(
    ("service", "args"),
    [
        (f"image: {IMAGE}\ncommand: [--model, m, --port, '1']", ("--model", "m", "--port", "1")),
        (f"image: {IMAGE}\ncommand:\n- --model\n- m", ("--model", "m")),
        (f"image: {IMAGE}\ncommand: --model m --name 'a b'", ("--model", "m", "--name", "a b")),
        (f"image: {IMAGE}\ncommand: >\n  --model m\n  --port 1\n", ("--model", "m", "--port", "1")),
        (f"image: {IMAGE}\ncommand: |\n  --model m\n  --port 1\n", ("--model", "m", "--port", "1")),
        (f"image: {IMAGE}\ncommand: \"--model m --name 'a b'\"", ("--model", "m", "--name", "a b")),
        (f"image: {IMAGE}", ()),
        (f"image: {IMAGE}\nentrypoint: [vllm, serve]\ncommand: [m]", ("m",)),
        ("image: mine:1\nentrypoint: vllm serve\ncommand: m --port 1", ("m", "--port", "1")),
        ("image: mine:1\ncommand: [vllm, serve, m, --name, 'it''s $$HOME']", ("m", "--name", "it's $HOME")),
        ("image: mine:1\nentrypoint: []\ncommand: python3 -m vllm.entrypoints.openai.api_server --model m", None),
        ("image: mine:1\ncommand: [bash, -c, 'vllm serve m --port 1']", ("m", "--port", "1")),
        ("image: mine:1\ncommand: bash -c 'vllm serve m --port 1'", ("m", "--port", "1")),
        (
            "image: mine:1\ncommand:\n- bash\n- -c\n- |\n  echo $$A\n  exec vllm serve m --name x\n",
            ("m", "--name", "x"),
        ),
    ],
)
def test_entrypoint_and_command_are_joined_as_docker_joins_them(service: str, args: tuple[str, ...] | None) -> None:
    """In lists and in texts; an image that serves needs neither."""
    text = compose(service)
    launch = only("compose.yml", text)
    assert launch.args == (("--model", "m") if args is None else args)
    assert (launch.shape, launch.name, launch.hidden, launch.image_line) == ("compose", "vllm", "", 3)
    require_places(text, [launch])


@pytest.mark.parametrize(
    "service",
    [
        f"image: {IMAGE}\nentrypoint: [sleep]\ncommand: [--model, m]",
        "image: mine:1\ncommand: [--model, m]",
        "image: mine:1\ncommand: [echo, vllm serve m]",
        "image: mine:1\nhealthcheck: {test: [CMD, pgrep, vllm]}",
    ],
)
def test_services_that_start_something_else(service: str) -> None:
    """An entrypoint in the file takes the place of the image's."""
    assert launches_in("compose.yml", compose(service)) == []


@pytest.mark.parametrize(
    "command",
    ["--model $MODEL $ARGS", "$ARGS", "--model m ${ARGS:-}", "--trust-remote-code --model m --port 1 ${A:-b c}"],
)
def test_a_variable_of_composes_own_may_be_any_arguments(command: str) -> None:
    """It comes from where Compose is started, and is filled in before the text is split."""
    launch = only("compose.yml", compose(f"image: {IMAGE}\ncommand: {command}"))
    assert launch.hidden.startswith("$")


def test_a_variable_behind_an_option_is_its_value() -> None:
    """It is not known, and hides nothing."""
    text = compose(f"image: {IMAGE}\ncommand: --model ${{MODEL:-a b}} --port '1'")
    launch = only("compose.yml", text)
    assert launch.args == ("--model", "${MODEL:-a b}", "--port", "1")
    assert ([word.unknown for word in launch.words], launch.hidden) == ([False, True, False, False], "")


def test_a_command_that_compose_refuses_hides_all() -> None:
    """A quote that is not closed."""
    assert "cannot split" in only("compose.yml", compose(f"image: {IMAGE}\ncommand: --model 'm")).hidden


def test_arguments_that_a_script_takes_are_hidden() -> None:
    """Compose's `$$@` is the shell's `$@`: the command behind it is more arguments."""
    text = compose(
        f"""\
        image: {IMAGE}
        entrypoint: [bash, -c, 'exec vllm serve "$$@"', --]
        command: [--model, m]
        """
    )
    assert "@" in only("compose.yml", text).hidden


def test_variables_of_a_service() -> None:
    """As a mapping and as a list; what comes from outside is not known, and neither is what a file may set."""
    mapping = compose("image: x\ncommand: [vllm, serve, m]\nenvironment:\n  A: 1\n  B: $OUT\n  C:\n  D: x$$y\n")
    assert only("c.yml", mapping).env == {"A": "1", "B": None, "C": None, "D": "x$y"}
    listed = compose("image: x\ncommand: [vllm, serve, m]\nenvironment: [A=1, B=$OUT, C, HOME=/h]\nenv_file: .env\n")
    assert only("c.yml", listed).env == {
        "A": "1",
        "B": None,
        "C": None,
        "HOME": "/h",
        "VLLM_CACHE_ROOT": None,
        "XDG_CACHE_HOME": None,
    }


def test_services_that_extend_others() -> None:
    """Of this file: what the nearest one says counts. Of another file: what that says is not seen."""
    text = f"""services:
  base:
    image: {IMAGE}
    entrypoint: [vllm, serve]
    environment: {{A: base, B: base}}
  one:
    extends: {{service: base}}
    command: [m]
    environment: {{A: one}}
  two:
    extends: {{file: other.yml, service: base}}
    entrypoint: [vllm, serve]
    command: [n]
  three:
    extends: three
    command: [vllm, serve, o]
"""
    launches = {launch.name: launch for launch in launches_in("compose.yml", text)}
    assert [launches[name].args for name in ("base", "one", "two", "three")] == [(), ("m",), ("n",), ("o",)]
    assert (launches["one"].image, launches["one"].env) == (IMAGE, {"A": "one", "B": "base"})
    assert launches["two"].hidden == "the service of other.yml"


def test_anchors_in_compose_files() -> None:
    """A template under `x-…` is a service only where one uses it."""
    text = f"x-v: &v\n  image: {IMAGE}\n  command: [--model, m]\nservices:\n  a:\n    <<: *v\n  b:\n    <<: *v\n"
    assert [(one.name, one.args) for one in launches_in("c.yml", text)] == [
        ("a", ("--model", "m")),
        ("b", ("--model", "m")),
    ]


@pytest.mark.parametrize(
    "service",
    [
        f"image: {IMAGE}\ncommand: [--model, m]\n",
        f"image: {IMAGE}\ncommand:\n- --model\n- m\n",
        f"image: {IMAGE}\ncommand: >-\n  --model m\n  --port 1\n",
        f"image: {IMAGE}\ncommand: |\n  --model m\n  --port 1\nports: []\n",
    ],
)
def test_commands_of_services_are_edited_where_they_stand(service: str) -> None:
    """In lists and in blocks of text."""
    assert FLAG in appended("compose.yml", compose(service))


FENCE = "# Deploy\n\n1. Apply:\n\n   ```yaml\n{}   ```\n\n   Done.\n"


def test_yaml_in_a_fenced_block() -> None:
    """It is read as the file that it is, and edited where it stands, indentation and all."""
    text = FENCE.format(textwrap.indent(POD, "   "))
    launch = only("guide.md", text)
    assert (launch.args, launch.shape, launch.image, launch.image_line) == (("--model", MODEL), "Deployment", IMAGE, 14)
    require_places(text, [launch])
    edited = appended("guide.md", text)
    assert edited == FENCE.format(textwrap.indent(f"{POD}        - {FLAG}\n        - '{TRUE}'\n", "   "))


def test_a_script_in_yaml_in_a_fenced_block() -> None:
    """Positions lead from the script through the YAML to the file."""
    pod = (
        POD.partition("        args:")[0]
        + "        command: [sh, -c]\n        args:\n        - |\n          vllm serve m\n"
    )
    text = FENCE.format(textwrap.indent(pod, "   "))
    require_places(text, launches_in("guide.md", text))
    assert f"             vllm serve m {FLAG} '{TRUE}'\n" in appended("guide.md", text)


@pytest.mark.parametrize("language", ["dockerfile", "Dockerfile", "docker"])
def test_a_dockerfile_in_a_fenced_block(language: str) -> None:
    """Its exec forms are edited where they stand."""
    block = f'FROM {IMAGE}\nENV A=1\nCMD ["m", "--port", "1"]\n'
    text = f"* Build\n\n    ```{language}\n{textwrap.indent(block, '    ')}    ```\n"
    launch = only("guide.md", text)
    assert (launch.args, launch.line, launch.image_line, launch.env) == (("m", "--port", "1"), 6, 4, {"A": "1"})
    require_places(text, [launch])
    assert '"1", "--compilation-config"' in appended("guide.md", text)


@pytest.mark.parametrize(
    "opening",
    [
        "```yml",
        "~~~YAML",
        "```{code-block} yaml",
        "``` {.yaml .numberLines}",
        "```yaml title='x'",
        "```kubernetes",
        "```",
    ],
)
@pytest.mark.parametrize("name", ["guide.md", "guide.mdx"])
def test_fences_of_yaml(opening: str, name: str) -> None:
    """The language in every way that documents write it; a manifest says itself what it is."""
    fence = opening[:3]
    assert only(name, f"{opening}\n# deploy\n{POD}{fence}\n").args == ("--model", MODEL)


def test_a_script_that_writes_a_manifest_is_shell_text() -> None:
    """What a here-document holds does not make the block YAML."""
    block = f"cat <<EOF > pod.yaml\n{POD}EOF\nvllm serve m\n"
    assert only("guide.md", f"```\n{block}```\n").args == ("m",)


@pytest.mark.parametrize("block", ["a: [\n", "vllm serve m\n", "a: vllm serve m\n  b: 1\n"])
def test_a_block_that_is_not_yaml_is_passed_by(block: str) -> None:
    """Documents leave parts out, and sentences stand in any block."""
    assert launches_in("guide.md", f"```yaml\n{block}```\n") == []


@pytest.mark.parametrize("style", ["|", "|-", "|+", "|2-"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_patches_in_a_kustomization(style: str, end: str) -> None:
    """A strategic merge patch in a text is read and edited where it stands."""
    indent = "      " if style == "|2-" else "    "
    text = (
        f"kind: Kustomization\npatches:\n- target: {{}}\n  patch: {style}\n{textwrap.indent(POD, indent)}images: []\n"
    )
    text = text.replace(style, "|4-", 1) if style == "|2-" else text
    text = text.replace("|4-", "|4-").replace("\n", end)
    launch = only("kustomization.yaml", text)
    assert (launch.args, launch.shape) == (("--model", MODEL), "Deployment")
    require_places(text, [launch])
    appended("kustomization.yaml", text)


def test_yaml_in_yaml_in_a_fenced_block() -> None:
    """Three texts deep, each with an indentation of its own."""
    inner = textwrap.indent(POD, "    ")
    outer = f"apiVersion: v1\nkind: ConfigMap\ndata:\n  pod.yaml: |\n{inner}"
    text = FENCE.format(textwrap.indent(outer, "   "))
    launch = only("guide.md", text)
    require_places(text, [launch])
    assert launch.args == ("--model", MODEL)
    assert appended("guide.md", text).count("\n") == text.count("\n") + 2


VALUES = f"""servingEngineSpec:
  modelSpec:
  - name: m
    repository: vllm/vllm-openai
    tag: v0.19.1
    modelURL: {MODEL}
    vllmConfig:
      extraArgs: [--port, '1']
"""
LLM_D = """modelArtifacts: {uri: "hf://a/b"}
decode:
  containers: [{name: v, modelCommand: vllmServe, image: "x:1", args: ["--port", "1"]}]
"""


@pytest.mark.parametrize(("values", "model"), [(VALUES, MODEL), (LLM_D, "a/b")])
@pytest.mark.parametrize(
    ("head", "style"),
    [
        ("apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec:\n  values:", ""),
        ("apiVersion: argoproj.io/v1alpha1\nkind: Application\nspec:\n  source:\n   helm:\n    valuesObject:", ""),
        ("apiVersion: argoproj.io/v1alpha1\nkind: Application\nspec:\n  source:\n   helm:\n    values:", " |"),
        ("apiVersion: argoproj.io/v1alpha1\nkind: Application\nspec:\n  sources:\n  - helm:\n     values:", " |-"),
        ("apiVersion: v1\nkind: ConfigMap\ndata:\n  values.yaml:", " |"),
    ],
)
def test_values_of_charts_inside_other_objects(values: str, model: str, head: str, style: str) -> None:
    """As a mapping and as a text, they are what they are in a file of their own."""
    text = f"{head}{style}\n{textwrap.indent(values, '        ')}"
    launch = only("release.yaml", text)
    assert launch.args == (model, "--port", "1")
    require_places(text, [launch])
    appended("release.yaml", text)


def test_containers_that_prepare_a_pod() -> None:
    """One that stays is a server; others, and commands of probes and hooks, are none."""
    pod = """apiVersion: v1
kind: Pod
spec:
  initContainers:
  - {name: load, command: [vllm, serve, no]}
  - {name: side, restartPolicy: Always, command: [vllm, serve, yes]}
  containers:
  - name: main
    command: [sleep]
    lifecycle: {preStop: {exec: {command: [vllm, serve, no]}}}
    livenessProbe: {exec: {command: [bash, -c, vllm serve no]}}
"""
    launch = only("pod.yaml", pod)
    assert (launch.name, launch.args) == ("side", ("yes",))


def test_templates_of_argo_workflows() -> None:
    """A container, a set of them, and a script."""
    text = f"""apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {{name: w}}
spec:
  templates:
  - name: a
    container: {{image: "{IMAGE}", args: [--model, a]}}
  - name: b
    containerSet:
      containers:
      - {{name: x, image: other, command: [vllm, serve, b]}}
  - name: c
    script:
      image: other:1
      command: [bash]
      source: |
        vllm serve c --port 1
"""
    launches = launches_in("w.yaml", text)
    assert [launch.args for launch in launches] == [("--model", "a"), ("b",), ("c", "--port", "1")]
    assert [launch.image for launch in launches] == [IMAGE, "other", "other:1"]
    require_places(text, launches)


@pytest.mark.parametrize(
    "text",
    [
        "run:\n  command: [vllm, serve, m]\n",
        "command: [vllm, serve, m]\n",
        "jobs:\n- args: [python3, -m, vllm.entrypoints.openai.api_server, m]\n",
        "task: {cmd: [vllm, serve, m]}\n",
        "server: {entrypoint: [vllm, serve, m]}\n",
        "a: {b: {command: [bash, -c, vllm serve m]}}\n",
        f"worker: {{image: '{IMAGE}', args: [m]}}\n",
    ],
)
def test_lists_that_start_vllm_in_any_document(text: str) -> None:
    """Whatever the document is for: the list itself says what it starts."""
    assert only("x.yaml", text).args == ("m",)


def test_an_image_in_parts() -> None:
    """Charts have registry, repository, tag and digest one by one."""
    text = """controllers:
  vllm:
    containers:
      app:
        image: {registry: ghcr.io, repository: ai/vllm-openai, tag: v0.19.1}
        args: [--model, m]
"""
    launch = only("values.yaml", text)
    assert (launch.args, launch.image, launch.image_line) == (("--model", "m"), "ghcr.io/ai/vllm-openai:v0.19.1", 5)


def test_arguments_that_a_chart_may_add_hide() -> None:
    """Where they go is said in the chart alone."""
    command = "command: [vllm, serve, m]\n"
    assert only("values.yaml", f"{command}extraArgs: [-cc.mode=3]\n").hidden == "extraArgs"
    assert only("values.yaml", f"{command}extraArgs: []\n").hidden == ""


def test_what_the_kubelet_expands() -> None:
    """`$$` is a dollar, and a variable that the container sets is its value; of others nothing is known."""
    text = """apiVersion: v1
kind: Pod
spec:
  containers:
  - command: [vllm, serve, $(M), --name, it's $$HOME, --x, $$(M), --port, $(P)]
    env: [{name: A, value: a}, {name: M, value: $(A)/b}, {name: P, valueFrom: {}}]
"""
    launch = only("pod.yaml", text)
    assert launch.args == ("a/b", "--name", "it's $HOME", "--x", "$(M)", "--port", "$(P)")
    assert [word.unknown for word in launch.words] == [False] * 6 + [True]
    assert not launch.hidden
    assert only("pod.yaml", text.replace("--port, $(P)", "--port=1, $(P)")).hidden == "$(P)"


def test_a_configuration_file_of_the_document_set() -> None:
    """The text of a ConfigMap is there under the path where the container mounts it."""
    text = """apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {serve.yaml: "model: m", other.yaml: "x"}
---
apiVersion: v1
kind: Pod
spec:
  containers:
  - command: [vllm, serve, --config, /etc/vllm/serve.yaml]
    volumeMounts:
    - {name: all, mountPath: /etc/vllm}
    - {name: part, mountPath: /p/}
    - {name: all, mountPath: /one.yaml, subPath: serve.yaml}
  volumes:
  - {name: all, configMap: {name: c}}
  - {name: part, configMap: {name: c, items: [{key: other.yaml, path: a/b}]}}
"""
    assert only("pod.yaml", text).files == {
        "/etc/vllm/serve.yaml": "model: m",
        "/etc/vllm/other.yaml": "x",
        "/p/a/b": "x",
        "/one.yaml": "model: m",
    }


def test_forms_of_the_places() -> None:
    """A list is edited as a list, and a command line as a command line."""
    forms = {
        "command: [--model, m]": Form.FLOW,
        "command:\n- --model\n- m": Form.BLOCK,
        "command: --model m": Form.SHELL,
    }
    for command, form in forms.items():
        owner = only("c.yml", compose(f"image: {IMAGE}\n{command}")).words[0].owner
        assert owner is not None
        assert owner.form is form


def test_the_configuration_file_of_the_document_set_is_read(tmp_path: Path) -> None:
    """Its options are the launch's, and nothing is hidden; without the ConfigMap, they are."""
    pod = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command: [vllm, serve, --config, /c/s.yaml]\n"
    pod += "    volumeMounts: [{name: v, mountPath: /c}]\n  volumes: [{name: v, configMap: {name: c}}]\n"
    config_map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {s.yaml: '{model: m, port: 1}'}\n"
    path = str(tmp_path / "pod.yaml")
    arguments, hidden = read_arguments(path, launches_in("pod.yaml", pod + config_map)[0])
    assert (arguments.model, hidden) == ("m", "")
    arguments, hidden = read_arguments(path, only("pod.yaml", pod))
    assert (arguments.model, hidden) == (None, "--config /c/s.yaml")


def test_a_command_in_plain_yaml_takes_no_colon_with_a_space() -> None:
    """YAML would read it as a key; JSON without spaces fits."""
    text = compose(f"image: {IMAGE}\ncommand: --model m\n")
    words = only("compose.yml", text).words
    with pytest.raises(NotEditable):
        edits_for(text, words, Change((), (FLAG, TRUE), len(words)))
    edited = spliced(text, edits_for(text, words, Change((), (FLAG, '{"a":true}'), len(words))))
    assert only("compose.yml", edited).args == ("--model", "m", FLAG, '{"a":true}')


LONG = {
    "compose words": ("c.yml", f"services:\n  a:\n    image: {IMAGE}\n    command: >\n" + "      --x y\n" * 10_000),
    "open braces": ("c.yml", f"services:\n  a:\n    image: {IMAGE}\n    command: " + "${" * 40_000),
    "dollars": ("c.yml", f"services:\n  a:\n    image: {IMAGE}\n    command: " + "$" * 80_000),
    "open brackets": ("p.yaml", "a: {command: [vllm, serve, '" + "$(" * 40_000 + "']}"),
    "fences": ("a.md", "```bash\nvllm serve m\n```\n" * 3_000),
    "ticks": ("a.md", "`" * 100_000),
    "blanks": ("a.md", "```yaml\n" + " " * 100_000),
    "keys": ("v.yaml", "command: [vllm, serve, m]\n" + "".join(f"k{i}: vllm\n" for i in range(20_000))),
    "blocks": ("a.yaml", "".join(f"k{i}: |\n  vllm serve m\n" for i in range(1_000))),
}


@pytest.mark.parametrize("case", LONG)
def test_long_documents_end(case: str) -> None:
    """Each character is read a few times at most. Reading them again for each line would not end."""
    with limited(120):
        unread_launches(*LONG[case], launches_in(*LONG[case]))


GROWING = {
    "merge keys": "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{k{i}: 1, <<: *a{i - 1}}}\n" for i in range(1, 500)),
    "shared lists": "a: &a [vllm, serve, m" + ", --x" * 500 + "]\nb: [" + "{command: *a}, " * 300 + "]\n",
    "other lists": "a: &a [a" + ", x" * 500 + "]\nb: [" + "{command: *a}, " * 300 + "]\n",
    "arguments of charts": "a: &a [m"
    + ", --x" * 500
    + "]\nservingEngineSpec:\n  modelSpec: ["
    + "{modelURL: m, vllmConfig: {extraArgs: *a}}, " * 300
    + "]\n",
    "services": "x-a: &a [vllm, serve, m"
    + ", --x" * 500
    + "]\nservices: {"
    + ", ".join(f"s{i}: {{command: *a}}" for i in range(300))
    + "}\n",
}


@pytest.mark.parametrize("case", GROWING)
def test_documents_that_grow_by_references_are_refused(case: str) -> None:
    """A short file cannot ask for any amount of memory."""
    with pytest.raises(ValueError, match="more than"):
        launches_in("x.yaml", GROWING[case])


def test_variables_that_grow_end() -> None:
    """A value that takes in the one before it ten times is not known beyond a limit."""
    env = "".join(f"    - {{name: V{i}, value: '{f'$(V{i - 1})' * 10}'}}\n" for i in range(1, 31))
    text = "a:\n  b:\n    command: [vllm, serve, $(V30)]\n    env:\n    - {name: V0, value: xxxxxxxxxx}\n" + env
    assert only("x.yaml", text).words[0].unknown
