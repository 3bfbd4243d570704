"""Nothing is silently not read: a place that starts vLLM is a launch or a note, and nothing else is one."""

import json
from pathlib import Path

import pytest
from fake_environment import tuner

from tuner.manifests.files import files_below, is_manifest
from tuner.manifests.find import launches_in
from tuner.manifests.mentions.unread import unread_launches

IMAGE = "vllm/vllm-openai:v0.19.1"


def unread(name: str, text: str) -> list[int]:
    """The lines of the places in a text of which no launch came."""
    return [place.line for place in unread_launches(name, text, [])]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("CMD=(\n  vllm serve a/b\n  --seed 1\n)\n", [2]),
        ("srun --gpus=8 vllm serve a/b\n", [1]),
        ("apptainer exec --nv vllm.sif vllm serve a/b\n", [1]),
        ("ray symmetric-run --min-nodes 2 -- vllm serve a/b\n", [1]),
        ("docker exec -d node vllm serve a/b\n", [1]),
        ('"${OFFLINE[@]}" vllm serve a/b\n', [1]),
        ("tmux new-session -d -s v 'vllm serve a/b'\n", [1]),
        ('CMD="python3 -m vllm.entrypoints.openai.api_server --model $M"\n', [1]),
        ("python3 -m dynamo.vllm --model a/b\n", [1]),
        ("ssh host <<EOF\ncd x\nvllm serve a/b\nEOF\n", [3]),
        ("cat > run.sh <<'EOF'\nvllm serve a/b\nEOF\n", [2]),
        ("cat <<EOF | kubectl apply -f -\nkind: Pod\n    image: vllm/vllm-openai:v1\nEOF\n", [3]),
        ("echo 'vllm serve a/b' > start.sh\n", [1]),
        (f"sudo docker run --gpus all {IMAGE} --model a/b\n", [1]),
        ('bash -c "source x\nvllm serve a/b"\n', [2]),
        ('start_server "vllm serve $MODEL"\n', [1]),
        ("if ! pgrep -f 'vllm serve'; then vllm serve a/b; fi\n", [1]),
        ("$VLLM_BIN serve a/b\n", [1]),
        ('ARGS=(serve a/b)\nvllm "${ARGS[@]}"\n', [2]),
        ("ARGS+=(--compilation-config '{}')\nstart\n", [1]),
        ("echo 'vllm serve a/b' | bash\n", [1]),
        ("echo vllm serve a/b | ssh host\n", [1]),
        ("printf '%s' 'vllm serve a/b' | sudo -u bob sh -s\n", [1]),
        ("bash <<< 'vllm serve a/b'\n", [1]),
    ],
)
def test_shell_text_that_starts_vllm(text: str, lines: list[int]) -> None:
    """Behind wrappers, in arrays, strings and here-documents."""
    assert unread("run.sh", text) == lines


@pytest.mark.parametrize(
    "text",
    [
        "# vllm serve a/b\n",
        'echo "Starting vllm serve a/b now"\n',
        'pkill -f "vllm serve"\npkill -f vllm.entrypoints.openai.api_server\n',
        'log_info "vllm serve is up"\n',
        'if ! curl localhost; then die "vllm serve a/b failed"; fi\n',
        "pip install vllm\nuv pip install vllm --torch-backend=auto\n",
        f"docker pull {IMAGE}\ndocker build --build-arg BASE={IMAGE} .\n",
        "cat <<EOF\nusage: vllm serve MODEL\nEOF\n",
        "vllm serve --help\nvllm --version\nwhich vllm\n",
        "vllm bench serve --model a/b\nvllm chat --url http://x\n",
        'PATTERN="vllm serve a/b"\n',
        "echo 'vllm serve a/b' | tee notes\n",
        "grep x <<< 'vllm serve a/b'\n",
        "ps aux | grep 'vllm serve a/b' | awk '{print $2}' | xargs kill\n",
        "client -> vllm serve endpoint\n",
        "git clone https://example.com/vllm-project/vllm\n",
        f'docker run --rm --entrypoint python3 {IMAGE} -c "import vllm"\n',
    ],
)
def test_shell_text_that_starts_nothing(text: str) -> None:
    """Comments, messages, patterns, installations, pulls, and other commands of vLLM."""
    assert unread("run.sh", text) == []


