"""Write a thin MoE checkpoint with random weights whose experts matter.

    .envs/current/bin/python examples/tiny_checkpoint.py FOLDER [--kind two-expert-sets] [--layers N] [--seed S]

Run it with the Python of a serving environment: it needs that environment's torch, transformers and tokenizers. The
folder then serves with `vllm serve FOLDER` on a CPU. With random weights of the usual size (0.02) the experts hardly
change the next token. Here every expert set adds as much to the hidden state as is there already, so that running the
wrong set changes greedy completions at once. The same kind, layers and seed give the same tensors.
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock
from transformers.utils.logging import disable_progress_bar

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")
UNKNOWN, BEGIN, END = range(3)
SUBJECTS = "river mountain harbour garden engine teacher captain farmer winter summer morning evening"
VERBS = "carries follows remembers builds crosses watches answers opens keeps finds leaves reaches"
OBJECTS = "water stone letters bread silver music shadows lanterns bridges stories apples thunder"
SMALL_WORDS = "the a of and to in on under over with without before after while never always"
WORDS = (*SPECIAL_TOKENS, *f"{SUBJECTS} {VERBS} {OBJECTS} {SMALL_WORDS}".split())


class TwoTowerMoeForCausalLM(Qwen3MoeForCausalLM):
    """Qwen3-MoE with a second expert set in every layer, as `two_expert_sets/` serves it."""

    def __init__(self, config: Qwen3MoeConfig) -> None:
        super().__init__(config)
        for layer in self.model.layers:
            layer.idle_mlp = Qwen3MoeSparseMoeBlock(config)


MODELS = {"qwen3-moe": Qwen3MoeForCausalLM, "two-expert-sets": TwoTowerMoeForCausalLM}


def main() -> None:
    """Write the checkpoint that the command line asks for."""
    parser = argparse.ArgumentParser(description="Write a thin MoE checkpoint with random weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=MODELS, default="qwen3-moe")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    disable_progress_bar()
    write_checkpoint(options.folder, options.kind, options.layers, options.seed)
    print(f"wrote a {options.kind} checkpoint with {options.layers} layers to {options.folder}")


def write_checkpoint(folder: Path, kind: str, layers: int, seed: int) -> None:
    """Write configuration, weights, tokenizer and generation settings to `folder`."""
    model = MODELS[kind](thin_config(layers))
    draw_weights(model, seed)
    model.to(torch.bfloat16).save_pretrained(folder)
    GenerationConfig(bos_token_id=BEGIN, eos_token_id=END).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)


def thin_config(layers: int) -> Qwen3MoeConfig:
    """A Qwen3-MoE of about a million weights; sizes are multiples of 32, as vLLM's CPU kernels want them.

    The head size is not such a multiple. At a multiple of 32 and in bfloat16 vLLM takes its AMX kernel wherever the
    processor has AMX (v1/attention/backends/cpu_attn.py, `_get_attn_isa`). 0.32.0 dies there of an illegal instruction
    unless something else asked the system for the AMX registers before. Both releases take 80, and run it without AMX.
    """
    return Qwen3MoeConfig(
        vocab_size=len(WORDS),
        hidden_size=128,
        intermediate_size=128,
        moe_intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=80,
        num_experts=8,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=BEGIN,
        eos_token_id=END,
        dtype="bfloat16",
    )


def draw_weights(model: Qwen3MoeForCausalLM, seed: int) -> None:
    """Draw every matrix anew so that its output is as large as its input; norms stay at one.

    Expert matrices are drawn twice as large: an expert's gate and the weighting over two experts
    would otherwise halve what the set adds.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() == 1:  # the gain of a norm
            continue
        gain = 2.0 if "experts" in name else 1.0
        torch.nn.init.normal_(weight, std=gain * weight.shape[-1] ** -0.5, generator=generator)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word of `WORDS`; anything else is `<unk>`."""
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token=WORDS[UNKNOWN]))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=WORDS[UNKNOWN], bos_token=WORDS[BEGIN], eos_token=WORDS[END]
    )


if __name__ == "__main__":
    main()
