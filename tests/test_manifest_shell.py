"""Launches in shell text: through wrappers, containers, scripts in words, arrays and strings."""

import pytest
from fuzz.limit import limited

from tuner.manifests.find import launches_in
from tuner.manifests.launch import Argument, ManifestLaunch
from tuner.manifests.shell.launches import shell_script

M = "org/model -cc.fast_moe_cold_start=true"
ARGS = ("org/model", "-cc.fast_moe_cold_start=true")


def launches(text: str) -> list[ManifestLaunch]:
    """The launches in a script."""
    return launches_in("run.sh", text)


def only(text: str) -> ManifestLaunch:
    """The one launch in a script."""
    (launch,) = launches(text)
    return launch


@pytest.mark.parametrize(
    "command",
    [
        f"srun --gpus=8 vllm serve {M}",
        f"apptainer exec --nv vllm.sif vllm serve {M}",
        f"nsys profile -o out vllm serve {M}",
        f"ncu --set full -o out python3 -m vllm.entrypoints.openai.api_server {M}",
        f"ray symmetric-run --address 10.0.0.1:6379 --min-nodes 2 -- vllm serve {M}",
        f"systemd-run --user --scope vllm serve {M}",
        f"docker exec -d node vllm serve {M}",
        f"docker compose run --rm service vllm serve {M}",
        f"kubectl exec -it pod -- vllm serve {M}",
        f'"${{OFFLINE[@]}}" vllm serve {M}',
        f"uvx --from vllm vllm serve {M}",
        f"uv run --with vllm vllm serve {M}",
        f"conda run -n vllm vllm serve {M}",
        f"sudo -u bob -E vllm serve {M}",
        f"timeout -k 5 1h nice -n 5 numactl -N 0 -m 0 vllm serve {M}",
        f"mpirun -np 2 --allow-run-as-root vllm serve {M}",
        f"./with_retries.sh 3 /opt/venv/bin/vllm serve {M}",
        f"torchrun --nproc-per-node 2 -m vllm.entrypoints.openai.api_server {M}",
        f"python3 -um vllm.entrypoints.cli.main serve {M}",
        f"python /src/vllm/entrypoints/openai/api_server.py {M}",
        f"while ! vllm serve {M}; do sleep 1; done",
        f"time -p vllm serve {M}",
        f"$(which vllm) serve {M}",
        f'exec "$(command -v vllm)" serve {M}',
        f"nohup `type -P vllm` serve {M} &",
    ],
)
def test_any_wrapper(command: str) -> None:
    """Whatever runs `vllm serve`, its arguments are those behind it, and they can be edited."""
    launch = only(command)
    assert launch.args == ARGS
    assert all(word.owner is not None and not word.unknown for word in launch.words)


@pytest.mark.parametrize(
    "command",
    [
        f"tmux new-session -d -s v 'vllm serve {M}'",
        f'ssh node "cd /x && vllm serve {M}"',
        f"su - user -c 'vllm serve {M}'",
        f"screen -dmS v bash -c 'vllm serve {M}'",
        f"srun bash -lc -- 'vllm serve {M}'",
        f"bash -c -i 'vllm serve {M}'",
        f'sbatch -N 2 --wrap="vllm serve {M}"',
        f"sh -ec 'vllm serve {M}'",
        f"bash -euo pipefail -c 'vllm serve {M}'",
        f"bash -o pipefail -c 'vllm serve {M}' --",
        f"bash --norc --rcfile /x -c 'vllm serve {M}'",
        f'eval "vllm serve {M}"',
        f"""bash -c "ssh node 'vllm serve {M}'" """,
        f"docker run --rm image:1 bash -c 'vllm serve {M}'",
        f"docker run --entrypoint=/bin/sh image:1 -c 'vllm serve {M}'",
        f"pm2 start 'vllm serve {M}' --name v",
        f"ash -c 'vllm serve {M}'",
    ],
)
def test_scripts_in_words(command: str) -> None:
    """A script that a command gives to a shell is read, and cannot be edited."""
    launch = only(command)
    assert launch.args == ARGS
    assert all(word.owner is None for word in launch.words)


