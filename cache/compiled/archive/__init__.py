"""Archives of compile caches: written, and unpacked after every part was checked."""
