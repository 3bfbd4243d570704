"""`python -m tuner`, and the `tuner` command."""

import errno
import sys

from tuner.cli.fast_path import try_fast_path
from tuner.cli.renamed import renamed_word

_UNWRITABLE = {errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF}
"""What the system says where typer cannot write help or a faulty usage."""


def main() -> None:
    """Run the command line."""
    renamed = renamed_word(sys.argv[1:])
    if renamed:
        from tuner.cli.output import say  # noqa: PLC0415  as below

        say(f"tuner: {renamed[0]} is now {renamed[1]}.")
        raise SystemExit(2)
    if try_fast_path(sys.argv[1:]):
        return
    from tuner.cli.app import run  # noqa: PLC0415  typer is slow to import, and a look-up is answered without it

    try:
        run()
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        from tuner.cli.output import end_unwritten  # noqa: PLC0415  as above

        end_unwritten(error)


if __name__ == "__main__":
    main()
