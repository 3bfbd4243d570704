"""From a staging folder into a cache root: whole entries, by one rename each, with paths that lead to the new place."""

import ast
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from compiled_samples import AOT, made_file

from cache.compiled.layout import read_root
from cache.compiled.place import HANDLES
from cache.compiled.publish import WARMING, publish, staging_folder

GRAPHS = "torch_compile_cache/0a1b2c3d4e"
WHOLE = AOT + "ab" * 32
KEY = "artifact_compile_range_1_8192_subgraph_0"


def filled(root: Path, text: str = "mine") -> Path:
    """A staging folder as a start leaves it: graphs that name their files by absolute path, a function, others."""
    staging = staging_folder(root)
    backbone = staging / GRAPHS / "rank_0_0" / "backbone"
    handle = (KEY, str(backbone / KEY))
    made_file(backbone / HANDLES, repr({((1, 8192), 0, "inductor_standalone"): {"graph_handle": handle}}).encode())
    made_file(backbone / KEY, text.encode())
    made_file(staging / WHOLE / "rank_0_0" / "model", text.encode())
    made_file(staging / "modelinfos" / "model.json", text.encode())
    made_file(staging / "triton" / "K3Y" / "kernel.cubin", text.encode())
    return staging


def test_everything_is_moved_and_the_staging_folder_is_gone(tmp_path: Path) -> None:
    """Entries are told apart from what lies beside them; nothing else is left."""
    staging = filled(tmp_path)
    assert publish(staging, tmp_path) == ([GRAPHS, WHOLE], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["modelinfos", "torch_compile_cache", "triton"]
    assert (tmp_path / "triton" / "K3Y" / "kernel.cubin").read_text() == "mine"
    assert [entry.path for entry in read_root(tmp_path).entries] == [GRAPHS, WHOLE]


def test_paths_inside_lead_to_the_new_place(tmp_path: Path) -> None:
    """Through 0.31.0 vLLM opens the absolute path that the first start wrote, and no other."""
    publish(filled(tmp_path), tmp_path)
    handles = ast.literal_eval((tmp_path / GRAPHS / "rank_0_0" / "backbone" / HANDLES).read_text())
    (entry,) = handles.values()
    assert entry["graph_handle"] == (KEY, str(tmp_path / GRAPHS / "rank_0_0" / "backbone" / KEY))
    assert Path(entry["graph_handle"][1]).read_text() == "mine"


@pytest.mark.parametrize("text", [b"", b"{", b"__import__('os').abort()", b"[" * 100_000])
def test_handles_that_cannot_be_read_stay_as_they_are(tmp_path: Path, text: bytes) -> None:
    """In that case vLLM compiles anew; nothing in such a file is run."""
    staging = filled(tmp_path)
    (staging / GRAPHS / "rank_0_0" / "backbone" / HANDLES).write_bytes(text)
    publish(staging, tmp_path)
    assert (tmp_path / GRAPHS / "rank_0_0" / "backbone" / HANDLES).read_bytes() == text


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    """Of two warm-ups of one launch the first wins, as a whole, and the second tells its entries."""
    first, second = filled(tmp_path, "first"), filled(tmp_path, "second")
    assert publish(first, tmp_path) == ([GRAPHS, WHOLE], [])
    assert publish(second, tmp_path) == ([], [GRAPHS, WHOLE])
    texts = {path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path.name != HANDLES}
    assert texts == {"first"}
    assert not list(tmp_path.glob(f"{WARMING}*"))


@pytest.mark.parametrize("moment", range(10))
def test_a_kill_leaves_no_half_entry(tmp_path: Path, moment: int) -> None:
    """Whenever the process dies, an entry is there whole or not at all, and never a function without its graphs."""
    staging = filled(tmp_path)
    child = multiprocessing.get_context("fork").Process(target=killed_after, args=(staging, tmp_path, moment))
    child.start()
    child.join()
    assert child.exitcode in {0, -signal.SIGKILL}
    whole = (tmp_path / WHOLE / "rank_0_0" / "model").exists()
    graphs = (tmp_path / GRAPHS / "rank_0_0" / "backbone" / KEY).exists()
    assert (tmp_path / GRAPHS).exists() is graphs
    assert (tmp_path / WHOLE).exists() is whole
    assert graphs or not whole


def killed_after(staging: Path, root: Path, renames: int) -> None:
    """Publish in a process that kills itself at the rename after so many."""
    rename, left = Path.rename, [renames]

    def counted(self: Path, target: Path) -> Path:
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return rename(self, target)

    Path.rename = counted  # type: ignore[method-assign]  in a process of its own
    publish(staging, root)
