"""A folder that is called `torch` and is another one."""
