"""`tuner verdicts export` and `import`: what travels, what wins, and that bad input loses nothing."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cache_samples import contents, execute, rewrite
from fake_environment import ERNIE, LLAMA, MIXTRAL, SETTABLE, Answer, Serving, sample, sample_in, serving_in, tuner

from cache.verdicts.store import VerdictStore


@pytest.fixture
def here(serving: Serving, tmp_path: Path) -> Path:
    """The store of whoever probed: two models."""
    return serving.store_of(tmp_path / "here.sqlite", MIXTRAL, ERNIE)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The store of whoever imports; nothing is in it."""
    return tmp_path / "there.sqlite"


def exported(store: Path, *args: str) -> Path:
    """A bundle of the store's verdicts, beside it."""
    bundle = store.parent / "team.jsonl"
    bundle.write_text(tuner("verdicts", "export", "--store", store, *args, code=0).out)
    return bundle


def imported(bundle: Path, store: Path, *args: str) -> dict[str, int]:
    """The counts that the import tells, as far as they are not 0."""
    counts = tuner("verdicts", "import", bundle, "--store", store, "--json", *args, code=0).document["imported"]
    return {fate: count for fate, count in counts.items() if count}


def reprobed(serving: Serving, store: Path, model: Path = MIXTRAL) -> str:
    """Store another probe of a model: the same key, and a report that took longer. Its digest."""
    report = sample(model, "flag-live")
    return serving.remember(store, model, report | {"seconds": {"passes": 99.0}})[0].digest


def seconds(store: Path, digest: str) -> Any:
    """What tells the two probes apart."""
    entry = VerdictStore(store).find(digest)
    return entry.report["seconds"] if entry else None


def test_a_bundle_is_one_line_a_verdict_by_architecture(here: Path) -> None:
    """All verdicts, the same bytes each time, each with the command if one is given."""
    bundle = exported(here, "--command", "tuner probe x")
    lines = [json.loads(line) for line in bundle.read_text().splitlines()]
    names = [line["entry"]["key"]["architecture"] for line in lines]
    assert names == ["Ernie4_5_VLMoeForConditionalGeneration", "MixtralForCausalLM"]
    assert {line["command"] for line in lines} == {"tuner probe x"}
    assert bundle.read_text() == tuner("verdicts", "export", "--store", here, "--command", "tuner probe x").out


def test_named_verdicts_alone_are_exported(here: Path) -> None:
    """Keys are named by their starts; one that is named twice is written once."""
    key = next(entry.digest for entry in VerdictStore(here).entries() if "Mixtral" in entry.key["architecture"])
    answer = tuner("verdicts", "export", key[:12], key[:8], "--store", here, code=0)
    assert [json.loads(line)["digest"] for line in answer.out.splitlines()] == [key]


@pytest.mark.parametrize("keys", [(), ("0123456789",), ("xyz",)])
def test_nothing_to_export_is_one_sentence(there: Path, keys: tuple[str, ...]) -> None:
    """An empty store, or a key that no entry has, gives no bundle."""
    answer = tuner("verdicts", "export", *keys, "--store", there, code=3)
    assert answer.out == ""
    assert answer.err.startswith("tuner: ")
    assert not there.exists()


def test_an_imported_verdict_is_found_and_shown_as_imported(serving: Serving, here: Path, there: Path) -> None:
    """It applies where its key matches exactly, and every command says where it comes from."""
    assert imported(exported(here, "--command", "tuner probe M"), there) == {"new": 2}
    where = ("--python", serving.python, "--store", there)
    said = "imported from team.jsonl on "
    for command in ("verdict", "plan"):
        out = tuner(command, ERNIE, *where, code=0).out
        assert said in out
        assert "made with: tuner probe M" in out
        evidence = tuner(command, ERNIE, *where, "--json", code=0).document["evidence"]
        assert (evidence["imported"]["imported_from"], evidence["imported"]["command"]) == (
            "team.jsonl",
            "tuner probe M",
        )
    served = tuner("serve", *where, "--dry-run", ERNIE, code=0)
    assert said in served.err.splitlines()[0]
    yaml = tuner("export", ERNIE, "--format", "vllm-yaml", *where, code=0).out
    assert f"# the verdict was {said}" in yaml
    assert tuner("verdict", LLAMA, *where, code=3)


