"""Manifests against their verdicts: found, told, edited."""
