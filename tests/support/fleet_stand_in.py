"""Test support: `tuner worker` with workers of probes that are made up.

`install` puts scripts in the places of the order probe's and the launch's workers, in this process. Run as a script it
does that in a process of its own, which can then be killed: `python fleet_stand_in.py FOLDER TUNER ARGUMENTS...`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proof_stand_in import PROOFS

ORDER = """
import json, os, sys, time
from pathlib import Path

control, folder = Path(sys.argv[1]), Path({folder!r})
parent = os.getppid()
(control / "draft").write_text('{{"result": "ok"}}')
(control / "draft").rename(control / "environment.json")
for job in json.loads((control / "request.json").read_text())["models"]:
    with (folder / "probed").open("a") as notes:
        notes.write(f"{{job['config']['architectures'][0]}}\\n")
    seconds = folder / "seconds"
    time.sleep(float(seconds.read_text()) if seconds.exists() else 0)
    while (folder / "hold").exists() and os.getppid() == parent:
        time.sleep(0.05)
    draft = control / "draft"
    draft.write_text(json.dumps(json.loads((folder / "reports.json").read_text())[job["config"]["architectures"][0]]))
    draft.rename(control / f"report-{{job['index']}}.json")
"""
LAUNCH = """
import sys

control = Path(sys.argv[1])
reports = json.loads((Path({folder!r}) / "reports.json").read_text())
answer_proofs(control, json.loads((control / "request.json").read_text()), reports)
"""


def hand_back(folder: Path, *reports: Mapping[str, Any]) -> None:
    """What the workers of probes will answer: each report for its own architecture."""
    text = json.dumps({str(report["architecture"]): report for report in reports})
    (folder / "reports.json").write_text(text, encoding="utf-8")


def probed(folder: Path) -> list[str]:
    """Architectures whose order probe was begun."""
    notes = folder / "probed"
    return notes.read_text(encoding="utf-8").split() if notes.exists() else []


def install(folder: Path, put: Any) -> None:
    """Put the stand-ins in place.

    Args:
        folder: holds what they answer and note: `reports.json`, `probed`, `hold`, and `seconds`, how long each probe
            takes.
        put: sets an attribute, as `setattr` does.
    """
    from tuner.engines import question  # noqa: PLC0415  other programs set their own path first
    from tuner.probe import runner  # noqa: PLC0415  as above

    order, launch = folder / "moe_probe_worker", folder / "launch_worker"
    texts = {order: ORDER.format(folder=str(folder)), launch: PROOFS + LAUNCH.format(folder=str(folder))}
    for script, text in texts.items():
        if not script.exists():
            script.write_text(text, encoding="utf-8")
    put(runner, "WORKER", order)
    put(question, "WORKER", launch)


if __name__ == "__main__":
    from tuner.__main__ import main

    install(Path(sys.argv.pop(1)), setattr)
    main()
