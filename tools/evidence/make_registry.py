"""Probes every MoE architecture of a release, writes its page and its catalogue; and the zoo's confusion table.

make catalogue                                        # both CPU releases and the zoo: 40 minutes on two quiet cores
.venv/bin/python -m tools.evidence.make_registry current flag-live zoo
.venv/bin/python -m tools.evidence.make_registry gpu SWEEP.json BUNDLE.jsonl COMMIT    # from a GPU machine

The catalogue of a release is a bundle for `tuner verdicts import`. The verdicts of a release are kept below `.cache/`
until its page is written, so that a stopped run can continue.
"""

import itertools
import json
import shutil
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from zoo.zoo_truth import ZOO

from cache.verdicts.entry import Entry
from rules.reason import OF_DECISION
from tools.evidence import ROOT
from tools.evidence.page import PAGES, TUNER, bare, footer, python_of, run, shell_block, table, write
from tuner.exchange.bundle import Bundled, line_in, line_of

CATALOGUE = PAGES.parent / "catalogue"
QWEN = ROOT / "examples" / "models" / "Qwen--Qwen3-30B-A3B" / "config.json"
MODELS = ROOT / "examples" / "models"
SOURCES = json.loads((ROOT / "examples" / "architectures" / "sources.json").read_text(encoding="utf-8"))
SELECTION = ("--all", "--configs", "examples")
LAUNCHES = (
    "--tensor-parallel-size 2",
    "--tensor-parallel-size 8",
    "--enable-expert-parallel --tensor-parallel-size 8",
)
"""The commonest launches of a published model beside the plain one."""
AT_ONCE = 2
"""Launches that are traced at a time."""


def main() -> None:
    """Make the pages named on the command line, all CPU pages by default."""
    names = sys.argv[1:] or ["current", "flag-live", "zoo"]
    if names[0] == "gpu":
        sweep, bundle, commit = names[1:]
        return gpu_page(Path(sweep).read_text(encoding="utf-8"), Path(bundle).read_text(encoding="utf-8"), commit)
    for name in names:
        print(f"making {name}", flush=True)
        if name == "zoo":
            with tempfile.TemporaryDirectory() as folder:
                zoo_page(Path(folder))
        else:
            folder = ROOT / ".cache" / f"registry-{name}"
            probed_registry(name, folder)
            shutil.rmtree(folder)
    return None


def gpu_page(document: str, bundle: str, commit: str) -> None:
    """The page of the GPU's sweep, whose probe was that of a commit."""
    command = ("tuner", "probe", *SELECTION, "--workers", "5", "--time-limit", "200", "--json")
    age = f"The probe was that of commit {commit}.\nA look-up with a later probe passes these verdicts by."
    registry_page("gpu", json.loads(document), bundle, command, age)


def probed_registry(environment: str, folder: Path) -> None:
    """Probe the registry of one environment and write its page and catalogue.

    Args:
        environment: its name.
        folder: where its verdicts are kept meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = ("--store", str(folder / "verdicts.sqlite"))
    command = ("tuner", "probe", *SELECTION, "--python", python_of(environment), "--json")
    probing = run(TUNER, *command[1:], *store)
    if probing.returncode not in (0, 3):
        sys.exit(probing.stderr)
    document = json.loads(probing.stdout)
    proofs = proofs_of_launches(document["results"], python_of(environment), store) if can_be_set(document) else []
    bundle = run(TUNER, "verdicts", "export", *store, "--command", " ".join(command))
    registry_page(environment, document, bundle.stdout, command, *proofs, footer("catalogue"))


def can_be_set(document: dict) -> bool:
    """Whether a launch in this environment may set the flag; elsewhere no `true` rests on a proof."""
    judged_results = [result for result in document["results"] if "verdict" in result]
    return any(result["environment"]["flag_status"] == "settable" for result in judged_results)


def proofs_of_launches(results: list[dict], python: str, store: tuple[str, ...]) -> list[str]:
    """Prove the commonest launches of each published model that is `uniform`, and return the section on them."""
    models = [
        Path(result["model"]["name"]).name
        for result in results
        if Path(result["model"]["name"]).parent.name == MODELS.name and result.get("verdict") == "uniform"
    ]
    launches = list(itertools.product(sorted(models), LAUNCHES))

    def prove(launch: tuple[str, str]) -> str:
        model, words = launch
        probing = run(TUNER, "probe", "--python", python, *store, "--json", str(MODELS / model), "--", *words.split())
        if probing.returncode not in (0, 3):
            sys.exit(probing.stderr)
        return proof_cell(json.loads(probing.stdout), words)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        cells = list(pool.map(prove, launches))
    rows = []
    for start in range(0, len(cells), len(LAUNCHES)):
        model = launches[start][0].replace("--", "/")
        rows.append((model, *cells[start : start + len(LAUNCHES)]))
    heads = ("published model", *(f"`{words}`" for words in LAUNCHES))
    return ["## Launches of published models", "`tuner probe MODEL -- ...` for each.", table(heads, rows)]


def proof_cell(document: dict, words: str) -> str:
    """The word of a launch's proof, and the first reason if the launch is not proved."""
    for proof in document["evidence"]["proofs"]:
        if proof["arguments"] == words.split():
            reasons = [reason["text"] for reason in proof["reasons"]]
            return "proved" if proof["word"] == "proved" else f"{proof['word']}: {single_line(reasons[0], 160)}"
    return "no proof is stored"


