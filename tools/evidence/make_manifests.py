"""Writes manifests.md: `tuner check` and `tuner apply` over the 134 public manifests of tests/manifests.

.venv/bin/python -m tools.evidence.make_manifests    # five minutes on two cores, most of it the probe of two models

A person has read every finding in its file. `JUDGEMENTS` has the judgement and the number of findings that it is about.
If the number has changed since, the page is not written.
"""

import json
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tools.count_readings import Reading, outcomes
from tools.evidence import ROOT
from tools.evidence.page import TUNER, footer, python_of, run, shell_block, table, write
from tuner.checks.edit import Change, NotEditable, edits_for, spliced
from tuner.checks.sources import read_manifest
from tuner.manifests.find import launches_in
from tuner.manifests.launch import ManifestLaunch

MANIFESTS = "tests/manifests"
HAND = "tests/manifest_launches.json"
MODELS = {"baidu--ERNIE-4.5-VL-28B-A3B-PT": True, "openai--gpt-oss-120b": False}
"""Example models that the manifests launch -> whether they launch them with --trust-remote-code."""
JUDGEMENTS = {
    "image-unpinned": (
        73,
        73,
        "Tags `latest`, `latest-nightly`, or none. No tag of a release or of one build is among them.",
    ),
    "arguments-refused": (
        1,
        1,
        (
            "`--compilation-config 3` of May 2025: right for the vLLM in its image, whose tag says no version, refused "
            "by each release from 0.14.1 on. So it is a warning that says so, no error."
        ),
    ),
    "arguments-hidden": (
        6,
        6,
        "Five times `vllm serve ...` in prose, once a `--config` file that is not in the repository.",
    ),
    "cache-on-no-volume": (3, 3, "Three times `docker run` without a volume at the folder of the cache."),
}
"""Rule -> how many findings a person has read, how many of them are true, and what they are."""
NOTES = {
    "version-unknown": "No image, or one whose tag names no vLLM version. All true.",
    "model-unknown": "Hub ids that are neither in the hub cache nor below --configs, addresses and variables.",
}
"""Rule that gives notes -> what the notes are."""
UNEDITED = re.compile("by hand|may hold|is not written; give|the edit")
"""Sentences of `apply` on launches that it does not edit. Its other sentences are the warnings of `tuner serve`."""
HIDDEN = re.compile(r"(?<=^the value of ).*(?= is not written)")
CONFIG = "--compilation-config"
WRONG_FLAG = '{"fast_moe_cold_start": true}'