SERVICE = f"services:\n  v:\n    image: {IMAGE}\n"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (SERVICE + "    command: [--model, a/b]\n", [3]),
        (SERVICE + "    entrypoint: [bash, /start.sh]\n", [3]),
        ("spec:\n  mainContainer:\n    command: [python3, -m, dynamo.vllm]\n    args: [--model, a/b]\n", [3]),
        ("kind: Model\napiVersion: kubeai.org/v1\nspec:\n  engine: VLLM\n", [4]),
        ("backend:\n  vllm_config:\n    decode: {max-model-len: 1, compilation-config: {}}\n", [3]),
        ("applications:\n- args:\n    llm_configs:\n    - engine_kwargs: {max_model_len: 1}\n", [4]),
        ("model: a/b\ncompilation-config: '{}'\n", [2]),
        ("apiVersion: kaito.sh/v1beta1\nkind: Workspace\ninference: {preset: {name: phi}}\n", [1]),
        ("image: {repository: vllm/vllm-openai, tag: v1}\n", [1]),
        ("run: |\n  cd x\n  srun vllm serve a/b\n", [3]),
        ("args: [--port, '1']\nextra: ['--compilation-config', '{}']\n", [2]),
        (f"patch: |\n  kind: Pod\n  spec:\n    containers:\n    - image: {IMAGE}\n", [5]),
    ],
)
def test_yaml_that_starts_vllm(text: str, lines: list[int]) -> None:
    """Images that serve, argument lists, scripts, and the keys of other tools."""
    assert unread("x.yaml", text) == lines


@pytest.mark.parametrize(
    "text",
    [
        f"# image: {IMAGE}\na: 1\n",
        SERVICE + "    entrypoint: [sleep, infinity]\n",
        f"containers:\n- image: {IMAGE}\n  command: [python3, -c, 'import vllm']\n",
        f"kind: Kustomization\nimages:\n- name: vllm/vllm-openai\n  newTag: {IMAGE}\n",
        f"jobs:\n  test:\n    container: {{image: '{IMAGE}'}}\n    steps: [{{run: pytest}}]\n",
        f"test:\n  image: {IMAGE}\n  script: [pytest tests]\n",
        "properties:\n  compilation_config: {type: object, description: passed to vllm serve}\n",
        "description: Runs vllm serve a/b for you\nname: vllm serve a/b\n",
        "engine: sglang\nbackend: vllm\n",
        "pool:\n  engine_kwargs: {echo: true}\n",
        "dependencies: [vllm, vllm-openai]\n",
        "env: [{name: VLLM_LOGGING_LEVEL, value: debug}]\n",
    ],
)
def test_yaml_that_starts_nothing(text: str) -> None:
    """Comments, containers that run something else, pipelines, schemas, descriptions."""
    assert unread("x.yaml", text) == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("from vllm import LLM\nllm = LLM('a/b')\n", [2]),
        ("import vllm\nx = vllm.LLM(model='a/b')\n", [2]),
        ("from vllm import AsyncEngineArgs\nargs = AsyncEngineArgs(model='a/b')\n", [2]),
        ("from vllm import AsyncLLMEngine as E\nfrom vllm import EngineArgs\nEngineArgs(model='a/b')\n", [3]),
        ("import subprocess\nsubprocess.Popen(['vllm', 'serve', m, '--seed', '1'])\n", [2]),
        ("cmd = [sys.executable, '-m', 'vllm.entrypoints.openai.api_server', '--model', m]\n", [1]),
        ("cmd = f'vllm serve {model} --port {port}'\n", [1]),
        ("os.system('CUDA_VISIBLE_DEVICES=0 vllm serve a/b')\n", [1]),
        ("def make_command(m):\n    if m:\n        return ' '.join(['exec', f'vllm serve {m}'])\n", [3]),
        ('SCRIPT = """#!/bin/bash\nvllm serve a/b\n"""\n', [1]),
        ("subprocess.run(shlex.split(f'vllm serve {m}'))\n", [1]),
        ("run(command='vllm serve a/b')\n", [1]),
        ("from ray.serve.llm import LLMConfig\nLLMConfig(engine_kwargs={'max_model_len': 1})\n", [2]),
        ("from vllm import LLM\nllm = LLM(\nthis is not Python\n", [2]),
    ],
)
def test_python_that_starts_vllm(text: str, lines: list[int]) -> None:
    """Calls of vLLM's classes, and command lines for other processes."""
    assert unread("x.py", text) == lines


