"""The fault, its cure, and what the tuner says of published models and of today's vLLM.

    make demo

A plain server and one that the tuner starts run the same model in vLLM 0.19.1, and answer the same prompts.
Everything is written below `.cache/demo`, and a second run starts afresh.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from vllm_server import SERVER_ENVIRONMENT, Server, effective_flag, running_server

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
WORK = ROOT / ".cache" / "demo"
FLAG_LIVE = ROOT / ".envs" / "flag-live" / "bin"
CURRENT = ROOT / ".envs" / "current" / "bin"
TOOL = Path(sys.executable).parent
MODEL = "two-expert-sets"
SAFE = "Qwen--Qwen3-30B-A3B"
UNSAFE = "baidu--ERNIE-4.5-VL-28B-A3B-PT"
SERVE_ARGUMENTS = (MODEL, "--enforce-eager", "--max-model-len", "256")
PROMPTS = ("the river carries", "a teacher remembers stories of")
WORDS = 10
"""Words of each answer that are printed. Later words may differ from the reference by rounding alone."""
WIDTH = 80
CONTRADICTS = 5
"""Exit code of `tuner confirm` for a server that runs otherwise than decided."""


def main() -> None:
    """Run the steps in order; the first that does not end as it should ends the demo."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    for model in (SAFE, UNSAFE):
        shutil.copytree(EXAMPLES / "models" / model, WORK / model)
    show_the_fault()
    judge_published_models()
    look_at_todays_vllm()


def show_the_fault() -> None:
    """One model, one vLLM, two starts: the plain one answers wrongly, the tuner's rightly."""
    step(
        "1. The fault: vLLM 0.19.1, nothing set",
        "A small model has two sets of experts in each layer and uses one of them. It comes from the vLLM plugin "
        "in examples/two_expert_sets. First the tuner judges it, without its weights.",
    )
    variables = serving_variables(FLAG_LIVE, PYTHONPATH=str(EXAMPLES / "two_expert_sets"))
    script(variables, "tiny_checkpoint.py", MODEL, "--kind", MODEL)
    run(variables, "tuner", "probe", MODEL)
    reference = json.loads(script(variables, "own_answers.py", MODEL, *PROMPTS))
    explain("Now the model is served twice, by vLLM itself and through the tuner. Both starts take about a minute.")
    commands = [("vllm", "serve", *SERVE_ARGUMENTS), ("tuner", "serve", *SERVE_ARGUMENTS)]
    begin = time.monotonic()
    with ExitStack() as stack, ThreadPoolExecutor() as starts:
        for command in commands:
            print(f"$ {shlex.join(command)} &", flush=True)
        vllm, tuned = starts.map(lambda command: stack.enter_context(server_of(command, variables)), commands)
        print(f"Both are up after {time.monotonic() - begin:.0f} s.\n")
        explain(
            f"`right` is what the model's own code answers, without vLLM. vLLM runs with fast_moe_cold_start="
            f"{effective_flag(vllm.log_text())}, and its log has no error. The tuner's server runs with "
            f"{effective_flag(tuned.log_text())}."
        )
        for prompt, right in zip(PROMPTS, reference, strict=True):
            texts = {"right": right, **answers(prompt, vllm=vllm, tuner=tuned)}
            print(side_by_side(prompt, texts), flush=True)
        explain("`tuner confirm` compares a server's log with the decision. It ends with 5 for the plain server.")
        plan = ("tuner", "plan", "--json", MODEL, "--", *SERVE_ARGUMENTS[1:])
        print(f"$ {shlex.join(plan)} > plan.json", flush=True)
        (WORK / "plan.json").write_bytes(subprocess.check_output(plan, cwd=WORK, env=variables))
        run(variables, "tuner", "confirm", "vllm/server.log", "--decision", "plan.json", ends_with=CONTRADICTS)
        run(variables, "tuner", "confirm", "tuner/server.log", "--decision", "plan.json")


