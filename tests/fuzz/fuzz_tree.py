"""Tree of FlashInfer's autotune -> list, explain: damage is told of, and a damaged tree is a hit only if vLLM loads it.

One of the files of two ranks is damaged. What vLLM 0.32.0 asks of them is asked here once more.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tuned_samples import FLASHINFER, GPU, METADATA, NAME, TREE, of_rank, tree_in, tuned

from cache.compiled.autotune import tuned_files
from cache.compiled.layout import content_of, read_root
from fuzz.limit import limited
from fuzz.mutate import Draw, Places, by_depth, bytes_mutated, json_text, mutated, paths, text_mutated
from rules.autotune import autotune_of
from tuner.compile_cache.autotune_prediction import Tree, TreeAnswer, TreeLaunch, TreePrediction, predict_tree
from tuner.compile_cache.text import root_document, root_text

LAUNCH = TreeLaunch(
    vllm="0.32.0",
    span=autotune_of("0.32.0"),
    on=True,
    flashinfer=FLASHINFER,
    has_store=False,
    ranks=2,
    stages=1,
    spread=False,
    name=NAME,
    mega=False,
    present={"flashinfer_version": FLASHINFER, "gpu": GPU},
    writable=True,
)
LONGEST = 500
"""Characters of a reason; what it quotes of a file is cut."""


@dataclass(frozen=True)
class Ground:
    """A cache root with a tree of two ranks, and what is in each of its files."""

    root: Path
    data: bytes
    value: Any
    places: Places


def ground(folder: Path) -> Ground:
    """Make it."""
    data = tuned()
    tree_in(folder, {of_rank(0): data, of_rank(1): data})
    value = json.loads(data)
    return Ground(folder, data, value, by_depth(paths(value)))


def case(draw: Draw, ground: Ground) -> str:
    """Damage the file of one rank, ask, and put it back."""
    path = ground.root / TREE / of_rank(draw(st.integers(0, 1)))
    with limited():
        path.write_bytes(damaged(draw, ground))
        try:
            return str(asked(ground.root).answer)
        finally:
            path.write_bytes(ground.data)


def damaged(draw: Draw, ground: Ground) -> bytes:
    """Another value, another text, or other bytes."""
    way = draw(st.sampled_from(["value", "value", "text", "bytes"]))
    if way == "value":
        return json_text(mutated(draw, ground.value, ground.places)).encode()
    if way == "bytes":
        return bytes_mutated(draw, ground.data)
    return text_mutated(draw, ground.data.decode()).encode("utf-8", "surrogatepass")


def asked(root: Path) -> TreePrediction:
    """The answer, which can be printed; a hit is one that vLLM would have, too."""
    cache = read_root(root)
    root_text(cache, time.time()).encode()
    json.dumps(root_document(cache), allow_nan=False)
    (entry,) = cache.entries
    files = tuned_files(entry.path, entry.items, lambda item: content_of(root, item))
    prediction = predict_tree(LAUNCH, [Tree(TREE, FLASHINFER, NAME, tuple(files))], (), None)
    assert all(len(reason) < LONGEST for reason in prediction.reasons)
    if prediction.answer is TreeAnswer.HIT:
        assert entry.complete
        require_loaded(root)
    return prediction


def require_loaded(root: Path) -> None:
    """Fail unless the files of both ranks are alike as vLLM compares them, and of this FlashInfer and GPU."""
    contents = [json.loads((root / TREE / of_rank(number)).read_bytes()) for number in (0, 1)]
    assert len({len(content) for content in contents}) == 1
    for content in contents:
        assert content["_metadata"] == METADATA