@pytest.mark.parametrize(
    "text",
    [
        "import vllm\nprint(vllm.__version__)\n",
        "from vllm import SamplingParams\n",
        "from crewai import LLM\nllm = LLM(model='vllm/x')\n",
        '"""Start it with `vllm serve a/b`."""\n\n\ndef f():\n    """vllm serve a/b"""\n',
        "logger.info('vllm serve a/b is ready')\nraise ValueError('vllm serve a/b')\n",
        "parser.add_argument('--x', help='vllm serve a/b')\n",
        "hint = 'vllm serve a/b'\nDOCS = {'vllm': 'vllm serve a/b'}\nassert out == 'vllm serve a/b'\n",
        "pd.read_excel(f, engine_kwargs={})  # vllm\n",
        "# LLM(model='a/b')\nfrom vllm import LLM\n",
        "subprocess.run(['pip', 'install', 'vllm'])\n",
        "client = OpenAI(base_url='http://vllm:8000/v1')\n",
    ],
)
def test_python_that_starts_nothing(text: str) -> None:
    """Imports, classes of others, docstrings, messages and help."""
    assert unread("x.py", text) == []


NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["!vllm serve a/b\n"]},
        {"cell_type": "code", "source": ["%pip install vllm\n", "!vllm serve a/b\n"]},
        {"cell_type": "code", "source": ["from vllm import LLM\n", "llm = LLM('a/b')\n"]},
    ]
}


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        (
            "x.service",
            "# vllm serve a/b\n[Unit]\nDescription=vllm serve a/b\n[Service]\nExecStart=/x/vllm serve a/b\n",
            [5],
        ),
        ("x.container", f"[Container]\nImage={IMAGE}\nExec=--model a/b\n", [2]),
        ("x.tf", f'resource "x" "y" {{\n  image = "{IMAGE}"\n  # image = "{IMAGE}"\n}}\n', [2]),
        ("x.tf", 'command = ["vllm", "serve", "a/b"]\ndescription = "vllm serve a/b"\n', [1]),
        ("x.tf", "user_data = <<-EOT\n  #!/bin/bash\n  vllm serve a/b\nEOT\n", [3]),
        ("Makefile", "serve:\n\t@vllm serve a/b\n\nhelp:\n\t@echo vllm serve a/b\n", [2]),
        ("justfile", "serve model:\n    vllm serve {{model}}\n", [2]),
        ("x.rst", "Run ``vllm serve a/b``.\n\n.. code-block:: bash\n\n   vllm serve a/b\n\nvllm serve a/b\n", [5]),
        ("x.md", "Run `vllm serve a/b`.\n\n```bash\nsrun vllm serve a/b\n```\n\nvllm serve a/b\n", [4]),
        ("x.md", "```python\nfrom vllm import LLM\nLLM('a/b')\n```\n", [3]),
        ("x.md", f"```yaml\nservices:\n  v: {{image: '{IMAGE}'}}\n```\n", [3]),
        ("x.md", f"> ```yaml\n> services:\n>   v: {{image: '{IMAGE}'}}\n> ```\n", [3]),
        ("x.md", "```powershell\nvllm serve a/b\n```\n\n```fish\nvllm serve a/b\n```\n", [2, 6]),
        ("x.md", '```json\n{"args": ["vllm", "serve", "a/b"]}\n```\n', [2]),
        ("x.adoc", f"[source,yaml]\n----\nservices:\n  v:\n    image: {IMAGE}\n----\n", [5]),
        ("p.json", '[{"op": "add", "path": "/spec/args/-", "value": "-cc.mode=3"}]\n', [1]),
        ("x.yaml", "helm:\n  parameters:\n  - {name: 'vllmConfig.extraArgs[0]', value: -cc.mode=3}\n", [3]),
        ("Dockerfile", f'FROM {IMAGE}\nCOPY start.sh /\nENTRYPOINT ["/start.sh"]\n', [3]),
        ("Dockerfile", 'FROM x\nCMD ["sh", "-c", "x"]\nENTRYPOINT ["uv", "run", "vllm", "serve", "a/b"]\n', [3]),
        ("Dockerfile", f"FROM {IMAGE}\nRUN pip install x\n", [1]),
        ("Dockerfile", f'FROM {IMAGE} AS base\nFROM base\nCMD ["sleep"]\n', []),
        ("Dockerfile", f"FROM {IMAGE}\nENTRYPOINT []\n", []),
        ("x.sbatch", "#SBATCH -N 1\nsrun vllm serve a/b\n", [2]),
        ("x.ipynb", json.dumps(NOTEBOOK, indent=1), [12, 19]),
        ("x.ipynb", "[", []),
        ("pyproject.toml", '[project]\ndependencies = ["vllm"]\n', []),
        ("pixi.toml", '[tasks]\nserve = "vllm serve a/b"\n', [2]),
        ("x.service.j2", "ExecStart=vllm serve {{ model }}\n", [1]),
    ],
)
def test_other_files(name: str, text: str, lines: list[int]) -> None:
    """Each kind of file is looked at in its own way; prose and comments count in none."""
    assert unread(name, text) == lines


