"""Parts of the workers that need no vLLM: how errors are told, the made tokenizer, the step after loading."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tuner.engines.question import WORKER as LAUNCH_WORKER
from tuner.probe.runner import WORKER
from tuner.verdicts.identity import SHARED_WORKER

SCRIPT = """
import json, sys

sys.path[:0] = sys.argv[1].split(":")
from moe_probe_worker.completion import Reads, complete
from moe_probe_worker.engine import call_finalizers
from shared_worker.errors import error_fields, is_out_of_memory, with_place
from shared_worker.made_tokenizer import MadeTokenizer, named_tokens
from vllm_launch_worker.proof.constructing import Constructing
from vllm_launch_worker.proof.failure import in_words
from vllm_launch_worker.stand_ins import is_refused_for_caching

class OutOfMemoryError(RuntimeError):
    pass

def raised(text):
    try:
        exec(compile(text, "/no/such/place/model.py", "exec"), {"OutOfMemoryError": OutOfMemoryError})
    except Exception as error:
        return error

def asserted():
    width = 3
    try:
        assert width == 4
    except AssertionError as error:
        return error

class Finalizing:
    broadcast = None

    def load_weights(self, weights):
        self.loaded = list(weights)
        self.finalize_broadcast_weights()

    def finalize_broadcast_weights(self):
        self.broadcast = "made"

class Plain:
    broadcast = None

    def load_weights(self, weights):
        self.broadcast = "loaded"

def finalized(model):
    call_finalizers(model)
    return model.broadcast

def tokenizer():
    config = {"image_token_id": 7, "vision_config": {"video_token_index": 8, "pad_token_id": None}, 3: {}}
    return MadeTokenizer(100, config)

def built_only(files, everywhere):
    constructing = Constructing(frozenset(files), frozenset(everywhere), frozenset({"Model"}), frozenset({"forward"}))
    return sorted(constructing.among(frozenset({"store"})))

def completed(text, **fields):
    config = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3, **fields}
    return complete(config, None, Reads(text))

print(json.dumps(eval(sys.argv[2])))
"""


def completed(text: str, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """A small config with the fields that a class with this source text asks for, and their names."""
    answer = evaluated(f"completed({text!r}, **{fields!r})")
    assert isinstance(answer, list)
    config, added = answer
    return config, added


def evaluated(expression: str) -> object:
    """The value of an expression over these parts, in a process of its own: nobody imports a worker."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(SCRIPT)
        file.flush()
        command = [
            sys.executable,
            file.name,
            ":".join(str(worker.parent) for worker in (WORKER, SHARED_WORKER, LAUNCH_WORKER)),
            expression,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_error_is_told_with_its_place() -> None:
    """File and line stand behind the message."""
    assert evaluated("with_place(raised('\\n\\n1 / 0'))") == (
        "ZeroDivisionError: division by zero at /no/such/place/model.py:3"
    )


def test_the_cause_is_told_in_place_of_its_consequence() -> None:
    """An error that was raised from another one is that other one."""
    text = "try:\n    {}['heads']\nexcept KeyError as cause:\n    raise ValueError('no encoder') from cause"
    place = "/no/such/place/model.py:2"
    assert evaluated(f"error_fields(raised({text!r}))") == {"message": "KeyError: 'heads'", "where": place}


def test_an_assertion_without_a_message_is_told_by_its_source() -> None:
    """Its text is the line that asserts, where the file can be read; else it is its name alone."""
    assert evaluated("error_fields(asserted())['message']") == "AssertionError: assert width == 4"
    assert evaluated("error_fields(raised('assert 3 == 4'))['message']") == "AssertionError"


@pytest.mark.parametrize(
    ("text", "kinds", "is_nested"),
    [
        ("config.rope_parameters[layer_type]", ["full_attention", "sliding_attention"], True),
        ("config.rope_parameters", ["full_attention", "sliding_attention"], False),
        ("config.rope_parameters[layer_type]", None, False),
    ],
)
def test_each_kind_of_layer_gets_its_rotary_parameters(text: str, kinds: list[str] | None, is_nested: bool) -> None:
    """As Mellum of vLLM 0.26.0 reads them, while its config class has one set for all layers."""
    flat = {"rope_type": "default", "rope_theta": 10000.0}
    fields = {"rope_parameters": flat, "layer_types": kinds}
    config, added = completed(text, **fields)
    assert config["rope_parameters"] == (dict.fromkeys(kinds or [], flat) if is_nested else flat)
    assert added == (["rope_parameters"] if is_nested else [])


def test_layers_have_experts_from_the_first_one_that_is_not_dense() -> None:
    """If the class reads a kind for each layer, and the config has none."""
    text = "config.mlp_layer_types[layer_idx]"
    assert completed(text)[0]["mlp_layer_types"] == ["sparse"] * 3
    assert completed(text, first_k_dense_replace=1)[0]["mlp_layer_types"] == ["dense", "sparse", "sparse"]
    assert "mlp_layer_types" not in completed("config.layer_types")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raise OutOfMemoryError()", True),
        ("raise MemoryError()", True),
        ('raise RuntimeError("DefaultCPUAllocator: can\\\'t allocate memory")', True),
        ("raise RuntimeError()", False),
    ],
)
def test_the_want_of_memory_is_known(text: str, expected: bool) -> None:
    """Whether torch lacked memory on the device or on the host, or Python did."""
    assert evaluated(f"is_out_of_memory(raised('{text}'))") is expected


