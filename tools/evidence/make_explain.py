"""Changes a launch in one way at a time, and compares the prediction of `tuner cache explain` with a real start.

    .venv/bin/python -m tools.evidence.make_explain run --python PYTHON OUT.json [--jobs N] [-- VLLM ARGS]
    .venv/bin/python -m tools.evidence.make_explain page OUT.json...     # writes explain.md

`run` warms a thin model with `tuner cache warm`; each change is predicted first and started afterwards, with the cache
of the warm-up. A prediction is right if the start loads everything where `hit` was said, compiles where `miss` was, and
looks in the folders that were named, of functions and of graphs; with VLLM_USE_AOT_COMPILE=0 there are graphs alone.
Two more launches are compared with a root that a real start filled, without a warm-up: there only vLLM's own files
tell what the graphs were made for. The last changes are to a source file of the installed vLLM, which is put back.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rules.errors import TunerError
from tools.evidence import ROOT
from tools.evidence.page import SERVER_ENVIRONMENT, split_words, table, write
from tuner.processes.server_process import ready_server
from tuner.server_log.log import read_server_log

TUNER = (sys.executable, "-m", "tuner")
FALSE = ("--compilation-config", '{"fast_moe_cold_start": false}')
LIMIT_S = 900
KEY = 64
"""Characters of the name of a folder with a compiled function."""


@dataclass(frozen=True)
class Launch:
    """A launch: where, the model, the cache root, arguments behind the model, variables."""

    python: Path
    store: Path
    model: Path
    root: Path
    args: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(description="Compare predictions of tuner cache explain with real starts.")
    parser.add_argument("what", choices=["run", "page"])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--jobs", type=int, default=1, help="changes that are tried at once")
    words, vllm_args = split_words(sys.argv[1:])
    options = parser.parse_args(words)
    if options.what == "page":
        write_page([json.loads(file.read_text(encoding="utf-8")) for file in options.files])
        return
    how = f"python -m tools.evidence.make_explain run --jobs {options.jobs} -- {' '.join(vllm_args)}"
    with tempfile.TemporaryDirectory(prefix="explain-") as folder:
        for document in documents_of_run(options.python.absolute(), Path(folder), tuple(vllm_args), options.jobs):
            document |= {"how": how, "machine": f"{platform.machine()} with {os.cpu_count()} cores"}
            options.files[0].write_text(json.dumps(document, indent=1), encoding="utf-8")


def documents_of_run(python: Path, folder: Path, args: tuple[str, ...], jobs: int) -> Iterator[dict[str, Any]]:
    """The warm-up, and the changes that are tried so far: a document after each change."""
    model = folder / "model"
    script = [python, ROOT / "examples" / "tiny_checkpoint.py", model, "--layers", "4"]
    subprocess.run(script, cwd=folder, check=True, stdout=sys.stderr)
    base = Launch(
        python,
        folder / "verdicts.sqlite",
        model,
        folder / "root",
        ("--max-model-len", "512", *args),
        {"HOME": os.environ["HOME"]},
    )
    real = replace(base, root=folder / "started", env={**base.env, "VLLM_USE_AOT_COMPILE": "0"})
    probe = (*TUNER, "probe", "--python", python, "--store", base.store, model)
    subprocess.run(list(map(str, probe)), env=environ(base), check=True, stdout=sys.stderr)
    with ThreadPoolExecutor(jobs) as pool:
        start = pool.submit(start_server, real, folder / "started.log")
        warm = document_of("cache", "warm", base)
        start.result()
        document = document_of_warm(warm)
        changes = [(f"{name}, after a real start", change(real, folder)) for name, change in AFTER_A_START.items()]
        changes += [(name, change(base, folder)) for name, change in CHANGES.items()]
        for row in pool.map(lambda change: compare(*change, folder), changes):
            document["rows"].append(row)
            yield document
    for name, text in SOURCE_CHANGES.items():  # of one file for all, so by themselves
        with source_change(source_file(python), text):
            document["rows"].append(compare(name, base, folder))
        yield document


def document_of_warm(warm: dict[str, Any]) -> dict[str, Any]:
    """The document before the first change: the fields of the answer of `tuner cache warm` that the page shows."""
    names = ("vllm", "torch", "platform", "gpu", "cold_seconds", "warm_seconds", "hit", "proof", "entries", "reason")
    return {"warm": {name: warm.get(name) for name in names} | {"error": warm.get("error")}, "rows": []}


def other_home(base: Launch, folder: Path) -> Launch:
    """Another home folder."""
    (folder / "home").mkdir()
    return replace(base, env={**base.env, "HOME": str(folder / "home")})


def copied_model(base: Launch, folder: Path) -> Launch:
    """The same model under another path."""
    shutil.copytree(base.model, folder / "copy")
    return replace(base, model=folder / "copy")


def packed_cache(base: Launch, folder: Path) -> Launch:
    """The same cache, packed and then unpacked below another root."""
    archive, target = folder / "cache.tar.zst", folder / "elsewhere"
    subprocess.run([*TUNER, "cache", "pack", archive, "--cache-root", base.root], env=environ(base), check=False)
    unpack = ("cache", "unpack", archive, "--cache-root", target, "--python", base.python)
    subprocess.run([*TUNER, *unpack], env=environ(base), check=False, stdout=sys.stderr)
    return replace(base, root=target)


CHANGES: dict[str, Callable[[Launch, Path], Launch]] = {
    "none": lambda base, _: base,
    "packed, and unpacked below another root": packed_cache,
    "HOME": other_home,
    "variable VLLM_MOE_USE_DEEP_GEMM=0": lambda base, _: replace(base, env={**base.env, "VLLM_MOE_USE_DEEP_GEMM": "0"}),
    "`--max-model-len 256`": lambda base, _: replace(base, args=("--max-model-len", "256", *base.args[2:])),
    "the flag: false": lambda base, _: replace(base, args=(*base.args, *FALSE)),
    "a copy of the model's folder": copied_model,
    "`--seed 7`": lambda base, _: replace(base, args=(*base.args, "--seed", "7")),
    "`--max-num-seqs 8`": lambda base, _: replace(base, args=(*base.args, "--max-num-seqs", "8")),
}
AFTER_A_START: dict[str, Callable[[Launch, Path], Launch]] = {
    "none": lambda real, _: real,
    "`--max-num-seqs 8`": CHANGES["`--max-num-seqs 8`"],
}


SOURCE_CHANGES = {
    "the model's source file touched": "",
    "a comment added to the model's source file": "# changed\n",
}
"""Change -> the text that is added to the file. Without a text only the times of the file change."""


def source_file(python: Path) -> Path:
    """The file of the installed vLLM that defines the thin model."""
    code = "import importlib.util; print(importlib.util.find_spec('vllm').submodule_search_locations[0])"
    process = subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True, cwd="/")
    return Path(process.stdout.strip(), "model_executor", "models", "qwen3_moe.py")


@contextmanager
def source_change(path: Path, text: str) -> Iterator[None]:
    """Add text to a copy of a file for the time of the block. The file itself may be linked from other environments."""
    original = path.with_suffix(".kept")
    path.rename(original)
    try:
        path.write_text(original.read_text(encoding="utf-8") + text, encoding="utf-8")
        yield
    finally:
        original.replace(path)


def environ(launch: Launch) -> dict[str, str]:
    """The variables of a launch; `PYTHONPATH` begins with the repository."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **SERVER_ENVIRONMENT, "PYTHONPATH": paths, **launch.env}