def registry_page(name: str, document: dict, bundle: str, command: tuple[str, ...], *last: str) -> None:
    """The page of one release, and its catalogue."""
    results, summary = document["results"], document["summary"]
    place = next(result["environment"] for result in results if "verdict" in result)
    CATALOGUE.mkdir(exist_ok=True)
    file = CATALOGUE / f"vllm-{place['vllm']}-{place['platform']}.jsonl"
    file.write_text(without_folder(bundle, f"{ROOT}/"), encoding="utf-8")
    where = place["gpu"] or "CPU"
    parts = [
        f"# Every MoE architecture of vLLM {place['vllm']}, probed on one {where}",
        f"torch {place['torch']}, transformers {place['transformers']}, flag {place['flag_status']}.",
        shell_block(*command),
        counts(summary, results) + "\n\n" + stages(results),
        f"Every verdict with its report: [{file.name}](../catalogue/{file.name}), for `tuner verdicts import`.",
        f"## Not judged: inconclusive\n\n{reasons_list(results, 'inconclusive')}",
        f"## Not judged: could not be built or run here\n\n{failures(results)}",
        f"## Needs a config\n\n{needing(document['needs_config'])}",
        f"## Every verdict\n\n{verdicts(results)}",
        *last,
    ]
    write(f"registry-{name}.md", *parts)


def without_folder(bundle: str, folder: str) -> str:
    """A bundle whose reports do not name this folder: vLLM's own errors name that of a config."""
    lines: list[str] = []
    for text in bundle.splitlines():
        bundled = line_in(text.encode())
        entry = json.dumps(bundled.entry.to_dict()).replace(folder, "")
        lines.append(line_of(Bundled(Entry.from_dict(json.loads(entry)), bundled.command)))
    return "".join(lines)


def counts(summary: dict, results: list[dict]) -> str:
    """The summary as a table. Results on configs that this project made have a column of their own."""
    on_project_configs = Counter(outcome(result) for result in results if has_project_config(result))
    numbers = dict(summary["verdicts"])
    numbers |= {f"failed: {kind}": number for kind, number in summary["failed"].items()}
    rows = []
    for word, number in numbers.items():
        rows.append((word, str(number - on_project_configs[word]), str(on_project_configs[word] or "")))
    rows.append(("needs a config", str(summary["needs_config"]), ""))
    took = f"{summary['wall_seconds']:.0f} s in all, workers: {summary['workers']}, vLLM's imports included; "
    heads = ("verdict", "architectures", "on a made config")
    return table(heads, rows) + f"\n\n{took}median {summary['median_seconds']} s a model."


def outcome(result: dict) -> str:
    """The verdict or the kind of failure, as the table names it."""
    return str(result["verdict"]) if "verdict" in result else f"failed: {result['error']['kind']}"


def has_project_config(result: dict) -> bool:
    """Whether the config was made for this project."""
    source = SOURCES.get(Path(result["model"]["name"]).name)
    return source is not None and source["kind"] == "made"


def stages(results: list[dict]) -> str:
    """Median seconds by stage."""
    seconds_of: dict[str, list[float]] = {}
    for result in results:
        for stage, seconds in result.get("evidence", {}).get("seconds", {}).items():
            seconds_of.setdefault(stage, []).append(seconds)
    medians = ", ".join(f"{stage} {median(seconds):.2f}" for stage, seconds in seconds_of.items() if stage != "import")
    return (
        f"Median seconds by stage: {medians}. Importing vLLM took {median(seconds_of['import']):.0f} s, once a worker."
    )


def name_of(result: dict) -> str:
    """The architecture, with the model's folder where a published config was used."""
    candidate = result["candidate"]
    published = candidate["source"] == "folder"
    return (
        f"{candidate['architecture']} ({Path(result['model']['name']).name})"
        if published
        else candidate["architecture"]
    )


def single_line(text: str, width: int = 300) -> str:
    """A text as one line, without the folders of the machine."""
    return " ".join(bare(text).split())[:width]


def reasons_list(results: list[dict], word: str) -> str:
    """The architectures with this verdict, and their reasons."""
    chosen = [result for result in results if result.get("verdict") == word]
    items = [f"- {name_of(result)}: {'; '.join(map(single_line, verdict_reasons(result)[:4]))}" for result in chosen]
    return "\n".join(items) or "None."


