"""Entry: `PYTHON .../moe_probe_worker CONTROL_FOLDER`."""

import sys
from pathlib import Path

if sys.version_info < (3, 10):
    sys.exit("moe_probe_worker needs Python 3.10 or later")

# Running a folder puts the folder itself first on the path, where its modules
# would shadow others. These two hold one package each and nothing else: this
# worker, and what both workers need.
WORKER = Path(__file__).resolve().parent
sys.path[:1] = [str(WORKER.parent), str(WORKER.parents[2] / "processes" / "worker")]

from moe_probe_worker.jobs import main  # noqa: E402  after the path was set

main(Path(sys.argv[1]))
