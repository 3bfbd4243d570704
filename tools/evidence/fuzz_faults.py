"""Faults that fuzzing found. The list is written by hand, and make_fuzz.py puts it on its page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        target: the name of the target in `make_fuzz.TARGETS`.
        input_class: the class of input.
        symptom: what happened.
        mend: what happens since.
        test: the file of its test.
    """

    target: str
    input_class: str
    symptom: str
    mend: str
    test: str


FAULTS = (
    Fault(
        "config",
        "10,000 layers, and hundreds of lists or of nested configs that name them, in 20 kB",
        "cutting the config took from seconds to minutes",
        "refused before it is cut: layers times fields has a bound, 100 times what published configs have",
        "tests/test_probe_shrink.py",
    ),
    Fault(
        "report",
        "an inconclusive or unsafe report that lost a field of what was seen beside the scenarios, such as `whole` or "
        "the `failures` of a proof",
        "a missing field read as an empty one, and the verdict became `uniform`",
        "these fields have no default: the report is refused as damaged",
        "tests/test_rules_report.py",
    ),
    Fault(
        "report",
        "a word of thousands of characters where one of a few is expected",
        "the refusal quoted it whole",
        "200 characters of what is wrong are shown",
        "tests/test_rules_report.py",
    ),
    Fault(
        "row",
        "an entry whose report or verdict has another shape, under a checksum that is right",
        "KeyError or TypeError from whoever shows or exports it",
        "the entry is named as damaged by every reader",
        "tests/test_stored_shape.py",
    ),
    Fault(
        "row",
        "`NaN`, `Infinity` or `1e999` in an entry",
        "read without a word; ValueError from an export",
        "the record is named as damaged",
        "tests/test_stored_shape.py",
    ),
    Fault(
        "row",
        "an entry of another release, whose report is not readable here",
        "KeyError from `tuner verdicts show`",
        "it is shown with its verdict, without what it rests on",
        "tests/test_stored_shape.py",
    ),
    Fault(
        "arguments",
        "JSON, or a dotted key, nested a thousand levels deep",
        "RecursionError",
        "refused from 100 levels on",
        "tests/test_arguments_merge.py",
    ),
    Fault(
        "arguments",
        "a number such as `99…9.5k` or `99…9K` of hundreds of digits",
        "OverflowError or ValueError",
        "it is not a number, as for vLLM, and stays text",
        "tests/test_arguments_merge.py",
    ),
    Fault(
        "arguments",
        "`NaN`, `Infinity` or `1e999` in a JSON option",
        "`--json` printed a document that is not JSON",
        "read as vLLM reads it; the document says it as text",
        "tests/test_arguments_merge.py",
    ),
    Fault(
        "manifest",
        "a model, or a path on the command line, whose name is longer than a file system takes",
        "OSError from `tuner check`, `apply` and, with VLLM_USE_MODELSCOPE, `serve`",
        "it is neither a file nor a folder, as any other that is missing",
        "tests/test_cli_bad_input.py",
    ),
    Fault(
        "manifest",
        "YAML that gives an anchor twice, which YAML 1.2 allows",
        "a warning of the library's own on stderr",
        "read without a word; an alias is of the last anchor before it",
        "tests/test_manifest_shapes.py",
    ),
    Fault(
        "manifest",
        "`--model` as the last word, behind `--`",
        "IndexError from `tuner check`",
        "named as an option without a value; vLLM ends with a traceback",
        "tests/test_serve_options.py",
    ),
    Fault(
        "settings",
        "`tool = 3` in `pyproject.toml`, brackets by the thousand, a null character, or the home of a user who does "
        "not exist",
        "AttributeError, RecursionError, ValueError or RuntimeError from every command, `serve` included",
        "refused with the file and the line; `serve` warns, ignores the file, and starts with the safe value",
        "tests/test_settings.py",
    ),
)
"""In the order of the targets."""
