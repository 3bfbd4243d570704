"""Runs the acceptance run, and writes docs/evidence/admission.md.

.venv/bin/python -m tools.acceptance --folder FOLDER

FOLDER keeps etcd, kubectl and kube-apiserver for the next run. The first run makes them in some 10 minutes of one core,
and needs Debian 12.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from live_service import free_port

from tools.acceptance import ROOT
from tools.acceptance.build import programs
from tools.acceptance.cluster import HOST, running_cluster
from tools.acceptance.latency import measure
from tools.acceptance.page import Run, write_page
from tools.acceptance.processes import Server
from tools.acceptance.progress import BrokenPromiseError, tell
from tools.acceptance.promises import Trial, keep_all
from tools.acceptance.rollout import measure_rollouts
from tools.acceptance.service import Service
from tuner import __version__

NUMBER = 250
"""Pods of each kind whose creation is measured."""


def main() -> None:
    """Run it. If a promise does not hold, end with an error and write no page."""
    parser = argparse.ArgumentParser(description="Try admission with a real API server, and write the page.")
    help_text = "outside of the repository; keeps the programs for the next run"
    parser.add_argument("--folder", type=Path, required=True, help=help_text)
    parser.add_argument("--pods", type=int, default=NUMBER, help=f"of each kind to measure; default {NUMBER}")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if folder.is_relative_to(ROOT):
        parser.error(f"{folder} is in the repository; name a folder outside of it.")
    try:
        run = run_trial(folder, options.pods)
    except BrokenPromiseError as error:
        sys.exit(f"This does not hold: {error}")
    write_page(run)
    tell("docs/evidence/admission.md is written")


def run_trial(folder: Path, number: int) -> Run:
    """Keep every promise, measure, and return what the page shows.

    Raises:
        BrokenPromiseError: a promise does not hold.
    """
    ready, packages = programs(folder)
    with running_trial(ready) as trial:
        keep_all(trial)
        latencies = measure(trial, number)
        load = os.getloadavg()[0]
        rollouts = measure_rollouts(trial)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    return Run(day, versions(ready), packages, trial.rows, trial.decisions, latencies, rollouts, load)


@contextmanager
def running_trial(ready: Path) -> Iterator[Trial]:
    """A cluster, the service and the other team's webhook, before the first promise is tried."""
    with tempfile.TemporaryDirectory(prefix="tuner-acceptance-") as name, ExitStack() as stack:
        folder = Path(name)
        tell("starting etcd and kube-apiserver")
        cluster = stack.enter_context(running_cluster(ready, folder))
        tell("starting the service")
        service = Service(folder / "service")
        stack.callback(service.stop)
        service.start()
        other = free_port()
        tls = service.authority.parent
        words = [sys.executable, "-m", "tools.acceptance.other_webhook", other, tls / "tls.crt", tls / "tls.key"]
        server = Server(words, folder / "other.log", lambda: _accepts(other), ROOT)
        stack.callback(server.stop)
        yield Trial(cluster, service, folder, other)


def _accepts(port: int) -> bool:
    """Whether a server takes connections on a port."""
    with socket.create_connection((HOST, port), timeout=5):
        return True


def versions(ready: Path) -> dict[str, str]:
    """Program of the run -> the version that it prints."""
    commands = {
        "etcd": ["etcd", "--version"],
        "kube-apiserver": ["kube-apiserver", "--version"],
        "kubectl": ["kubectl", "version", "--client", "--short"],
    }
    version_of = {"tuner": __version__}
    for name, (program, *words) in commands.items():
        process = subprocess.run([str(ready / program), *words], capture_output=True, text=True, check=True)
        version = re.search(r"\d+\.\d+\.\d+", process.stdout)
        version_of[name] = version.group() if version else process.stdout.strip()
    return version_of


if __name__ == "__main__":
    main()
