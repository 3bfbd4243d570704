"""`tuner confirm`: a log from a file or a pipe, exit codes, the document, and what never appears in either."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_environment import MIXTRAL, SETTABLE, Answer, sample, serving_in, tuner

LOGS = Path(__file__).parent / "server_logs"
ON = "-cc.fast_moe_cold_start=true"
"""A launch that does not compile is never proved: its `true` is the user's own."""
TRUE, FALSE = LOGS / "0.19.1-true.log", LOGS / "0.19.1-false-colour.log"


@pytest.fixture
def decision(tmp_path: Path) -> Path:
    """What `tuner plan --json` says of Mixtral in vLLM 0.19.1: true; the model goes by the samples' name."""
    serving = serving_in(tmp_path / "serving", SETTABLE)
    store = tmp_path / "verdicts.sqlite"
    serving.remember(store, MIXTRAL, sample(MIXTRAL, "flag-live"))
    answer = tuner(
        "plan", "--json", "--python", serving.python, "--store", store, MIXTRAL, "--", "--enforce-eager", ON, code=0
    )
    path = tmp_path / "plan.json"
    path.write_text(answer.out.replace(str(MIXTRAL), "/srv/flag-live"), encoding="utf-8")
    return path


def piped(log: bytes, *args: object) -> Answer:
    """Run the command with a log on standard input, as behind `kubectl logs`."""
    command = [sys.executable, "-m", "tuner", "confirm", *map(str, args)]
    process = subprocess.run(command, input=log, capture_output=True, timeout=300, check=False)
    assert b"Traceback" not in process.stderr
    return Answer(process.returncode, process.stdout.decode(), process.stderr.decode())


@pytest.mark.parametrize(("log", "code", "result"), [(TRUE, 0, "confirmed"), (FALSE, 5, "differs")])
def test_the_exit_code_says_what_came_of_it(decision: Path, log: Path, code: int, result: str) -> None:
    """0: all is as written; 5: something is not; 7: the log does not say, here because it was read too early."""
    document = tuner("confirm", log, "--decision", decision, "--json", code=code).document
    early = TRUE.read_bytes().partition(b"init engine (profile")[0]

    assert (document["schema_version"], document["result"]) == (1, result)
    assert piped(early, "--decision", decision).code == 7


def test_a_log_may_be_piped_in(decision: Path) -> None:
    """With or without `-`; bytes that are not text are no obstacle."""
    log = b"\xff\xfe\x00 binary\n" + TRUE.read_bytes()

    assert piped(log, "--decision", decision).code == 0
    assert piped(log, "-", "--decision", decision).code == 0
    assert piped(b"", "--decision", decision).code == 7


def test_the_text_has_one_line_a_fact(decision: Path) -> None:
    """What was written, what the server says, whether that is the same, and where it says so."""
    lines = tuner("confirm", FALSE, "--decision", decision, code=5).out.splitlines()
    engine = next(n for n, line in enumerate(FALSE.read_text().splitlines(), 1) if "Initializing a V1" in line)
    cells = {line.split()[0]: line.split() for line in lines if line}

    assert cells["FACT"] == ["FACT", "WRITTEN", "EFFECTIVE", "RESULT", "LINE"]
    assert f"flag         true             false           differs  {engine}" in lines
    assert "flag          the launch sets it" in lines
    assert cells["vllm"] == ["vllm", "0.19.1", "0.19.1", "same", str(engine)]
    assert "not confirmed: the server runs otherwise than written" in lines[-1]


def test_without_a_decision_the_log_is_reported() -> None:
    """0 if there is an engine in it, 3 if there is none."""
    document = tuner("confirm", TRUE, "--json", code=0).document

    assert document["result"] == "reported"
    assert {fact["name"]: fact["effective"] for fact in document["facts"]} == {
        "start": "ready",
        "vllm": "0.19.1",
        "model": "/srv/flag-live",
        "flag": "true",
        "mode": "NONE (0)",
        "graphs": "NONE",
        "passes": "2 on",
        "backend": "not said",
        "cache": "unused",
        "speculative": "none",
    }
    assert piped(b"nothing of vLLM\n").code == 7


def test_a_restart_is_said(tmp_path: Path, decision: Path) -> None:
    """The last start counts, and the reader is told so."""
    log = tmp_path / "server.log"
    log.write_bytes((LOGS / "0.19.1-ngram-failed.log").read_bytes() + TRUE.read_bytes())
    answer = tuner("confirm", log, "--decision", decision, code=0)

    assert "2 starts" in answer.out


def test_line_numbers_are_those_of_the_file(decision: Path) -> None:
    """As `grep -n` counts: carriage returns of progress bars are not ends of lines."""
    facts = tuner("confirm", TRUE, "--decision", decision, "--json", code=0).document["facts"]
    lines = TRUE.read_bytes().split(b"\n")

    assert b"\r" in TRUE.read_bytes()
    assert {b"Initializing a V1 LLM engine" in lines[fact["line"] - 1] for fact in facts if fact["name"] == "flag"} == {
        True
    }
    assert {b"init engine (profile" in lines[fact["line"] - 1] for fact in facts if fact["name"] == "start"} == {True}


def test_nothing_secret_is_echoed(tmp_path: Path, decision: Path) -> None:
    """The arguments that vLLM prints may hold a key; releases before 0.32 do not hide it."""
    log = tmp_path / "server.log"
    secret = b"sk-very-secret"
    log.write_bytes(TRUE.read_bytes().replace(b"'max_model_len': 256", b"'api_key': ['" + secret + b"']"))
    assert secret in log.read_bytes()

    for args in ((), ("--json",), ("--decision", decision), ("--decision", decision, "--json")):
        answer = tuner("confirm", log, *args, code=0)
        assert secret.decode() not in answer.out + answer.err


