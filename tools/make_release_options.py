"""Reads the options of `vllm serve` from the parsers of every release at hand, and writes release_options.json.

.venv/bin/python -m tools.make_release_options    # after `make setup setup-flag-live setup-all-parsers`

A release takes half a minute. `--answers FOLDER` stores the answers, and a release with a stored answer is not asked
again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rules.releases import numbers_of
from tuner.arguments.release_options import FILE

ROOT = Path(__file__).parents[1]
WORKER = ROOT / "tests" / "support" / "parser_options.py"
PARSERS = ROOT / ".envs" / "parsers"
WHOLE = {"0.19.1": "flag-live", "0.32.0": "current"}
"""Release -> the environment in which it is installed."""
FIRST_ON_CURRENT = (0, 25)
"""The first minor series whose Python files run on the libraries of .envs/current; older ones on .envs/flag-live."""

Row = dict[str, Any]


def main() -> None:
    """Ask every release and write the table."""
    parser = argparse.ArgumentParser(description="The options of every release.")
    parser.add_argument("--answers", type=Path, help="a folder for the answers of the releases")
    folder = parser.parse_args().answers or Path(tempfile.mkdtemp())
    releases = sorted({*WHOLE, *(path.name for path in PARSERS.iterdir())}, key=numbers_of)
    rows = merged([options_of(release, folder) for release in releases])
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    FILE.write_text(f'{{"releases":{json.dumps(releases)},"options":[\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(releases)} releases, {len(rows)} rows, {FILE.stat().st_size} bytes", file=sys.stderr)


def options_of(release: str, folder: Path) -> list[Row]:
    """The options of a release, as its parser describes them."""
    output = folder / f"{release}.json"
    if not output.exists():
        on_current = numbers_of(release)[:2] >= FIRST_ON_CURRENT
        environment = WHOLE.get(release) or ("current" if on_current else "flag-live")
        ahead = {} if release in WHOLE else {"PYTHONPATH": str(PARSERS / release)}
        quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        command = [ROOT / ".envs" / environment / "bin" / "python", WORKER, output]
        subprocess.run(command, check=True, env={**os.environ, **quiet, **ahead}, cwd=folder)
    answer = json.loads(output.read_text(encoding="utf-8"))
    if answer["version"].partition("+")[0] != release:
        raise SystemExit(f"{output} is of vLLM {answer['version']}")
    return [without_tabled_keys(option) for option in answer["options"]]


def without_tabled_keys(option: Row) -> Row:
    """An option. Keys of the compilation config are left out, because rules/compilation_keys.py has them."""
    if "--compilation-config" not in option["spellings"]:
        return option
    return {name: value for name, value in option.items() if name != "keys"}


def merged(releases: list[list[Row]]) -> list[Row]:
    """One row for each run of releases in which an option is the same, by name and release."""
    rows: list[Row] = []
    growing: dict[str, Row] = {}
    for number, options in enumerate(releases):
        before, growing = growing, {}
        for option in options:
            facts = json.dumps(option, sort_keys=True)
            row = before.get(facts)
            if row is None:
                row = {**option, "first": number}
                rows.append(row)
            row["last"] = number
            growing[facts] = row
    return sorted(rows, key=by_spelling)


def by_spelling(row: Mapping[str, Any]) -> tuple[str, int]:
    """The sort key of rows: the first spelling, then the first release of the row."""
    return row["spellings"][0], row["first"]


if __name__ == "__main__":
    main()
