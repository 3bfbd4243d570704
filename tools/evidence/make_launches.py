"""Writes launches.md: which of twenty launches of a model are proved, and the plain launch of each published model.

    .venv/bin/python -m tools.evidence.make_launches run --python PYTHON [--jobs N] [--plain] [--cut] OUT.json [NAME...]
    .venv/bin/python -m tools.evidence.make_launches page OUT.json...    # writes launches.md

`run` asks the launch worker as `tuner probe` does and keeps its answers; it needs no package beside the serving
environment's. `page` judges them. `--plain`: the plain launch alone. `--cut`: with fewer layers.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any

from rules.errors import TunerError
from rules.launch_key import launch_key, reaching, shares
from tools.evidence import ROOT
from tools.evidence.page import SERVER_ENVIRONMENT, bare, table, write
from tuner.engines.question import WorkerQuery, query_engines
from tuner.model.shrink import shrink

MODELS = ROOT / "examples" / "models"
THREE = ("Qwen--Qwen3-30B-A3B", "deepseek-ai--DeepSeek-V3", "openai--gpt-oss-120b")
"""The models of the twenty lists."""
LISTS = (
    "",
    "-tp 2",
    "-tp 8",
    "-pp 2",
    "--enable-expert-parallel -tp 2",
    "--enable-expert-parallel -tp 8",
    "--max-model-len 32768",
    "--max-num-seqs 256",
    "--max-num-batched-tokens 8192",
    "--dtype float16",
    "--enable-lora",
    "--quantization fp8",
    "--port 9000",
    "--served-model-name chat",
    "-tp 2 --max-model-len 32768",
    "-tp 8 --max-num-batched-tokens 8192",
    "-pp 2 --dtype float16",
    "--max-num-seqs 256 --max-model-len 32768",
    "--port 9000 --served-model-name chat",
    "--dtype float16 --max-num-seqs 256",
)
LIMIT = 900.0
"""Seconds for a launch."""
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "PYTHONDONTWRITEBYTECODE": "1",
}
ENVIRONMENT = """
import json, torch, vllm
from vllm.platforms import current_platform
facts = {"vllm": vllm.__version__, "torch": torch.__version__, "device": current_platform.device_type}
print(json.dumps(facts | {"gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None}))
"""

Answer = dict[str, Any]


def main() -> None:
    """Run, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--python", default=sys.executable)
    run.add_argument("--jobs", type=int, default=1)
    run.add_argument("--plain", action="store_true")
    run.add_argument("--cut", action="store_true")
    run.add_argument("out", type=Path)
    run.add_argument("models", nargs="*")
    page = commands.add_parser("page")
    page.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    if options.command == "run" and shutil.which(options.python):
        options.python = os.path.abspath(shutil.which(options.python))  # noqa: PTH100  a link is not followed
    if options.command == "run":
        run_all(options)
    else:
        write("launches.md", *pages([json.loads(file.read_text(encoding="utf-8")) for file in options.files]))


# ---- run


def run_all(options: argparse.Namespace) -> None:
    """Ask about every launch, and store the answers."""
    names = options.models or default_models(plain=options.plain)
    lists = ("",) if options.plain else LISTS
    launches = list(itertools.product(names, lists))
    answers = Answers(options, launches)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) if options.cut else None
        folders = {name: folder_of(name, place) for name in names}
        parts = [launches[start :: options.jobs] for start in range(options.jobs)]
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda part: ask(part, folders, options.python, answers), parts))


def default_models(*, plain: bool) -> list[str]:
    """The models of the plain launch, which are all of the examples, or those of the twenty lists."""
    return sorted(path.name for path in MODELS.iterdir()) if plain else list(THREE)


