"""Unit files as the switch compares them."""

import glob
import os
import re

# Differences in these alone leave a unit as it is.
IGNORED = {
    "X-Reload-Triggers", "Description", "Documentation", "OnFailure", "OnSuccess", "OnFailureJobMode",
    "IgnoreOnIsolate", "StopWhenUnneeded", "RefuseManualStart", "RefuseManualStop", "AllowIsolate", "CollectMode",
    "SourcePath",
}  # fmt: skip


def parse_text(sections, text):
    section = None
    for line in text.replace("\\\n", " ").split("\n"):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and line[-1] == "]":
            section = sections.setdefault(line[1:-1], {})
        elif "=" in line and section is not None:
            key, value = (part.strip() for part in line.split("=", 1))
            # An empty value forgets what was set before.
            section[key] = [] if value == "" else [*section.get(key, []), value]


def parse_unit(unit_file, base_file):
    """A unit with its drop-ins; `base_file` is the template's where the unit is an instance."""
    sections = {}
    overrides = dropins(base_file) + (dropins(unit_file) if unit_file != base_file else [])
    for path in [base_file, *overrides]:
        with open(path, encoding="utf-8") as file:
            parse_text(sections, file.read())
    return sections


def dropins(unit_file):
    return sorted(glob.glob(glob.escape(unit_file) + ".d/*.conf"))


def flag(unit, section, key, default):
    values = unit.get(section, {}).get(key)
    return values[-1] in ("1", "yes", "true", "on") if values else default


def file_state(path):
    """present, masked or missing."""
    real = os.path.realpath(path)
    if real == "/dev/null":
        return "masked"
    return "present" if os.path.exists(real) else "missing"


def base_of(unit, old, new):
    """The unit whose file counts: an instance that has no file of its own is made of its template."""
    instance = re.fullmatch(r"(.*)@[^@]*\.([^.]*)", unit)
    if instance and not os.path.exists(f"{old}/{unit}") and not os.path.exists(f"{new}/{unit}"):
        return f"{instance[1]}@.{instance[2]}"
    return unit


def compare(old, new):
    """equal, restart or reload."""
    answer = "equal"
    for section in sorted(old.keys() | new.keys()):
        before, after = old.get(section), new.get(section)
        for key in sorted((before or {}).keys() | (after or {}).keys()):
            verdict = compare_key(section, key, (before or {}).get(key), (after or {}).get(key))
            if verdict == "restart":
                return "restart"
            if verdict == "reload":
                answer = "reload"
        if (before is None or after is None) and section != "Unit" and not (before or after):
            return "restart"
    return answer


def compare_key(section, key, before, after):
    if before == after:
        return "equal"
    if section == "Unit" and key in IGNORED:
        return "reload" if key == "X-Reload-Triggers" and after is not None else "equal"
    if section == "Service" and key == "ExecReload":
        # One that goes away leaves what runs as it is.
        return "equal" if after is None else "reload"
    if section == "Mount" and key == "Options" and before is not None and after is not None:
        return "reload"
    return "restart"
