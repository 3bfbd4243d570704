"""A tokenizer for models that ask for one while they are built, where the model's folder has none."""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

DELAY = 1
"""By how many tokens the text of a realtime transcription is late. Mistral's tokenizers have this number. It is only a
value in the model: it does not decide which layers run."""


class MadeVocabulary(Mapping[str, int]):
    """A vocabulary that has every word. A new word gets a token id when it is looked up.

    Args:
        size: the number of token ids. New words get the largest free ids, as special tokens do in most vocabularies.
        named: word -> token id, for the words that the model's config names.
    """

    def __init__(self, size: int, named: Mapping[str, int]) -> None:
        self.size = size
        self.ids = {word: number for word, number in named.items() if number < size}

    def __getitem__(self, word: str) -> int:
        if word not in self.ids:
            used = set(self.ids.values())
            free = (number for number in range(self.size - 1, -1, -1) if number not in used)
            self.ids[word] = next(free, 0)
        return self.ids[word]

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.ids))

    def __len__(self) -> int:
        return self.size


class MadeTokenizer:
    """What vLLM's model classes ask of a tokenizer in their constructors. Each text is one token.

    Args:
        size: the number of token ids.
        config: the model's config. Its fields `NAME_token_id` hold the ids of the words `<NAME>`.
    """

    def __init__(self, size: int, config: Mapping[str, Any]) -> None:
        self.vocab = MadeVocabulary(size, named_tokens(config))
        self.vocab_size = size
        audio = SimpleNamespace(get_num_delay_tokens=lambda: DELAY)
        self.instruct = SimpleNamespace(audio_encoder=SimpleNamespace(audio_config=audio))

    def __len__(self) -> int:
        return self.vocab_size

    def get_vocab(self) -> Mapping[str, int]:
        """The vocabulary."""
        return self.vocab

    def encode(self, text: str, **_: object) -> list[int]:
        """The token id of a text, in a list."""
        return [self.vocab[text]]

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> int | list[int]:
        """The token id of a word, or of each word."""
        return self.vocab[tokens] if isinstance(tokens, str) else [self.vocab[token] for token in tokens]


def named_tokens(config: Mapping[str, Any]) -> dict[str, int]:
    """Word -> token id, from a config and its nested configs. The field `image_token_id` gives the word `<image>`."""
    named: dict[str, int] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            named = {**named_tokens(value), **named}
        elif type(value) is int and value >= 0 and str(key).endswith(("_token_id", "_token_index")):
            named[f"<{key.rpartition('_token_')[0]}>"] = value
    return named
