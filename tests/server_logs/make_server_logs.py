"""Makes the logs of this folder anew, from real starts of `vllm serve` on the CPU.

    .venv/bin/python tests/server_logs/make_server_logs.py [NAME...]

About a minute each. A log is kept from the first line to the end of the start; folders of this machine, process ids
and times are replaced, and lines about routes, templates, threads and Gloo are left out. The two of 0.26.0 are from a
GPU, a first and a second start of `benchmarks/cold_start.py --layers 48 --arms "flag on"`, their folders renamed.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from vllm_server import running_server  # noqa: E402  after the path was set

EAGER = ("--enforce-eager",)
NGRAM = '{"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3}'
JSON_LOGS = {
    "version": 1,
    "formatters": {
        "json": {
            "class": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(process)d %(message)s",
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
    "loggers": {"vllm": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}
"""As vLLM's own example of a logging configuration (examples/others/logging_configuration.md)."""


@dataclass(frozen=True)
class Start:
    """One start of a server.

    Attributes:
        environment: the serving environment under `.envs`.
        args: arguments of `vllm serve` behind the model.
        variables: variables beside the usual ones.
        fails: the server is meant to end before it answers.
    """

    environment: str
    args: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)
    fails: bool = False


def flag(value: str) -> tuple[str, ...]:
    """The compilation config with nothing but the flag."""
    return ("--compilation-config", f'{{"fast_moe_cold_start": {value}}}')


STARTS = {
    "0.19.1-true": Start("flag-live", (*EAGER, *flag("true"))),
    "0.19.1-false-colour": Start("flag-live", (*EAGER, *flag("false")), {"VLLM_LOGGING_COLOR": "1"}),
    "0.19.1-ngram-failed": Start("flag-live", (*EAGER, "--speculative-config", NGRAM), fails=True),
    "0.32.0-true": Start("current", (*EAGER, *flag("true"))),
    "0.32.0-json": Start("current", EAGER, {"VLLM_LOGGING_CONFIG_PATH": "logging.json"}),
}


def main() -> None:
    """Make the logs named on the command line, all by default."""
    parser = argparse.ArgumentParser(description="Make tests/server_logs anew.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(STARTS))
    with tempfile.TemporaryDirectory() as folder:
        for name in parser.parse_args().names or STARTS:
            sys.stderr.write(f"making {name}\n")
            log = log_of(name, STARTS[name], Path(folder))
            (HERE / f"{name}.log").write_text(neutral(log, Path(folder)), encoding="utf-8", newline="")


def log_of(name: str, start: Start, folder: Path) -> str:
    """What the server printed until it was healthy, or until it ended."""
    python = ROOT / ".envs" / start.environment / "bin" / "python"
    model = checkpoint(python, folder / start.environment)
    (folder / "logging.json").write_text(json.dumps(JSON_LOGS), encoding="utf-8")
    caches = {"VLLM_CACHE_ROOT": str(folder / (name) / "cache")}
    variables = {**caches, **start.variables}
    if "VLLM_LOGGING_CONFIG_PATH" in variables:
        variables["VLLM_LOGGING_CONFIG_PATH"] = str(folder / "logging.json")
    command = (str(python.with_name("vllm")), "serve", str(model), "--max-model-len", "256", *start.args)
    with suppress(RuntimeError) if start.fails else nullcontext(), running_server(command, folder / name, variables):
        pass
    log = (folder / name / "server.log").read_bytes().decode("utf-8", "replace")
    started, end, _ = log.partition("Application startup complete.")
    return started + end + "\n"


def checkpoint(python: Path, model: Path) -> Path:
    """A thin Qwen3-MoE with random weights."""
    if not model.exists():
        subprocess.run([python, ROOT / "examples" / "tiny_checkpoint.py", model], cwd=model.parent, check=True)
    return model


def neutral(log: str, folder: Path) -> str:
    """The log without what tells this machine and this moment."""
    environments = (ROOT / ".envs").resolve()
    log = re.sub(rf"({re.escape(str(environments))}|{re.escape(str(ROOT / '.envs'))})/([\w-]+)", r"/opt/\2", log)
    log = log.replace(str(folder), "/srv").replace(str(ROOT), "/src").replace(str(Path.home()), "/home/user")
    log = re.sub(r"(?m)^.*(Route: |system-first ordering|\[Gloo\]|OMP |^\[?W\d{4} ).*\n", "", log)
    log = re.sub(r"'port': \d+", "'port': 8000", log)
    log = re.sub(r"\d+\.\d+\.\d+\.\d+:\d+", "127.0.0.1:8000", log)
    log = re.sub(r"(tcp://)[\d.]+", r"\g<1>127.0.0.1", log)
    log = re.sub(r"\d\d-\d\d \d\d:\d\d:\d\d", "01-01 00:00:00", log)
    log = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,]?\d*", "2026-01-01 00:00:00,000", log)
    numbers: dict[str, str] = {}
    for pid in re.findall(r"pid=(\d+)|process\": (\d+)|server process \[(\d+)\]", log):
        numbers.setdefault(next(filter(None, pid)), str(100 + len(numbers)))
    for pid, number in numbers.items():
        log = re.sub(rf"(?<=pid=){pid}\b|(?<=process\": ){pid}\b|(?<=server process \[){pid}\b", number, log)
    return log


if __name__ == "__main__":
    main()