class Answers:
    """The answers so far. The file is written anew after each answer, because the command may be ended early."""

    def __init__(self, options: argparse.Namespace, launches: Sequence[tuple[str, str]]) -> None:
        self.options, self.launches = options, launches
        self.environment = environment_of(options.python)
        self.begin = time.monotonic()
        self.answers: dict[tuple[str, str], Answer] = {}
        self.lock = Lock()

    def add(self, name: str, words: str, answer: Answer) -> None:
        """Store the answer on a launch."""
        with self.lock:
            self.answers[name, words] = slim(answer)
            rows = [
                {"model": launch[0], "words": launch[1], "answer": self.answers[launch]}
                for launch in self.launches
                if launch in self.answers
            ]
            document = {
                "environment": self.environment,
                "jobs": self.options.jobs,
                "cut": self.options.cut,
                "seconds": round(time.monotonic() - self.begin, 1),
                "launches": rows,
            }
            self.options.out.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def slim(answer: Answer) -> Answer:
    """An answer without the parts that the page does not need: calls, hashes of files, values of variables."""
    if "ranks" not in answer:
        return answer
    ranks = [{**rank, "guards": rank["guards"][:5]} for rank in answer["ranks"]]
    for rank in ranks:
        del rank["calls"]  # they are the registered layers, or a failure lists them
    return {**answer, "ranks": ranks, "sources": len(answer["sources"]), "variables": len(answer["variables"])}


def folder_of(name: str, target: Path | None) -> str:
    """The model's folder, or one with fewer layers."""
    if target is None:
        return str(MODELS / name)
    folder = target / name
    folder.mkdir()
    small = shrink(json.loads((MODELS / name / "config.json").read_text(encoding="utf-8"))).config
    (folder / "config.json").write_text(json.dumps(small), encoding="utf-8")
    return str(folder)


def ask(launches: Sequence[tuple[str, str]], folders: Mapping[str, str], python: str, answers: "Answers") -> None:
    """Ask about some launches, with one import of vLLM, and store the answers."""
    engines = [{"args": [folders[name], *words.split()]} for name, words in launches]
    environ = {**os.environ, **SERVER_ENVIRONMENT, **SETTINGS}
    question = WorkerQuery("proof", (), LIMIT, engines=engines)
    for (name, words), answer in zip(launches, query_engines(question, python, lambda _: environ), strict=True):
        answer_or_failure = {"failure": answer.message} if isinstance(answer, TunerError) else answer
        print(f"{name} {words}: {outcome(answer_or_failure)[0]}", flush=True)
        answers.add(name, words, answer_or_failure)


def environment_of(python: str) -> Answer:
    """Versions and device of the serving environment."""
    process = subprocess.run([python, "-c", ENVIRONMENT], check=True, capture_output=True, text=True)
    environment: Answer = json.loads(process.stdout.strip().splitlines()[-1])
    return environment


# ---- page


def outcome(answer: Answer) -> tuple[str, str]:
    """Whether a launch is proved, and why not: a short form of the judgement of `rules.proof`."""
    if "failure" in answer:
        return "not traced", answer["failure"]
    failures = list(itertools.chain.from_iterable(rank["failures"] for rank in answer["ranks"]))
    statuses = {rank["status"] for rank in answer["ranks"]}
    if statuses == {"traced"} and not failures:
        return "proved", ""
    word = "not compiled" if statuses == {"not_compiled"} else "not proved"
    first = failures[0] if failures else {"code": "", "condition": 0, "fields": {}}
    fields = first["fields"]
    place = f" ({fields['file']}:{fields['line']})" if fields.get("file") else ""
    detail = next((str(fields[name]) for name in ("error", "guard", "mode", "class") if fields.get(name)), "")
    return word, bare(f"condition {first['condition']}: {first['code'].replace('_', ' ')}: {detail[:160]}{place}")


def pages(documents: Sequence[Answer]) -> list[str]:
    """The page: a section for each file."""
    head = (
        "# Which launches are proved\n\n"
        "vLLM builds each launch from its arguments, Dynamo traces its model on the meta device, and the graph is read "
        "(`tuner/engines/worker`, question `proof`).\n"
        "A launch shares the plain proof if its arguments cannot reach the model, or change only fields of "
        "`VllmConfig` that nobody read.\n"
        "Seconds are those of the slowest rank, vLLM's import excluded.\n"
        "The GPU machine ran stock vLLM 0.26.0, where the flag is inert.\n"
        "A time limit ended the last of the sixty argument lists there.\n"
        "The runs on CPUs are made by `make evidence-launches`, which writes this page.\n"
        "Those on the GPU machine are made by `.venv/bin/python -m tools.evidence.make_launches run FILE.json`, with "
        "`--plain` for the plain launches."
    )
    return [head, *itertools.chain.from_iterable(map(section, documents))]