def test_the_list_tells_imported_from_probed(serving: Serving, here: Path, there: Path) -> None:
    """A column of the list, a line of the entry, and a member of both documents."""
    imported(exported(here), there)
    serving.remember(there, LLAMA)
    listed = tuner("verdicts", "list", "--store", there, code=0).out.splitlines()
    assert [line.split("  ")[-1].strip() for line in listed] == ["ORIGIN", "imported", "probed here", "imported"]
    rows = tuner("verdicts", "list", "--store", there, "--json", code=0).document["verdicts"]
    assert [row["imported"] is None for row in rows] == [False, True, False]
    for row in rows:
        document = tuner("verdicts", "show", row["key"], "--store", there, "--json", code=0).document
        assert document["imported"] == row["imported"]
        text = tuner("verdicts", "show", row["key"], "--store", there, code=0).out
        assert ("imported from team.jsonl" in text) == (row["imported"] is not None)


def test_a_verdict_probed_here_shows_no_origin(serving: Serving, here: Path) -> None:
    """Nothing is said where there is nothing to say."""
    where = ("--python", serving.python, "--store", here)
    assert "imported" not in tuner("plan", ERNIE, *where, code=0).out
    assert tuner("verdict", ERNIE, *where, "--json", code=0).document["evidence"]["imported"] is None


def test_a_local_probe_wins(serving: Serving, here: Path, there: Path) -> None:
    """It is not replaced unless that very thing is asked; the same probe is known."""
    bundle = exported(here)
    digest = reprobed(serving, there)
    assert imported(bundle, there, "--replace") == {"kept_local": 1, "new": 1}
    assert seconds(there, digest) == {"passes": 99.0}
    assert imported(bundle, here) == {"known": 2}
    assert "probed here, and wins" in tuner("verdicts", "import", bundle, "--store", there, code=0).out


def test_an_imported_verdict_gives_way_only_if_asked(serving: Serving, here: Path, there: Path) -> None:
    """The first stays, and the sentence names the option; the option takes the second."""
    first = exported(here)
    assert imported(first, there) == {"new": 2}
    assert imported(first, there) == {"known": 2}
    digest = reprobed(serving, here)
    second = exported(here)
    assert imported(second, there) == {"known": 1, "kept_imported": 1}
    assert seconds(there, digest) != {"passes": 99.0}
    assert "--replace" in tuner("verdicts", "import", second, "--store", there, code=0).out
    assert imported(second, there, "--replace") == {"known": 1, "replaced": 1}
    assert seconds(there, digest) == {"passes": 99.0}


def test_a_later_probe_replaces_the_imported_verdict(serving: Serving, here: Path, there: Path) -> None:
    """What was probed here is not called imported."""
    imported(exported(here), there)
    digest = reprobed(serving, there)
    entry = VerdictStore(there).find(digest)
    assert entry is not None
    assert entry.provenance is None


def test_another_build_that_is_imported_does_not_hide_the_local_verdict(
    serving: Serving, here: Path, there: Path, tmp_path: Path
) -> None:
    """Two builds of one version name other source files: each finds its own verdict, before and after the import."""
    patched = serving_in(tmp_path / "patched", SETTABLE)
    report = sample(ERNIE, "flag-live")
    other, _ = patched.remember(there, ERNIE, report | {"sources": report["sources"] | {"vllm/more.py": ""}})
    imported(exported(here), there)
    for build, digest in ((serving, None), (patched, other.digest)):
        document = tuner("verdict", ERNIE, "--python", build.python, "--store", there, "--json", code=0).document
        assert (document["evidence"]["imported"] is None) == (digest is not None)
        assert digest in (None, document["evidence"]["key"])


def forged(folder: Path, build: Serving, *more: str) -> Path:
    """A bundle that calls an unsafe model safe in a build of vLLM: another model's report, with hashes of its files."""
    files = [*sample(ERNIE, "flag-live")["sources"], *more]
    folder.mkdir()
    build.remember(folder / "forged.sqlite", ERNIE, sample(MIXTRAL, "flag-live") | {"sources": dict.fromkeys(files)})
    assert word(build, folder / "forged.sqlite") == "uniform"
    return exported(folder / "forged.sqlite")


def word(build: Serving, store: Path) -> str:
    """The verdict of the model that is unsafe."""
    found = tuner("verdict", ERNIE, "--python", build.python, "--store", store, "--json").document["verdict"]
    return str(found)


