"""Entry: `PYTHON .../moe_probe_worker CONTROL_FOLDER`."""

import sys
from pathlib import Path

if sys.version_info < (3, 10):
    sys.exit("moe_probe_worker needs Python 3.10 or later")

# Running a folder puts the folder itself first on the path, where its modules
# would shadow others. Its parent holds this one package and nothing else.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from moe_probe_worker.jobs import main  # noqa: E402  after the path was set

main(Path(sys.argv[1]))
