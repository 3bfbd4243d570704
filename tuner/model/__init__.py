"""A model: its name, config and files, from a folder or a hub, and a smaller config of it."""
