"""Runs inside a serving environment: parses argument lists with that vLLM's own `vllm serve` parser.

Usage: `python vllm_parser.py`, one JSON document a line in and out. The first line out is `version`, the release,
`options`, the option strings its parser knows, each with how many words it takes (`0`, `1`, or argparse's `?` and `+`),
and `engine_fields`, the names of the engine's arguments. Each line in is a list of arguments behind `vllm serve`; its
line out is `refused` (why), or `compilation_config` (the JSON object vLLM stored, null if none), `values` (of the
options this project reads) and `others` (every other value, as text). What vLLM prints on stdout goes to stderr.

`python vllm_parser.py OUTPUT < CASES` reads all lines first and writes one document: the first line, with `cases` in
place of the lines.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

FIELDS = (
    "model",
    "model_tag",
    "model_impl",
    "revision",
    "quantization",
    "tokenizer_mode",
    "config_format",
    "hf_config_path",
    "hf_overrides",
    "speculative_config",
    "spec_method",
    "spec_model",
    "spec_tokens",
    "enforce_eager",
    "optimization_level",
    "trust_remote_code",
    "enable_lora",
    "enable_eplb",
    "enable_dbo",
    "enable_expert_parallel",
    "kv_sharing_fast_prefill",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "decode_context_parallel_size",
    "prefill_context_parallel_size",
)


class Recorder:
    """The parser of `vllm serve`. It keeps a compilation config as an object only; this keeps the text it came from."""

    def __init__(self) -> None:
        from vllm.entrypoints.cli.serve import cmd_init  # noqa: PLC0415  vLLM takes seconds to import
        from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415  as above

        self.parser = FlexibleArgumentParser()
        self.serve = cmd_init()[0].subparser_init(self.parser.add_subparsers(dest="subparser"))
        self.text: str | None = None
        action = next(a for a in self.serve._actions if a.dest == "compilation_config")
        self._validate = action.type
        action.type = self._record

    def _record(self, text: str) -> Any:
        self.text = text
        return self._validate(text)

    def parse(self, args: list[str]) -> dict[str, Any]:
        """What vLLM makes of one argument list."""
        self.text = None
        try:
            values = vars(self.parser.parse_args(["serve", *args]))
        except (Exception, SystemExit) as error:  # noqa: BLE001  however it refuses
            return {"refused": repr(error)}
        others = {key: repr(value) for key, value in values.items() if key != "compilation_config"}
        return {
            "compilation_config": None if self.text is None else json.loads(_expanded(self.text)),
            "values": {field: values[field] for field in FIELDS if field in values},
            "others": others,
        }


def _expanded(text: str) -> str:
    """The text with numbers such as `80g` written out, if this release does that before it reads JSON."""
    from vllm.engine import arg_utils  # noqa: PLC0415  as above

    return getattr(arg_utils, "_expand_json_human_readable_numbers", str)(text)


def main() -> None:
    """Answer each line of stdin, at once or in a file at the end."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    recorder = Recorder()
    from vllm import __version__  # noqa: PLC0415  as above
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415  as above

    options = {
        spelling: str(1 if action.nargs is None else action.nargs)
        for spelling, action in recorder.serve._option_string_actions.items()  # those that help leaves out, too
    }
    fields = [field.name for field in dataclasses.fields(AsyncEngineArgs)]
    known = {"version": __version__, "options": options, "engine_fields": fields}
    if len(sys.argv) > 1:
        cases = [recorder.parse(json.loads(line)) for line in sys.stdin]
        Path(sys.argv[1]).write_text(json.dumps({**known, "cases": cases}), encoding="utf-8")
        return
    print(json.dumps(known), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(recorder.parse(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
