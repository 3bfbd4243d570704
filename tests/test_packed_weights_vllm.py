"""Quantised weights are made up in the layout of vLLM's own parameters, and an engine answers with them.

The experts of these formats need a GPU, or a CPU with AMX, which the machines of these tests may lack: their parameters
are drawn and unpacked without a kernel (`packed_layers.py`). Quantised linear layers run on every CPU.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ROOT
from real_engines import UNBOUND
from real_environment import python_of
from vllm_server import SERVER_ENVIRONMENT

from rules.answers import distance, read_answers
from rules.errors import TunerError
from tuner.engines.question import WorkerQuery, query_engines
from tuner.model.shrink import shrink
from tuner.verdicts.identity import ARM_WORKER

pytestmark = pytest.mark.vllm

FORMATS = (
    "mxfp4",
    "fp8 in blocks",
    "fp8, static",
    "modelopt nvfp4",
    "compressed-tensors nvfp4",
    "compressed-tensors w4a16",
    "awq",
    "gptq",
)
GAIN = 2.0
"""Of the weights of experts, as a multiple of 1/sqrt(inputs)."""
EXPERTS = "re:.*experts.*"
WEIGHTS = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True, "dynamic": False}
W4A16 = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": WEIGHTS, "input_activations": None}},
    "ignore": ["lm_head", EXPERTS, "re:.*gate"],
}
SMALL = ("--enforce-eager", "--max-model-len", "128", "--max-num-batched-tokens", "64", "--max-num-seqs", "4")
STAND_INS = ("--load-format", "dummy", "--skip-tokenizer-init")


@pytest.fixture(scope="module")
def drawn() -> dict[str, Any]:
    """Format -> what its experts became."""
    script = ROOT / "tests" / "support" / "packed_layers.py"
    words = [python_of("current"), script]
    paths = (ROOT / "tuner" / "engines" / "worker", ROOT / "tuner" / "processes" / "worker")
    environ = {**os.environ, **UNBOUND, "PYTHONPATH": ":".join(map(str, paths))}
    answer = subprocess.run(words, check=True, capture_output=True, text=True, env=environ)
    parts: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return parts


@pytest.mark.parametrize("name", FORMATS)
def test_experts_of_each_format_matter(drawn: dict[str, Any], name: str) -> None:
    """Unpacked, their numbers are finite, have the spread of weights that are not quantised, and no common part."""
    became = drawn[name]
    assert became.pop("drawn_alike")
    assert {shard: part["shape"] for shard, part in became.items()} == {"w13_": [512, 512], "w2_": [512, 256]}
    for part in became.values():
        assert part["finite"]
        assert part["experts_differ"]
        assert part["deviation"] == pytest.approx(GAIN, rel=0.15)
        assert abs(part["mean"]) < 0.05


def test_static_scales_of_inputs_have_room_for_large_inputs(drawn: dict[str, Any]) -> None:
    """Eight standard deviations: as a multiplier of 448, of 448 times 6, and as a divisor of it."""
    inputs = {name: drawn[name]["w13_"]["inputs"] for name in FORMATS}
    assert inputs["fp8, static"] == [pytest.approx(8 / 448, rel=1e-3)]
    assert inputs["modelopt nvfp4"] == [pytest.approx(8 / 448 / 6, rel=1e-3)]
    assert inputs["compressed-tensors nvfp4"] == [pytest.approx(448 * 6 / 8)]


def test_an_engine_answers_with_quantised_weights(tmp_path: Path) -> None:
    """Two engines of one model answer alike and with numbers, and say that they are quantised."""
    config = json.loads((ROOT / "examples" / "models" / "mistralai--Mixtral-8x7B-v0.1" / "config.json").read_text())
    thin = {**shrink(config).config, "quantization_config": W4A16}
    (tmp_path / "config.json").write_text(json.dumps(thin), encoding="utf-8")
    args = (str(tmp_path), *SMALL, *STAND_INS)
    more = {"thin": {"config": thin, "code": None}, "flag": None, "eager": False}
    engines = [{"args": list(args)}] * 2
    query = WorkerQuery("arm", args, 600, more=more, engines=engines, worker=ARM_WORKER)
    variables = {**os.environ, **SERVER_ENVIRONMENT, **UNBOUND}
    answers = list(query_engines(query, str(python_of("current")), lambda _control: variables))
    for answer in answers:
        assert not isinstance(answer, TunerError), f"{answer} {answer.hint}"
        assert answer["engine"]["quantization"] == "compressed-tensors"
        assert answer["engine"]["weights"] > 0
    first, second = [read_answers(answer) for answer in answers if isinstance(answer, dict)]
    apart = distance(first, second)
    assert not first.is_broken
    assert apart is not None
    assert apart.worst < 0.001