def verdict_reasons(result: dict) -> list[str]:
    """The reasons of the verdict, without those of the launch."""
    return [reason["text"] for reason in result["reasons"] if reason["code"] not in OF_DECISION]


def failures(results: list[dict]) -> str:
    """Each architecture that failed, with what was raised."""
    failed = [result for result in results if "error" in result]
    rows = [
        (name_of(result), result["error"]["kind"], single_line(result["error"]["message"], 200)) for result in failed
    ]
    return table(("architecture", "kind", "what was raised"), rows) if rows else "None."


def needing(candidates: list[dict]) -> str:
    """Architectures without a config, by reason."""
    reasons = Counter(candidate["reason"] for candidate in candidates)
    lines = []
    for reason, number in reasons.most_common():
        names = ", ".join(
            sorted(candidate["architecture"] for candidate in candidates if candidate["reason"] == reason)
        )
        lines.append(f"- {number}: {single_line(reason)}: {names}")
    return "\n".join(lines) or "None."


def verdicts(results: list[dict]) -> str:
    """One line a verdict."""
    heads = ("architecture", "config", "verdict", "MoE layers", "every layer", "compiled", "s")
    return table(heads, [verdict_row(result) for result in results if "verdict" in result])


def verdict_row(result: dict) -> tuple[str, ...]:
    """One verdict of the table."""
    evidence = result["evidence"]
    whole = evidence["whole"]
    return (
        name_of(result),
        single_line(result["candidate"]["source"], 80),
        result["verdict"],
        str(len(evidence["registered"])),
        "none was cut" if whole is None else whole["status"],
        evidence["compile"]["word"],
        f"{worker_seconds(evidence):.1f}",
    )


def worker_seconds(evidence: dict) -> float:
    """Seconds that the worker took for a model, without vLLM's import."""
    return float(sum(seconds for stage, seconds in evidence["seconds"].items() if stage != "import"))


def zoo_page(folder: Path) -> None:
    """The zoo's confusion table in both environments."""
    parts = ["# The zoo: true verdicts, and verdicts of the probe"]
    for environment in ("current", "flag-live"):
        documents = probed_zoo(environment, folder / environment)
        word_of = {Path(document["model"]["name"]).name: document.get("verdict", "error") for document in documents}
        parts += [
            f"## {environment}",
            shell_block(*zoo_command(environment)),
            confusion(word_of),
            seconds_line(documents),
        ]
    write("zoo.md", *parts, models_table(), footer("catalogue"))


def zoo_command(environment: str) -> tuple[str, ...]:
    """The command that probes the zoo; its folder stands in PYTHONPATH."""
    return ("tuner", "probe", "--json", "--python", python_of(environment), "ZOO/*")


def probed_zoo(environment: str, folder: Path) -> list[dict]:
    """The documents of every model of the zoo."""
    config = json.loads(QWEN.read_text(encoding="utf-8"))
    for name, truth in ZOO.items():
        (folder / name).mkdir(parents=True)
        changes = {"architectures": [f"{name}ForCausalLM"], "num_hidden_layers": truth.layers, "skip_token_id": 88}
        (folder / name / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    models = [str(folder / name) for name in ZOO]
    command = (TUNER, *zoo_command(environment)[1:-1], "--store", str(folder / "verdicts.sqlite"), *models)
    probing = run(*command, extra={"PYTHONPATH": str(ROOT / "tests" / "zoo")})
    return list(json.loads(probing.stdout)["results"])


def confusion(word_of: dict[str, str]) -> str:
    """The confusion table: a row for each true verdict, a column for each verdict of the probe."""
    words = ["uniform", "conditional", "reordered", "repeated", "not_compiled", "inconclusive", "error"]
    rows = []
    for truth in words[:4]:
        number_of = Counter(word_of[name] for name, model in ZOO.items() if model.verdict == truth)
        rows.append((f"**{truth}**", *(str(number_of[word] or "") for word in words)))
    unsafe = sum(word_of[name] == "uniform" for name, model in ZOO.items() if model.verdict != "uniform")
    return table(("true / probe", *words), rows) + f"\n\nUnsafe models called uniform: {unsafe}."


def seconds_line(documents: list[dict]) -> str:
    """Median seconds of a model."""
    seconds = [worker_seconds(document["evidence"]) for document in documents if document.get("evidence")]
    return f"Median {median(seconds):.1f} s a model."


def models_table() -> str:
    """The models of the zoo with their true verdicts."""
    rows = [(name, truth.verdict, " or ".join(truth.accepted)) for name, truth in ZOO.items()]
    return "## The models\n\n`tests/zoo/zoo.py` defines them.\n\n" + table(("model", "true", "accepted"), rows)


if __name__ == "__main__":
    main()
