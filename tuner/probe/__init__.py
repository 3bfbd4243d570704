"""The probe: the host half. The half that runs in the serving environment is `worker/`."""
