"""Print what a model's own code answers, without vLLM: one JSON list of texts, greedy.

    .envs/flag-live/bin/python examples/own_answers.py CHECKPOINT PROMPT...

Run it with the Python of a serving environment: it needs that environment's torch and transformers. The model runs in
float32, so that its answers are a reference for a server that runs in bfloat16. After ten words or so the two differ,
because rounding adds up.
"""

import json
import sys

import torch
from tiny_checkpoint import MODELS
from transformers import AutoTokenizer, GenerationConfig
from transformers.utils.logging import disable_progress_bar

TOKENS = 24


def main() -> None:
    """Answer every prompt of the command line."""
    checkpoint, *prompts = sys.argv[1:]
    disable_progress_bar()
    print(json.dumps(own_answers(checkpoint, prompts)))


def own_answers(checkpoint: str, prompts: list[str]) -> list[str]:
    """Greedy continuations by transformers, `TOKENS` long, without special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    with open(f"{checkpoint}/config.json", encoding="utf-8") as config:  # noqa: PTH123
        (architecture,) = json.load(config)["architectures"]
    kinds = {kind.__name__: kind for kind in MODELS.values()}
    model = kinds[architecture].from_pretrained(checkpoint, dtype=torch.float32)
    greedy = GenerationConfig(max_new_tokens=TOKENS, do_sample=False, pad_token_id=0)
    texts = []
    for prompt in prompts:
        prompt_ids = tokenizer(prompt, return_tensors="pt").input_ids
        output_ids = model.generate(prompt_ids, greedy, attention_mask=torch.ones_like(prompt_ids))
        texts.append(tokenizer.decode(output_ids[0, prompt_ids.shape[1] :], skip_special_tokens=True))
    return texts


if __name__ == "__main__":
    main()
