"""Makes /etc what a system says: /etc/static leads to its files, and every file has a link through it. $1: the system's etc."""

import os
import sys

STATIC = "/etc/static"
# Folders that are one link as a whole.
WHOLE = {"systemd/system"}


def replace_link(path, target):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.islink(path) and os.readlink(path) == target:
        return
    if os.path.isdir(path) and not os.path.islink(path):
        # What the image of the machine brought, empty; on NixOS the folder as a whole is the system's.
        os.rmdir(path)
    os.symlink(target, f"{path}.tmp")
    os.replace(f"{path}.tmp", path)


def files_of(folder, prefix=""):
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = prefix + entry.name
        if entry.is_dir(follow_symlinks=False) and path not in WHOLE:
            yield from files_of(entry.path, f"{path}/")
        else:
            yield path


def remove_stale():
    for folder, folders, files in os.walk("/etc"):
        for name in folders + files:
            path = os.path.join(folder, name)
            if os.path.islink(path) and os.readlink(path).startswith(f"{STATIC}/") and not os.path.exists(path):
                os.remove(path)


new = sys.argv[1]
wanted = list(files_of(new))
replace_link(STATIC, new)
for path in wanted:
    replace_link(f"/etc/{path}", f"{STATIC}/{path}")
remove_stale()
