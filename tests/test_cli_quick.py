"""`verdict` and `serve` have two parsers, a quick one and typer: they read the same options the same way."""

import contextlib
import gc
import io
import os
from pathlib import Path

import pytest
import typer
from fake_environment import LLAMA, MIXTRAL, OURS, QWEN, Answer, Serving, tuner

from tuner.cli import fast_path, own_options
from tuner.cli.app import app

M, Q = str(MIXTRAL), str(QWEN)


@pytest.fixture
def where(serving: Serving, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that name an environment and a store that knows Mixtral; both parsers see the same variables."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    serving.store_of(store, MIXTRAL)
    (tmp_path / "decision.json").write_text(tuner("export", M, "--python", serving.python, "--store", store).out)
    (tmp_path / "environment.json").write_text(tuner("env", "--python", serving.python, "--json").out)
    return ["--python", str(serving.python), "--store", str(store)]


def quickly(argv: list[str]) -> Answer | None:
    """What the quick parser answers; None if it leaves the command to typer."""
    out, err, code = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if not fast_path.try_fast_path(argv):
                return None
        except SystemExit as end:
            code = int(end.code or 0)
    assert gc.isenabled()
    out.seek(0)
    return Answer(code, out.read(), err.getvalue())


@pytest.mark.parametrize(("command", "table"), [("verdict", own_options.VERDICT), ("serve", own_options.SERVE)])
def test_both_know_the_same_options(command: str, table: dict[str, bool]) -> None:
    """An option that one of them gained is in the other."""
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    options = [each for each in parameters if each.param_type_name == "option" and each.name != "help"]
    assert table == {name: not option.is_flag for option in options for name in option.opts}


VERDICT = [
    ["-v", M],
    ["--json", M],
    [M, "--json"],
    [M],
    [Q],
    ["--trust-remote-code", M, "--model-impl", "auto"],
    ["--model-impl=transformers", M],
    ["--environment", "environment.json", M, "--json"],
    ["--accept-platform", "cuda", Q, "--json"],
    [M, "--accept-platform=cpu"],
    ["--store", "none", "--store", "verdicts.sqlite", M],
    ["--store", "--json", M],
    ["--revision", "main", "nowhere/nothing", "--json"],
    ["/nowhere", "--json"],
    ["", "--json"],
]
SERVE = [
    [M],
    [Q],
    [M, "--json", "--store", "x", "--help", "--dry-run"],
    ["--port", "8000", M],
    ["--fail-on-unknown", "--enforce", M, "-cc.mode=3"],
    ["--cache-root", "/big", M],
    ["--cache-root=/big", "--cache-dir-in=config", M],
    ["--cache-dir-in", "env", M],
    ["--on-missing", "fail", Q],
    ["--accept-platform", "cuda", "--on-missing=fail", Q],
    ["--accept-platform=cuda", Q],
    ["--on-missing=safe", "/nowhere"],
    [M, "-cc", "{"],
    ["--decision", "decision.json", M, "--headless"],
    ["--decision=decision.json", Q],
    ["--decision", "nowhere.json", M],
    ["--decision", "decision.json", "--on-missing", "probe", M],
]
LEFT = [
    ["verdict"],
    ["verdict", "--help"],
    ["verdict", M, "--help"],
    ["verdict", M, M],
    ["verdict", "--json=yes", M],
    ["verdict", "--no-such", M],
    ["verdict", M, "--store"],
    ["verdict", "--store", "", M],
    ["verdict", M, "--accept-platform"],
    ["verdict", "--", M],
    ["serve"],
    ["serve", "--help"],
    ["serve", "--dry-run"],
    ["serve", "--", M],
    ["serve", "--dry-run=1", M],
    ["serve", "--on-missing", "hope", M],
    ["serve", "--cache-dir-in", "both", M],
    ["plan", M],
    ["--version"],
    [],
]


@pytest.mark.parametrize("args", VERDICT, ids=str)
def test_verdict_is_read_the_same_way(where: list[str], args: list[str]) -> None:
    """Same documents, same sentences, same exit codes."""
    argv = [
        "verdict",
        *([] if "--environment" in args else where[:2]),
        *(where[2:] if "--store" not in args else []),
        *args,
    ]
    assert quickly(argv) == tuner(*argv)


@pytest.mark.parametrize("args", SERVE, ids=str)
@pytest.mark.parametrize("variables", [{}, {"TUNER_CACHE_ROOT": "/else"}, {"TUNER_CACHE_ROOT": ""}], ids=str)
def test_serve_is_read_the_same_way(
    where: list[str], args: list[str], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command would start, with the same words before it."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    argv = ["serve", *where, "--dry-run", *args]
    assert quickly(argv) == tuner(*argv, env=variables)


@pytest.mark.parametrize("argv", LEFT, ids=str)
def test_what_is_not_understood_is_left_to_typer(where: list[str], argv: list[str]) -> None:
    """Help, misuse and every other command: nothing is printed by the quick parser."""
    assert quickly(argv) is None
    assert where


def test_the_text_of_a_look_up_is_the_same_for_a_safe_model(where: list[str], tmp_path: Path) -> None:
    """One more kind of verdict, through both."""
    serving = Serving(tmp_path / "env", Path(where[1]), next((tmp_path / "env").glob("lib/python3*/site-packages")))
    serving.remember(Path(where[3]), LLAMA)
    argv = ["verdict", *where, str(LLAMA)]
    assert quickly(argv) == tuner(*argv)