def test_a_place_that_a_launch_came_of_is_covered() -> None:
    """A launch that is read gives no note, and one beside it that is not read does."""
    text = "vllm serve a/b \\\n  --seed 1\nsrun --weird-option=x sh -c 'vllm serve c/d'\n"
    launches = [launch for launch in launches_in("x.sh", text) if launch.line == 1]
    assert [place.line for place in unread_launches("x.sh", text, launches)] == [3]
    pod = (
        f"apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: v\n    image: {IMAGE}\n    args: [--model, a/b]\n"
    )
    assert unread_launches("x.yaml", pod, launches_in("x.yaml", pod)) == []


@pytest.mark.parametrize(
    "text",
    [
        "{{- if .Values.x }}\nimage: vllm/vllm-openai\n{{- end }}\n",
        'containers:\n- image: "{{ .Values.image }}"\n  command: ["vllm", "serve", "{{ .Values.model }}"]\n',
    ],
)
def test_a_template_of_helm(tmp_path: Path, text: str) -> None:
    """The note says how to render it, whether it is YAML or not; --fail-on-unknown ends with 3."""
    (tmp_path / "deployment.yaml").write_text(text, encoding="utf-8")
    answer = tuner("check", "--fail-on-unknown", tmp_path, code=3)
    assert "`helm template . | tuner check -`" in answer.out
    assert "(launch-unread)" in answer.out


def test_the_note_counts(tmp_path: Path) -> None:
    """The last line counts what is not read."""
    (tmp_path / "x.py").write_text("from vllm import LLM\nLLM('a/b')\n", encoding="utf-8")
    answer = tuner("check", tmp_path, code=0)
    note, _, last = answer.out.splitlines()
    assert note.startswith(f"{tmp_path}/x.py:2: note: vLLM is started here")
    assert "a Python call of LLM(" in note
    assert last == "0 launches in 1 file: 0 match, 0 contradict, 0 could not be judged, 1 more not read"
    tuner("check", "--fail-on-unknown", tmp_path, code=3)


