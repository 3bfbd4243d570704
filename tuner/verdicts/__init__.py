"""Verdicts and proofs that are stored: under which key, found again, compared with what is here, shown."""
