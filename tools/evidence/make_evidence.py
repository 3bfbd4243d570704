"""Writes the pages of this folder anew, each from commands that it names.

make evidence                                     # all pages, about half an hour on two cores
.venv/bin/python -m tools.evidence.make_evidence probe serve bench bad-input exports
"""

import argparse
import ctypes.util
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vllm_server import effective_flag, running_server

from tools.evidence import ROOT, make_exports
from tools.evidence.page import PAGES, TUNER, bare, footer, python_of, run, shell_block, table, write

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("examples/models/*/config.json"))
PLUGIN = {"PYTHONPATH": str(ROOT / "examples" / "two_expert_sets")}
FLAG_LIVE = ("flag-live-0.17.1", "flag-live-0.18.1", "flag-live")
"""Environments whose vLLM obeys the flag; the last is 0.19.1."""
SERVE = ("--enforce-eager", "--max-model-len", "256")
PROMPTS = ("the river carries", "a teacher remembers stories of", "never cross over thunder and", "engine")
MIXTRAL = "examples/models/mistralai--Mixtral-8x7B-v0.1"


def main() -> None:
    """Make the pages named on the command line, all by default."""
    pages: dict[str, Callable[[Path], None]] = {
        "probe": probe_pages,
        "serve": serve_page,
        "bench": bench_page,
        "bad-input": bad_input_page,
        "exports": exports_page,
    }
    parser = argparse.ArgumentParser(description="Write docs/evidence anew.")
    parser.add_argument("pages", nargs="*", choices=[*pages, []], default=[])
    for name in parser.parse_args().pages or pages:
        print(f"making {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            pages[name](Path(folder))


def probe_pages(folder: Path) -> None:
    """One page an environment: every published configuration probed and judged."""
    for environment in ("current", "flag-live"):
        store = str(folder / f"{environment}.sqlite")
        probing = run(TUNER, "probe", "--json", "--python", python_of(environment), "--store", store, *MODELS)
        documents = json.loads(probing.stdout)["results"]
        save_summaries(f"probe-{environment}.json", documents)
        write(
            f"probe-{environment}.md",
            f"# All published configurations, probed in `{environment}`",
            shell_block("tuner", "probe", "--json", "--python", python_of(environment), "examples/models/*"),
            probe_table(documents, f"probe-{environment}.json"),
            footer("evidence"),
        )


def save_summaries(name: str, documents: list[dict]) -> None:
    """The short documents beside a page."""
    text = json.dumps([summary(document) for document in documents], indent=1)
    (PAGES / name).write_text(bare(text) + "\n", encoding="utf-8")


def probe_table(documents: list[dict], details: str) -> str:
    """How many models were judged, and a table with a line for each."""
    with_verdict = [document for document in documents if document.get("verdict") not in (None, "inconclusive")]
    heads = ("model", "verdict", "MoE layers", "seconds", "replaced, or what stopped it")
    seconds = f"importing vLLM took {import_seconds(documents):.1f} s, once a worker."
    parts = [
        f"{len(with_verdict)} of {len(documents)} judged. `{details}` has reasons, witnesses and assumptions.",
        table(heads, [probe_row(document) for document in documents]),
        "MoE layers are those of the shrunk model. Seconds are all of a model's stages; " + seconds,
    ]
    return "\n\n".join(parts)


def summary(document: dict) -> dict:
    """The short form of a model's document."""
    if "error" in document:
        return {"model": document["model"]["name"], "error": document["error"]}
    evidence = document["evidence"]
    return {
        "model": document["model"]["name"],
        "environment": {name: document["environment"][name] for name in ("vllm", "torch", "platform", "flag_status")},
        "verdict": document["verdict"],
        "reasons": [reason["text"] for reason in document["reasons"]],
        "witness": document["witness"],
        "compilation_config": document["launch"]["compilation_config"],
        "scenarios": len(evidence["scenarios"]),
        **{name: evidence[name] for name in ("registered", "assumptions", "counter", "seconds")},
    }


def probe_row(document: dict) -> tuple[str, ...]:
    """One line of the table."""
    name = Path(document["model"]["name"]).name
    if "error" in document:
        return name, "none", "", "", f"{document['error']['kind']}: {document['error']['message'][:160]}"
    evidence = document["evidence"]
    spent = sum(seconds for stage, seconds in evidence["seconds"].items() if stage != "import")
    stubs = {item["kind"] for item in evidence["assumptions"]} & {"attention_stubbed", "experts_stubbed"}
    return name, document["verdict"], str(len(evidence["registered"])), f"{spent:.1f}", ", ".join(sorted(stubs))


def import_seconds(documents: list[dict]) -> float:
    """Seconds of vLLM's import in the run that made these documents."""
    return max(document["evidence"]["seconds"]["import"] for document in documents if "evidence" in document)


def serve_page(folder: Path) -> None:
    """Real servers of each release: which completions are wrong, and which flag the engine reports."""
    two_sets = {environment: two_sets_arms(folder, environment) for environment in FLAG_LIVE}
    newest = two_sets["flag-live"]
    answers = list(zip(PROMPTS, *(arm["answers"] for arm in newest.values()), strict=True))
    uniform = [uniform_row(folder, environment) for environment in (*FLAG_LIVE, "current")]
    write(
        "serve.md",
        "# Real servers: the corruption, and the launch without it",
        "## A model with two expert sets a layer, of which it runs one",
        "The checkpoint is made by `examples/tiny_checkpoint.py --kind two-expert-sets`; "
        f"greedy completions of 24 tokens over HTTP, {len(PROMPTS)} prompts, vLLM on a CPU.",
        shell_block("vllm", "serve", "CHECKPOINT", *SERVE, "--compilation-config", '{"fast_moe_cold_start": true}'),
        shell_block("tuner", "probe", "CHECKPOINT") + "\n\n" + shell_block("tuner", "serve", "CHECKPOINT", *SERVE),
        "The second column counts the completions that differ from those with the flag off. No server logs an error.",
        table(
            (
                "environment",
                "flag true: completions that differ",
                "tuner serve: completions that differ",
                "stderr of tuner",
            ),
            [two_sets_row(environment, arms) for environment, arms in two_sets.items()],
        ),
        "The completions in vLLM 0.19.1:",
        table(("prompt", *newest), answers),
        "## A uniform model through `tuner serve` in every environment",
        table(("environment", "stderr of tuner", "key in the argument list", "the engine's own log line"), uniform),
        footer("evidence"),
    )


def two_sets_arms(folder: Path, environment: str) -> dict[str, dict]:
    """Three servers of one checkpoint: with the flag off, with the flag on, and under `tuner serve`."""
    model = checkpoint(folder, environment, "two-expert-sets")
    vllm = str(ROOT / ".envs" / environment / "bin" / "vllm")
    arms = {}
    for flag in ("false", "true"):
        setting = ("--compilation-config", f'{{"fast_moe_cold_start": {flag}}}')
        command = (vllm, "serve", model, *SERVE, *setting)
        arms[f"vllm serve, flag {flag}"] = serve(command, folder / f"{environment}-{flag}")
    arms["tuner serve"] = serve_by_tuner(environment, model, folder / f"{environment}-tuned")
    return arms


def two_sets_row(environment: str, arms: dict[str, dict]) -> tuple[str, ...]:
    """One environment's line about the model with two expert sets."""
    right = arms["vllm serve, flag false"]["answers"]
    return (
        environment,
        str(differing(right, arms["vllm serve, flag true"]["answers"])),
        str(differing(right, arms["tuner serve"]["answers"])),
        arms["tuner serve"]["stderr"],
    )


def differing(right: list[str], answers: list[str]) -> int:
    """How many completions differ from the right ones."""
    return sum(answer != expected for answer, expected in zip(answers, right, strict=True))


def checkpoint(folder: Path, environment: str, kind: str) -> str:
    """A thin checkpoint, written with the libraries of an environment."""
    model = folder / f"{environment}-{kind}"
    subprocess.run(
        [ROOT / python_of(environment), ROOT / "examples" / "tiny_checkpoint.py", model, "--kind", kind],
        cwd=folder,
        check=True,
    )
    return str(model)


def serve(command: tuple[str, ...], folder: Path) -> dict:
    """Start a server, ask every prompt, stop it."""
    with running_server(command, folder, {**PLUGIN, **preload_variables()}) as server:
        text = server.log_text()
        return {
            "answers": [server.complete(prompt) for prompt in PROMPTS],
            "flag": effective_flag(text),
            "arguments": server.arguments(),
            "stderr": next((line for line in text.splitlines() if line.startswith("tuner: ")), ""),
        }


def preload_variables() -> dict[str, str]:
    """LD_PRELOAD with the two libraries that vLLM 0.18.1 for the CPU needs there to start."""
    allocator = ctypes.util.find_library("tcmalloc_minimal")
    if allocator is None:
        sys.exit(
            "libtcmalloc_minimal.so.4 is not here, and vLLM 0.18.1 does not start without it "
            "(Debian: libtcmalloc-minimal4)."
        )
    return {"LD_PRELOAD": f"{ROOT / '.envs' / 'flag-live' / 'lib' / 'libiomp5.so'}:{allocator}"}


def serve_by_tuner(environment: str, model: str, folder: Path) -> dict:
    """Probe a checkpoint, then serve it with the stored verdict."""
    folder.mkdir()
    options = ("--python", str(ROOT / python_of(environment)), "--store", str(folder / "verdicts.sqlite"))
    probing = run(TUNER, "probe", *options, model, extra=PLUGIN)
    if probing.returncode:
        sys.exit(probing.stderr)
    return serve((TUNER, "serve", *options, "--on-missing", "fail", model, *SERVE), folder / "server")


def uniform_row(folder: Path, environment: str) -> tuple[str, ...]:
    """One environment's line about the uniform model."""
    model = checkpoint(folder, environment, "qwen3-moe")
    arm = serve_by_tuner(environment, model, folder / f"uniform-{environment}")
    present = any("fast_moe_cold_start" in argument for argument in arm["arguments"])
    return environment, arm["stderr"], str(present), f"fast_moe_cold_start = {arm['flag']}"


LOOKUP = "# CPU time of look-ups, command start-up and checks"
READING = "Median over the rounds; the ratio is to the first line of the table in the same round."


def bench_page(_: Path) -> None:
    """The benchmarks of look-ups and of checks, as they print themselves."""
    parts = [LOOKUP]
    for head, script in (("## Look-ups and starts", "benchmarks/lookup.py"), ("## Checks", "benchmarks/check.py")):
        parts += [head, shell_block(".venv/bin/python", script), run(sys.executable, script).stdout.strip()]
    write("benchmarks.md", *parts, READING, footer("evidence"))


def bad_input_page(folder: Path) -> None:
    """Faulty models and environments: the message, the exit code, and whether the store is unchanged."""
    store = folder / "verdicts.sqlite"
    good = run(TUNER, "probe", "--python", python_of("current"), "--store", str(store), MIXTRAL)
    before = hashlib.sha256(store.read_bytes()).hexdigest()
    rows = []
    for fault, arguments in faulty_inputs(folder).items():
        probing = run(TUNER, "probe", "--store", str(store), *arguments)
        same = hashlib.sha256(store.read_bytes()).hexdigest() == before
        message = error_message(probing.stderr, folder)
        rows.append((fault, str(probing.returncode), message, "unchanged" if same else "CHANGED"))
    write(
        "bad-input.md",
        "# Bad input",
        shell_block("tuner", "probe", "--python", "PYTHON", "--store", "STORE", "MODEL"),
        f"Before, the store held one verdict (exit code {good.returncode}). Killed and hanging workers, a full disk "
        "and a vLLM that does not import are in `tests/test_probe_vllm.py` and `tests/test_cli_bad_input.py`.",
        table(("fault", "exit code", "stderr", "store"), rows),
        footer("evidence"),
    )


def error_message(stderr: str, folder: Path) -> str:
    """The tuner's message on stderr, as one short line without folders of this machine."""
    text = stderr.replace(str(folder), "FOLDER").replace(f"{ROOT}/", "")
    message = text.split("tuner: ", 1)[-1]
    return " ".join(message.split())[:300]


def exports_page(_: Path) -> None:
    """Every export format, against schemas and real parsers."""
    make_exports.main()


def faulty_inputs(folder: Path) -> dict[str, list[str]]:
    """Fault -> the arguments that show it."""
    current = ["--python", python_of("current")]
    config = json.loads((ROOT / MIXTRAL / "config.json").read_text())
    configs = {
        "not JSON": "{",
        "no architectures": json.dumps({**config, "architectures": []}),
        "unknown architecture": json.dumps({**config, "architectures": ["NoSuchForCausalLM"]}),
        "0 layers": json.dumps({**config, "num_hidden_layers": 0}),
        "10^9 experts": json.dumps({**config, "num_local_experts": 10**9}),
    }
    faults = {"missing folder": [*current, str(folder / "nowhere")], "config.json absent": [*current, str(folder)]}
    for name, text in configs.items():
        model = folder / name.replace(" ", "-")
        model.mkdir()
        (model / "config.json").write_text(text)
        faults[name] = [*current, str(model)]
    text_file = folder / "python"
    text_file.write_text("no program\n")
    faults["Python that is not Python"] = ["--python", str(text_file), MIXTRAL]
    faults["Python without vLLM"] = ["--python", sys.executable, MIXTRAL]
    return faults


if __name__ == "__main__":
    main()