def judge_published_models() -> None:
    """Two published models, a safe and an unsafe one, and the launches that follow."""
    step(
        "2. Two published models in the same vLLM",
        "The tuner reads config.json alone: it needs no weights and no GPU. Qwen3 calls every MoE layer in order. "
        "ERNIE leaves layers out in a pass that is only text; no rule names it, it is run and watched.",
    )
    variables = serving_variables(FLAG_LIVE)
    run(variables, "tuner", "probe", SAFE, UNSAFE)
    explain("The launches that follow. Qwen3 may use the fast start. ERNIE may not.")
    run(variables, "tuner", "serve", "--dry-run", SAFE, "--max-model-len", "32768")
    run(variables, "tuner", "serve", "--dry-run", UNSAFE)
    explain("A page for a colleague: open .cache/demo/report.html in a browser.")
    run(variables, "tuner", "report", UNSAFE, "--output", "report.html")


def look_at_todays_vllm() -> None:
    """A vLLM that forces the flag off: what the tuner is for there."""
    step(
        "3. Today's vLLM",
        "From 0.20 on a stock vLLM switches the flag off by itself, so nothing is written. The tuner still finds "
        "launches that would not start, and compile caches that would be lost.",
    )
    variables = serving_variables(CURRENT)
    run(variables, "tuner", "env")
    run(variables, "tuner", "serve", "--dry-run", SAFE, "--max-model-len", "32768")
    shutil.copy(EXAMPLES / "deployment.yaml", WORK)
    run(variables, "tuner", "check", "deployment.yaml", ends_with=1)
    explain(
        "`tuner tune` tries a launch with other engine settings and finds those that answer rightly; it takes "
        "minutes and is best on a GPU. docs/wrong-answers.md shows how."
    )


def serving_variables(environment: Path, **more: str) -> Mapping[str, str]:
    """Variables with which `vllm` is the one of an environment and `tuner` the one of this checkout."""
    path = os.pathsep.join([str(environment), str(TOOL), os.environ.get("PATH", os.defpath)])
    store = str(WORK / "verdicts.sqlite")
    return {**os.environ, **SERVER_ENVIRONMENT, "PATH": path, "TUNER_STORE": store, **more}


def server_of(command: Sequence[str], variables: Mapping[str, str]) -> AbstractContextManager[Server]:
    """A server that starts when it is entered; its log lies in a folder with the name of the program."""
    program, *arguments = command
    executable = shutil.which(program, path=variables["PATH"])
    return running_server((str(executable), *arguments), WORK / program, variables, workplace=WORK)


def answers(prompt: str, **servers: Server) -> dict[str, str]:
    """Server -> its answer to a prompt."""
    return {name: server.complete(prompt) for name, server in servers.items()}


def side_by_side(prompt: str, texts: Mapping[str, str]) -> str:
    """The first words of each text, one line below the other, so that a difference is easy to see."""
    lines = [f"prompt  {prompt}"]
    for name, text in texts.items():
        lines += textwrap.wrap(f"{name:7} {' '.join(text.split()[:WORDS])}", WIDTH, subsequent_indent=" " * 8)
    return "\n".join([*lines, ""])


def step(title: str, text: str) -> None:
    """Print the title of a step, and what the step shows."""
    print(f"\n=== {title}\n")
    explain(text)


def explain(text: str) -> None:
    """Print one paragraph."""
    print(textwrap.fill(text, WIDTH), end="\n\n", flush=True)


def run(variables: Mapping[str, str], *command: str, ends_with: int = 0) -> None:
    """Run a command and show it as typed; another exit code than the expected one ends the demo."""
    print(f"$ {shlex.join(command)}", flush=True)
    program = str(shutil.which(command[0], path=variables["PATH"]))
    process = subprocess.run([program, *command[1:]], cwd=WORK, env=variables, check=False)
    if ends_with:
        print(f"(exit code {process.returncode})")
    print(flush=True)
    if process.returncode != ends_with:
        sys.exit(f"demo: the command ended with {process.returncode}, not with {ends_with}")


def script(variables: Mapping[str, str], name: str, *arguments: str) -> str:
    """What a script of this folder prints; the Python of the serving environment runs it."""
    python = str(shutil.which("python", path=variables["PATH"]))
    return subprocess.check_output([python, EXAMPLES / name, *arguments], cwd=WORK, env=variables, text=True)


if __name__ == "__main__":
    main()
