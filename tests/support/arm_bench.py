"""Test support: an environment with a GPU, and a script in the place of the worker of arms.

No engine runs: one takes a minute to start and needs a GPU. The processes, signals, time limits and files are real.
tests/test_ladder_vllm.py starts real engines.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_environment import MIXTRAL, Answer, sample, serving_in, tuner
from ladder_samples import answer, entering

from rules.report import ArmRun
from tuner.arguments.serve_arguments import parse
from tuner.cli.inputs import Inputs, Launching, planned
from tuner.engines.engines import EngineLaunch, Supervision
from tuner.ladder import climb
from tuner.ladder.climb import Climb
from tuner.processes.log_tail import ignored

ON_CUDA = {"vllm": "0.26.0", "torch": "2.11.0"}
"""Where the flag does nothing, and CUDA graphs are there."""
STAND_IN = '''
import json, os, subprocess, sys, time
from pathlib import Path

control, folder = Path(sys.argv[1]), Path({folder!r})


def write(name, value):
    (control / "draft").write_text(json.dumps(value))
    (control / "draft").rename(control / name)


def behind(args, option):
    """The value of an option; None without it."""
    return args[args.index(option) + 1] if option in args else None


def name_of(args):
    """The arm that has these arguments; an engine that is started again has the name of the first."""
    config = json.loads(behind(args, "--compilation-config") or "{{}}")
    graphs, mode = config.get("cudagraph_mode"), config.get("mode")
    off = [name for name, is_on in config.get("pass_config", {{}}).items() if not is_on]
    ending = "_eager" if "--enforce-eager" in args else ""
    ending = "_float32" if behind(args, "--dtype") == "float32" else ending
    ending = ending or ("_compiled" if graphs == "NONE" else "")
    if behind(args, "--moe-backend"):
        return f"backend_{{behind(args, '--moe-backend')}}{{ending}}"
    if off:
        return f"without_{{off[0]}}{{ending}}"
    if "--enforce-eager" in args:
        return "eager" + ending.replace("_eager", "")
    if mode == 0:
        return "not_compiled_without_graphs" if graphs == "NONE" else "not_compiled"
    if ending:
        return f"compiled{{ending.replace('_compiled', '')}}"
    modes = {{"PIECEWISE": "piecewise", "FULL_DECODE_ONLY": "full_decode", "FULL_AND_PIECEWISE": "full"}}
    return modes.get(graphs, "as_launched")


def behaviour(name):
    """What an arm does; of a list, the next."""
    acts = json.loads((folder / "acts.json").read_text())
    act = acts.get(name, "answers")
    if isinstance(act, list):
        act, acts[name] = act[0], act[1:] or act[0]
        (folder / "acts.json").write_text(json.dumps(acts))
    return act


request = json.loads((control / "request.json").read_text())
print("(MainProcess pid=7) INFO 11-29 17:04:26 [loader.py:9] Loading weights took 3.1 s", flush=True)
answers = json.loads((folder / "answers.json").read_text())
write("ready.json", {{"result": "ok"}})
for number, engine in enumerate(request["engines"]):
    name = name_of(engine["args"])
    act = behaviour(name)
    if act == "needs plain weights":
        act = "is refused" if "quantization_config" in request["thin"]["config"] else "answers"
    with (folder / "seen.jsonl").open("a") as seen:
        thin = request["thin"]["config"]
        line = {{"name": name, "args": engine["args"], "pid": os.getpid(), "act": act, "thin": thin}}
        seen.write(json.dumps(line) + "\\n")
    if act == "hangs":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (folder / "hanging").write_text(f"{{os.getpid()}} {{child.pid}}")
        time.sleep(600)
    if act == "takes its time":
        time.sleep(1.5)
        act = "answers"
    if act == "dies":
        sys.exit(7)
    eager = "--enforce-eager" in engine["args"]
    became = {{"mode": "NONE" if eager else "VLLM_COMPILE", "cudagraph_mode": "NONE" if eager else "FULL"}}
    made = answers[act]
    if "engine" in made.get("arm", {{}}):
        made["arm"]["engine"] = {{**made["arm"]["engine"], **became, "enforce_eager": eager}}
    write(f"result-{{number}}.json", made)
'''


def arm_answer(by: float = 0.0, **changes: Any) -> dict[str, Any]:
    """What the worker answers of an arm that runs; its log-probabilities lie `by` nats below those of others."""
    prompts = [answer(f"one_token_{index}", by, alone=True, likeliest=[index, int(by * 10)]) for index in range(3)]
    prompts.append(answer("one_token_0_again", by, alone=True, repeats="one_token_0"))
    arm = {
        "prompts": prompts,
        "inputs": [entering(f"one_token_{index}", 10.0 + index) for index in range(3)],
        "engine": {"dtype": "bfloat16", "moe_backend": "auto"},
        "passes": {"fuse_norm_quant": True, "eliminate_noops": True, "fuse_gemm_comms": False},
        "backends": {"chosen": ["TRITON"], "candidates": ["triton", "marlin"]},
        "seconds": {"ready": 30.0, "step": 0.0125},
        "cache": 3 << 20,
        "changed": ["a thin model with random weights stands for the real one"],
        **changes,
    }
    return {"result": "ok", "arm": arm}


FROZEN = [entering(f"one_token_{index}", 0.0) for index in range(3)]
ANSWERS = {
    "answers": arm_answer(),
    "is fast": arm_answer(seconds={"ready": 3.0, "step": 0.001}),
    "is apart": arm_answer(0.9),
    "is frozen": arm_answer(inputs=FROZEN),
    "is noisy": arm_answer(prompts=[answer("a"), answer("a_again", 0.5, repeats="a")]),
    "is not a number": arm_answer(prompts=[answer("a", made=[None, None, None]), answer("a_again", repeats="a")]),
    "answers fewer prompts": arm_answer(prompts=[answer("one_token_0", alone=True)]),
    "answers nonsense": {"result": "ok", "arm": {"prompts": 3}},
    "answers damaged prompts": arm_answer(prompts=[{"name": 7}]),
    "answers too much": arm_answer(prompts=[answer(f"prompt_{index}") for index in range(5000)]),
    "is refused": {"result": "failed", "message": "ValueError: no memory", "where": "vllm/x.py:1"},
    "ends": {"result": "ended", "how": "killed by SIGABRT"},
}
"""What the worker answers of an arm, by what the arm does.