@pytest.mark.parametrize(
    "command",
    [
        f"echo vllm serve {M}",
        f'printf "%s" "vllm serve {M}"',
        f'pkill -f "vllm serve {M}"',
        f"sudo pgrep -f vllm serve {M}",
        f"grep vllm serve {M}",
        f"pip install vllm serve {M}",
        f"cat vllm serve {M}",
        f'[ "$X" = "vllm serve {M}" ]',
        f"log vllm serve {M}",
        "Then vllm serve the model",
        "error_of vllm serve failed",
        f"# vllm serve {M}",
        f'bash -c "echo vllm serve {M}"',
        f"vllm bench serve {M}",
        "docker run --rm --entrypoint=/bin/bash vllm/vllm-openai:v0.19.1 -c 'nvidia-smi'",
        "docker run --rm --entrypoint /bin/bash vllm/vllm-openai:v0.19.1 -c 'nvidia-smi'",
    ],
)
def test_commands_that_start_nothing(command: str) -> None:
    """What prints, looks for, installs or talks of `vllm serve` is not a launch."""
    assert launches(command) == []


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("S", ["-c"]),
        ("S", ["-lc", "--"]),
        ("S", ["-c", "-i"]),
        ("S", ["-o", "pipefail", "-c"]),
        ("S", ["-ceuo", "pipefail"]),
        ("S", ["--login", "-c"]),
        (None, ["-l"]),
        (None, ["script.sh", "-c"]),
        (None, []),
    ],
)
def test_the_script_of_a_shell(script: str | None, flags: list[str]) -> None:
    """Options of bash are read as bash reads them; without `-c` the word is a file."""
    vector = [Argument(text, 1) for text in ["/bin/bash", *flags, "S", "zero"]]
    word = shell_script(vector)
    assert (word.text if word else None) == script


# ---- arrays and strings


def test_an_array_is_a_launch_and_is_edited_where_it_is_written() -> None:
    """Each item has its own place; the launch is where `vllm serve` is written."""
    text = 'set -e\nCMD=(\n  vllm serve org/model\n  --seed 1\n)\nCMD+=(--port 80)\nexec "${CMD[@]}" > log 2>&1 &\n'
    launch = only(text)
    assert launch.args == ("org/model", "--seed", "1", "--port", "80")
    assert (launch.line, [word.line for word in launch.words]) == (3, [3, 4, 4, 6, 6])
    assert [text[word.start : word.stop] for word in launch.words] == list(launch.args)
    owners = [word.owner.start for word in launch.words if word.owner]
    assert owners == [text.index("CMD=")] * 3 + [text.index("CMD+=")] * 2


@pytest.mark.parametrize(
    "text",
    [
        'CMD="vllm serve org/model --port 80"\n$CMD',
        'CMD="vllm serve org/model --port 80"\neval "$CMD"',
        'CMD="vllm serve org/model"\nCMD+=" --port 80"\n$CMD &',
        'CMD="vllm serve org/model"\nCMD="$CMD --port 80"\nexec $CMD',
        'A="org/model --port 80"\nbash -c "vllm serve $A"',
        "export A=80\nbash -c 'vllm serve org/model --port \"$A\"'",
    ],
)
def test_a_string_is_a_launch_that_cannot_be_edited(text: str) -> None:
    """Words that a shell makes of a string are read, and have no place of their own, but for one that is alone."""
    launch = only(text)
    assert launch.args == ("org/model", "--port", "80")
    assert all(word.owner is None for word in launch.words)
    assert launch.hidden == ""


def test_lines_of_a_script_in_quotes() -> None:
    """A launch in a script of several lines is on the line where it is written."""
    launch = only("bash -c '\n  set -e\n  vllm serve org/model \\\n    --port 80\n'\n")
    assert (launch.line, [word.line for word in launch.words]) == (3, [3, 4, 4])


def test_an_inner_shell_knows_what_is_exported_alone() -> None:
    """In single quotes `$A` is the inner shell's variable."""
    (word,) = only("A=1\nbash -c 'vllm serve $A'").words
    assert (word.text, word.unknown) == ("$A", True)


# ---- here-documents


def test_documents() -> None:
    """The shell fills in variables unless the delimiter is quoted; what a document assigns is not the script's."""
    text = "A=1\ncat > x.sh <<{0}\nA=2\nvllm serve m --seed $A\n{1}\nvllm serve n --seed $A\n"
    inner, outer = launches(text.format("EOF", "EOF"))
    assert (inner.args, outer.args) == (("m", "--seed", "$A"), ("n", "--seed", "1"))
    inner, outer = launches(text.format("'EOF'", "EOF"))
    assert (inner.args[-1], outer.args[-1]) == ("2", "1")
    inner, outer = launches(text.replace("A=2\n", "").format("'EOF'", "EOF"))
    assert (inner.args[-1], inner.words[-1].unknown, outer.args[-1]) == ("$A", True, "1")
    filled, _ = launches(text.replace("A=2\n", "").format("-EOF", "  EOF"))
    assert filled.args == ("m", "--seed", "1")


def test_a_here_string_is_no_document() -> None:
    """`<<<` takes one word."""
    assert only("read X <<< word\nvllm serve m").args == ("m",)


# ---- containers


