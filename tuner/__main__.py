"""`python -m tuner`, and the `tuner` command."""

from tuner.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="tuner")


if __name__ == "__main__":
    main()
