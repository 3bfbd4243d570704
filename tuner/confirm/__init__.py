"""A server's log held against the decision that it was started with."""
