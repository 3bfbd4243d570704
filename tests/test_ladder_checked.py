"""`tuner check` and `tuner apply` on launches whose arms were tried: what is found, what is written, what stays."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, INERT, MIXTRAL, SETTABLE, Answer, sample, serving_in, tuner
from ladders import (
    FUSION,
    WRONG_COMPILED,
    WRONG_FULL,
    WRONG_GRAPHS,
    remember_one,
    with_backend,
    without_computing_variables,
    without_fusion,
)

from rules.arms import LAUNCH
from tuner.manifests.find import launches_in

RULE = "setting-wrong"
CONFIG = "--compilation-config"
FORMS = ("a list", "a list in brackets", "a line", "a systemd unit")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ladders of these tests were made without such variables."""
    without_computing_variables(monkeypatch)


class Desk:
    """One environment, saved; a store with the verdict of a model there; and manifests."""

    def __init__(self, folder: Path, versions: dict[str, str], environment: str, model: Path = MIXTRAL) -> None:
        self.model = model
        self.folder = folder
        self.serving = serving_in(folder / "serving", versions)
        self.store = folder / "verdicts.sqlite"
        self.serving.remember(self.store, self.model, sample(self.model, environment))
        self.saved = folder / "image.json"
        self.saved.write_text(tuner("env", "--json", "--python", self.serving.python).out, encoding="utf-8")

    def tuned(self, *args: str, **changes: Any) -> None:
        """Store the ladder of a launch; `changes` as for `ladders.ladder`."""
        remember_one(self.store, self.serving, self.model, args, **changes)

    def manifest(self, form: str, args: Sequence[str]) -> Path:
        """A file with one launch of the model."""
        path, text = written(form, [str(self.model), *args])
        file = self.folder / path
        file.write_text(text, encoding="utf-8")
        return file

    def check(self, file: Path, *options: object, code: int = 0) -> list[dict[str, Any]]:
        """The findings of the rule in a file."""
        where = ("--store", self.store, *(options or ("--environment", self.saved)))
        findings = tuner("check", "--json", *where, file, code=code).document["findings"]
        return [finding for finding in findings if finding["rule"] == RULE]

    def apply(self, file: Path, *options: object, code: int = 0) -> Answer:
        """What `tuner apply` says; with `--write` it edits the file."""
        return tuner("apply", "--store", self.store, "--environment", self.saved, *options, file, code=code)

    def args(self, file: Path) -> tuple[str, ...]:
        """The arguments behind the model in a file."""
        (launch,) = launches_in(file.name, file.read_text(encoding="utf-8"))
        assert launch.args[0] == str(self.model)
        return launch.args[1:]


