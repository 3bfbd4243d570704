"""Verdicts and proofs that are stored: under which key, found again, held against what is here, shown."""
