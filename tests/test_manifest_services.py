"""Services of workflows, what a chart switches off, and scripts of Windows."""

import pytest
from test_manifest_documents import IMAGE, appended, only
from test_manifest_documents import MODEL as NAME

from tuner.manifests.files import is_manifest, is_read
from tuner.manifests.find import launches_in
from tuner.manifests.launch import Argument
from tuner.manifests.mentions.unread import unread_launches

WORKFLOW = """on: push
jobs:
  test:
    runs-on: ubuntu-latest
    services:
      llm:
        {service}
    container: {{image: '{image}'}}
    steps:
    - run: curl localhost:8000
"""


def workflow(service: str) -> str:
    """A workflow of GitHub with this service."""
    return WORKFLOW.format(service=service.replace("\n", "\n        "), image=IMAGE)


@pytest.mark.parametrize(
    ("service", "args"),
    [
        (f"image: {IMAGE}\noptions: --gpus all --ipc=host", ()),
        (f"image: {IMAGE}\ncommand: --model m --port 1", ("--model", "m", "--port", "1")),
        (f"image: {IMAGE}\ncommand: >-\n  --model m\n  --port 1", ("--model", "m", "--port", "1")),
        ("image: mine:1\nentrypoint: vllm\ncommand: serve m", ("m",)),
        ("image: mine:1\noptions: --entrypoint vllm\ncommand: serve m", ("m",)),
        (f"image: {IMAGE}\noptions: --health-cmd 'curl x || exit 1'\ncommand: m", ("m",)),
    ],
)
def test_services_of_github(service: str, args: tuple[str, ...]) -> None:
    """GitHub starts the image with its entrypoint, and `docker create` takes the options and the command."""
    text = workflow(service)
    launch = only("ci.yaml", text)
    assert (launch.args, launch.name, launch.hidden) == (args, "test/llm", "")
    assert (launch.image, launch.image_line) == (service.partition("\n")[0].removeprefix("image: "), 7)
    assert unread_launches("ci.yaml", text, [launch]) == []


def test_variables_and_expressions_of_a_service() -> None:
    """Variables of the service and of its options; an expression's value is not known."""
    service = f"image: {IMAGE}\nenv: {{A: '1'}}\noptions: -e B=2\ncommand: --model ${{{{ matrix.model }}}}"
    launch = only("ci.yaml", workflow(service))
    assert launch.env == {"A": "1", "B": "2"}
    assert [(word.text, word.unknown) for word in launch.words] == [("--model", False), ("${{ matrix.model }}", True)]
    assert only("ci.yaml", workflow(service.replace("--model ", "--model m "))).hidden == "${{ matrix.model }}"


@pytest.mark.parametrize("service", [f"image: {IMAGE}\noptions: --entrypoint sleep\ncommand: '1'", "image: postgres"])
def test_services_that_start_something_else(service: str) -> None:
    """An entrypoint in the options takes the place of the image's, and a job's own container serves nothing."""
    text = workflow(service)
    assert launches_in("ci.yaml", text) == []
    assert unread_launches("ci.yaml", text, []) == []


GITLAB = f"""stages: [test]
services: ['{IMAGE}']
test:
  image: {IMAGE}
  script: [curl llm]
  services:
  - name: mine:1
    entrypoint: [vllm, serve]
    command: [m, --port, $PORT]
    variables: {{A: "1"}}
  - postgres
"""


def test_services_of_gitlab() -> None:
    """Of the file, and of a job, whose own image runs its script alone."""
    whole, job = launches_in(".gitlab-ci.yml", GITLAB)
    assert (whole.args, whole.image, whole.line) == ((), IMAGE, 2)
    assert (job.args, job.name, job.env) == (("m", "--port", "$PORT"), "test/mine:1", {"A": "1"})
    assert [word.unknown for word in job.words] == [False, False, True]
    assert only("x.yml", GITLAB.replace("[m, --port, $PORT]", "m").replace(f"['{IMAGE}']", "[]")).hidden
    appended("x.yml", GITLAB.replace(f"['{IMAGE}']", "[]").replace("[m, --port, $PORT]", f"[{NAME}]"))
    assert launches_in("x.yml", f"services: ['{IMAGE}']\ntest: {{other: x}}\n") == []