Besides, an arm `hangs`, `takes its time`, `needs plain weights`, or its worker `dies`.
"""
Act = str | list[str]


class ArmBench:
    """An environment with a GPU, a store that knows the model, and a worker whose arms do what a test says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.store, self._monkeypatch = folder, folder / "verdicts.sqlite", monkeypatch
        monkeypatch.setattr("tuner.environment.environment.nvidia_gpus", lambda: ("NVIDIA H200",))  # a fake
        self.memory(None)
        self.serving = serving_in(folder / "env", ON_CUDA)
        script = folder / "worker.py"
        script.write_text(STAND_IN.format(folder=str(folder)), encoding="utf-8")
        monkeypatch.setattr(climb, "ARM_WORKER", script)
        (folder / "answers.json").write_text(json.dumps(ANSWERS), encoding="utf-8")
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(self.scratch))
        self.serving.remember(self.store, MIXTRAL, sample(MIXTRAL, "current"))
        self.arms()

    def memory(self, gib: float | None) -> None:
        """How much memory the GPU has; None if nobody tells."""
        memory = None if gib is None else int(gib * 2**30)
        self._monkeypatch.setattr("tuner.ladder.thin_arms.gpu_memory", lambda: memory)

    def arms(self, **acts: Act) -> None:
        """What arms do, always or in turn; the others answer rightly."""
        (self.folder / "acts.json").write_text(json.dumps(acts), encoding="utf-8")

    def climb(self, *args: str, limit: float = 30.0, seats: int = 1, model: Path = MIXTRAL, **changes: Any) -> Climb:
        """How the ladder of a launch is climbed here."""
        words = [str(model), *args]
        plan = planned(words, Inputs(str(self.serving.python), store=str(self.store)), Launching(), {})
        arguments = parse(words, vllm=plan.subject.environment.vllm)
        said: list[str] = []
        fields: dict[str, Any] = {"prefer": "", "finished": lambda _: None, **changes}
        watching = Supervision(fields.pop("say", said.append), limit, None, fields.pop("hear", ignored))
        return Climb(EngineLaunch(plan, arguments, {}), watching, seats, **fields)

    def tune(self, *args: object, launch: Sequence[str] = (), code: int) -> Answer:
        """Run `tuner tune` here."""
        return self.ask("tune", *args, MIXTRAL, "--", *launch, code=code)

    def ask(self, command: str, *args: object, code: int = 0) -> Answer:
        """Run another command here."""
        return tuner(command, "--python", self.serving.python, "--store", self.store, *args, code=code)

    def left(self) -> list[Path]:
        """Processes of the worker that still run, and folders of it that are still there."""
        hanging = self.folder / "hanging"
        pids = {engine["pid"] for engine in self.started()}
        if hanging.exists():
            pids |= {int(word) for word in hanging.read_text(encoding="utf-8").split()}
        return [*self.scratch.iterdir(), *(Path(f"/proc/{pid}") for pid in sorted(pids) if runs(pid))]

    def started(self) -> list[dict[str, Any]]:
        """The engines that were started, in order."""
        seen = self.folder / "seen.jsonl"
        return [json.loads(line) for line in seen.read_text(encoding="utf-8").splitlines()] if seen.exists() else []


def runs(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def named(arms: Sequence[ArmRun]) -> dict[str, ArmRun]:
    """Arms by name."""
    return {arm.name: arm for arm in arms}
