"""Which image requests fit a launch, and why none do: the worker's own file, run apart from vLLM."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_environment import MODELS

from tuner.model.shrink import shrink

WORKER = Path(__file__).parents[1] / "tuner" / "engines" / "worker"
SHARED_WORKER = Path(__file__).parents[1] / "tuner" / "processes" / "worker"
QWEN_VL = MODELS / "Qwen--Qwen3-VL-30B-A3B-Instruct"
ASKED, WORDS = 7, [5, 6, 7, 8]
"""The token that the picture stands for, and all that ask for it."""


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The worker's modules; what they need of vLLM they import where they need it."""
    for folder in (SHARED_WORKER, WORKER):
        monkeypatch.syspath_prepend(str(folder))
    yield lambda name: importlib.import_module(f"vllm_launch_worker.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("vllm_launch_worker", "shared_worker")]:
        del sys.modules[name]


@pytest.fixture
def images(worker: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Image requests, of a model whose small picture is 16 tokens."""
    module = worker("images")
    picture = object.__new__(module.Picture)
    picture.words, picture.start, picture.length, picture.rest = WORDS, 2, 16, 1
    picture.plain, picture.data, picture.allowed = list(range(20, 220)), {"image": ["picture"]}, 1
    monkeypatch.setattr(module, "Picture", lambda _: picture)
    return module


def engine(
    positions: int = 128, tokens: int = 64, sequences: int = 4, *, tokenizer: bool = True, chunked: bool = True
) -> Any:
    """The config of an engine."""
    model = SimpleNamespace(max_model_len=positions, is_multimodal_model=True, skip_tokenizer_init=not tokenizer)
    return SimpleNamespace(
        model_config=model,
        scheduler_config=SimpleNamespace(
            max_num_batched_tokens=tokens, max_num_seqs=sequences, enable_chunked_prefill=chunked
        ),
    )


def arguments(folder: Path, **changed: Any) -> Any:
    """Those of a launch."""
    plain = {"skip_tokenizer_init": False, "limit_mm_per_prompt": {}, "model": str(folder), "tokenizer": None}
    return SimpleNamespace(**{**plain, **changed})


def test_pictures_come_after_text_alone_among_text_and_by_themselves(worker: Any, images: Any) -> None:
    """One in a little text, one that joins text under way, one that follows a whole batch of text."""
    config = engine()
    made = {**worker("requests").plans(engine()), **images.plans(config)}
    assert list(made)[-4:] == ["long", "image", "image_joins", "image_alone"]

    (among, _), (joining, step), (behind, _) = (made[name][-1] for name in images.NAMES)
    assert step > made["image_joins"][0][1] == 0
    assert {prompt["multi_modal_data"]["image"][0] for prompt in (among, joining, behind)} == {"picture"}
    assert among["prompt_token_ids"][3:7] == WORDS
    assert behind["prompt_token_ids"].index(ASKED) == 64
    assert behind["prompt_token_ids"][-1] == ASKED


def test_no_prompt_begins_like_another(images: Any) -> None:
    """What begins alike comes from the prefix cache, and is never run."""
    prompts = [parts[-1][0]["prompt_token_ids"] for parts in images.plans(engine()).values()]
    assert len({prompt[0] for prompt in prompts}) == 3
    assert not {token for prompt in prompts for token in prompt} - {*WORDS, *range(20, 220)}


def test_an_engine_that_leaves_a_request_waiting_is_not_waited_for(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It steps and brings nothing for ever; a fake, since every real engine answers what has room in a batch."""
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=lambda **_: None))
    idle, requests = Engine(None), worker("requests")
    monkeypatch.setattr(idle, "step", list)
    with pytest.raises(RuntimeError, match="leaves a request waiting"):
        requests.send(idle, "one", [(7, 0)], 1000)


def test_no_prompt_waits_for_a_batch_that_will_never_hold_it(worker: Any) -> None:
    """Cut into chunks, one may be longer than a batch."""
    plans = worker("requests").plans
    assert plans(engine(tokens=16))["long"] == [(24, 0)]
    lengths = [length for parts in plans(engine(tokens=16, chunked=False)).values() for length, _ in parts]
    assert max(lengths) == 16


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (engine(), ["image", "image_joins", "image_alone"]),
        (engine(positions=80), ["image", "image_joins"]),
        (engine(tokens=8), ["image", "image_joins"]),
        (engine(sequences=1), ["image", "image_alone"]),
        (engine(tokenizer=False), []),
    ],
)
def test_only_what_fits_the_launch_is_sent(images: Any, config: Any, names: list[str]) -> None:
    """Positions, tokens and sequences of the engine; without a tokenizer nothing can be made."""
    assert list(images.plans(config)) == names


