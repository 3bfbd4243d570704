"""What may be chosen on the command line, without typer: a look-up reads it, too."""

from enum import StrEnum


class OnMissing(StrEnum):
    """What `serve` does without a stored verdict."""

    SAFE = "safe"
    PROBE = "probe"
    FAIL = "fail"


class CacheDirIn(StrEnum):
    """What carries the cache folder into the launch."""

    ENV = "env"
    CONFIG = "config"


class Prefer(StrEnum):
    """By what `tune` chooses among arms that answer rightly."""

    START = "start"
    STEP = "step"


class Depth(StrEnum):
    """How deep a probe looks."""

    ORDER = "order"
    REPLAY = "replay"
