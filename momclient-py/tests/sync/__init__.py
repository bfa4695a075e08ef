# Generated from tests/aio/__init__.py by scripts/make_sync.py: edit that one, then run `make sync`.