@pytest.mark.parametrize(
    ("options", "env"),
    [
        ("-it --rm --gpus all --ipc=host", {}),
        ("-dp 80:80 -e A=1 --env B=2 --env=C=3 -eD=4", {"A": "1", "B": "2", "C": "3", "D": "4"}),
        ("--ulimit memlock=-1 --shm-size 8g --health-cmd 'curl x' -itv /a:/b --label x -e A", {"A": None}),
        ("-e A=$A --network-alias x --blkio-weight 5", {"A": None}),
        ("--env-file x.env -e HOME=/h", {"VLLM_CACHE_ROOT": None, "XDG_CACHE_HOME": None, "HOME": "/h"}),
    ],
)
def test_options_of_docker_run(options: str, env: dict[str, str | None]) -> None:
    """The image is the first word that no option takes; the container has the variables that it is given."""
    for program in ("docker run", "sudo podman --log-level debug run", "nerdctl container run"):
        launch = only(f"export SHELL_ALONE=1\n{program} {options} vllm/vllm-openai:v0.19.1 --model m --port 80")
        assert launch.args == ("--model", "m", "--port", "80")
        assert (launch.image, dict(launch.env)) == ("vllm/vllm-openai:v0.19.1", env)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("docker run --entrypoint vllm image:1 serve m --port 80", ("m", "--port", "80")),
        ("docker run --entrypoint=python3 image:1 -m vllm.entrypoints.openai.api_server --model m", ("--model", "m")),
        ('docker run --entrypoint "" vllm/vllm-openai:v0.19.1 vllm serve m', ("m",)),
        ("docker run $OPTIONS vllm/vllm-openai:v0.19.1 --model m", ("--model", "m")),
        ("IMAGE=vllm/vllm-openai:v0.19.1; docker run $IMAGE --model m", ("--model", "m")),
        ('docker run "${IMAGE:-vllm/vllm-openai:v0.19.1}" --model m', ("--model", "m")),
        ("docker run image:1 numactl -N 0 vllm serve m", ("m",)),
    ],
)
def test_what_runs_in_a_container(command: str, args: tuple[str, ...]) -> None:
    """The entrypoint that is stated, and the words behind the image, are the command."""
    assert only(command).args == args


def test_a_here_document_is_the_text_that_the_shell_makes_of_it() -> None:
    """In one whose delimiter is not quoted a backslash protects a dollar sign and a backslash."""
    text = "cat << EOF > run.sh\nvllm serve a/b \\\\\n  --port 8000 \\\\\n  \\$MORE\nEOF\n"
    launch = only(text)
    assert (launch.line, launch.args, launch.hidden) == (2, ("a/b", "--port", "8000", "$MORE"), "$MORE")
    assert all(word.owner is None for word in launch.words)
    quoted = only(text.replace("EOF", "'EOF'", 1).replace("\\\\", "\\").replace("\\$", "$"))
    assert (quoted.line, quoted.args) == (2, launch.args)


def test_lines_of_a_folded_text_are_folded_in_its_quotes_too() -> None:
    """YAML joins them before any shell reads them."""
    text = 'start: >-\n  bash -c "prepare &&\n  vllm serve a/b\n  --port 8000\n  --seed 1"\n'
    (launch,) = launches_in("x.yaml", text)
    assert launch.args == ("a/b", "--port", "8000", "--seed", "1")


# ---- limits


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve x\n" + "$(\n" * 10_000,
        'vllm serve x "' + "$(" * 15_000,
        "X=" + "y" * 200_000 + "; vllm serve $X" + "${X}" * 3000,
        "A=xxxx\n" + "A=$A$A\n" * 1000 + "vllm serve $A",
        "A=x\n" + "A+=$A\n" * 1000 + "vllm serve $A",
        "A=(x)\n" + 'A+=("${A[@]}")\n' * 1000 + "vllm serve ${A[@]}",
        "A=" + "x" * 60_000 + "\nvllm serve" + " $A" * 10_000,
        "vllm serve x " + "--flag " * 20_000,
        "if a; then A=1; " * 8000 + "vllm serve $A",
        "( A=1; " * 8000 + "vllm serve $A",
        "if a; then A=1; elif b; then " * 1 + "A=2; elif b; then " * 8000 + "fi; vllm serve $A",
        "".join(f"A{i}=1; [ x ] && A{i}=2 || B{i}=3\n" for i in range(5000)) + "vllm serve $A7",
        "cat <<A\n" * 8000 + "vllm serve x",
        "vllm serve x {" + "{," * 15_000,
        "A=(" * 15_000 + "vllm serve x",
        "bash -c 'vllm serve x'\n" * 5000,
        "export A=1\nvllm serve x $A\n" * 3000,
        "<" * 30_000 + " vllm serve x",
        "((" * 15_000 + " vllm serve x",
        "bash " * 20_000 + "vllm serve x",
        "docker " * 20_000 + "run vllm/vllm-openai " + "-it " * 5000,
    ],
)
def test_every_text_is_read_in_linear_time(text: str) -> None:
    """Reading text that was made to take long ends, and makes no large values."""
    with limited(120):
        read = launches(text)
    assert sum(len(word.text) for launch in read for word in launch.words) < 2**23
