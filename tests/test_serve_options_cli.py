"""What `plan`, `export`, `serve` and `check` do with options that the release of the environment does not know."""

import json
from pathlib import Path

import pytest
from fake_environment import QWEN, Answer, Serving, tuner

UNKNOWN = [
    (["--compilation-config", '{"level": 3}'], "does not know level (a key until 0.18.0, then mode)"),
    (["--compilation-config", '{"static_all_moe_layers": []}'], "does not know static_all_moe_layers"),
    (["--compilation-config", '{"cudagraf_mode": "NONE"}'], "The nearest key is cudagraph_mode."),
    (["--cc", '{"mode": 3}'], "does not know the option --cc"),
    (["--swap-space", "4"], "--swap-space (an option until 0.18.0)"),
    (["--max-model-len", "abc"], "abc of --max-model-len"),
    (["--data-parallel-size-local", "2"], "vLLM refuses it"),
]
SCRIPT = """docker run vllm/vllm-openai:v0.19.1 --model Qwen/Qwen3-30B-A3B --cc '{"mode": 3}'
docker run vllm/vllm-openai:v0.19.1 --model Qwen/Qwen3-30B-A3B \\
  --port $PORT --swap-space 4 \\
  --dtype float17 --enforce-eager -cc.cudagraph_mode=FULL
docker run vllm/vllm-openai:v0.18.7 --model Qwen/Qwen3-30B-A3B --tensor-paralel-size 4
docker run somebody/vllm:latest --model Qwen/Qwen3-30B-A3B --swap-space 4
docker run vllm/vllm-openai:v0.19.1 --model Qwen/Qwen3-30B-A3B --tensor-parallel-size $TP --dtype $DTYPE
"""


@pytest.mark.parametrize(("args", "words"), UNKNOWN)
@pytest.mark.parametrize("command", [["plan"], ["export", "--format", "env"]])
def test_plan_and_export_end_with_2(
    command: list[str], args: list[str], words: str, serving: Serving, store: Path
) -> None:
    """Nothing is written, and the message names the option or key, when it was there, or what may be meant."""
    answer = tuner(*command, "--python", serving.python, "--store", store, QWEN, "--", *args, code=2)
    assert words in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(("args", "words"), UNKNOWN)
def test_serve_warns_and_starts(args: list[str], words: str, serving: Serving, store: Path) -> None:
    """VLLM has the last word: the command is the same, and stderr says what to expect."""
    answer = tuner("serve", "--dry-run", "--python", serving.python, "--store", store, QWEN, *args, code=0)
    assert words in answer.err
    assert args[0] in answer.out


def test_what_vllm_drops_is_a_warning_of_the_plan(serving: Serving, store: Path) -> None:
    """It starts, so the plan is made."""
    args = ["--enable-lora", "--no-enable-lora"]
    answer = tuner("plan", "--json", "--python", serving.python, "--store", store, QWEN, "--", *args, code=3)
    assert "contradict each other" in json.dumps(json.loads(answer.out)["warnings"])


def test_check_names_each_option_at_its_line(tmp_path: Path) -> None:
    """By the release of the image's tag; doubtful ones are warnings, unknown values and releases are not judged."""
    file = tmp_path / "run.sh"
    file.write_text(SCRIPT, encoding="utf-8")
    answer: Answer = tuner("check", "--json", file, code=1)
    findings = json.loads(answer.out)["findings"]
    places = [(f["line"], f["level"], f["rule"]) for f in findings if f["rule"].startswith("option")]
    assert places == [
        (1, "error", "option-unknown"),
        (3, "error", "option-unknown"),
        (4, "error", "option-value"),
        (4, "warning", "options-conflict"),
        (5, "warning", "option-unknown"),
    ]
    assert "Judged by the options of vLLM 0.18.1" in findings[-1]["message"] + answer.out


@pytest.mark.parametrize(
    "line",
    [
        '--enable-auto-tool-choice --served-model-name a "$@"',
        "m --data-parallel-size-local 4 $MORE",
        'm --headless --api-server-count 1 "${more[@]}"',
    ],
)
def test_a_hidden_argument_may_be_what_is_missing(line: str, tmp_path: Path) -> None:
    """A value, a model or another option that the list lacks may be among those that the file does not hold."""
    file = tmp_path / "run.sh"
    file.write_text(f"docker run vllm/vllm-openai:v0.19.1 {line}\n", encoding="utf-8")
    answer = tuner("check", "--json", file)
    assert [f["rule"] for f in json.loads(answer.out)["findings"] if f["rule"].startswith("option")] == []
