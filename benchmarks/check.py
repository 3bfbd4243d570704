"""CPU time of `tuner check` over the published manifests, as a ratio to parsing their YAML alone in the same run.

    .venv/bin/python benchmarks/check.py

Both are processes of their own that read every file below `tests/manifests/`. Each round runs both once, so that a slow
moment of the machine touches both alike; the figure is the median over the rounds of user plus system time.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = ROOT / "tests" / "manifests"
PARSE = """import sys
from pathlib import Path
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
for file in sorted(Path(sys.argv[1]).rglob("*.yaml")):
    try:
        list(YAML(typ="safe", pure=True).compose_all(file.read_text(encoding="utf-8")))
    except YAMLError:  # a template
        pass
"""
BASELINE = "YAML alone: `ruamel.yaml`, `compose_all`"
START = "start: `tuner check` of one line"


def main() -> None:
    """Time each command in each round, print the table."""
    parser = argparse.ArgumentParser(description="CPU time of `tuner check`.")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "run.sh"
        small.write_text("vllm serve m\n", encoding="utf-8")
        commands = timed_commands(small)
        env = {**os.environ, "XDG_DATA_HOME": folder, "HF_HOME": folder, "HF_HUB_OFFLINE": "1"}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                seconds[name].append(cpu_seconds(command, env))
    files = [file for file in MANIFESTS.rglob("*") if file.is_file()]
    print(table(seconds, len(files)))


def timed_commands(small: Path) -> dict[str, list[str]]:
    """Name in the table -> the command that is timed. The first is the baseline."""
    check = [sys.executable, "-m", "tuner", "check", "--quiet"]
    return {
        BASELINE: [sys.executable, "-c", PARSE, str(MANIFESTS)],
        START: [*check, str(small)],
        "`tuner check tests/manifests`": [*check, str(MANIFESTS)],
    }


def cpu_seconds(command: Sequence[str], env: Mapping[str, str]) -> float:
    """User plus system time of a run; its exit code does not matter, because findings have a code of their own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if "Traceback" in process.stderr:
        sys.exit(process.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(seconds: Mapping[str, Sequence[float]], files: int) -> str:
    """Median CPU milliseconds of all files and of a file, and the median of the rounds' ratios to the baseline."""
    lines = [f"| command | CPU ms | ms a file, of {files} | ratio |", "| --- | --- | --- | --- |"]
    for name, values in seconds.items():
        ratio = statistics.median(value / unit for value, unit in zip(values, seconds[BASELINE], strict=True))
        median = 1000 * statistics.median(values)
        a_file = "" if name == START else f"{median / files:.1f}"
        lines.append(f"| {name} | {median:.0f} | {a_file} | {ratio:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
