"""What the two applications of the example share; each is a `__main__.py` in a folder of its own."""
