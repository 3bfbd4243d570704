"""The table of options that may share a proof, against the configs that real releases of vLLM make."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from real_environment import ROOT, TARGETS, python_of

from rules.launch_key import SHARED

pytestmark = pytest.mark.vllm

WORKER = Path(__file__).parent / "support" / "vllm_fields.py"
MODELS = (
    "Qwen--Qwen3-30B-A3B",
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",  # attention and state space layers
    "deepseek-ai--DeepSeek-V3",  # latent attention, for which a CPU build changes the batch
    "Qwen--Qwen3-VL-30B-A3B-Instruct",
)
BESIDE: tuple[list[str], ...] = ([], ["--no-enable-chunked-prefill"], ["--max-num-seqs", "16"])
"""Options that decide what vLLM makes of a size."""
UNSEEN = ("current", "--reasoning-parser")
"""0.32.0 refuses it for a model without a tokenizer, which these folders lack. There it makes a reasoning config too
(`initialize_token_ids`, vllm/config/reasoning.py), and nothing else."""
VALUES = {
    "--max-model-len": ["64", "32768"],
    "--max-num-seqs": ["4", "512"],
    "--max-num-batched-tokens": ["1024", "16384"],
    "--gpu-memory-utilization": ["0.5"],
    "--generation-config": ["vllm"],
    "--override-generation-config": ['{"temperature": 0.5}'],
    "--max-logprobs": ["5", "-1"],
    "--reasoning-parser": ["qwen3"],
    "--served-model-name": ["x"],
    "--shutdown-timeout": ["5"],
    "--stream-interval": ["3"],
}


@dataclass(frozen=True)
class Configs:
    """A process that makes configs.

    Attributes:
        environment: its name.
        process: answers one list after another.
        log: what it prints.
        noise: names of fields that differ between two configs of one list.
    """

    environment: str
    process: subprocess.Popen[str]
    log: Path
    noise: set[str] = field(default_factory=set)

    def of(self, args: Sequence[str], *, cuda: bool) -> dict[str, str] | None:
        """The text of every field, by its dotted name; None where vLLM refuses the arguments."""
        assert self.process.stdin is not None
        print(json.dumps({"args": args, "cuda": cuda}), file=self.process.stdin, flush=True)
        fields: dict[str, str] | None = self.line().get("fields")
        return fields

    def changed(self, args: Sequence[str], more: Sequence[str], *, cuda: bool) -> set[str]:
        """Names of the fields that differ once there are more arguments; none where vLLM refuses them."""
        before, after = self.of(args, cuda=cuda), self.of([*args, *more], cuda=cuda)
        if before is None or after is None:
            return set()
        return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} - self.noise

    def line(self) -> Any:
        """The next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        return json.loads(line)


@contextmanager
def started(environment: str, folder: Path) -> Iterator[Configs]:
    """Start the process of one environment; it imports vLLM once."""
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    log = folder / "log.txt"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [python_of(environment), WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            cwd=folder,
            env={**os.environ, **quiet},
        ) as process,
    ):
        try:
            configs = Configs(environment, process, log)
            configs.line()
            yield configs
        finally:
            process.kill()


@pytest.fixture(scope="module", params=list(TARGETS))
def configs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configs]:
    """The configs of one serving environment."""
    with started(request.param, tmp_path_factory.mktemp(request.param)) as process:
        for cuda in (False, True):
            process.noise.update(process.changed([model_of(MODELS[0])], [], cuda=cuda))
        yield process


def model_of(name: str) -> str:
    """The folder of a published configuration."""
    return str(ROOT / "examples" / "models" / name)


def stray(option: str, changed: set[str]) -> set[str]:
    """The fields that are not in the option's line of the table, nor below one that is."""
    return {name for name in changed if not any(f"{name}.".startswith(f"{listed}.") for listed in SHARED[option])}


@pytest.mark.parametrize("option", SHARED)
def test_an_option_changes_no_field_but_those_of_the_table(option: str, configs: Configs) -> None:
    """On a CPU and as on a GPU, for models of several kinds, alone and beside options that decide what follows."""
    sizes = option.startswith("--max-") and option != "--max-logprobs"
    all_changed: set[str] = set()
    for model, beside, value, cuda in product(MODELS, BESIDE if sizes else BESIDE[:1], VALUES[option], (False, True)):
        args, more = [model_of(model), *beside], [option, value]
        changed = configs.changed(args, more, cuda=cuda)
        assert not stray(option, changed), (args, more, cuda)
        all_changed |= changed
    assert all_changed or (configs.environment, option) == UNSEEN


def test_a_field_that_is_not_in_the_table_is_noticed(configs: Configs) -> None:
    """An option with other fields than those of a line of the table does not pass for that line."""
    changed = configs.changed([model_of(MODELS[0])], ["--dtype", "float16"], cuda=True)
    assert stray("--max-num-seqs", changed) == {"model_config.dtype"}
    sizes = configs.changed([model_of(MODELS[0])], ["--max-num-seqs", "4"], cuda=True)
    assert "compilation_config.cudagraph_capture_sizes" in sizes
