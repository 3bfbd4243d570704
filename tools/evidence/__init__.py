"""Programs that write the pages of docs/evidence.

Each runs from the repository's root as a module: `.venv/bin/python -m tools.evidence.make_store`. The tests' helpers
and the examples are importable in all of them.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tests", "tests/support", "examples")]
