"""The compile cache of a launch: warmed, explained, pruned, packed."""
