"""Folders with the names of libraries: what lies in them is a plugin's code all the same."""