def test_services_of_other_pipelines_are_noted() -> None:
    """In a list of services the image runs as it is made; in a step it does not."""
    item = f"[{{name: a, image: '{IMAGE}'}}]"
    assert [place.line for place in unread_launches("x.yaml", f"steps: {item}\nservices: {item}\n", [])] == [2]


VALUES = f"""vllm:
  enabled: {{}}
  image: {IMAGE}
  args: [--model, m]
servingEngineSpec:
  modelSpec:
  - {{{{name: a, enabled: {{}}, repository: vllm/vllm-openai, tag: v0.19.1, modelURL: m}}}}
"""


def test_what_a_chart_switches_off_is_no_launch() -> None:
    """It is not started, so that nothing about it is missed."""
    text = VALUES.format("false", "false")
    assert launches_in("values.yaml", text) == []
    assert unread_launches("values.yaml", text, []) == []
    assert len(launches_in("values.yaml", VALUES.format("true", "true"))) == 2
    off = "sub:\n  enabled: false\n" + "".join(f"  {line}\n" for line in VALUES.format("true", "true").splitlines())
    assert launches_in("values.yaml", off) == []


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("run.bat", "vllm serve m ^\r\n  --port 1 ^\r\n  --seed 2\r\n", [1]),
        ("run.cmd", f"docker run --gpus all ^\n  -p 1:1 ^\n  {IMAGE} ^\n  --model m\n", [3]),
        ("run.ps1", f"docker run --gpus all `\n  {IMAGE} `\n  --model m\n", [2]),
        ("run.bat", "REM vllm serve m --port 1\n:: vllm serve m --port 1\n@rem vllm serve m --port 1\n", []),
        ("guide.md", f"```powershell\ndocker run `\n  {IMAGE}\n```\n", [3]),
    ],
)
def test_scripts_of_windows_are_noted_and_not_read_as_a_shells(name: str, text: str, lines: list[int]) -> None:
    """They quote, name variables and continue lines in ways of their own."""
    assert [place.line for place in unread_launches(name, text, [])] == lines
    assert name == "guide.md" or (is_manifest(name) and not is_read(name))


@pytest.mark.parametrize(
    ("redirection", "port"), [("exec {LOG}>file", "8000"), ("exec {PORT}>file", None), ("exec {PORT}>&-", None)]
)
def test_a_redirection_into_a_variable_is_no_argument(redirection: str, port: str | None) -> None:
    """The manual of bash, 3.6: `{NAME}>FILE` sets the variable to the number of the file."""
    launch = only("run.sh", f"PORT=8000\n{redirection}\nvllm serve m --port $PORT {{LOG}}>log {{IN}}<x\n")
    value = Argument(port or "$PORT", 3, unknown=port is None)
    assert launch.args == ("m", "--port", value.text)
    assert launch.words[-1].unknown == value.unknown


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("alias v='vllm serve'\nv m --port 1\n", "`vllm serve` under the name v"),
        ("alias v=/opt/venv/bin/vllm\nv serve m\n", "`vllm` under the name v"),
        (f"alias ll='ls -l' d='docker run {IMAGE}'\n", f"a container of the image {IMAGE} under the name d"),
        ("alias vllm=/opt/venv/bin/vllm logs='tail vllm.log'\n", None),
        ("alias cdv='cd /opt/vllm'\n", None),
    ],
)
def test_an_alias_of_a_command_that_starts_vllm(text: str, form: str | None) -> None:
    """Where its name is used is not followed; `vllm` itself is read wherever it stands."""
    assert [place.form for place in unread_launches("run.sh", text, [])] == ([form] if form else [])


@pytest.mark.parametrize("name", ["x.service", "override.conf"])
def test_a_command_that_a_unit_takes_back_is_no_launch_and_no_note(name: str) -> None:
    """An empty entry takes back those before it, and what stands behind it counts."""
    text = "[Service]\nExecStart=vllm serve \\\n  a --port 1\nExecStart=\n"
    assert launches_in(name, text) == []
    assert unread_launches(name, text, []) == []
    (place,) = unread_launches(name, text + "ExecStart=vllm serve a/b --port 1\n", [])
    assert place.line == 5
