"""What a start costs: a first and a second start of each kind of launch, each kind in a cache of its own.

    make bench-cold-start                                        # both environments, on the CPU
    python3 benchmarks/cold_start.py --layers 36 48 92           # with the `vllm` of this Python, say on a GPU

The model is a thin Qwen3-MoE with random weights and the number of layers of a real one: compile time depends on how
many different graphs there are, not on their width. The kinds: `eager`; `default`, vLLM with an empty cache; `names in
the graph`, the flag off; `flag on`; `tuner`, a probe and `tuner cache warm`, whose second start is what a pod sees.
Graphs, files and MiB are those below `VLLM_CACHE_ROOT` after the first start (the tuner: after both).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rules.errors import TunerError  # noqa: E402
from tuner.launch.cache_root import CACHE_ROOT  # noqa: E402  after the path was set
from tuner.launch.serve import command  # noqa: E402
from tuner.processes.server_process import ready_server  # noqa: E402
from tuner.server_log.log import read_server_log  # noqa: E402

ARMS: Mapping[str, list[str]] = {
    "eager": ["--enforce-eager"],
    "default": [],
    "names in the graph": ["--compilation-config", '{"fast_moe_cold_start": false}'],
    "flag on": ["--compilation-config", '{"fast_moe_cold_start": true}'],
}
TUNER = "tuner"
ENGINE = re.compile(r"init engine \(profile, create kv cache, warmup model\) took ([0-9.]+)")
COMPILE = re.compile(r"torch\.compile (?:took|takes) ([0-9.]+) s in total")
GRAPH = "artifact_*"
"""Name of each graph compiled by itself (vllm/compilation/compiler_interface.py); on a CPU all lie in one file."""
LIMIT_S = 900
HEADS = (
    "layers",
    "launch",
    "first start, s",
    "engine, s",
    "of it compiling, s",
    "graphs, files, MiB",
    "second start, s",
    "first / eager",
    "second / first",
    "second start",
)


def main() -> None:
    """Measure, print a table, and write all numbers where `--out` says."""
    parser = argparse.ArgumentParser(description="Measure first and second starts of vllm serve.")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--layers", type=int, nargs="+", default=[3])
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, TUNER], default=[*ARMS, TUNER])
    parser.add_argument("--out", type=Path, help="file for all numbers")
    parser.add_argument("--logs", type=Path, help="folder in which the servers' logs are kept")
    parser.add_argument("args", nargs="*", help="further arguments of vllm serve, behind --")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for layers in options.layers:
        with tempfile.TemporaryDirectory(prefix="cold-start-") as folder:
            logs = options.logs or Path(folder)
            logs.mkdir(parents=True, exist_ok=True)
            bench = Bench(options.python, options.args, Path(folder), logs)
            for row in bench.rows(layers, options.arms):
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
                if options.out:  # at once: the next one may take too long
                    options.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print("| " + " | ".join(HEADS) + " |")
    print("| " + " | ".join("---" for _ in HEADS) + " |")
    for row in rows:
        print(table_row(row, rows))


@dataclass(frozen=True)
class Bench:
    """Where to measure.

    Attributes:
        python: interpreter of the serving environment.
        args: further arguments of vllm serve.
        folder: for models and caches.
        logs: for the servers' logs.
    """

    python: Path
    args: list[str]
    folder: Path
    logs: Path

    def rows(self, layers: int, arms: list[str]) -> Iterator[dict[str, Any]]:
        """Every arm for one model."""
        model = self.folder / f"qwen3-moe-{layers}"
        script = [self.python, ROOT / "examples" / "tiny_checkpoint.py", model, "--layers", str(layers)]
        subprocess.run(script, cwd=self.folder, check=True, stdout=sys.stderr)
        for arm in arms:
            try:
                measured = self.warmed(model) if arm == TUNER else self.twice(model, arm)
            except (TunerError, subprocess.CalledProcessError) as error:
                measured = {"error": f"{error} {getattr(error, 'hint', '')}"}
            yield {"layers": layers, "arm": arm, **measured}

    def twice(self, model: Path, arm: str) -> dict[str, Any]:
        """A first and a second start with the same cache."""
        name = f"{model.name}-{arm.replace(' ', '-')}"
        vector = command(self.python, [str(model), *self.args, *ARMS[arm]])
        root = self.folder / name
        environ = {**os.environ, CACHE_ROOT: str(root)}
        first = started(vector, environ, self.logs / f"{name}-first.log")
        wrote = written(root)
        return {"first": first, "wrote": wrote, "second": started(vector, environ, self.logs / f"{name}-second.log")}

    def warmed(self, model: Path) -> dict[str, Any]:
        """`tuner probe` and `tuner cache warm`: what the tuner says of its own two starts."""
        ours = ["--python", str(self.python), "--store", str(self.folder / "verdicts.sqlite")]
        tuner = [sys.executable, "-m", "tuner"]
        paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        subprocess.run([*tuner, "probe", *ours, model], env=environ, check=True, stdout=sys.stderr)
        root = self.folder / f"{model.name}-tuner"
        warm = [*tuner, "cache", "warm", model, *ours, "--cache-root", root, "--json", "--", *self.args]
        process = subprocess.run(warm, env=environ, check=False, stdout=subprocess.PIPE, text=True)
        document = json.loads(process.stdout)
        if "error" in document:
            return {"error": f"{document['error']['message']} {document['error']['hint']}"}
        second = {"ready": document["warm_seconds"], "hit": document["hit"], "proof": document["proof"]}
        first = {"ready": document["cold_seconds"]}
        return {"first": first, "wrote": written(root), "second": second, "args": document["args"][1:]}


def started(vector: list[str], environ: Mapping[str, str], log: Path) -> dict[str, Any]:
    """One start until `/health` answers, and what vLLM says of it."""
    with ready_server(vector, environ, log, LIMIT_S) as seconds:
        text = log.read_text(encoding="utf-8", errors="replace")
    log_read = read_server_log(text.splitlines())
    phases = {"engine": ENGINE.findall(text), "compile": COMPILE.findall(text)}
    uses = {"hits": log_read.hits, "misses": log_read.misses}
    return {
        "ready": round(seconds, 1),
        **uses,
        **{name: sum(map(float, seconds)) for name, seconds in phases.items() if seconds},
    }


def written(root: Path) -> dict[str, Any]:
    """What lies below a cache root: graphs compiled by themselves, files, MiB."""
    files = [path for path in root.rglob("*") if path.is_file()]
    graphs = {path.name for path in root.rglob(GRAPH)}
    return {
        "graphs": len(graphs),
        "files": len(files),
        "mib": round(sum(file.stat().st_size for file in files) / 2**20, 1),
    }


def table_row(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """A line of the table; ratios are within one model."""
    if "error" in row:
        cells = [str(row["layers"]), row["arm"], f"failed: {row['error'][:80]}", *[""] * (len(HEADS) - 3)]
        return "| " + " | ".join(cells) + " |"
    eager = [
        candidate
        for candidate in rows
        if (candidate["layers"], candidate["arm"]) == (row["layers"], "eager") and "error" not in candidate
    ]
    first, second = row["first"]["ready"], row["second"]["ready"]
    proof = row["second"].get("proof")
    cells = [
        str(row["layers"]),
        row["arm"],
        f"{first:.0f}",
        *(f"{row['first'][name]:.0f}" if name in row["first"] else "-" for name in ("engine", "compile")),
        "{graphs}, {files}, {mib}".format(**row["wrote"]),
        f"{second:.0f}",
        f"{first / eager[0]['first']['ready']:.2f}" if eager else "-",
        f"{second / first:.2f}",
        proof or f"{row['second'].get('hits', 0)} loaded, {row['second'].get('misses', 0)} compiled",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
