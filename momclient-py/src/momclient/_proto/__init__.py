"""The wire format, compiled from protos/messages.proto by scripts/make_stubs.py."""
