"""What `tuner check` says of FlashInfer's autotune: where its result is lost, and where it may hang a later start."""

import json
from pathlib import Path

import pytest

from cache.verdicts.store import VerdictStore
from tuner.checks.check import check
from tuner.checks.examine import Knowledge
from tuner.checks.finding import LaunchFinding

RULES = {"autotune-lost", "autotune-may-hang"}
HOME = "/root"
"""Of the user in vLLM's images."""
CLAIM = "{name: c, persistentVolumeClaim: {claimName: c}}"
EMPTY = "{name: c, emptyDir: {}}"
TWO = ("--tensor-parallel-size", "2")


def findings(
    tmp_path: Path,
    *args: str,
    vllm: str = "0.32.0",
    mount: str = f"{{name: c, mountPath: {HOME}/.cache}}",
    volume: str = CLAIM,
    kind: str = "Deployment",
    image: str = "vllm/vllm-openai",
    env: str = "[]",
) -> list[LaunchFinding]:
    """What the two rules see in a manifest whose mount stands on line 12."""
    text = (
        f"apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: d}}\nspec:\n  template:\n    spec:\n"
        f"      containers:\n      - name: v\n        image: {image}:v{vllm}\n"
        f"        args: {json.dumps(['--model', 'm', *args])}\n        env: {env}\n"
        f"        volumeMounts: [{mount}]\n      volumes: [{volume}]\n"
    )
    file = tmp_path / "m.yaml"
    file.write_text(text, encoding="utf-8")
    checked = check([file], Knowledge(VerdictStore(tmp_path / "store")))
    assert checked.launches
    return [finding for finding in checked.findings if finding.rule.id in RULES]


def seen(tmp_path: Path, *args: str, **changes: str) -> list[tuple[str, str, int]]:
    """Rule, level and line of each."""
    return [(f.rule.id, str(f.level), f.line) for f in findings(tmp_path, *args, **changes)]


LOST, HANGS = ("autotune-lost", "note"), ("autotune-may-hang", "note")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"mount": "{name: c, mountPath: /models}"}, 8),
        ({"volume": EMPTY}, 12),
        ({"mount": f"{{name: c, mountPath: {HOME}/.cache, readOnly: true}}"}, 12),
        ({"env": "[{name: VLLM_FLASHINFER_AUTOTUNE_CACHE_DIR, value: /tuned}]"}, 8),
        ({"env": "[{name: VLLM_CACHE_ROOT, value: /elsewhere}]"}, 8),
        ({"mount": "{name: c, mountPath: /models}", "vllm": "0.26.0"}, 8),
    ],
)
def test_a_result_that_cannot_stay(changes: dict[str, str], line: int, tmp_path: Path) -> None:
    """No volume, one that goes with the pod, or one that is read-only: a note at the mount, or at the launch."""
    (finding,) = findings(tmp_path, **changes)
    assert (finding.rule.id, str(finding.level), finding.line) == (*LOST, line)
    assert "give --no-enable-flashinfer-autotune, which may make each step slower." in finding.message


@pytest.mark.parametrize(
    ("args", "changes"),
    [
        ([], {"volume": CLAIM}),
        (["--no-enable-flashinfer-autotune"], {"volume": EMPTY}),
        (["--enable-flashinfer-autotune"], {"volume": EMPTY}),
        (["--kernel-config", '{"enable_flashinfer_autotune": false}'], {"volume": EMPTY}),
        (["-O0"], {"volume": EMPTY}),
        (["--config", "/etc/v.yaml"], {"volume": EMPTY}),
        ([], {"volume": EMPTY, "vllm": "0.24.0"}),
        ([], {"volume": EMPTY, "vllm": "0.34.0"}),
        (TWO, {"volume": EMPTY, "vllm": "0.26.0"}),
        ([], {"volume": EMPTY, "image": "vllm/vllm-openai-rocm"}),
        ([], {"volume": EMPTY, "kind": "Job"}),
        ([], {"volume": EMPTY, "env": "[{name: VLLM_CACHE_ROOT, valueFrom: {}}]"}),
        ([], {"volume": EMPTY, "env": "[{name: VLLM_FLASHINFER_AUTOTUNE_CACHE_DIR, valueFrom: {}}]"}),
    ],
)
def test_where_nothing_is_lost(args: list[str], changes: dict[str, str], tmp_path: Path) -> None:
    """What stays, what the user decided, what this release would not keep anyway, and what is not known."""
    assert seen(tmp_path, *args, **changes) == []


@pytest.mark.parametrize("vllm", ["0.27.0", "0.28.0", "0.31.0"])
@pytest.mark.parametrize("args", [TWO, ("-pp", "2"), ("--data-parallel-size", "2")])
def test_a_start_that_may_hang(args: tuple[str, ...], vllm: str, tmp_path: Path) -> None:
    """Several ranks that find what an earlier start left on a volume; the message says what to do."""
    (finding,) = findings(tmp_path, *args, vllm=vllm)
    assert (finding.rule.id, str(finding.level), finding.line) == (*HANGS, 12)
    assert f"vLLM {vllm} with several ranks may hang" in finding.message
    assert f"or empty {HOME}/.cache/vllm/flashinfer_autotune_cache before each start." in finding.message


@pytest.mark.parametrize(
    ("args", "changes"),
    [
        ([], {"vllm": "0.28.0"}),
        (TWO, {"vllm": "0.26.0"}),
        (TWO, {"vllm": "0.32.0"}),
        ([*TWO, "--no-enable-flashinfer-autotune"], {"vllm": "0.28.0"}),
        (["--tensor-parallel-size", "$(N)"], {"vllm": "0.28.0"}),
    ],
)
def test_starts_that_do_not_hang(args: list[str], changes: dict[str, str], tmp_path: Path) -> None:
    """One rank, another release, autotune off, or a number of ranks that is not known."""
    assert seen(tmp_path, *args, **changes) == []


def test_an_emptydir_outlives_a_container(tmp_path: Path) -> None:
    """Of several ranks it loses the result with the pod, and may hang a container that starts again in it."""
    assert seen(tmp_path, *TWO, vllm="0.28.0", volume=EMPTY) == [(*LOST, 12), (*HANGS, 12)]


def test_a_kernel_config_that_is_refused_ends_no_check(tmp_path: Path) -> None:
    """What vLLM refuses says nothing of autotune, whose default holds."""
    assert seen(tmp_path, "--kernel-config", "nonsense", volume=EMPTY) == [(*LOST, 12)]