def test_which_files_of_a_folder_are_looked_into(tmp_path: Path) -> None:
    """All kinds of files that are known, in folders with a dot as well, and scripts by their first line."""
    names = {
        "a.yaml",
        "b.sbatch",
        "c.py",
        "d.tf",
        "Makefile",
        "justfile",
        ".github/w.yml",
        "run",
        "e.ipynb",
        "f.service",
    }
    others = {".git/a.yaml", "node_modules/a.yaml", ".venv/a.py", "__pycache__/a.py", "g.txt", "data"}
    for name in names | others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("#!/usr/bin/env bash\n" if name == "run" else "x\n", encoding="utf-8")
    assert {file.relative_to(tmp_path).as_posix() for file in files_below(tmp_path)} == names


@pytest.mark.parametrize(
    "text", ["vllm " + "(" * 50_000, "<<A vllm\n" * 20_000, "'vllm\n" * 20_001, "x=(vllm " * 20_000]
)
@pytest.mark.parametrize("name", ["x.sh", "x.py", "x.tf", "x.md", "x.rst", "Dockerfile"])
def test_hostile_text_ends(name: str, text: str) -> None:
    """Each way of looking is linear."""
    unread_launches(name, text, [])


@pytest.mark.parametrize(
    ("command", "noted"),
    [
        ("docker run -d --name v --privileged=true quay.io/a/vllm-cpu:65393 --port 8000 --model a/b", True),
        ("podman run --rm vllm-cpu-env:latest --model=a/b", True),
        ("apptainer instance run --nv /images/vllm-openai_v0.8.3.sif NAME --model a/b", True),
        ("docker run --name vllm -p 8000:8000 other/image --model a/b", False),
        ("docker run -v vllm-cache:/home/user/.cache other/image --model a/b", False),
        ("docker run --rm quay.io/a/vllm-router:1 --port 8000", False),
        ("docker run --entrypoint bash quay.io/a/vllm-cpu:1 --model a/b", False),
    ],
)
def test_an_image_called_after_vllm_with_options_of_its_server(command: str, noted: bool) -> None:
    """It seems to start vLLM, and its entrypoint is not known."""
    assert unread("x.sh", f"{command}\n") == ([1] if noted else [])


def test_a_container_of_such_an_image_in_yaml() -> None:
    """As a ServingRuntime has it, whose image has an entrypoint of its own."""
    runtime = (
        "apiVersion: serving.kserve.io/v1alpha1\nkind: ServingRuntime\nspec:\n  containers:\n"
        "  - args: [--model=/mnt/models, --port=8080]\n    image: quay.io/opendatahub/vllm:fast\n"
    )
    assert unread("x.yaml", runtime) == [6]
    assert unread("x.yaml", runtime.replace("--model=/mnt/models, ", "")) == []
    assert unread("x.yaml", runtime.replace("    image", "    command: [proxy]\n    image")) == []


def test_a_unit_in_a_here_document() -> None:
    """A script that writes a unit of systemd starts what the unit starts; a string that runs elsewhere does, too."""
    unit = "cat >/etc/systemd/system/v.service <<UNIT\n[Service]\nExecStart=/x/bin/vllm serve $MODEL --port 1\nUNIT\n"
    assert unread("x.sh", unit) == [3]
    assert unread("x.sh", f"ssh host 'bash -s' << 'REMOTE'\n{unit}REMOTE\n") == [4]
    assert len(unread("x.sh", f'az vm run-command invoke --scripts "\n{unit}" -o none\n')) == 1


def test_a_command_and_its_arguments_in_options_of_another_command() -> None:
    """As command lines of clouds have them."""
    command = 'cloud endpoint create --image "$IMAGE" --container-command vllm --args "serve $MODEL --port 8000"\n'
    assert unread("x.sh", command) == [1]
    assert unread("x.sh", command.replace("serve ", "bench ")) == []