def test_a_log_cannot_move_the_cursor(tmp_path: Path) -> None:
    """A name with control characters is printed with escapes."""
    log = tmp_path / "server.log"
    log.write_text(TRUE.read_text().replace("model='/srv/flag-live'", "model='a\\x1b[2J\\nb\\u202ec'"))
    answer = tuner("confirm", log, code=0)

    assert "a\\x1b[2J\\nb\\u202ec" in answer.out
    assert "\x1b" not in answer.out


FAULTS: dict[str, tuple[Any, int, str]] = {
    "no JSON": ("{", 1, "not a JSON document"),
    "not a document": ([1], 1, "not a JSON object"),
    "deeply nested": ("[" * 100_000, 1, "not a JSON document"),
    "another schema": ({"schema_version": 9, "launch": {}}, 1, "schema_version"),
    "a failure": ({"schema_version": 2, "error": {"message": "no such model"}}, 1, "no such model"),
    "several": ({"schema_version": 2, "results": [{}]}, 1, "several models"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_decision_that_cannot_be_read_is_an_error(tmp_path: Path, fault: str) -> None:
    """One sentence, exit code 1, and with `--json` the usual document of a failure."""
    content, code, said = FAULTS[fault]
    path = tmp_path / "plan.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    answer = tuner("confirm", TRUE, "--decision", path, "--json", code=code)

    assert said in answer.document["error"]["message"]
    assert answer.document["error"]["kind"] == "decision"
    assert said in answer.err


def test_files_that_are_not_there_are_errors(tmp_path: Path, decision: Path) -> None:
    """Neither a missing log nor a missing decision is "not said"."""
    missing = tmp_path / "nowhere"

    assert "cannot be read" in tuner("confirm", missing, "--decision", decision, code=1).err
    assert "cannot be read" in tuner("confirm", TRUE, "--decision", missing, code=1).err
    assert "cannot be read" in tuner("confirm", tmp_path, "--decision", decision, code=1).err


def test_a_log_of_one_endless_line_is_refused_in_little_memory() -> None:
    """Endless zeros, under a limit of 400 MB of address space."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))"
    command = "import sys; sys.argv = ['tuner', 'confirm']; from tuner.__main__ import main; main()"
    with Path("/dev/zero").open("rb") as zeros:
        process = subprocess.run(
            [sys.executable, "-c", f"{limit}; {command}"],
            stdin=zeros,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert process.returncode == 1
    assert "Line 1 of standard input has more than 64 million characters" in process.stderr


def test_a_long_log_is_read_as_it_comes(decision: Path) -> None:
    """Long lines before and behind those that count are cut, and lines are still counted as `grep -n` counts them."""
    long = b"x" * (3 << 20) + b"\n"
    answer = piped(long * 3 + TRUE.read_bytes() + long * 3, "--decision", decision, "--json")
    engine = TRUE.read_bytes().partition(b"Initializing a V1")[0].count(b"\n") + 1
    lines = {fact["name"]: fact["line"] for fact in json.loads(answer.out)["facts"]}

    assert (answer.code, lines["flag"]) == (0, engine + 3)


@pytest.mark.parametrize("name", ["a pipe", "/dev/zero", "/dev/tty", "."])
def test_a_log_that_is_not_a_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """Nothing waits for a pipe or a device; what is piped in is standard input."""
    os.mkfifo(tmp_path / "a pipe")
    command = [sys.executable, "-m", "tuner", "confirm", str(tmp_path / name)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert process.returncode == 1
    assert "cannot be read: it is not a regular file." in process.stderr
    assert "| tuner confirm -" in process.stderr


@pytest.mark.parametrize("name", ["a pipe", "/dev/zero"])
def test_a_decision_that_is_not_a_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """Nothing waits for a pipe, and no device is read."""
    os.mkfifo(tmp_path / "a pipe")
    answer = tuner("confirm", TRUE, "--decision", tmp_path / name, code=1)

    assert "cannot be read: it is not a regular file." in answer.err


def test_the_first_line_says_that_wrong_experts_run_now(decision: Path) -> None:
    """The server is ready, the flag is on, and the verdict is unsafe."""
    document = json.loads(decision.read_text()) | {"verdict": "conditional"}
    decision.write_text(json.dumps(document))
    answer = tuner("confirm", TRUE, "--decision", decision, code=5)
    as_json = tuner("confirm", TRUE, "--decision", decision, "--json", code=5).document

    assert answer.out.splitlines()[0] == "This server is answering now, and it runs wrong experts: stop it."
    assert as_json["alarm"] == {"kind": "wrong_experts", "text": answer.out.splitlines()[0]}
    assert "answering" not in tuner("confirm", FALSE, "--decision", decision, code=5).out


def test_a_decision_whose_config_file_is_elsewhere_is_an_error(tmp_path: Path, decision: Path) -> None:
    """What the launch says of a draft may stand in a `--config` file; without it nobody knows what was written."""
    document = json.loads(decision.read_text())
    document["launch"]["args"] += ["--config", str(tmp_path / "nowhere.yaml")]
    decision.write_text(json.dumps(document))

    assert "nowhere.yaml" in tuner("confirm", TRUE, "--decision", decision, code=1).err