@pytest.mark.parametrize("options", [(), ("--replace",), ("--replace-local",), ("--replace", "--replace-local")])
def test_a_bundle_never_makes_an_unsafe_probe_safe(
    serving: Serving, here: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A forged report of the same key stays outside, whatever is asked, and the conflict is shown."""
    bundle = forged(tmp_path / "away", serving)
    output = tuner("verdicts", "import", bundle, "--store", here, *options, code=0).out
    assert "not stored" in output
    assert "Ernie4_5_VLMoeForConditionalGeneration: conditional (probed here, " in output
    assert " stays, not uniform (this file, " in output
    assert word(serving, here) == "conditional"


def test_a_bundle_that_names_more_files_does_not_hide_an_unsafe_probe(
    serving: Serving, here: Path, tmp_path: Path
) -> None:
    """Two builds were probed here, the last of them with a file more, and that file's list is looked up first.

    A bundle for the first build that names that file too has a key of its own; the probe here still comes before it.
    """
    bundle = forged(tmp_path / "away", serving, "vllm/more.py")
    patched, report = serving_in(tmp_path / "patched", SETTABLE), sample(ERNIE, "flag-live")
    files = [*report["sources"], "vllm/more.py"]
    for file in files:
        patched.write(file, "# patched")
    sources = dict.fromkeys(files, hashlib.sha256(b"# patched").hexdigest())
    sample_in(here, patched.read(), ERNIE, report | {"sources": sources})
    assert imported(bundle, here) == {"new": 1}
    assert word(serving, here) == "conditional"


def test_a_local_probe_gives_way_if_asked(serving: Serving, here: Path, tmp_path: Path) -> None:
    """What is as safe or less safe replaces it, and both sentences and the document say so."""
    store = tmp_path / "mine.sqlite"
    serving.remember(store, MIXTRAL)
    digest = reprobed(serving, here)
    bundle = exported(here, digest)
    assert imported(bundle, store) == {"kept_local": 1}
    assert "--replace-local" in tuner("verdicts", "import", bundle, "--store", store, code=0).out
    document = tuner("verdicts", "import", bundle, "--store", store, "--replace-local", "--json", code=0).document
    (conflict,) = document["conflicts"]
    assert (conflict["key"], conflict["result"]) == (digest, "replaced_local")
    assert (conflict["stored"]["verdict"], conflict["in_bundle"]["verdict"]) == ("uniform", "uniform")
    assert conflict["stored"]["imported"] is None
    assert seconds(store, digest) == {"passes": 99.0}
    listed = tuner("verdicts", "list", "--store", store, code=0).out
    assert "imported" in listed


def test_every_conflict_is_shown(serving: Serving, here: Path, there: Path) -> None:
    """Which verdict, what was stored, what the file says, and which of the two stays."""
    imported(exported(here), there)
    digest = reprobed(serving, here)
    bundle = exported(here)
    output = tuner("verdicts", "import", bundle, "--store", there, code=0).out
    today = datetime.now(UTC).date().isoformat()
    name = f"{digest[:12]}  MixtralForCausalLM"
    assert f"{name}: uniform (imported, {today}) stays, not uniform (this file, {today})" in output
    taken = tuner("verdicts", "import", bundle, "--store", there, "--replace", code=0).out
    assert f"{name}: uniform (this file, {today}) in place of uniform (imported, {today})" in taken
    document = tuner("verdicts", "import", bundle, "--store", there, "--json", code=0).document
    assert document["conflicts"] == []


def test_a_bundle_is_written_to_a_file_whole_or_not_at_all(here: Path, tmp_path: Path) -> None:
    """The same bytes as on stdout, nothing left beside it, and a place that cannot be written is one sentence."""
    output = tmp_path / "out" / "team.jsonl"
    output.parent.mkdir()
    answer = tuner("verdicts", "export", "--store", here, "--output", output, code=0)
    assert answer.out == ""
    assert output.read_bytes() == exported(here).read_bytes()
    assert set(contents(output.parent)) == {"team.jsonl"}
    (tmp_path / "circle").symlink_to("circle")
    for bad in (tmp_path, tmp_path / "missing" / "x", "/dev/null", tmp_path / "circle"):
        errors = tuner("verdicts", "export", "--store", here, "--output", bad, code=1).err
        assert errors.startswith(f"tuner: {bad} ")


def test_the_command_travels_on(here: Path, there: Path) -> None:
    """Who exports an imported verdict hands on what made it, unless told better."""
    imported(exported(here, "--command", "tuner probe x"), there)
    for given, expected in ((), "tuner probe x"), (("--command", "y"), "y"):
        lines = tuner("verdicts", "export", "--store", there, *given, code=0).out.splitlines()
        assert {json.loads(line)["command"] for line in lines} == {expected}


def refused(bundle: Path, store: Path) -> Answer:
    """An import that fails; the store is as it was, to the byte, and no document but the error is printed."""
    before = store.read_bytes() if store.exists() else None
    answer = tuner("verdicts", "import", bundle, "--store", store, "--json", code=1)
    assert answer.document["error"]["message"] in answer.err
    assert before == (store.read_bytes() if store.exists() else None)
    return answer


@pytest.mark.parametrize("line", ["", "{}", "{", "\x00", "é", '{"schema_version": 9}'])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_damaged_line_stops_all(here: Path, there: Path, line: str, place: int) -> None:
    """Its number and its reason are named, and nothing is stored: not into an empty store, nor into a full one."""
    bundle = exported(here)
    lines = bundle.read_text().splitlines()
    bundle.write_text("\n".join([*lines[:place], line, *lines[place:]]) + "\n")
    for store in (there, here):
        answer = refused(bundle, store)
        assert f"team.jsonl, line {place + 1} is damaged: " in answer.err
        assert "Nothing was stored." in answer.err


def test_two_verdicts_of_one_key_are_refused_and_repetitions_are_not(serving: Serving, here: Path, there: Path) -> None:
    """Bundles may be joined; which of two different probes counts is not guessed."""
    first = exported(here).read_text()
    bundle = here.parent / "joined.jsonl"
    bundle.write_text(first + first)
    assert imported(bundle, there) == {"new": 2, "known": 2}
    reprobed(serving, here)
    bundle.write_text(first + exported(here).read_text())
    assert "line 4 is damaged: it is another verdict of the key of line 2" in refused(bundle, there).err


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "binary", "endless"])
def test_a_file_that_is_no_bundle_is_one_sentence(here: Path, tmp_path: Path, kind: str) -> None:
    """Whatever FILE is, the sentence names it."""
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes({"empty": b"", "binary": bytes(range(256)), "endless": b"[" + b" " * (17 << 20)}[kind])
    assert str(path) in refused(path, here).err


def test_a_damaged_stored_entry_is_neither_used_nor_lost(here: Path) -> None:
    """An import that meets one says which, and changes nothing."""
    bundle = exported(here)
    execute(here, "UPDATE verdicts SET value = CAST(x'ff' AS TEXT) WHERE key LIKE 'verdict:Mixtral%'")
    assert "is damaged" in refused(bundle, here).err


def test_what_these_rules_cannot_read_is_left_out(serving: Serving, here: Path) -> None:
    """The rest is exported; the sentence says which is missing, and the exit code that one is."""
    entry, _ = serving.remember(here, LLAMA)
    rewrite(here, entry.digest, report={"result": "of another format"}, rules="of another release")
    answer = tuner("verdicts", "export", "--store", here, code=1)
    assert len(answer.out.splitlines()) == 2
    assert f"left out {entry.digest[:12]}: the probe report is damaged" in answer.err


def test_an_import_leaves_nothing_beside_the_store(here: Path, tmp_path: Path) -> None:
    """No log, no lock, no half-written file."""
    store = tmp_path / "folder" / "verdicts.sqlite"
    imported(exported(here), store)
    assert set(contents(store.parent)) == {"verdicts.sqlite"}


def test_an_imported_draft_is_named(serving: Serving, here: Path, there: Path) -> None:
    """A draft model's imported verdict helps decide the flag, and the launch says so."""
    serving.remember(here, LLAMA)
    imported(exported(here), there)
    draft = json.dumps({"model": str(LLAMA), "num_speculative_tokens": 2})
    args = ("plan", MIXTRAL, "--python", serving.python, "--store", there, "--", "--speculative-config", draft)
    assert "the draft model's verdict was imported from team.jsonl" in tuner(*args).err
