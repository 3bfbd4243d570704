"""What the host keeps of the launch worker's answer."""

import pytest

from tuner.engines.proof import below_site, without_folders

SITE = ("/env/lib/site-packages", "/env/lib64/site-packages")


@pytest.mark.parametrize(
    ("file", "kept"),
    [
        ("/env/lib/site-packages/vllm/model.py", "vllm/model.py"),
        ("/env/lib64/site-packages/torch/nn.py", "torch/nn.py"),
        ("/models/mine/modeling.py", "/models/mine/modeling.py"),
        ("/env/lib/site-packages-2/x.py", "/env/lib/site-packages-2/x.py"),
        ("", ""),
    ],
)
def test_a_file_is_named_below_its_site_folder(file: str, kept: str) -> None:
    """The folder of the environment says nothing on another machine; a model's own file keeps its path."""
    assert below_site({"file": file, "line": 3}, SITE) == {"file": kept, "line": 3}


def test_failures_and_guards_are_named_so() -> None:
    """Both hold files; all else of a rank stays."""
    file = f"{SITE[0]}/vllm/model.py"
    failure = {"code": "outer_guard", "condition": 4, "fields": {"file": file, "line": 1}}
    rank = {"name": "rank 0 of 1", "failures": [failure], "guards": [{"type": "HASATTR", "file": file, "line": 1}]}
    kept = without_folders(rank, SITE)
    assert kept["failures"] == [{**failure, "fields": {"file": "vllm/model.py", "line": 1}}]
    assert kept["guards"] == [{"type": "HASATTR", "file": "vllm/model.py", "line": 1}]
    assert kept["name"] == "rank 0 of 1"


def test_fields_without_a_file_stay() -> None:
    """Most failures name none."""
    assert below_site({"rank": "0"}, SITE) == {"rank": "0"}
