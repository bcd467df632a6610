"""A stand-in for the boot loader's installer of NixOS with systemd-boot: writes an entry for every generation of the
system profile, with kernel and initial RAM disk on the boot partition, and makes that entry the default whose system is $1.
When no generation is that system the default stays what it was, as with the real one."""

import glob
import hashlib
import json
import os
import re
import shutil
import sys

BOOT = "/boot"
PROFILE = "/nix/var/nix/profiles/system"


def write(path, text):
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.tmp", path)


def copy(source):
    """Onto the boot partition, under a name that says where it is from; copied once."""
    real = os.path.realpath(source)
    name = f"EFI/nixos/{hashlib.sha256(real.encode()).hexdigest()[:16]}-{os.path.basename(real)}.efi"
    target = f"{BOOT}/{name}"
    if not os.path.exists(target):
        shutil.copyfile(real, f"{target}.tmp")
        os.rename(f"{target}.tmp", target)
    return name


def generations():
    found = {}
    for path in glob.glob(f"{PROFILE}-*-link"):
        number = re.fullmatch(rf"{PROFILE}-(\d+)-link", path)
        if number:
            found[int(number[1])] = os.path.realpath(path)
    return dict(sorted(found.items()))


def entry(number, system):
    with open(f"{system}/boot.json", encoding="utf-8") as file:
        spec = json.load(file)["org.nixos.bootspec.v1"]
    kernel, initrd = copy(spec["kernel"]), copy(spec["initrd"])
    options = " ".join([f"init={spec['init']}", *spec["kernelParams"]])
    lines = ["title NixOS", f"version Generation {number} {spec['label']}", f"linux /{kernel}", f"initrd /{initrd}"]
    return "\n".join([*lines, f"options {options}", ""]), {kernel, initrd}


print("stand-in: installing the boot loader", file=sys.stderr)
default = os.path.realpath(sys.argv[1])
os.makedirs(f"{BOOT}/loader/entries", exist_ok=True)
os.makedirs(f"{BOOT}/EFI/nixos", exist_ok=True)
kept = set()
for number, system in generations().items():
    name = f"nixos-generation-{number}.conf"
    text, files = entry(number, system)
    write(f"{BOOT}/loader/entries/{name}", text)
    kept |= files | {f"loader/entries/{name}"}
    if system == default:
        write(f"{BOOT}/loader/loader.conf", f"timeout 0\ndefault {name}\n")
for path in glob.glob(f"{BOOT}/loader/entries/nixos-generation-*.conf") + glob.glob(f"{BOOT}/EFI/nixos/*"):
    if os.path.relpath(path, BOOT) not in kept:
        os.remove(path)
