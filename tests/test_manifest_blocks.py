"""Blocks of code in documents: indented ones of Markdown, and those of reStructuredText."""

from textwrap import dedent

import pytest
from effort import calls_of

from tuner.manifests.files import is_manifest
from tuner.manifests.find import launches_in
from tuner.manifests.launch import Form

SERVE = "vllm serve facebook/opt-125m --port 8000"
ARGS = ("facebook/opt-125m", "--port", "8000")


def launched(name: str, text: str) -> list[tuple[int, tuple[str, ...]]]:
    """Line and arguments of each launch."""
    return [(launch.line, launch.args) for launch in launches_in(name, dedent(text))]


def test_an_indented_block_of_markdown_is_read() -> None:
    """CommonMark takes four columns behind an empty line for code, and a tab for four columns."""
    text = """\
    # Serve

    It is launched with:

        CUDA_VISIBLE_DEVICES=0 vllm serve facebook/opt-125m \\
          --port 8000

    Then it answers.

    \tvllm serve facebook/opt-125m --port 8000
    """
    assert launched("README.md", text) == [(5, ARGS), (10, ARGS)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"Call\n    {SERVE}\n", id="the rest of a paragraph"),
        pytest.param("\n    vllm serve is the command that starts it\n", id="a sentence"),
        pytest.param(f"\n  {SERVE}\n", id="two columns"),
        pytest.param(f"```python\n\n    {SERVE}\n```\n", id="in a fence of another language"),
    ],
)
def test_what_is_no_block_of_code_is_not_read(text: str) -> None:
    """A launch is read once where it is code, and not at all where it is prose."""
    assert launched("README.md", text) == []


def test_a_block_in_a_fence_is_read_once() -> None:
    """An indented line in a fence is the fence's."""
    assert launched("README.md", f"```bash\n\n    {SERVE}\n```\n") == [(3, ARGS)]


def test_blocks_of_restructured_text_are_read() -> None:
    """The code of a directive, behind its options, and a literal block; prose around them is not shell text."""
    text = f"""\
    Don't serve by hand
    ===================

    .. tab-set::

       .. code-block:: bash
          :caption: serve.sh

          {SERVE}

       It's a server::

          {SERVE}

    vLLM's `vllm serve` isn't started here.
    """
    assert launched("serve.rst", text) == [(9, ARGS), (13, ARGS)]


def test_a_manifest_in_restructured_text_is_read() -> None:
    """YAML in a directive is read as a file of YAML is."""
    text = """\
    .. code-block:: yaml

       services:
         server:
           image: vllm/vllm-openai:v0.19.1
           command: --model facebook/opt-125m

    .. code-block:: python

       run("vllm serve facebook/opt-125m")
    """
    assert [args for _, args in launched("serve.rst", text)] == [("--model", "facebook/opt-125m")]


def test_arguments_stand_where_they_say() -> None:
    """So that an edit changes them in place."""
    text = f"Don't\n\n.. code-block:: bash\n\n   {SERVE}\n"
    (launch,) = launches_in("serve.rst", text)
    assert tuple(text[word.start : word.stop] for word in launch.words) == ARGS
    assert all(word.owner is not None and word.owner.form is Form.SHELL for word in launch.words)


def test_a_folder_walk_looks_into_restructured_text() -> None:
    """As it does into Markdown."""
    assert is_manifest("docs/serve.rst")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("a.md", "```\nvllm\n```\n" * 3_000, id="fences"),
        pytest.param("a.md", "\n    vllm\nx\n" * 3_000, id="indented blocks"),
        pytest.param("a.rst", ".. code-block:: bash\n\n   vllm\n\n" * 3_000, id="directives"),
        pytest.param("a.rst", "vllm::\n" * 20_000, id="announcements"),
    ],
)
def test_many_blocks_take_linear_work(name: str, text: str) -> None:
    """Twice the blocks take about twice the calls, not four times as many."""
    half = calls_of(lambda: launches_in(name, text[: len(text) // 2]))
    assert calls_of(lambda: launches_in(name, text)) < 2.2 * half
