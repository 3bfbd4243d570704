"""Hostile and damaged input: one file a target, each with a `case` that the quick tests and the long run share.

A case draws one input, gives it to the product, and asserts what must hold of whatever comes back. The only exceptions
it swallows are the product's own; it returns one word for what became of the input.
"""
