"""A server's log, compared with the decision that it was started with."""