def test_a_folder_without_a_processor_gives_no_image_and_says_why(worker: Any) -> None:
    """A published folder with its config.json alone."""
    found, why = worker("images").config_with_images(arguments(QWEN_VL), thin=True)
    assert (found, why) == (
        None,
        "the model's folder holds no processor (processor_config.json or preprocessor_config.json)",
    )


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"limit_mm_per_prompt": {"image": 0}}, "the launch allows none"),
        ({"limit_mm_per_prompt": {"image": {"count": 0}}}, "the launch allows none"),
        ({"limit_mm_per_prompt": {"image": SimpleNamespace(count=0)}}, "the launch allows none"),
        ({"limit_mm_per_prompt": {"video": 0, "image": {"width": 8}}}, ""),
        ({"language_model_only": True}, "the launch allows none"),
        ({"skip_tokenizer_init": True}, "the launch loads no tokenizer"),
        ({}, ""),
    ],
)
def test_a_launch_that_takes_no_image_gets_none(worker: Any, tmp_path: Path, changed: Any, why: str) -> None:
    """As the launch says it, whatever lies beside the model."""
    (tmp_path / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    assert worker("images").launch_obstacle(arguments(tmp_path, **changed)) == why


def test_a_thin_model_gets_the_files_of_the_processor_and_no_others(worker: Any, tmp_path: Path) -> None:
    """And the layers that Qwen3-VL's encoder hands on by number are among those that the cut one has."""
    source, folder = tmp_path / "whole", tmp_path / "thin"
    for path in (source, folder):
        path.mkdir()
    kept = {"tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "chat_template.jinja", "merges.txt"}
    for name in (*kept, "config.json", "model.safetensors", "generation_config.json", "modeling_x.py"):
        (source / name).write_text("{}", encoding="utf-8")
    whole = json.loads((QWEN_VL / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(shrink(whole).config), encoding="utf-8")

    worker("images").carry(arguments(source), folder)

    assert {path.name for path in folder.iterdir()} == {*kept, "config.json"}
    encoder = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vision_config"]
    assert (encoder["depth"], encoder["deepstack_visual_indexes"]) == (4, [1, 2, 3])


class Engine:
    """Takes requests, and answers each in one step; refuses pictures if told to."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure, self.taken, self.waiting = failure, [], 0

    def add_request(self, _: str, prompt: Any, __: Any) -> None:
        """Note a prompt."""
        if "multi_modal_data" in prompt and self.failure is not None:
            raise self.failure
        self.taken.append(prompt)
        self.waiting += 1

    def has_unfinished_requests(self) -> bool:
        """Until the next step."""
        return self.waiting > 0

    def step(self) -> None:
        """Answer all."""
        self.waiting = 0

    def collective_rpc(self, asked: str) -> Any:
        """What its one process recorded: nothing."""
        return [{"registered": [], "passes": [], "lost": 0}] if asked == "moe_calls" else None


@pytest.mark.parametrize("failure", [None, ValueError("too many\nand more")])
def test_a_refused_picture_costs_no_request_of_text(
    worker: Any, images: Any, monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    """Pictures come last; the first one that is refused ends them, and the reason is told."""
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=lambda **_: None))
    replay, taking = worker("replay"), Engine(failure)
    config = engine()
    config.model_config.get_vocab_size = lambda: 1000

    wanted = replay.senders(config)
    del wanted[replay.OUTPUT]  # needs vLLM itself
    _, refused = replay.send_all(taking, wanted)

    pictures = [prompt for prompt in taking.taken if "multi_modal_data" in prompt]
    assert len(taking.taken) - len(pictures) == 1 + 4 + 2 + 4 + 1 + (failure is None)
    assert len(pictures) == (3 if failure is None else 0)
    said = ["no image was sent from image on: the engine refused it: ValueError: too many"] if failure else []
    assert refused == said
    with pytest.raises(ValueError, match="text"):
        images.refusal("long", ValueError("text"))
