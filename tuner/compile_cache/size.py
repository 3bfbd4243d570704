"""Sizes as people write them, in powers of 1024. Pure."""

from rules.errors import ErrorKind, TunerError

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def parse_size(text: str) -> int:
    """Bytes of `500`, `500M`, `20G`, `20GiB`: powers of 1024.

    Raises:
        TunerError: it is not such a size.
    """
    number, unit = text.strip().upper().removesuffix("B").removesuffix("I"), ""
    if number[-1:] in _UNITS and number[-1:]:
        number, unit = number[:-1], number[-1]
    try:
        size = float(number) * (1 << _UNITS[unit])
        if 0 <= size < 1 << 60:
            return int(size)
    except ValueError:
        pass
    raise TunerError(f"{text} is not a size.", hint="Write it as 500M, 20G or 1.5T.", kind=ErrorKind.USAGE)


def size_text(size: int) -> str:
    """Bytes in powers of 1024."""
    amount, units = float(size), ["B", "KiB", "MiB", "GiB"]
    while amount >= 1024 and units[1:]:  # noqa: PLR2004  as the docstring says
        amount, units = amount / 1024, units[1:]
    return f"{amount:.0f} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"
