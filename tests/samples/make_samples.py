"""Makes the sample reports anew: what the probe writes about three example models in the two real environments.

    .venv/bin/python tests/samples/make_samples.py            # both environments, some minutes
    .venv/bin/python tests/samples/make_samples.py current    # one of them

No test depends on a number in them; they change with the worker.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TIME_LIMIT = 900
"""Seconds a model; a busy machine takes many times what a probe needs."""
MODELS = ("baidu--ERNIE-4.5-VL-28B-A3B-PT", "meta-llama--Meta-Llama-3.1-8B", "mistralai--Mixtral-8x7B-v0.1")
ENVIRONMENTS = ("current", "flag-live")


def tuner(*args: object) -> Any:
    """The document that a command of the tuner prints."""
    command = [sys.executable, "-m", "tuner", *map(str, args), "--json"]
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(process.stdout)


def make(environment: str) -> list[str]:
    """Probe the models in an environment of `.envs` and write their reports; says what failed."""
    python = ROOT / ".envs" / environment / "bin" / "python"
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "verdicts.sqlite"
        folders = [ROOT / "examples" / "models" / model for model in MODELS]
        answer = tuner("probe", "--python", python, "--store", store, "--time-limit", TIME_LIMIT, *folders)
        for model, document in zip(MODELS, answer["results"], strict=True):
            if "error" in document:
                failed.append(f"{environment}, {model}: {document['error']['message']}")
                continue
            entry = tuner("verdicts", "show", document["evidence"]["key"], "--store", store)
            (HERE / environment / f"{model}.json").write_text(written(entry["report"]), encoding="utf-8")
    return failed


def written(report: Mapping[str, Any]) -> str:
    """The report with one line a field: whole reports are large, and nobody reads them line by line."""
    fields = (f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in report.items())
    return "{\n" + ",\n".join(fields) + "\n}\n"


if __name__ == "__main__":
    sys.exit("\n".join(line for chosen in sys.argv[1:] or ENVIRONMENTS for line in make(chosen)) or None)
