"""`tuner verdicts export --sign-with` and `import --require-signed`: what is refused stores nothing."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cache_samples import rewrite
from fake_environment import ERNIE, MIXTRAL, Answer, Serving, tuner
from minisign import SecretKey
from signing_keys import make_keys

from cache.verdicts.store import VerdictStore


@pytest.fixture
def here(serving: Serving, tmp_path: Path) -> Path:
    """The folder of whoever probed: a store with two models, and the keys `team.key` and `team.pub`."""
    serving.store_of(tmp_path / "here.sqlite", MIXTRAL, ERNIE)
    make_keys(tmp_path / "team")
    return tmp_path


def exported(here: Path, *args: object) -> Answer:
    """Write a signed bundle."""
    where = ("--store", here / "here.sqlite", "--output", here / "team.jsonl")
    return tuner("verdicts", "export", *where, "--sign-with", here / "team.key", *args, code=0)


def importing(here: Path, *args: object, code: int = 0, key: str = "team.pub") -> Answer:
    """Import it into another store, its signature required."""
    where = ("--store", here / "there.sqlite", "--require-signed", here / key)
    return tuner("verdicts", "import", here / "team.jsonl", *where, *args, code=code)


def test_a_signed_bundle_is_imported_and_says_who_signed(here: Path) -> None:
    """The key is named in the text and in the document; nothing else changes."""
    answer = exported(here)
    assert (answer.out, answer.err) == ("", f"tuner: written: {here / 'team.jsonl'}\n")
    signed = importing(here, "--json").document
    assert signed["imported"]["new"] == 2
    assert signed["signed"]["key"] in (here / "team.pub").read_text()
    line = importing(here).out.splitlines()[-1]
    assert re.fullmatch(rf"signed with the key {signed['signed']['key']}: timestamp:\d+ hashed", line)


def test_who_signed_is_kept_and_shown_with_every_verdict(here: Path) -> None:
    """By every command that says where a verdict comes from, and in what is exported again."""
    exported(here)
    key = importing(here, "--json").document["signed"]["key"]
    store, said = ("--store", here / "there.sqlite"), f", signed with the key {key}"
    where = (ERNIE, "--python", here / "env" / "bin" / "python", *store)
    assert f"imported{said}" in tuner("verdicts", "list", *store, code=0).out
    for row in tuner("verdicts", "list", *store, "--json", code=0).document["verdicts"]:
        document = tuner("verdicts", "show", row["key"], *store, "--json", code=0).document
        assert document["imported"]["signed_by"] == row["imported"]["signed_by"] == key
        assert said in tuner("verdicts", "show", row["key"], *store, code=0).out
    for command in ("verdict", "plan"):
        assert said in tuner(command, *where, code=0).out
        assert tuner(command, *where, "--json", code=0).document["evidence"]["imported"]["signed_by"] == key
    again = tuner("verdicts", "export", *store, code=0).out.splitlines()
    assert {json.loads(line)["entry"]["provenance"]["signed_by"] for line in again} == {key}


def test_a_signature_that_was_not_required_is_not_claimed(here: Path) -> None:
    """It lies beside the bundle and nobody looked at it; nor is it believed of a bundle that was exported again."""
    exported(here)
    importing(here)
    again = tuner("verdicts", "export", "--store", here / "there.sqlite", code=0).out
    (here / "again.jsonl").write_text(again)
    assert "signed_by" in again
    for bundle in ("team.jsonl", "again.jsonl"):
        store = ("--store", here / f"from-{bundle}.sqlite")
        tuner("verdicts", "import", here / bundle, *store, code=0)
        assert "signed" not in tuner("verdicts", "list", *store, code=0).out
        for row in tuner("verdicts", "list", *store, "--json", code=0).document["verdicts"]:
            assert "signed_by" not in row["imported"]


@pytest.mark.parametrize("value", [None, 7, "", "\x1b[2J\x1b[2J\x1b[2J\x1b[", "0123456789ABCDEF0"])
def test_a_key_that_somebody_put_into_the_store_is_damage(here: Path, value: object) -> None:
    """Every reader says so, and none shows it."""
    store = here / "here.sqlite"
    for entry in VerdictStore(store).entries():
        provenance = {"imported_from": "x", "imported_at": entry.probed_at, "command": None, "signed_by": value}
        rewrite(store, entry.digest, provenance=provenance)
    python = ("--python", here / "env" / "bin" / "python")
    for command in (["verdict", ERNIE, *python], ["verdicts", "list"], ["verdicts", "export"]):
        answer = tuner(*command, "--store", store, code=1)
        assert (answer.out, "\x1b" in answer.err) == ("", False)
        assert re.search(r"is damaged: This is not a verdict entry: .*provenance", answer.err)


def test_a_signed_bundle_is_the_bundle(here: Path) -> None:
    """The signature lies beside it: who requires none imports it as before, and its bytes are those of stdout."""
    exported(here)
    text = tuner("verdicts", "export", "--store", here / "here.sqlite", code=0).out
    assert (here / "team.jsonl").read_text() == text
    plain = tuner(
        "verdicts", "import", here / "team.jsonl", "--store", here / "there.sqlite", "--json", code=0
    ).document
    assert (plain["imported"]["new"], plain["signed"]) == (2, None)


@pytest.mark.parametrize("fault", ["changed", "cut", "reordered", "unsigned", "another key", "damaged signature"])
def test_what_is_refused_stores_nothing(here: Path, fault: str) -> None:
    """One sentence that names the bundle or its signature, in both forms, and no store is made."""
    exported(here)
    bundle, signature = here / "team.jsonl", here / "team.jsonl.minisig"
    lines = bundle.read_bytes().splitlines(keepends=True)
    if fault == "unsigned":
        signature.unlink()
    elif fault == "another key":
        make_keys(here / "mine")
    elif fault == "damaged signature":
        signature.write_bytes(signature.read_bytes()[:-9])
    else:
        texts = {"changed": [lines[0].replace(b"ran", b"RAN"), lines[1]], "cut": lines[:1], "reordered": lines[::-1]}
        bundle.write_bytes(b"".join(texts[fault]))
    answer = importing(here, "--json", code=1, key="mine.pub" if fault == "another key" else "team.pub")
    error = answer.document["error"]
    assert error["kind"] == "signature"
    assert error["message"].endswith(". Nothing was stored.")
    assert f"tuner: {error['message']}\n  {error['hint']}\n" == answer.err
    assert str(bundle) in error["message"]
    assert not (here / "there.sqlite").exists()


def test_a_signed_bundle_with_a_damaged_line_is_refused_too(here: Path) -> None:
    """Who signs does not vouch for the format: each line is read as before."""
    exported(here)
    (here / "team.jsonl").write_text('{"schema_version": 9}\n')
    signature = SecretKey.from_file(here / "team.key").sign((here / "team.jsonl").read_bytes())
    (here / "team.jsonl.minisig").write_bytes(bytes(signature))
    assert "team.jsonl, line 1 is damaged: " in importing(here, code=1).err


def test_a_signature_needs_a_file(here: Path) -> None:
    """On stdout there is nothing to lay it beside."""
    answer = tuner("verdicts", "export", "--store", here / "here.sqlite", "--sign-with", here / "team.key", code=2)
    assert answer.out == ""
    assert "--output FILE" in answer.err


def test_a_private_key_that_others_may_read_signs_with_a_warning(here: Path) -> None:
    """What to do about it stands in it."""
    (here / "team.key").chmod(0o644)
    assert "chmod 600" in exported(here).err
    assert importing(here, "--json").document["signed"]


def test_a_key_that_cannot_sign_writes_nothing(here: Path) -> None:
    """Neither the bundle nor a signature."""
    where = ("--store", here / "here.sqlite", "--output", here / "team.jsonl")
    errors = tuner("verdicts", "export", *where, "--sign-with", here / "team.pub", code=1).err
    assert errors.startswith(f"tuner: {here / 'team.pub'} is not a private key of minisign: ")
    assert not list(here.glob("team.jsonl*"))


def with_password(here: Path) -> list[str]:
    """A command that signs with a key that has a password."""
    secret = SecretKey.from_file(here / "team.key")
    secret.encrypt("open sesame")
    (here / "team.key").write_bytes(bytes(secret) + b"\n")
    where = ["--store", here / "here.sqlite", "--output", here / "team.jsonl", "--sign-with", here / "team.key"]
    return [sys.executable, "-m", "tuner", "verdicts", "export", *map(str, where)]


def test_a_password_is_asked_for_on_a_terminal(here: Path) -> None:
    """And not shown there."""
    command, (ours, theirs) = with_password(here), pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        seen = b""
        while b"Password of" not in seen:
            seen += os.read(ours, 1000)
        os.write(ours, b"open sesame\n")
        assert process.wait(60) == 0
    os.close(ours)
    assert b"sesame" not in seen
    assert importing(here, "--json").document["signed"]


def test_without_a_terminal_a_password_is_a_sentence(here: Path) -> None:
    """A pipeline does not hang."""
    command = with_password(here)
    process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    assert process.returncode == 1
    assert "has a password, and there is no terminal" in process.stderr
    assert not (here / "team.jsonl").exists()


def test_without_the_library_signatures_are_refused_and_all_else_works(here: Path) -> None:
    """It is an extra; that it is missing is played here, because the tests need it."""
    exported(here)
    code = "import sys; sys.modules['minisign'] = None; from tuner.__main__ import main; main()"

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, "verdicts", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    bundle, there = here / "team.jsonl", here / "there.sqlite"
    refused = run("import", bundle, "--store", there, "--require-signed", here / "team.pub")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "pip install 'vllm-moe-tuner[sign]'" in refused.stderr
    assert not there.exists()
    assert run("import", bundle, "--store", there).returncode == 0
    assert len(list(VerdictStore(there).entries())) == 2
