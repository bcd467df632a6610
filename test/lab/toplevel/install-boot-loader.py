"""A stand-in for the boot loader's installer of NixOS with systemd-boot: writes an entry for every generation of the
system profile, wherever the profile points, with kernel and initial RAM disk on the boot partition. Kept as the real one
was read to be, where a machine that boots by it can tell:

- entries of generations that are gone, and kernels that nobody names, are removed first;
- the default is the generation whose system is $1: the newest, where several are. When none is, the default stays what it
  was, and that is no error;
- loader.tmp is created exclusively: one that a power cut left behind fails every later run, until somebody removes it;
- no variable of the firmware is touched."""

import glob
import json
import os
import re
import shutil
import sys

BOOT = "/boot"
ENTRIES = f"{BOOT}/loader/entries"
KERNELS = f"{BOOT}/EFI/nixos"
PROFILE = "/nix/var/nix/profiles/system"


def write(path, text, temporary, mode="w"):
    with open(temporary, mode, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)


def efi_name(path):
    """The name on the boot partition follows from the store path, so that generations share a file."""
    return os.path.relpath(os.path.realpath(path), "/nix/store").replace("/", "-") + ".efi"


def copy(source):
    target = f"{KERNELS}/{efi_name(source)}"
    if not os.path.exists(target):
        shutil.copyfile(os.path.realpath(source), f"{target}.tmp")
        with open(f"{target}.tmp", "rb") as file:
            os.fsync(file.fileno())
        os.rename(f"{target}.tmp", target)
    return f"/EFI/nixos/{efi_name(source)}"


def generations():
    found = {}
    for path in glob.glob(f"{PROFILE}-*-link"):
        number = re.fullmatch(rf"{PROFILE}-(\d+)-link", path)
        if number:
            with open(f"{path}/boot.json", encoding="utf-8") as file:
                found[int(number[1])] = json.load(file)["org.nixos.bootspec.v1"]
    return dict(sorted(found.items()))


def remove_old(specs):
    for path in glob.glob(f"{ENTRIES}/nixos-generation-*.conf"):
        number = re.fullmatch(r"nixos-generation-(\d+)\.conf", os.path.basename(path))
        if number and int(number[1]) not in specs:
            os.remove(path)
    known = {efi_name(spec[part]) for spec in specs.values() for part in ("kernel", "initrd")}
    for name in os.listdir(KERNELS):
        if name not in known:
            os.remove(f"{KERNELS}/{name}")


def install(default):
    os.makedirs(ENTRIES, exist_ok=True)
    os.makedirs(KERNELS, exist_ok=True)
    specs = generations()
    remove_old(specs)
    for number, spec in specs.items():
        name = f"nixos-generation-{number}.conf"
        options = " ".join([f"init={spec['init']}", *spec["kernelParams"]])
        head = f"title NixOS\nsort-key nixos\nversion Generation {number} {spec['label']}\n"
        files = f"linux {copy(spec['kernel'])}\ninitrd {copy(spec['initrd'])}\n"
        path = f"{ENTRIES}/{name}"
        write(path, f"{head}{files}options {options}\n", f"{path}.tmp")
        if os.path.dirname(spec["init"]) == default:
            write(f"{BOOT}/loader/loader.conf", f"timeout 0\ndefault {name}\n", f"{BOOT}/loader/loader.tmp", "x")


print("stand-in: installing the boot loader", file=sys.stderr)
try:
    install(os.path.realpath(sys.argv[1]))
finally:
    # FAT has no journal: what was renamed must be on the disk before anybody reboots.
    for folder in (KERNELS, ENTRIES, f"{BOOT}/loader"):
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
