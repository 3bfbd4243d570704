"""A folder that is called `triton` and is another one."""
