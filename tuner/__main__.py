"""`python -m tuner`, and the `tuner` command."""

import sys

from tuner.cli.fast_path import try_fast_path
from tuner.cli.renamed import renamed_word


def main() -> None:
    """Run the command line."""
    renamed = renamed_word(sys.argv[1:])
    if renamed:
        sys.stderr.write(f"tuner: {renamed[0]} is now {renamed[1]}.\n")
        raise SystemExit(2)
    if try_fast_path(sys.argv[1:]):
        return
    from tuner.cli.app import run  # noqa: PLC0415  typer is slow to import, and a look-up is answered without it

    run()


if __name__ == "__main__":
    main()
