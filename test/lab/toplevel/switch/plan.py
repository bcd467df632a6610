"""Chooses what a switch does with every unit that runs, and writes it down in /run/nixos while it does."""

import os
import re

import unit_files
from unit_files import flag

LISTS = "/run/nixos"
KEEP = ("sysinit.target", "basic.target", "multi-user.target", "graphical.target")
ASLEEP = ("suspend.target", "hibernate.target", "hybrid-sleep.target")


def list_file(name):
    return f"{LISTS}/{name}-list"


def read_list(name):
    try:
        with open(list_file(name), encoding="utf-8") as file:
            return {line for line in file.read().split("\n") if line}
    except FileNotFoundError:
        return set()


class Plan:
    def __init__(self, toplevel, active, dry):
        self.new, self.old = f"{toplevel}/etc/systemd/system", "/etc/systemd/system"
        self.toplevel, self.active, self.dry = toplevel, active, dry
        self.stop, self.skip, self.hidden = set(), set(), set()
        # What an interrupted run left to do.
        self.start, self.restart, self.reload = read_list("start"), read_list("restart"), read_list("reload")

    def record(self, name, unit):
        getattr(self, name).add(unit)
        if not self.dry:
            with open(list_file(name), "a", encoding="utf-8") as file:
                file.write(unit + "\n")

    def unrecord(self, name, unit):
        getattr(self, name).discard(unit)
        if self.dry or not os.path.exists(list_file(name)):
            return
        left = [line for line in sorted(read_list(name)) if line != unit]
        with open(list_file(name), "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in left)

    def shown(self, units):
        return sorted(units - self.hidden, key=str.lower)

    def add_unit(self, unit):
        """Decides about a unit whose file lies below /etc/systemd/system."""
        base = unit_files.base_of(unit, self.old, self.new)
        old_file, new_file = f"{self.old}/{unit}", f"{self.new}/{unit}"
        old_base, new_base = f"{self.old}/{base}", f"{self.new}/{base}"
        if not os.path.exists(old_base) or self.active[unit][0] not in ("active", "activating"):
            return
        old = unit_files.parse_unit(old_file, old_base)
        if unit_files.file_state(new_base) != "present":
            # Whether it may be stopped, the old file says.
            if flag(old, "Unit", "X-StopOnRemoval", True):
                self.stop.add(unit)
            return
        new = unit_files.parse_unit(new_file, new_base)
        if unit.endswith(".target"):
            self.add_target(unit, new)
            return
        verdict = unit_files.compare(old, new)
        if verdict == "restart":
            self.add_changed(unit, base, new)
        elif verdict == "reload" and unit not in self.restart:
            self.record("reload", unit)

    def add_target(self, unit, new):
        manual = flag(new, "Unit", "RefuseManualStart", False) or flag(new, "Unit", "X-OnlyManualStart", False)
        # Every active target is started again, and with it whatever it wants.
        if unit not in ASLEEP and not manual:
            self.record("start", unit)
            if os.environ.get("STC_DISPLAY_ALL_UNITS") != "1":
                self.hidden.add(unit)
        if flag(new, "Unit", "X-StopOnReconfiguration", False):
            self.stop.add(unit)

    def add_changed(self, unit, base, new):
        if unit in KEEP or unit.endswith((".path", ".slice", ".socket")):
            return
        if unit.endswith(".mount"):
            self.record("reload" if unit in ("-.mount", "nix.mount") else "restart", unit)
            return
        if flag(new, "Service", "X-ReloadIfChanged", False) and unit not in self.restart | self.stop:
            self.record("reload", unit)
            return
        stays = not flag(new, "Service", "X-RestartIfChanged", True)
        if stays or flag(new, "Unit", "RefuseManualStop", False) or flag(new, "Unit", "X-OnlyManualStart", False):
            self.skip.add(unit)
            return
        if not flag(new, "Service", "X-StopIfChanged", True) or not unit.endswith(".service"):
            self.record("restart", unit)
        else:
            if not self.move_sockets(base, new):
                self.record("start", unit)
            self.stop.add(unit)
        self.unrecord("reload", unit)

    def move_sockets(self, base, new):
        """Stops and starts the sockets of a service; whether it is theirs to start it."""
        named = " ".join(new.get("Service", {}).get("Sockets", [])).split()
        name = re.sub(r"@?\.service$", "", base)
        by_socket = False
        for socket in named or [f"{name}.socket"]:
            there = os.path.exists(f"{self.new}/{socket}")
            if socket in self.active:
                self.stop.add(socket)
                if there:
                    self.record("start", socket)
            by_socket = by_socket or there
        return by_socket and not flag(new, "Service", "X-NotSocketActivated", False)

    def add_file_systems(self):
        before, after = read_fstab("/etc/fstab"), read_fstab(f"{self.toplevel}/etc/fstab")
        for point, (device, kind, options) in before.items():
            unit = mount_unit(point)
            if point not in after:
                self.stop.add(unit)
            elif after[point][:2] == (device, kind):
                if after[point][2] != options:
                    self.record("reload", unit)
            elif point not in ("/", "/nix"):
                self.record("restart", unit)
            elif after[point][2] != options:
                self.record("reload", unit)
            else:
                self.skip.add(unit)


def read_fstab(path):
    try:
        with open(path, encoding="utf-8") as file:
            rows = [line.split() for line in file if "#" not in line]
    except FileNotFoundError:
        return {}
    return {row[1]: (row[0], row[2], row[3] if len(row) > 3 else "") for row in rows if len(row) > 2 and row[2] != "swap"}


def mount_unit(point):
    escaped = point.strip("/").replace("-", "\\x2d").replace("/", "-")
    return f"{escaped or '-'}.mount"