def section(document: Answer) -> list[str]:
    """One environment: its models' plain launches, or its tables of twenty lists."""
    environment = document["environment"]
    where = environment["gpu"] or environment["device"].upper()
    layers = "fewer layers" if document["cut"] else "every layer"
    title = f"## vLLM {environment['vllm']}, torch {environment['torch']}, {where}, {layers}"
    models = list(dict.fromkeys(launch["model"] for launch in document["launches"]))
    several = [model for model in models if lists_of(document, model) > 1]
    parts = [title]
    parts += [f"### {model}\n\n{launches_table(document, model)}" for model in several]
    plain = [launch for launch in document["launches"] if launch["model"] not in several]
    if plain:
        parts += [plain_table(plain), plain_summary(plain, document)]
    return parts


def lists_of(document: Answer, model: str) -> int:
    """How many argument lists there are of a model."""
    return sum(launch["model"] == model for launch in document["launches"])


def launches_table(document: Answer, model: str) -> str:
    """The twenty lists of one model."""
    launches = [launch for launch in document["launches"] if launch["model"] == model]
    plain = next(launch["answer"] for launch in launches if not launch["words"])
    plain_is_proved = outcome(plain)[0] == "proved"
    rows, trues = [], 0
    for launch in launches:
        arguments = f"`{launch['words'] or '(plain)'}`"
        ranks = ranks_of(launch["answer"])
        word, why = outcome(launch["answer"])
        if plain_is_proved and is_shared(launch["words"], plain):
            trues += 1
            rows.append((arguments, "shares the plain proof", "", ranks))
        else:
            trues += word == "proved"
            rows.append((arguments, f"its own: {word}", why, ranks))
    head = table(("arguments", "proof", "why not", "ranks, seconds"), rows)
    return f"{head}\n\n{trues} of {len(rows)} get `true`."


def is_shared(words: str, plain: Answer) -> bool:
    """Whether a launch shares the proof of the plain one."""
    arguments = ("MODEL", *words.split())
    key = launch_key(("MODEL",), {})
    return shares(arguments, {}, key, reaching(("MODEL",)), plain.get("fields", ()))


def ranks_of(answer: Answer) -> str:
    """How many ranks were traced, and how long the slowest took."""
    if "ranks" not in answer:
        return ""
    seconds = max((sum(rank["seconds"].values()) for rank in answer["ranks"]), default=0.0)
    return f"{len(answer['ranks'])}, {seconds:.1f}"


def plain_table(launches: Sequence[Answer]) -> str:
    """The plain launches."""
    rows = []
    for launch in launches:
        word, why = outcome(launch["answer"])
        layers = sum(len(rank["registered"]) for rank in launch["answer"].get("ranks", ()))
        rows.append((launch["model"].replace("--", "/"), str(layers), word, why, ranks_of(launch["answer"])))
    return table(("model", "MoE layers", "plain launch", "why not", "ranks, seconds"), rows)


def plain_summary(launches: Sequence[Answer], document: Answer) -> str:
    """The sentence on the seconds of the plain launches."""
    ranks = itertools.chain.from_iterable(launch["answer"].get("ranks", ()) for launch in launches)
    traced = [rank for rank in ranks if rank["status"] == "traced"]
    whole = [sum(rank["seconds"].values()) for rank in traced]
    layers = [rank["seconds"]["trace"] / len(rank["registered"]) for rank in traced if rank["seconds"].get("trace")]
    if not whole:
        return ""
    return (
        f"{document['jobs']} at a time, {document['seconds']:.0f} s in all. Median of a traced model: "
        f"{median(whole):.1f} s; tracing takes {median(layers):.2f} s a layer (median)."
    )


if __name__ == "__main__":
    main()