def test_what_a_class_makes_of_its_loaded_weights_is_made_of_dummies() -> None:
    """DeepSeek-V4 of vLLM 0.26.0 does so in `load_weights`; a class that does not is not asked."""
    assert evaluated("finalized(Finalizing())") == "made"
    assert evaluated("finalized(Plain())") is None


@pytest.mark.parametrize(
    ("code", "error", "expected"),
    [
        ("not_built", "ValueError: --mamba-block-size can only be set with --enable-prefix-caching", True),
        ("not_built", "ValueError: no kernel", False),
        ("not_traced", "a guard on --enable-prefix-caching", False),
    ],
)
def test_a_launch_is_traced_without_prefix_caching_only_if_vllm_refuses_it(
    code: str, error: str, expected: bool
) -> None:
    """On a CPU, vLLM 0.32.0 refuses Kimi Linear so; any other failure stays as it is."""
    ranks = [{"failures": []}, {"failures": [{"code": code, "fields": {"error": error}}]}]
    assert evaluated(f"is_refused_for_caching({ {'ranks': ranks}!r})") is expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Assertion failed\n  Explanation: It fails.\n\n  Developer debug context: value: False\n\n For more",
            "ValueError: Assertion failed: value: False",
        ),
        (
            "No fake value\n  Explanation: Sizes differ.\n  Hint: None.\n\n  Developer debug context: \n\n For more",
            "ValueError: No fake value: Sizes differ.",
        ),
        ("no\nkernel", "ValueError: no kernel"),
        ("", "ValueError"),
    ],
)
def test_a_message_of_dynamo_is_told_in_one_line(message: str, expected: str) -> None:
    """What is wrong, and the code that is named; or why, where no code is named. Other messages are told whole."""
    assert evaluated(f"in_words(ValueError({message!r}))") == expected


def test_a_made_tokenizer_has_what_it_is_asked_for() -> None:
    """Ids that the config names, and the last ones that are free for other words; each text is one token."""
    assert evaluated(
        "named_tokens({'image_token_id': 7, 'text_config': {'pad_token_id': -1, 'eos_token_id': [1]}})"
    ) == {"<image>": 7}
    assert evaluated("[tokenizer().vocab['<image>'], tokenizer().vocab['<video>'], tokenizer().vocab['<img>']]") == [
        7,
        8,
        99,
    ]
    assert evaluated(
        "(lambda made: [made.encode('a'), made.encode('b'), made.encode('a'), len(made)])(tokenizer())"
    ) == [
        [99],
        [98],
        [99],
        100,
    ]
    assert evaluated("['<any>' in tokenizer().get_vocab(), tokenizer().convert_tokens_to_ids(['x', '<image>'])]") == [
        True,
        [99, 7],
    ]


def test_a_file_that_is_reached_by_a_link_is_one_file(tmp_path: Path) -> None:
    """Python may run it by a link, such as that of an environment; the list of vLLM's files holds its real path."""
    place, link = tmp_path / "real", tmp_path / "link"
    place.mkdir()
    link.symlink_to(place)
    (place / "model.py").write_text(
        "class Model:\n    def __init__(self):\n        self.store()\n\n    def store(self):\n        self.built = 1\n"
        "KINDS = [Model]\n",
        encoding="utf-8",
    )
    by_link, real = str(link / "model.py"), str(place / "model.py")
    assert evaluated(f"built_only([{by_link!r}], [{real!r}])") == ["store"]
    assert evaluated(f"built_only([{real!r}], [{by_link!r}])") == ["store"]
