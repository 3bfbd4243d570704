"""Starts the worker: `PYTHON .../moe_probe_worker CONTROL_FOLDER`."""

import sys
from pathlib import Path

if sys.version_info < (3, 10):
    sys.exit("moe_probe_worker needs Python 3.10 or later")

# Python puts the folder that it runs first on the path, where the folder's modules
# could hide others. Replace it by two folders with one package each: this worker,
# and the package that all workers share.
WORKER = Path(__file__).resolve().parent
sys.path[:1] = [str(WORKER.parent), str(WORKER.parents[2] / "processes" / "worker")]

from moe_probe_worker.jobs import main  # noqa: E402  the path must be set first

main(Path(sys.argv[1]))
