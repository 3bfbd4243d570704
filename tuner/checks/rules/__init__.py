"""The rules of `tuner check`: one file a rule, listed in `registry.py`, described in `docs/rules/`."""