@pytest.mark.parametrize(
    ("command", "noted"),
    [
        (f"kubectl run v --image={IMAGE} -- --model a/b", True),
        (f"kubectl run v --image={IMAGE} --command -- bash", False),
        (f"kubectl set image deploy/v v={IMAGE}", False),
        (f"hf jobs run --flavor a10g {IMAGE} --model a/b", True),
        (f"gcloud run deploy v --image={IMAGE} --args=--model=a/b", True),
        ("nix run nixpkgs#vllm -- serve a/b", True),
        ("pm2 start vllm -- serve a/b", True),
        (f"docker run --rm {IMAGE} --help", False),
        ('python3 -c "from vllm.entrypoints.cli.main import main; main()" serve a/b', True),
        ("python -c 'from vllm import LLM; LLM(model=\"a/b\")'", True),
        ("python -c 'import vllm; print(vllm.__version__)'", False),
        ('python - <<EOF\nfrom vllm import LLM\nllm = LLM(model="a/b")\nEOF', True),
    ],
)
def test_commands_that_start_vllm_in_their_own_way(command: str, noted: bool) -> None:
    """A container elsewhere, a package, and a Python program."""
    assert unread("x.sh", f"{command}\n") == ([2 if "EOF" in command else 1] if noted else [])


def test_a_file_of_supervisord_or_foreman() -> None:
    """`command=` of a program, and a line of a Procfile; both are looked into in a folder."""
    assert unread("supervisord.conf", "[program:v]\ncommand=vllm serve a/b --port 1\n") == [2]
    assert unread("Procfile", "web: vllm serve a/b --port 1\n") == [1]
    assert unread("nginx.conf", "upstream vllm { server vllm:8000; }\n") == []
    assert is_manifest("supervisord.conf")
    assert is_manifest("Procfile")


def test_patches_of_json_add_arguments_that_are_not_read() -> None:
    """Whatever else of the file is read: the patch changes what starts."""
    option = "'--compilation-config={\"fast_moe_cold_start\": true}'"
    patch = f"patches:\n- patch: |-\n    - op: add\n      path: /spec/args/-\n      value: {option}\n"
    text = f"{patch}- patch: |-\n    spec:\n      containers:\n      - command: [vllm, serve, a/b]\n"
    launches = launches_in("kustomization.yaml", text)
    assert [place.line for place in unread_launches("kustomization.yaml", text, launches)] == [5]
    as_list = patch.replace(f"value: {option}", f"value: [{option}]")
    assert unread("kustomization.yaml", as_list) == [5]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("configMapGenerator:\n- literals:\n  - run.sh=vllm serve a/b --port 1\n", 3),
        (
            f"services:\n  v:\n    build:\n      dockerfile_inline: |\n        FROM {IMAGE}\n    command: [-tp, '2']\n",
            4,
        ),
        (
            "spec:\n  helm:\n    parameters:\n    - name: v.repository\n      value: vllm/vllm-openai\n",
            5,
        ),
        ("applications:\n- import_path: ray.serve.llm:build_openai_app\n  args: {llm_configs: [a.yaml]}\n", 2),
        ("kind: DynamoGraphDeploymentRequest\nspec:\n  backend: vllm\n", 1),
        ("containers:\n- image: ghcr.io/llm-d/llm-d-cuda:v0.3.0\n  args: [--model=a/b]\n", 2),
    ],
)
def test_yaml_that_starts_vllm_by_the_word_of_another_tool(text: str, line: int) -> None:
    """Kustomize, Compose, Argo CD, Ray Serve, Dynamo and llm-d."""
    assert unread("x.yaml", text) == [line]


def test_tasks_of_ansible_and_jobs_of_nomad() -> None:
    """A container with options for the image's own command, a unit that is written, and an image in HCL."""
    container = f"- community.docker.docker_container:\n    image: {IMAGE}\n    command: --model a/b\n"
    assert unread("x.yml", container) == [2]
    assert unread("x.yml", container.replace("--model a/b", "sleep 9")) == []
    unit = "- copy:\n    content: |\n      [Service]\n      ExecStart=/usr/bin/vllm serve a/b --port 2\n"
    assert unread("x.yml", unit) == [4]
    assert unread("x.hcl", f'config {{\n  image = "{IMAGE}"\n}}\n') == [2]
