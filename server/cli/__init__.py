"""The command line: `footfall`."""

from server.cli.main import main

__all__ = ["main"]
