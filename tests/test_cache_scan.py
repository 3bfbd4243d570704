"""`tuner cache scan`: what is found, how bad it is, and that no secret is ever printed."""

import json
import os
import time
from pathlib import Path

import pytest
from compiled_samples import AOT_19, AOT_32, BACKBONE, GRAPHS, cache_of, made_file, recorded
from fake_environment import Answer, tuner

from cache.compiled import files
from cache.compiled.layout import read_root
from cache.compiled.scan import MAX_TEXT, Matter, ScanFinding, ScanLevel, scan
from cache.secrets import is_refused, refused_in_text

NOW = time.time()
KEY = "sk-1234567890-of-somebody"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """All samples, each named by a record: nothing to find."""
    root = cache_of(tmp_path, "0.19.1", "0.32.0", "graphs", now=NOW)
    root.chmod(0o755)
    recorded(root, AOT_19, AOT_32, GRAPHS)
    return root


def found(root: Path, environ: dict[str, str] | None = None) -> list[tuple[Matter, ScanLevel, str, int]]:
    """What is found, in short, for the user who runs this."""
    return [short(finding) for finding in scan(read_root(root), environ or {}, os.geteuid())]


def short(finding: ScanFinding) -> tuple[Matter, ScanLevel, str, int]:
    """A finding without its words."""
    return finding.matter, finding.level, finding.path, finding.count


def with_key(root: Path) -> Path:
    """As vLLM up to 0.28 writes its factors with an API key set."""
    path = root / BACKBONE / "cache_key_factors.json"
    path.write_text(path.read_text().replace('"VLLM_API_KEY": null', f'"VLLM_API_KEY": "{KEY}"'))
    return path


def both(root: Path, code: int, **env: str) -> list[Answer]:
    """The command's text and document."""
    return [tuner("cache", "scan", "--cache-root", root, *more, env=env, code=code) for more in ([], ["--json"])]


def test_a_clean_root_has_no_findings(root: Path) -> None:
    """Exit code 0; settings whose names hold TOKEN are numbers and no secrets."""
    text, document = both(root, 0)

    assert found(root) == []
    assert text.out.startswith("0 findings; ")
    assert document.document["findings"] == []
    assert document.document["summary"]["items"] == len(list(root.rglob("*"))) + 1


def test_a_key_in_the_factors_is_found_and_not_printed(root: Path) -> None:
    """The variable and the file are named; exit code 1."""
    with_key(root)
    text, document = both(root, 1)

    assert found(root) == [(Matter.SECRET, ScanLevel.ERROR, f"{BACKBONE}/cache_key_factors.json", 1)]
    for said in (text, document):
        assert "VLLM_API_KEY" in said.out
        assert KEY not in said.out + said.err
    assert document.document["schema_version"] == 1


@pytest.mark.parametrize("cut", [400, 40])
def test_a_key_in_damaged_factors_is_found(root: Path, cut: int) -> None:
    """A file that was cut behind the key is not JSON and has it all the same."""
    path = with_key(root)
    text = path.read_text()
    path.write_text(text[: text.index(KEY) + cut - 39])
    assert found(root)[0][:2] == (Matter.SECRET, ScanLevel.ERROR)


@pytest.mark.parametrize("value", [KEY, 'quote"and\\backslash', "schlüssel-lang"])
def test_values_of_this_environment_are_looked_for_everywhere(root: Path, value: str) -> None:
    """In every small text file of the root, as they are or as JSON writes them."""
    made_file(root / "modelinfos/note.txt", f"x {value} y".encode())
    made_file(root / AOT_32 / "inductor_cache/note.json", json.dumps({"x": value}).encode())
    names = {path for matter, _, path, _ in found(root, {"HF_TOKEN": value, "PATH": value}) if matter is Matter.SECRET}

    assert names == {"modelinfos/note.txt", f"{AOT_32}/inductor_cache/note.json"}
    for said in both(root, 1, HF_TOKEN=value):
        assert value not in said.out + said.err
    assert found(root, {"HF_TOKEN_PATH": value, "OTHER": value}) == []


def test_short_values_and_files_that_are_no_text_are_not_searched(root: Path) -> None:
    """`true` stands everywhere; a compiled library or a file above the limit is none that vLLM writes a secret to."""
    made_file(root / "modelinfos/note.txt", b"true " + KEY[:7].encode())
    made_file(root / "modelinfos/library.so", b"\x00" + KEY.encode())
    made_file(root / "modelinfos/large.txt", b"x" * MAX_TEXT + KEY.encode())
    assert found(root, {"A_TOKEN": "true", "B_SECRET": KEY[:7], "HF_TOKEN": KEY}) == []


