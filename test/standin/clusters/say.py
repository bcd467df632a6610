"""What every message of the stand-ins begins with, and how they fail."""

import sys

_name = "clusters"


def call_me(name: str) -> None:
    global _name
    _name = name


def my_name() -> str:
    return _name


def say(text: str) -> None:
    """Standard output belongs to answers; what is told goes to standard error."""
    print(f"stand-in: {_name}: {text}", file=sys.stderr, flush=True)


class Problem(Exception):
    """Ends the command: its text is printed, the exit code is 1."""
