"""`python -m tuner`, and the `tuner` command."""

import sys

from tuner.cli.fast_path import answered


def main() -> None:
    """Run the command line."""
    if answered(sys.argv[1:]):
        return
    from tuner.cli.app import app  # noqa: PLC0415  typer is slow to import, and a look-up is answered without it

    app(prog_name="tuner")


if __name__ == "__main__":
    main()
