"""A bundle's lines give back what was put in, and a changed byte is never taken for something else."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, LLAMA, MIXTRAL, SETTABLE, sample, serving_in
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import to_builtins
from msgspec.structs import replace
from reports import SCENARIOS, layers, report, scenario

from cache.errors import StoreError
from cache.key import digest
from cache.verdicts.entry import Entry, ProbeOrigin
from cache.verdicts.store import VerdictStore
from rules.judge import judge
from rules.reason import reason
from rules.report import parse_report
from rules.verdict import Word
from tuner.exchange.bundle import FACTORS, MAX_LINE, Bundled, BundleError, line_in, line_of
from tuner.exchange.order_lists import MAX_UNPACKED, packed, unpacked
from tuner.exchange.transfer import export, import_file
from tuner.model.model import identify
from tuner.verdicts.identity import Subject, base_factors, full_key, rules_digest


def entry(name: str = "MixtralForCausalLM", seen: dict[str, Any] | None = None, **factors: Any) -> Entry:
    """A consistent entry; `seen` replaces parts of the environment that its report names."""
    where = {"vllm": "0.19.1", "torch": "2.10.0+cpu", "device": "cpu", **(seen or {})}
    observed = report(environment=where)
    names = dict.fromkeys(FACTORS, "") | {"architecture": name, "platform": "cpu", "vllm": "0.19.1"}
    key = names | {"torch": "2.10.0+cpu", "sources": digest(observed["sources"])} | factors
    return Entry(
        key=key,
        sources=observed["sources"],
        report=observed,
        verdict=json.loads(json.dumps(judge(parse_report(observed)).to_dict())),
        rules=rules_digest(),
        probed_at="2026-11-22T10:00:00+00:00",
    )


def changed(line: str, **members: Any) -> bytes:
    """A line with other members and, unless given, the checksum that they ask for."""
    data = json.loads(line) | members
    whole = data["entry"] | {"report": unpacked(data["entry"].get("report"), data["orders"])}
    data["checksum"] = members.get("checksum", digest({"entry": whole, "command": data["command"]}))
    return json.dumps(data).encode()


def with_entry(**fields: Any) -> bytes:
    """A line whose entry has other fields, and whose digests are right; its orders are written out."""
    whole = entry().to_dict() | fields
    line = line_of(Bundled(entry(), None))
    return changed(line, entry=whole, orders=[], digest=digest(whole["key"]))


LINE = line_of(Bundled(entry(), "tuner probe x")).encode()
IMPORT: dict[str, str | None] = {
    "imported_from": "x",
    "imported_at": "2026-11-22T10:00:00+00:00",
    "command": None,
}


@pytest.mark.parametrize("command", [None, "tuner probe --all", 'two\nlines, "quotes" and \ud800'])
def test_a_line_gives_back_the_entry(command: str | None) -> None:
    """One line of ASCII, the same each time, that is read back equal."""
    line = line_of(Bundled(entry(), command))
    assert (line.count("\n"), line.isascii(), line[-1]) == (1, True, "\n")
    bundled = line_in(line.encode())
    assert (line_of(bundled), bundled.command) == (line, command)
    assert json.loads(json.dumps(bundled.entry.to_dict())) == entry().to_dict()


def test_the_factors_are_those_of_a_key(tmp_path: Path) -> None:
    """What a bundle asks of a key is what this release puts into one."""
    subject = Subject(identify(str(MIXTRAL)), serving_in(tmp_path / "env", SETTABLE).read())
    assert set(full_key(base_factors(subject), {})) == FACTORS


def test_the_word_of_a_bundle_is_not_trusted() -> None:
    """The verdict is what these rules make of the report, whatever the line says."""
    lie = entry().verdict | {"word": "no_moe", "reasons": [reason("believe_me").part()]}
    found = line_in(with_entry(verdict=lie, rules="others")).entry
    assert (found.verdict["word"], found.rules) == (Word.UNIFORM, rules_digest())
    assert "believe_me" not in {each["code"] for each in found.verdict["reasons"]}


def test_where_it_was_imported_before_is_not_kept() -> None:
    """An imported entry that travels on tells the last import, and the command that made it."""
    first = Bundled(entry(), "tuner probe x").imported("a.jsonl", "2026-11-22T10:00:00+00:00")
    bundled = line_in(line_of(Bundled(first, "tuner probe x")).encode())
    assert bundled.entry.provenance == first.provenance
    assert bundled.imported("b.jsonl", "2026-11-23T10:00:00+00:00").provenance == {
        "imported_from": "b.jsonl",
        "imported_at": "2026-11-23T10:00:00+00:00",
        "command": "tuner probe x",
    }


@pytest.mark.parametrize("signed_by", ["0123456789ABCDEF", None])
def test_who_signed_is_never_a_bundles_own_word(signed_by: str | None) -> None:
    """A line hands on which key signed before; whoever imports it keeps the key that was checked there, or none."""
    first = Bundled(entry(), None).imported("a.jsonl", "2026-11-22T10:00:00+00:00", "FEDCBA9876543210")
    bundled = line_in(line_of(Bundled(first, None)).encode())
    assert (bundled.entry.provenance or {})["signed_by"] == "FEDCBA9876543210"
    again = bundled.imported("b.jsonl", "2026-11-23T10:00:00+00:00", signed_by).provenance or {}
    assert again.get("signed_by") == signed_by
    assert ("signed_by" in again) == (signed_by is not None)


LINES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"\n", "not JSON"),
    "half a line": (LINE[: len(LINE) // 2], "not JSON"),
    "no UTF-8": (b"\xff" + LINE, "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "a long number": (b"9" * 10_000, "not JSON"),
    "orders that are none": (
        changed(LINE.decode(), orders=[], checksum="0" * 64).replace(b'"orders": []', b'"orders": [1]'),
        "its orders are not lists",
    ),
    "an order of numbers": (
        changed(LINE.decode(), orders=[], checksum="0" * 64).replace(b'"orders": []', b'"orders": [[1]]'),
        "its orders are not lists",
    ),
    "an order that is missing": (LINE.replace(b'{"#":0}', b'{"#":9}', 1), "an order that it does not hold"),
    "an order by another name": (LINE.replace(b'{"#":0}', b'{"#":"0"}', 1), "an order that it does not hold"),
    "a mark with more": (LINE.replace(b'{"#":0}', b'{"#":0,"a":1}', 1), "an order that it does not hold"),
    "a list": (b"[]", "not a line of a bundle"),
    "another document": (b'{"schema_version": 2, "results": []}', "not a line of a bundle"),
    "one member more": (changed(LINE.decode(), more=1), "not a line of a bundle"),
    "an older schema": (changed(LINE.decode(), schema_version=1), "an older release of the tool made it (schema 1)"),
    "a schema below the first": (changed(LINE.decode(), schema_version=0), "not a line of a bundle"),
    "a schema that is true": (changed(LINE.decode(), schema_version=True), "not a line of a bundle"),
    "a newer schema": (changed(LINE.decode(), schema_version=3), "its schema is 3, and this release reads 2"),
    "a command that is a list": (changed(LINE.decode(), command=["x"]), "its command is not text"),
    "another digest": (changed(LINE.decode(), digest="0" * 64), "its digest is not that of its key"),
    "another checksum": (changed(LINE.decode(), checksum="0" * 64), "its checksum is not that"),
    "an entry without rules": (changed(LINE.decode(), entry={"key": {}}), "not a verdict entry: Expected `object`"),
    "a date of nowhere": (with_entry(probed_at="yesterday"), "not an ISO 8601 time"),
    "a provenance of nothing": (with_entry(provenance={}), "does not say whence"),
    "a number that cannot be read": (
        with_entry(rules="NaN").replace(b'"NaN"', b"NaN"),
        "Expected `str`, got `float` - at `$.rules`",
    ),
    "an infinity in the report": (
        with_entry(report=entry().report | {"x": 7e9}).replace(b"7000000000.0", b"1e999"),
        "its entry cannot be read",
    ),
    "a key without vllm": (with_entry(key={"architecture": "A"}), "other factors than this release"),
    "a key of another time": (with_entry(key=entry().key | {"moon": "full"}), "other factors than this release: moon"),
    "a key of numbers": (with_entry(key=entry().key | {"worker": 1}), "not plain text"),
    "a key that steers a terminal": (with_entry(key=entry().key | {"worker": "\x1b[2J"}), "not plain text"),
    "files of another report": (with_entry(sources={"vllm/x.py": "a" * 64}), "disagree"),
    "files of another key": (with_entry(key=entry().key | {"sources": "a" * 64}), "disagree"),
    "a report of no files": (
        with_entry(report=entry().report | {"sources": {}}, sources={}, key=entry().key | {"sources": digest({})}),
        "names no source file",
    ),
    "a report of another vLLM": (
        with_entry(key=entry().key | {"vllm": "0.19.2"}),
        "says vllm 0.19.2, its report 0.19.1",
    ),
    "a report of another torch": (with_entry(key=entry().key | {"torch": "2.11.0"}), "says torch 2.11.0, its report"),
    "a report of another platform": (with_entry(key=entry().key | {"platform": "cuda"}), "says cuda, its report cpu"),
    "a report of another kind": (with_entry(report=entry().report | {"planned": []}), "damaged at planned"),
    "a failed probe": (with_entry(report=entry().report | {"result": "failed"}), "damaged at result"),
}


@pytest.mark.parametrize("case", LINES)
def test_a_damaged_line_is_refused_with_its_reason(case: str) -> None:
    """Whatever is wrong, the sentence says what."""
    line, words = LINES[case]
    with pytest.raises(BundleError) as raised:
        line_in(line)
    assert words in raised.value.message


def test_a_line_without_end_is_refused() -> None:
    """A line has a limit, whatever it holds."""
    with pytest.raises(BundleError, match="longer than 16 MiB"):
        line_in(b'"' + b"x" * MAX_LINE)


@pytest.mark.parametrize("seen", [{"device": "cuda"}, {"device": None}])
def test_a_report_of_a_device_fits_its_platform(seen: dict[str, Any]) -> None:
    """A report of a GPU, or of a worker that does not say, fits a key of CUDA."""
    line = line_of(Bundled(entry(seen=seen, platform="cuda"), None))
    assert line_in(line.encode()).entry.key["platform"] == "cuda"


def read(text: bytes) -> dict[str, Any] | None:
    """The entry in a line as JSON values; None if the line is refused."""
    try:
        bundled = line_in(text)
    except BundleError:
        return None
    return {"entry": json.loads(json.dumps(bundled.entry.to_dict())), "command": bundled.command}


def refused_or_equal(text: bytes) -> bool:
    """Whether a changed line is refused, or means what it meant."""
    return read(text) in (None, read(LINE))


@settings(max_examples=500)
@given(st.integers(0, len(LINE)))
@example(len(LINE) - 1)
@example(0)
def test_a_truncated_line_is_refused_or_the_same(end: int) -> None:
    """Cut anywhere, a line is refused; only its end may be missing."""
    assert refused_or_equal(LINE[:end])
    assert (read(LINE[:end]) is not None) == (end >= len(LINE) - 1)


@settings(max_examples=500)
@given(st.integers(0, len(LINE) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_the_same(place: int, byte: int) -> None:
    """One other byte anywhere never makes another verdict."""
    assert refused_or_equal(LINE[:place] + bytes([byte]) + LINE[place + 1 :])


@settings(max_examples=200)
@given(st.integers(0, len(LINE)), st.binary(min_size=1, max_size=3))
def test_inserted_bytes_are_refused_or_the_same(place: int, more: bytes) -> None:
    """Nor do bytes too many."""
    assert refused_or_equal(LINE[:place] + more + LINE[place:])


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(text: bytes) -> None:
    """Whatever the file is, it raises nothing but the one error."""
    assert read(text) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b", "#"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "#"]), inner, max_size=3),
    max_leaves=30,
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(["x", "y", "#"]), VALUES, max_size=3))
def test_packed_orders_are_unpacked_again(report: dict[str, Any]) -> None:
    """Whatever a report holds, marks of its own included, it comes back equal."""
    small, orders = packed(report)
    assert unpacked(json.loads(json.dumps(small)), orders) == report


def test_each_order_is_written_once() -> None:
    """What occurs once stays where it is; what occurs twice is written out in front."""
    report = {
        "b": [["x", "y"], ["x", "y"], ["z", "z"]],
        "a": ["y", "x"],
        "c": {"d": ["y", "x"], "e": ["x"], "f": ["x"]},
    }
    small, orders = packed(report)
    assert orders == [["y", "x"], ["x", "y"]]
    assert small == {"b": [{"#": 1}, {"#": 1}, ["z", "z"]], "a": {"#": 0}, "c": {"d": {"#": 0}, "e": ["x"], "f": ["x"]}}


def test_a_small_line_does_not_grow_without_end() -> None:
    """A large order that is named often enough is refused before it is written out."""
    order = ["x" * 1000] * 1000
    with pytest.raises(ValueError, match="64 MiB"):
        unpacked([{"#": 0}] * (MAX_UNPACKED // 1_000_000 + 1), [order])


def test_a_large_report_shrinks() -> None:
    """A report of a model with many MoE layers takes a third at most of what it would take written out."""
    whole = report(layers(60))
    whole["scenarios"] = [scenario(name, layers(60), contexts=16) for name in SCENARIOS]  # as the worker writes them
    small, orders = packed(whole)
    assert 3 * len(json.dumps([small, orders])) < len(json.dumps(whole))


def test_a_real_report_shrinks() -> None:
    """A real report repeats its orders too: packed, it is smaller, and comes back equal."""
    whole = sample(ERNIE, "current")
    small, orders = packed(whole)
    assert len(json.dumps([small, orders])) < len(json.dumps(whole))
    assert unpacked(small, orders) == whole


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=8),
            st.sampled_from(["cpu", "oot:x"]),
            st.none() | st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda one: one[:2],
    ),
    st.randoms(use_true_random=False),
)
def test_export_import_export_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, models: list[tuple[str, str, str | None]], order: Any
) -> None:
    """A bundle that went through another store is the same, but for where each entry came from."""
    folder = tmp_path_factory.mktemp("stores")
    here, there = VerdictStore(folder / "here"), VerdictStore(folder / "there")
    here.put(*(entry(name, platform=platform, model_impl=note or "") for name, platform, note in models))
    text = export(here, (), "tuner probe x").text
    lines = text.splitlines(keepends=True)
    order.shuffle(lines)
    (folder / "bundle.jsonl").write_text("".join(lines))
    import_file(there, folder / "bundle.jsonl")
    again = [line_in(line.encode()) for line in export(there, (), None).text.splitlines(keepends=True)]
    assert {one.entry.provenance["imported_from"] for one in again if one.entry.provenance} == {"bundle.jsonl"}
    assert all(one.entry.provenance for one in again)
    assert text == "".join(line_of(Bundled(replace(one.entry, provenance=None), one.command)) for one in again)
    keys = [(one.entry.key["architecture"], one.entry.digest) for one in again]
    assert keys == sorted(keys)


@pytest.mark.parametrize("model", [MIXTRAL, ERNIE, LLAMA], ids=lambda model: model.name)
def test_real_reports_travel_whole(tmp_path: Path, model: Path) -> None:
    """What the probe wrote in a real environment arrives byte for byte."""
    kept, _ = serving_in(tmp_path / "env", SETTABLE).remember(tmp_path / "store", model)
    (tmp_path / "bundle").write_text(export(VerdictStore(tmp_path / "store"), (), None).text)
    import_file(VerdictStore(tmp_path / "other"), tmp_path / "bundle")
    (found,) = VerdictStore(tmp_path / "other").entries()
    assert replace(found, provenance=None, origin=kept.origin, verdict=kept.verdict) == kept
    assert found.verdict == json.loads(json.dumps(kept.verdict))


def test_a_number_that_json_lacks_is_not_exported() -> None:
    """NaN is an error where it is written, not where it is read."""
    with pytest.raises(ValueError, match="JSON"):
        line_of(Bundled(replace(entry(), report=entry().report | {"x": float("nan")}), None))


@pytest.mark.parametrize(
    "provenance",
    [
        {},
        [],
        {"imported_from": "x", "imported_at": "2026-11-22T10:00:00+00:00"},
        {"imported_from": "x", "imported_at": "today", "command": None},
        {"imported_from": None, "imported_at": "2026-11-22T10:00:00+00:00", "command": None},
        {"imported_from": "x", "imported_at": "2026-11-22T10:00:00+00:00", "command": 1},
        {**IMPORT, "signed_by": None},
        {**IMPORT, "signed_by": 81985529216486895},
        {**IMPORT, "signed_by": ["0123456789ABCDEF"]},
        {**IMPORT, "signed_by": ""},
        {**IMPORT, "signed_by": "0123456789abcdef"},
        {**IMPORT, "signed_by": "0123456789ABCDEF\n"},
        {**IMPORT, "signed_by": "\x1b[2J\x1b[2J\x1b[2J\x1b["},
        {**IMPORT, "signed": True},
    ],
)
def test_a_provenance_of_another_shape_makes_no_entry(provenance: Any) -> None:
    """What is shown of an import is there, and is text."""
    with pytest.raises(StoreError, match="provenance"):
        replace(entry(), provenance=provenance)
    with pytest.raises(BundleError, match="provenance"):
        line_in(with_entry(provenance=provenance))


HERE = ProbeOrigin("tiny", file="/srv/models/tiny", host="gpu-7")
HUB = ProbeOrigin("mistralai/Mixtral-8x7B-v0.1", file=None, host="gpu-7")


@pytest.mark.parametrize(("origin", "name"), [(HERE, None), (HUB, HUB.name), (None, None)])
def test_a_bundle_names_models_of_the_hub_and_no_machine(origin: ProbeOrigin | None, name: str | None) -> None:
    """Neither the host nor a path leaves the machine; a name of the hub does."""
    line = line_of(Bundled(replace(entry(), origin=origin), None))
    assert "gpu-7" not in line
    assert "/srv" not in line
    found = line_in(line.encode()).entry.origin
    assert found == (ProbeOrigin(name, file=None, host=None) if name else None)


@pytest.mark.parametrize("origin", [HERE, HUB])
def test_a_line_that_names_a_machine_is_imported_without_it(origin: ProbeOrigin) -> None:
    """Somebody else's host and paths are not stored here."""
    found = line_in(with_entry(origin=to_builtins(origin))).imported("a.jsonl", "2026-11-22T10:00:00+00:00")
    assert found.origin == (ProbeOrigin(HUB.name, file=None, host=None) if origin is HUB else None)


@pytest.mark.parametrize("provenance", [IMPORT, {**IMPORT, "signed_by": "0123456789ABCDEF"}])
def test_a_provenance_is_read_as_it_was_written(provenance: dict[str, str | None]) -> None:
    """With the key of a signature that was checked, and without one, as earlier builds wrote it."""
    kept = replace(entry(), provenance=provenance).to_dict()
    assert kept["provenance"] == provenance
    assert Entry.from_dict(kept).provenance == provenance


def test_an_entry_without_provenance_is_written_as_before() -> None:
    """A store that nothing was imported into is read by releases that know no provenance, and theirs by this one."""
    assert set(entry().to_dict()) == {"key", "sources", "report", "verdict", "rules", "probed_at"}
    assert Entry.from_dict(entry().to_dict()).provenance is None