def own_options(launch: Launch) -> tuple[object, ...]:
    """The tuner's own options."""
    return ("--python", launch.python, "--store", launch.store, "--cache-root", launch.root)


def document_of(group: str, name: str, launch: Launch) -> dict[str, Any]:
    """The document of a command about a launch."""
    words = [*TUNER, group, name, launch.model, *own_options(launch), "--json", "--", *launch.args]
    process = subprocess.run(list(map(str, words)), env=environ(launch), check=False, stdout=subprocess.PIPE, text=True)
    document: dict[str, Any] = json.loads(process.stdout)
    return document


def compare(name: str, launch: Launch, folder: Path) -> dict[str, Any]:
    """Predict a start, start the server, and compare the two."""
    prediction = document_of("cache", "explain", launch)
    print(name, prediction.get("answer"), prediction.get("error", ""), file=sys.stderr, flush=True)
    try:
        start = start_server(launch, folder / f"{abs(hash(name))}.log")
    except TunerError as error:  # one start that fails costs its own row
        print(name, error, error.hint, file=sys.stderr, flush=True)
        start = {"did": f"failed: {error}", "hits": 0, "misses": 0, "folders": []}
    keys = [key["key"] for key in prediction.get("keys", ())]
    keys += [graph["name"] for graph in prediction.get("graphs", ()) if graph["fits"] and graph["sources"] == "same"]
    moved = [
        f"{difference['kind']} {difference['name']}"
        for difference in prediction.get("differences", ())
        if difference["effect"] in {"key", "load"}
    ]
    return {
        "change": name,
        "answer": prediction.get("answer"),
        "error": prediction.get("error"),
        "moved": moved,
        "keys": keys,
        "reasons": prediction.get("reasons"),
        "seen": start,
        "right": is_right(prediction.get("answer", ""), keys, start),
    }


