"""The host half of the probe. The other half, `worker/`, runs in the serving environment."""