def test_which_names_are_of_secrets() -> None:
    """As the module says; a variable that says where a secret lies has none."""
    secret = [
        "VLLM_API_KEY",
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "DB_PASSWORD",
        "PASSWORD_OF_X",
        "hf_token",
    ]
    other = ["PATH", "VLLM_PLUGINS", "HF_TOKEN_PATH", "AZURE_FEDERATED_TOKEN_FILE", "API_KEY_ID"]
    assert [name for name in [*secret, *other] if is_refused(name)] == secret
    assert refused_in_text(b'{"VLLM_API_KEY": "", "A_TOKEN": 5, "B_TOKEN": null, "C_TOKEN": "c"}', {}) == ["C_TOKEN"]


def test_what_every_user_can_write_is_found(root: Path) -> None:
    """Files and folders, one finding for each entry; a link's own permissions mean nothing."""
    (root / BACKBONE).chmod(0o777)
    (root / BACKBONE / "computation_graph.py").chmod(0o646)
    (root / AOT_19 / "rank_0_0/model").chmod(0o666)
    (root / "modelinfos/link").symlink_to(root / "modelinfos")
    both(root, 1)

    assert found(root) == [
        (Matter.WRITABLE, ScanLevel.ERROR, BACKBONE, 2),
        (Matter.WRITABLE, ScanLevel.ERROR, f"{AOT_19}/rank_0_0/model", 1),
    ]
    root.chmod(0o1777)
    assert (Matter.WRITABLE, ScanLevel.ERROR, ".", 1) in found(root)


def test_what_another_user_owns_is_found(root: Path) -> None:
    """Whoever is neither this user nor user 0, who can change everything anyhow."""
    if os.geteuid() == 0:
        os.chown(root / AOT_19 / "rank_0_0/model", 4711, -1)
        os.chown(root / "modelinfos", 4712, -1)
        both(root, 1)
        findings = scan(read_root(root), {}, 4712)
        assert [short(finding) for finding in findings] == [
            (Matter.FOREIGN, ScanLevel.ERROR, f"{AOT_19}/rank_0_0/model", 1)
        ]
        assert "4711" in findings[0].message
    else:
        assert {one.matter for one in scan(read_root(root), {}, os.geteuid() + 1)} == {Matter.FOREIGN}


def test_pickles_that_no_record_names_are_noted(root: Path) -> None:
    """Compiled models, artifacts and entries of Inductor's, counted for each entry; a note alone ends with 0."""
    (root / "tuner-warm" / f"{'d1' * 32}.json").unlink()
    both(root, 0)

    assert found(root) == [
        (Matter.PICKLE, ScanLevel.NOTE, GRAPHS, 4),
        (Matter.PICKLE, ScanLevel.NOTE, AOT_32, 3),
        (Matter.PICKLE, ScanLevel.NOTE, AOT_19, 1),
    ]


def test_links_that_lead_out_are_noted(root: Path, tmp_path: Path) -> None:
    """Wherever they are and whatever is there; one that stays inside is none."""
    made_file(tmp_path / "root-of-another/file", KEY.encode())
    (root / "modelinfos/inside").symlink_to(root / AOT_19)
    (root / "modelinfos/out").symlink_to(tmp_path / "root-of-another")
    (root / BACKBONE / "up").symlink_to("../../../../..")
    (root / "dangling").symlink_to(tmp_path / "nowhere")
    both(root, 0)

    paths = [path for matter, _, path, _ in found(root, {"HF_TOKEN": KEY}) if matter is Matter.LINK]
    assert paths == ["dangling", "modelinfos/out", f"{BACKBONE}/up"]
    assert len(found(root, {"HF_TOKEN": KEY})) == 3


def test_what_cannot_be_read_is_not_called_clean(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3; what is found beside it counts more."""
    opened = os.open

    def refusing(path: Path, flags: int) -> int:
        if path.name == "computation_graph.py":
            raise PermissionError(13, "Permission denied")
        return opened(path, flags)

    monkeypatch.setattr(files.os, "open", refusing)
    both(root, 3)
    assert found(root) == [(Matter.UNREADABLE, ScanLevel.WARNING, f"{BACKBONE}/computation_graph.py", 2)]
    with_key(root)
    both(root, 1)


def test_a_file_that_vanishes_is_no_finding(root: Path) -> None:
    """It was there when the root was listed, and is gone when it is searched."""
    listed = read_root(root)
    (root / BACKBONE / "computation_graph.py").unlink()
    assert scan(listed, {}, os.geteuid()) == []