def written(form: str, args: Sequence[str]) -> tuple[str, str]:
    """A file's name and text that starts vLLM with these arguments."""
    pod = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n"
    pod += "    image: vllm/vllm-openai-cpu:v0.32.0\n    command: [vllm, serve]\n    args:"
    quoted = ["'" + arg.replace("'", "''") + "'" for arg in args]
    words = " ".join(f"'{arg}'" if "{" in arg else arg for arg in args)
    return {
        "a list": ("list.yaml", pod + "".join(f"\n    - {item}" for item in quoted) + "\n"),
        "a list in brackets": ("row.yaml", f"{pod} [{', '.join(quoted)}]\n"),
        "a line": ("start.sh", f"vllm serve {words}\n"),
        "a systemd unit": ("vllm.service", f"[Service]\nExecStart=/usr/bin/vllm serve {words}\n"),
    }[form]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Where the flag does nothing."""
    return Desk(tmp_path, INERT, "current")


CASES: dict[str, tuple[list[str], dict[str, Any], dict[str, Any], list[str], str]] = {
    "graphs": ([], {"wrong": WRONG_GRAPHS}, {"cudagraph_mode": "NONE"}, [], "Write cudagraph_mode=NONE."),
    "full graphs": (
        [CONFIG, '{"cudagraph_capture_sizes": [1, 2]}'],
        {"wrong": WRONG_FULL},
        {"cudagraph_capture_sizes": [1, 2], "cudagraph_mode": "PIECEWISE"},
        [],
        "Write cudagraph_mode=PIECEWISE.",
    ),
    "a pass": (
        [CONFIG, '{"pass_config": {"fuse_act_quant": false}}'],
        {"wrong": WRONG_COMPILED, "more": without_fusion()},
        {"pass_config": {"fuse_act_quant": False, FUSION: False}},
        [],
        f'Write pass_config={{"{FUSION}": false}}.',
    ),
    "a backend": (
        [],
        {"wrong": WRONG_COMPILED, "more": with_backend()},
        {},
        ["--moe-backend", "triton"],
        "Write --moe-backend triton.",
    ),
    "compiling": (
        [CONFIG, '{"cudagraph_capture_sizes": [1, 2]}'],
        {"wrong": WRONG_COMPILED},
        {"cudagraph_capture_sizes": [1, 2]},
        ["--enforce-eager"],
        "Write --enforce-eager.",
    ),
}
"""What is wrong -> the launch, its ladder, the compilation config and options that make it right, and the advice."""


def config_of(args: Sequence[str]) -> dict[str, Any]:
    """The one compilation config among arguments."""
    if CONFIG not in args:
        return {}
    assert list(args).count(CONFIG) == 1
    config: dict[str, Any] = json.loads(args[list(args).index(CONFIG) + 1])
    return config


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_a_wrong_setting_is_found_and_written_right(desk: Desk, case: str, form: str) -> None:
    """An error with exit 5 that names the change; `apply` writes it; then nothing is found and nothing is written."""
    own, changes, config, options, advice = CASES[case]
    desk.tuned("--port", "1", *own, **changes)
    file = desk.manifest(form, ["--port", "1", *own])
    (problem,) = desk.check(file, code=5)
    assert (problem["level"], problem["message"].endswith(advice)) == ("error", True)
    assert "the launch as it stands answers wrongly" in problem["message"].lower()
    desk.apply(file, "--write")
    args = desk.args(file)
    assert args[:2] == ("--port", "1")
    assert config_of(args) == config
    assert [arg for arg in args[2:] if arg != CONFIG and not arg.startswith("{")] == options
    after = file.read_text(encoding="utf-8")
    assert desk.check(file) == []
    desk.apply(file, "--write")
    assert file.read_text(encoding="utf-8") == after


def test_check_fix_writes_it(desk: Desk) -> None:
    """As `apply --write`, and nothing is left to report."""
    desk.tuned(wrong=WRONG_GRAPHS)
    file = desk.manifest("a list", [])
    tuner("check", "--fix", "--store", desk.store, "--environment", desk.saved, file, code=0)
    assert config_of(desk.args(file)) == {"cudagraph_mode": "NONE"}


@pytest.mark.parametrize("form", FORMS)
def test_a_launch_that_answers_rightly_is_left_alone(desk: Desk, form: str) -> None:
    """The twin without a finding: nothing is found, and not one byte changes."""
    desk.tuned("--port", "1")
    file = desk.manifest(form, ["--port", "1"])
    before = file.read_text(encoding="utf-8")
    assert desk.check(file) == []
    desk.apply(file, "--write")
    assert file.read_text(encoding="utf-8") == before


def test_the_ladder_of_another_launch_says_nothing(desk: Desk) -> None:
    """Its key is another one."""
    desk.tuned(wrong=WRONG_GRAPHS)
    assert desk.check(desk.manifest("a list", ["--max-num-seqs", "8"])) == []


def test_a_ladder_that_does_not_apply_is_a_note(desk: Desk) -> None:
    """The manifest sets a variable that the arms did not have; nothing is written."""
    desk.tuned(wrong=WRONG_GRAPHS, gpu="NVIDIA H200")
    file = desk.manifest("a list", [])
    (problem,) = desk.check(file)
    assert (problem["level"], "the arms were tried on NVIDIA H200" in problem["message"]) == ("note", True)
    assert desk.apply(file).out == ""


def test_a_launch_that_does_not_start_is_a_warning(desk: Desk) -> None:
    """It answers nobody wrongly; what starts is written."""
    made = remember_one(desk.store, desk.serving, MIXTRAL)
    arms = [
        {**arm, "status": "failed", "detail": "out of memory"} if arm["name"] == LAUNCH else arm for arm in made["arms"]
    ]
    desk.tuned(arms=arms)
    (problem,) = desk.check(desk.manifest("a list", []))
    assert problem["level"] == "warning"
    assert "out of memory" in problem["message"]


def test_a_match_by_the_version_alone_writes_nothing(desk: Desk) -> None:
    """The image says which vLLM serves, and not on what."""
    desk.tuned(wrong=WRONG_GRAPHS)
    file = desk.manifest("a list", [])
    before = file.read_text(encoding="utf-8")
    tuner("apply", "--write", "--store", desk.store, "--vllm-version", "0.32.0", file)
    assert file.read_text(encoding="utf-8") == before


# ---- the user's own values


OWN = '{"cudagraph_mode": "FULL", "pass_config": {"fuse_norm_quant": true, "fuse_act_quant": false}}'


@pytest.mark.parametrize("form", FORMS)
def test_a_value_of_the_users_changes_with_override_alone(desk: Desk, form: str) -> None:
    """Without it the launch is an error, and `apply` ends with 5 and leaves the file as it is."""
    desk.tuned(CONFIG, OWN, wrong=WRONG_GRAPHS)
    file = desk.manifest(form, [CONFIG, OWN, "--port", "1"])
    before = file.read_text(encoding="utf-8")
    (problem,) = desk.check(file, code=5)
    assert problem["message"].endswith("other values of them would be right: cudagraph_mode.")
    answer = desk.apply(file, "--write", code=5)
    assert "--override changes your values" in " ".join(answer.err.split())
    assert file.read_text(encoding="utf-8") == before
    desk.apply(file, "--write", "--override")
    assert config_of(desk.args(file)) == {**json.loads(OWN), "cudagraph_mode": "NONE"}
    assert desk.args(file)[-2:] == ("--port", "1")


def test_of_a_users_object_only_the_switch_at_fault_changes(desk: Desk) -> None:
    """The other switches of `pass_config` stay as they are."""
    desk.tuned(CONFIG, OWN, wrong=WRONG_COMPILED, more=without_fusion())
    file = desk.manifest("a list", [CONFIG, OWN])
    desk.apply(file, "--write", "--override")
    passes = {"fuse_act_quant": False, FUSION: False}
    assert config_of(desk.args(file)) == {"cudagraph_mode": "FULL", "pass_config": passes}


def test_where_only_eager_helps_a_graph_mode_of_the_users_goes(desk: Desk) -> None:
    """What the eager arm ran with is written; the other keys stay."""
    desk.tuned(CONFIG, OWN, wrong=WRONG_COMPILED)
    file = desk.manifest("a list", [CONFIG, OWN])
    desk.apply(file, "--write", code=5)
    desk.apply(file, "--write", "--override")
    assert config_of(desk.args(file)) == {**json.loads(OWN), "cudagraph_mode": "NONE"}
    assert "--enforce-eager" in desk.args(file)


def test_an_option_of_the_users_is_changed_by_hand(desk: Desk) -> None:
    """Only keys of the compilation config are changed, also with `--override`."""
    args = ["--moe-backend", "cutlass"]
    arms = remember_one(desk.store, desk.serving, MIXTRAL, args, wrong=WRONG_COMPILED, more=with_backend())["arms"]
    users = {"backend_triton": ["--moe-backend"], "eager": ["mode"]}
    desk.tuned(*args, arms=[{**arm, "users": users.get(arm["name"], [])} for arm in arms])
    file = desk.manifest("a list", args)
    before = file.read_text(encoding="utf-8")
    for options in ((), ("--override",)):
        answer = desk.apply(file, "--write", *options, code=5)
        assert "change your values by hand" in " ".join(answer.err.split())
    assert file.read_text(encoding="utf-8") == before


def test_override_changes_a_wrong_flag_and_a_wrong_setting(tmp_path: Path) -> None:
    """Each of two values of the user's, for its own reason."""
    desk = Desk(tmp_path, SETTABLE, "flag-live", ERNIE)
    own = '{"fast_moe_cold_start": true, "cudagraph_mode": "FULL"}'
    desk.tuned(CONFIG, own, wrong=WRONG_GRAPHS)
    file = desk.manifest("a line", [CONFIG, own])
    desk.apply(file, "--write", code=5)
    desk.apply(file, "--write", "--override")
    assert config_of(desk.args(file)) == {"cudagraph_mode": "NONE", "fast_moe_cold_start": False}
    assert desk.check(file) == []