def is_right(answer: str, keys: list[str], start: dict[str, Any]) -> bool | None:
    """Whether a start did what was predicted, in the predicted folders; None if either is not known."""
    expected = {"hit": "loads", "miss": "compiles"}.get(answer)
    if expected is None or "failed" in start["did"]:
        return None
    folders = start["folders"]
    return start["did"] == expected and (not folders or set(keys) <= set(folders))


def start_server(launch: Launch, log: Path) -> dict[str, Any]:
    """What a start through `tuner serve` does with the cache, and the folders that its log names."""
    words = [*TUNER, "serve", *own_options(launch), launch.model, *launch.args]
    with ready_server(list(map(str, words)), environ(launch), log, LIMIT_S):
        text = log.read_text(encoding="utf-8", errors="replace")
    log_facts = read_server_log(text.splitlines())
    caches, hits, misses = [start.cache for start in log_facts.starts], log_facts.hits, log_facts.misses
    folders: list[str] = []
    for cache in caches:
        folders += [Path(path).name for path in cache.folders]
        for path in cache.aot_folders:
            folders += [part for part in Path(path).parts if len(part) == KEY]
    return {"did": what_it_did(hits, misses), "hits": hits, "misses": misses, "folders": folders}


def what_it_did(hits: int, misses: int) -> str:
    """What a start did with the cache. If an engine compiled, the start compiled."""
    if misses:
        return "compiles"
    return "loads" if hits else "neither"


def write_page(documents: list[dict[str, Any]]) -> None:
    """Write the page, with a table for each environment."""
    on_a_cpu = (
        "On a CPU vLLM cannot load what it saved, so every answer there is a miss. Compared are the folder that was "
        "predicted and the folder that the start looked in."
    )
    parts = [
        "Each change was predicted by `tuner cache explain` first, and started through `tuner serve` afterwards.",
        on_a_cpu,
    ]
    after_a_start = (
        "After a real start only vLLM's own file beside the graphs tells what they were made for. It names the part of "
        "the key that differs: variables, config, compiler or source."
    )
    parts.append(after_a_start)
    for document in documents:
        warm = document["warm"]
        where = " ".join(filter(None, [warm["platform"], warm["gpu"]]))
        parts.append(f"## vLLM {warm['vllm']}, torch {warm['torch']}, {where}")
        reason = f" {warm['reason']}." if warm["reason"] else ""
        parts.append(f"The second start of `tuner cache warm`: {warm['proof']}.{reason}")
        heads = ("change", "predicted", "what keeps it from loading", "the start", "in the folder named", "right")
        parts.append(table(heads, [_row(row) for row in document["rows"]]))
        answers = [row["right"] for row in document["rows"] if row["right"] is not None]
        parts.append(f"{answers.count(True)} of {len(answers)} predictions were right, {answers.count(False)} wrong.")
        parts.append(f"By `{document['how']}`, on {document['machine']}.")
    write("explain.md", "# Predictions on the compile cache, against real starts", *parts)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    start = row["seen"]
    folders = start["folders"]
    in_named_folder = "-"
    if folders and row["keys"]:
        in_named_folder = "yes" if set(row["keys"]) <= set(folders) else "no"
    did = f"{start['did']} ({start['hits']} loaded, {start['misses']} compiled)"
    right = {True: "yes", False: "**no**", None: "-"}[row["right"]]
    return (row["change"], str(row["answer"]), _cause(row), did, in_named_folder, right)


def _cause(row: dict[str, Any]) -> str:
    """What keeps a start from loading: what moved the key, or the last reason that `tuner cache explain` gave."""
    if row["moved"]:
        return ", ".join(row["moved"])
    if row["answer"] == "hit" or not row["reasons"]:
        return "-"
    return str(row["reasons"][-1])


if __name__ == "__main__":
    main()
