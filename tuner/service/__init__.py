"""The service: decisions and stored verdicts over HTTP, and the clients that ask it."""