def main() -> None:
    """Make the page."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        store, image = str(place / "verdicts.sqlite"), str(place / "image.json")
        probe(store)
        Path(image).write_text(run(TUNER, "env", "--json", "--python", python_of("flag-live")).stdout, encoding="utf-8")
        options = ("--configs", "examples/models", "--store", store, "--environment", image)
        write(
            "manifests.md",
            "# Public manifests: what check finds, and what apply edits",
            "The files of `tests/manifests`, as published. Launches of 30 of them are "
            "compared with the file, argument by argument, in `tests/test_manifest_public.py`.",
            launches_section(check("--store", store)),
            readings_section(),
            as_published_section(check("--store", store)),
            verdicts_section(check(*options), store),
            wrong_flag_section(place, options),
            apply_section(place, options),
            footer("evidence"),
        )


def probe(store: str) -> None:
    """Probe the example models that the manifests launch, in the environment where the flag works."""
    for remote in (True, False):
        names = [f"examples/models/{name}" for name, with_code in MODELS.items() if with_code is remote]
        leave = ("--trust-remote-code",) if remote else ()
        probing = run(TUNER, "probe", "--python", python_of("flag-live"), "--store", store, *leave, *names)
        if probing.returncode not in (0, 3):
            sys.exit(probing.stderr)


def check(*options: str, path: str = MANIFESTS) -> dict:
    """The document of a check."""
    checking = run(TUNER, "check", "--json", *options, path)
    document = json.loads(checking.stdout)
    if "error" in document or "Traceback" in checking.stderr:
        sys.exit(checking.stderr)
    return {**document, "exit_code": checking.returncode}


def repository(path: str) -> str:
    """The repository that a manifest is from."""
    return Path(path).parent.name.replace("--", "/", 1)


def launches_section(document: dict) -> str:
    """Files and launches by repository and shape."""
    files = Counter(repository(str(path)) for path in (ROOT / MANIFESTS).glob("*/*.yaml"))
    shapes: dict[str, Counter] = {}
    for launch in document["launches"]:
        shapes.setdefault(repository(launch["path"]), Counter())[launch["shape"]] += 1
    rows = []
    for name, number in sorted(files.items()):
        by_shape = ", ".join(f"{shape} {count}" for shape, count in shapes[name].most_common())
        rows.append((name, str(number), str(shapes[name].total()), by_shape))
    total = sum(counter.total() for counter in shapes.values())
    rows.append(("together", str(files.total()), str(total), ""))
    unreadable = document["summary"]["findings"].get("file-unreadable", 0)
    heads = ("repository", "files", "launches", "by shape")
    return f"## Launches\n\n{table(heads, rows)}\n\nFiles that could not be read: {unreadable}."


def readings_section() -> str:
    """How the launches are read whose argument lists a person wrote down."""
    by_hand = json.loads((ROOT / HAND).read_text(encoding="utf-8"))["launches"]
    numbers = Counter(outcome.reading for outcome in outcomes(ROOT / MANIFESTS, by_hand))
    rows = [(str(reading), str(numbers[reading])) for reading in Reading]
    return "\n\n".join(
        [
            "## Readings",
            (
                f"{numbers.total()} launches of {len(by_hand)} files, compared with argument lists that were written "
                "by hand. A launch is read where the whole list is equal, and hidden where a note says what hides a "
                "part of it."
            ),
            shell_block("python", "-m", "tools.count_readings", MANIFESTS, "--hand", HAND),
            table(("how the launch is read", "launches"), rows),
        ]
    )


def as_published_section(document: dict) -> str:
    """Findings in the files alone, with the judgement on each kind."""
    counts = document["summary"]["findings"]
    for rule, (number, _, _) in JUDGEMENTS.items():
        if counts.get(rule) != number:
            sys.exit(f"{rule}: {counts.get(rule)} findings, {number} were judged; read them again")
    rows = [
        (rule, str(number), f"{true} true, {number - true} false", meaning)
        for rule, (number, true, meaning) in JUDGEMENTS.items()
    ]
    rows += [(rule, str(counts[rule]), "notes", meaning) for rule, meaning in NOTES.items()]
    other = sorted(set(counts) - {row[0] for row in rows})
    return "\n\n".join(
        [
            "## Findings in the files as they are",
            shell_block("tuner", "check", MANIFESTS),
            table(("finding", "number", "judged by hand", "what they are"), rows),
            (
                f"Exit code {document['exit_code']}. Of other kinds: {', '.join(other) or 'none'}. No file sets "
                "`fast_moe_cold_start`, a `cache_dir`, `VLLM_CACHE_ROOT` or a volume for the compile cache."
            ),
        ]
    )


def verdicts_section(document: dict, store: str) -> str:
    """Findings with verdicts on the models that have an example configuration."""
    numbers = Counter((launch["model"], launch["verdict"]) for launch in document["launches"] if launch["verdict"])
    rows = [(model, str(number), verdict) for (model, verdict), number in numbers.items()]
    about = [
        finding
        for finding in document["findings"]
        if finding["rule"] in {"flag-left-on", "no-verdict", "flag-contradicts-verdict"}
    ]
    lines = []
    for finding in about:
        place = f"{Path(finding['path']).name}:{finding['line']}"
        lines.append(f"- `{place}` {finding['level']}: {without_folder(finding['message'], store)}")
    return "\n\n".join(
        [
            "## With verdicts",
            (
                "Two models that the manifests launch, probed in `.envs/flag-live` (vLLM 0.19.1, CPU), whose "
                "environment stands for every image that names no other vLLM or platform."
            ),
            shell_block("tuner", "check", MANIFESTS, "--configs", "examples/models", "--environment", "image.json"),
            table(("model", "launches", "verdict"), sorted(rows)),
            "\n".join(lines) or "No finding about a verdict.",
            f"Exit code {document['exit_code']}.",
        ]
    )


def without_folder(text: str, store: str) -> str:
    """A message without the folders of this run."""
    return text.replace(str(Path(store).parent), "FOLDER")[:220]


def wrong_flag_section(place: Path, options: tuple[str, ...]) -> str:
    """The findings after `true` was written into every launch that can be edited."""
    folder, number, drafts = place / "planted", 0, 0
    for file in sorted((ROOT / MANIFESTS).glob("*/*.yaml")):
        text, launches = with_wrong_flag(file)
        number += len(launches)
        drafts += sum(map(has_draft, launches))
        copy = folder / file.parent.name / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    document = check(*options, path=str(folder))
    counts = document["summary"]["findings"]
    rules = ("true-beside-draft", "flag-contradicts-verdict", "flag-unproved", "key-unknown")
    rows = [(rule, str(counts.get(rule, 0))) for rule in rules]
    unsafe = sum(launch["verdict"] in {"conditional", "reordered", "repeated"} for launch in document["launches"])
    return "\n\n".join(
        [
            "## With a wrong flag planted",
            (
                f"`{WRONG_FLAG}` put behind the arguments of {number} launches that have no compilation config and can "
                f"be edited. {drafts} of them have a speculative config, {unsafe} a model whose verdict is unsafe."
            ),
            table(("finding", "number"), rows),
            f"Exit code {document['exit_code']}.",
        ]
    )


def has_draft(launch: ManifestLaunch) -> bool:
    """Whether a launch has a speculative config."""
    return any(re.match(r"--spec|-sc", word) for word in launch.args)


def with_wrong_flag(file: Path) -> tuple[str, list[ManifestLaunch]]:
    """A manifest with `true` in each launch that has no compilation config and can be edited, and these launches."""
    text, changed = read_manifest(file), []
    for index, launch in reversed(list(enumerate(launches_in(file.name, text)))):
        if any("compilation" in word or word.startswith(("-cc", "...")) for word in launch.args):
            continue
        try:
            change = Change((), (CONFIG, WRONG_FLAG), len(launch.words))
            after = spliced(text, edits_for(text, launch.words, change))
            launches = launches_in(file.name, after)
        except (NotEditable, ValueError):
            continue
        expected = [other.args for other in launches_in(file.name, text)]
        expected[index] = change.of(launch.args)
        if [other.args for other in launches] == expected:
            text = after
            changed.append(launch)
    return text, changed


def apply_section(place: Path, options: tuple[str, ...]) -> str:
    """The edits of `apply --write`, which runs twice over a copy."""
    folder = place / "edited"
    shutil.copytree(ROOT / MANIFESTS, folder)
    first = run(TUNER, "apply", "--write", *options, str(folder))
    second = run(TUNER, "apply", "--write", *options, str(folder))
    files = re.findall(r": (\d+) launch(?:es)? changed$", first.stdout, re.MULTILINE)
    reasons: Counter[str] = Counter()
    for line in first.stderr.splitlines():
        sentence = line.split(": ", 2)[-1]
        if re.match(r"tuner: \S+?:\d+: ", line) and UNEDITED.search(sentence):
            reasons[re.sub(r"at line \d+ ", "", HIDDEN.sub("…", sentence))] += 1
    rows = [
        ("launches edited", str(sum(map(int, files)))),
        ("files edited", str(len(files))),
        ("launches edited by the second run", str(len(re.findall("changed", second.stdout)))),
        *((f"left alone: {reason}", str(number)) for reason, number in reasons.most_common()),
    ]
    return "\n\n".join(
        [
            "## apply",
            shell_block(
                "tuner", "apply", "--write", MANIFESTS, "--configs", "examples/models", "--environment", "image.json"
            ),
            table(("what", "number"), rows),
            (
                f"Exit codes {first.returncode} and {second.returncode}: "
                "1, because the launches that are not edited are named. Nothing is written for a launch whose model is "
                "not known. `tests/test_apply_public.py` tests file by file that only the lines of the compilation "
                "config differ."
            ),
        ]
    )


if __name__ == "__main__":
    main()
