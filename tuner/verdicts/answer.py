"""The answer to a look-up."""

from collections.abc import Mapping

from msgspec import Struct, field

from cache.verdicts.entry import Entry
from rules.reason import Reason
from rules.report import Report
from rules.verdict import Verdict


class LookUp(Struct, frozen=True):
    """The answer to a look-up.

    Attributes:
        entry: the stored entry; None for a miss.
        verdict: its verdict, judged by the current rules; None for a miss.
        miss: why nothing was found; empty for a hit.
        report: what the probe of the entry observed; None for a miss.
        verified: whether the source files behind the verdict were hashed again and are unchanged. False only for
            an environment known from a saved file.
        accepted_platform: the platform on which the verdict was reached, where that is another one than the
            environment's and stands in on the user's word.
        outdated: for the proofs that were compared with what is here, by their key, why they no longer apply; None
            if they do.
    """

    entry: Entry | None
    verdict: Verdict | None
    miss: tuple[Reason, ...] = ()
    report: Report | None = None
    verified: bool = True
    accepted_platform: str | None = None
    outdated: Mapping[str, Reason | None] = field(default_factory=dict)
