"""Messages as k3s has them, said by a stand-in."""

from say import say


def info(text: str) -> None:
    say(f'level=info msg="{text}"')


def warn(text: str) -> None:
    say(f'level=warning msg="{text}"')


def error(text: str) -> None:
    say(f'level=error msg="{text}"')
