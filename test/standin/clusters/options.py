"""Flags as the real programs take them: --name=value, --name value, --switch, -x."""

from collections.abc import Mapping, Sequence

from say import Problem

# What a flag's value is.
TEXT, SWITCH, LIST = "text", "switch", "list"


def parse(argv: Sequence[str], flags: Mapping[str, str], short: Mapping[str, str] | None = None, unknown: str = "unknown flag: --{}"):
    """(values by flag, the other words). A flag that was not given is missing; a list is split at commas and grows."""
    short = short or {}
    values: dict = {}
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        name, has_value, value = word.lstrip("-").partition("=")
        name = short.get(name, name)
        kind = flags.get(name)
        if kind is None:
            raise Problem(unknown.format(name))
        if kind == SWITCH:
            values[name] = value.lower() not in ("false", "0") if has_value else True
            continue
        if not has_value:
            if not rest:
                raise Problem(f"flag needs an argument: --{name}")
            value = rest.pop(0)
        if kind == LIST:
            values.setdefault(name, []).extend(part for part in value.split(",") if part)
        else:
            values[name] = value
    return values, words


def seconds(text: str) -> float:
    """A duration of Go: 10m, 1h30m, 300ms, 0s."""
    import re

    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)", text)
    if text == "0":
        return 0
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Problem(f'time: invalid duration "{text}"')
    return sum(float(number) * units[unit] for number, unit in parts)


def as_flags(values: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]
