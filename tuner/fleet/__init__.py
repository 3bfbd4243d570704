"""The fleet: workers that take probes from the queue of a service, and sweeps that fill it."""
