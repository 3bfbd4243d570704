"""Writes serve-as-vllm.md: a real `vllm serve` beside the same launch under `tuner serve`.

    make evidence

The measurements are those of `tests/test_serve_as_vllm.py`, which compares them.
"""

import os
import signal
import subprocess
import tempfile
from pathlib import Path

from test_serve_as_vllm import (
    ARGUMENTS,
    BAD_ARGUMENTS,
    PYTHON,
    TUNER,
    checkpoint_in,
    stopped_in_a_container,
    stopped_in_mid_stream,
)

from tools.evidence.page import footer, table, write


def main() -> None:
    """Make the page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TMPDIR"] = name  # the only folder that can be written in the container
        model = checkpoint_in(folder)
        alone = (str(PYTHON.with_name("vllm")), "serve")
        under = (str(TUNER), "serve", "--python", str(PYTHON), "--store", str(folder / "none.sqlite"))
        commands = {"vllm serve": alone, "tuner serve": under}
        servers = {who: (*words, str(model), *ARGUMENTS) for who, words in commands.items()}
        streams = [stream_row(who, words, folder / who[:5]) for who, words in servers.items()]
        containers = [container_row(who, words, folder / f"{who[:5]}-container") for who, words in servers.items()]
        codes = [code_row(args, commands, str(model), folder) for args in BAD_ARGUMENTS]
    write(
        "serve-as-vllm.md",
        "# `tuner serve` against `vllm serve` (vllm 0.32.0, CPU)",
        "No verdict is stored. The program is what the process that was started runs once it serves.",
        "## SIGTERM in the middle of a stream",
        table(("command", "program", "tokens had come", "all tokens came", "exit code"), streams),
        "## Process 1, root file system and store read-only, SIGINT",
        "`unshare --pid --fork --mount-proc`, with a root file system that is read-only except for one folder.",
        table(("command", "program", "PID it sees", "completion", "exit code"), containers),
        "## Arguments that vLLM refuses",
        table(("arguments", *(f"exit code of {who}" for who in commands)), codes),
        footer("evidence"),
    )


def stream_row(who: str, command: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """The row of a server that is stopped while its client still reads."""
    server = stopped_in_mid_stream(command, folder, signal.SIGTERM)
    streamed, finished = ("yes" if server.streamed else "no"), ("yes" if server.finished else "no")
    return who, f"`{server.program}`", streamed, finished, str(server.code)


def container_row(who: str, command: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """The row of a server that is process 1 of its container."""
    program, pid, text, code = stopped_in_a_container(command, folder)
    return who, f"`{program}`", str(pid), text.strip(), str(code)


def code_row(args: list[str], commands: dict[str, tuple[str, ...]], model: str, folder: Path) -> tuple[str, ...]:
    """The row of arguments that vLLM refuses: the exit code of each command."""
    codes = [
        subprocess.run((*words, model, *args), cwd=folder, capture_output=True, check=False).returncode
        for words in commands.values()
    ]
    return f"`{' '.join(args)}`", *map(str, codes)


if __name__ == "__main__":
    main()
