"""Verdicts that travel: bundles, their import, signatures, and what two stores disagree about."""
