"""Whether the results of two probes on a model agree, and why they differ where they do not. Pure."""

from dataclasses import dataclass

SAFE, UNSAFE = {"uniform", "no_moe"}, {"conditional", "reordered", "repeated"}
UNDECIDED = {"inconclusive", "not_compiled"}
"""Verdicts that claim nothing."""
YES, UNREACHED, DOUBTED, REFUSED, NO = "yes", "not reached", "in doubt", "refused", "no"
TO_EXPLAIN = (UNREACHED, REFUSED, NO)
"""Results that need an entry in `EXPLANATIONS`."""

EXPLANATIONS = {
    "Tied": "Each layer is called twice, and counting runs past the last of them: vLLM's own assertion ends the engine "
    "in its first pass, so that with the flag on nothing wrong is answered, because nothing is.",
    "HiddenTokenSwitch": "It leaves a layer out where token 777 is in the batch; no prompt has it, and no engine added "
    "it.",
    "HelperSwitch": "As HiddenTokenSwitch, for token 877.",
    "MaskSwitch": "It leaves a layer out where every token of the batch is token 777.",
    "LongContextSwitch": "It leaves a layer out at positions from 3001 to 3004; the engines have 512.",
    "LargePrefillSwitch": "It leaves a layer out in batches of 1501 to 1599 tokens; the engines have 256 at most.",
    "TrySwitch": "It leaves a layer out in batches of exactly 33 tokens; the prompt of 33 tokens shares its batch.",
    "ModalitySwitch": "It leaves a layer out where embeddings are the input; prompts of tokens never are.",
}
"""Model -> why its probes do not agree, or why no request reaches the unsafe branch; read in its code."""


@dataclass(frozen=True)
class Words:
    """The results of the probes on a model, in the words of the rules.

    Attributes:
        true: the verdict that holds by construction; empty if it is not known.
        order: the verdict of the order probe.
        flag_on: the word of the replay probe with the flag on: `equal`, `wrong_layer`, `unknown`.
        flag_off: the same with the flag off.
        departures: how many passes of the replay probe left the registered order.
        refused: with the flag on vLLM ended the engine with an error, so the engine shows nothing more.
    """

    true: str
    order: str
    flag_on: str
    flag_off: str
    departures: int
    refused: bool = False


def agreement(words: Words) -> str:
    """Whether the two probes agree.

    Returns:
        `yes`: both say safe; or engines ran wrong layers with the flag on, right ones with it off, and the order probe
        did not say safe. `not reached`: the model is unsafe, no request led it out of the order,
        and the engines show nothing wrong. `in doubt`: the same, where nothing was decided. `refused`:
        the model is unsafe, and with the flag on vLLM refuses it. `no`: anything else.
    """
    if contradictions(words):
        return NO
    if words.refused:
        return REFUSED
    if words.order in SAFE or words.flag_on == "wrong_layer":
        return YES
    return UNREACHED if words.order in UNSAFE else DOUBTED


def contradictions(words: Words) -> list[str]:
    """Sentences on the results that contradict each other; empty if none do."""
    fitting = {"unknown"} if words.refused and words.order in UNSAFE else {"equal", "wrong_layer"}
    wrong_layers = words.flag_on == "wrong_layer"
    checks = (
        (
            f"the order probe says {words.order}, and {words.true} is true",
            words.true and words.order not in {words.true, *UNDECIDED},
        ),
        (f"with the flag off calls are {words.flag_off}", words.flag_off != "equal"),
        (f"with the flag on calls are {words.flag_on}", words.flag_on not in fitting),
        ("a safe model ran wrong layers", words.order in SAFE and wrong_layers),
        (
            f"{words.departures} passes left the order, and none ran wrong layers",
            words.departures and words.flag_on == "equal",
        ),
        ("no pass left the order, and some ran wrong layers", not words.departures and wrong_layers),
    )
    return [sentence for sentence, holds in checks if holds]


def unsettled(agreed: dict[str, set[str]], explanations: dict[str, str]) -> list[str]:
    """Sentences on explanations that are missing, or that are not needed.

    Args:
        agreed: model -> what `agreement` says of it, in every environment.
        explanations: model -> why it is neither `yes` nor `in doubt`.
    """
    to_explain = {model for model, words in agreed.items() if words & set(TO_EXPLAIN)}
    missing = to_explain - set(explanations)
    needless = (set(explanations) & set(agreed)) - to_explain
    return [
        *(f"{model}: not explained" for model in sorted(missing)),
        *(f"{model}: explained, and nothing disagrees" for model in sorted(needless)),
    ]
