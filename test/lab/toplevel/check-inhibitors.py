"""The pre-switch check `switchInhibitors`: critical parts that both systems name must be the same. $1: toplevel, $2: action."""

import json
import sys

toplevel, action = sys.argv[1:3]
if action in ("boot", "dry-activate"):
    sys.exit(0)
try:
    with open("/run/current-system/switch-inhibitors", encoding="utf-8") as file:
        current = json.load(file)
    with open(f"{toplevel}/switch-inhibitors", encoding="utf-8") as file:
        new = json.load(file)
except FileNotFoundError:
    sys.exit(0)
changed = [key for key in sorted(current) if key in new and current[key] != new[key]]
if changed:
    print("There are changes to critical components of the system:\n", file=sys.stderr)
    for key in changed:
        print(f"{key} : {current[key]} -> {new[key]}", file=sys.stderr)
    print("\nSwitching into this system is not recommended: use 'boot' and reboot.", file=sys.stderr)
    sys.exit(1)
