"""A stand-in for switch-to-configuration of NixOS: it moves the real systemd of a lab machine, in the order, with the
messages, lists and exit codes (and with the ambiguities of these) that the real program was seen to have. The wrapper in a
system's bin/ sets OUT, TOPLEVEL, DISTRO_ID, PRE_SWITCH_CHECK, INSTALL_BOOTLOADER and SYSTEMD, as the real one does.

Left out: user managers, swap, and the lists that activation scripts of old releases wrote."""

import ctypes
import errno
import fcntl
import os
import re
import socket
import subprocess
import sys

from bus import BusError
from plan import LISTS, Plan, list_file
from systemd import JOBS, RELOADING, Systemd
from unit_files import flag, parse_unit

ACTIONS = ("switch", "boot", "test", "dry-activate", "check")
REACTIVATION = "sysinit-reactivation.target"
USAGE = """Usage: switch-to-configuration [check|switch|boot|test|dry-activate]
check:        run pre-switch checks and exit
switch:       make the configuration the boot default and activate now
boot:         make the configuration the boot default
test:         activate the configuration, but don't make it the boot default
dry-activate: show what would be done if this configuration were activated
"""


class Failure(Exception):
    """Ends the run with 1 and a text, as an error that the real program hands up to its main function."""


def say(text):
    """Everything that the program itself says goes to standard error, and it dies of an error in writing there."""
    try:
        os.write(2, (text + "\n").encode())
    except OSError as error:
        # A closed descriptor is harmless; a pipe without reader or a full disk is a panic.
        if error.errno != errno.EBADF:
            os._exit(101)


def finish(code):
    os._exit(code)


def needed(name):
    if name not in os.environ:
        raise Failure(f"missing required environment variable ${{{name}}}")
    return os.environ[name]


class Log:
    """The journal, under the identifier `nixos`."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self.socket.connect("/dev/log")
        except OSError as error:
            raise Failure("Failed to initialize logger") from error

    def write(self, priority, text):
        try:
            self.socket.send(f"<{8 + priority}>nixos[{os.getpid()}]: {text}".encode())
        except OSError:
            pass  # as the real one: a journal that is just restarting costs the line and nothing else


def run(command, *arguments):
    """A child with the program's own output; None: it could not be started."""
    try:
        return subprocess.run([*command.split(), *arguments], check=False).returncode
    except OSError:
        return None


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def check_installation(distro):
    try:
        release = dict(line.split("=", 1) for line in read("/etc/os-release").split("\n") if "=" in line)
    except OSError as error:
        raise Failure(f"Failed to parse os-release\n\nCaused by:\n    {error}") from error
    if not os.path.isfile("/etc/NIXOS") and not re.fullmatch(f'"?{distro}"?', release.get("ID", "")):
        say("This is not a NixOS installation!")
        finish(errno.ENOENT)


def take_lock():
    """Held until the program ends; children do not inherit it, so it is free while they may still be at work."""
    os.makedirs(LISTS, 0o755, exist_ok=True)
    lock = os.open(f"{LISTS}/switch-to-configuration.lock", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        say("Could not acquire lock")
        finish(error.errno)


def sync_store():
    store = os.open("/nix/store", os.O_RDONLY)
    ctypes.CDLL(None).syncfs(store)
    os.close(store)


def check_init_interface(toplevel):
    try:
        current = read("/run/current-system/init-interface-version")
    except OSError:
        current = ""
    try:
        new = read(f"{toplevel}/init-interface-version")
    except OSError as error:
        raise Failure(f"File init-interface-version should exist\n\nCaused by:\n    {error}") from error
    if current != new:
        say("Warning: the new NixOS configuration has an ‘init’ that is")
        say("incompatible with the current configuration.  The new configuration")
        say("won't take effect until you reboot the system.\n")
        finish(100)


def wants_new_systemd(systemd, toplevel):
    new = os.path.realpath(f"{systemd}/lib/systemd/systemd")
    if not os.path.exists(new):
        # Without a word, and with the code of whatever failed last.
        finish(errno.ENOENT)
    old_config, new_config = "/etc/systemd/system.conf", f"{toplevel}/etc/systemd/system.conf"
    return os.path.realpath("/proc/1/exe") != new or real_or_none(old_config) != real_or_none(new_config)


def real_or_none(path):
    return os.path.realpath(path) if os.path.exists(path) else None


def show(words, units):
    if units:
        say(f"{words}: {', '.join(units)}")


def show_dry_run(plan, out, new_systemd):
    show("would stop the following units", plan.shown(plan.stop))
    show("would NOT stop the following changed units", sorted(plan.skip, key=str.lower))
    say("would activate the configuration...")
    run(f"{out}/dry-activate", out)
    if new_systemd:
        say("would restart systemd")
    show("would reload the following units", sorted(plan.reload, key=str.lower))
    show("would restart the following units", sorted(plan.restart, key=str.lower))
    show("would start the following units", plan.shown(plan.start))
    finish(0)


class Run:
    """The part of a switch that touches the running system."""

    def __init__(self, systemd, plan, out, new_systemd):
        self.systemd, self.plan, self.out, self.new_systemd = systemd, plan, out, new_systemd
        self.code = 0

    def submit(self, kind, units):
        for unit in sorted(units, key=str.lower):
            try:
                self.systemd.submit(kind, unit)
            except BusError as error:
                if kind != "stop":
                    say(f"Failed to {kind} {unit}: {error}")
                    self.code = 4
        self.systemd.wait_for_jobs()

    def stop(self):
        show("stopping the following units", self.plan.shown(self.plan.stop))
        self.submit("stop", self.plan.stop)
        show("NOT restarting the following changed units", sorted(self.plan.skip, key=str.lower))

    def activate(self):
        say("activating the configuration...")
        # A system without an activation script is let through.
        if run(f"{self.out}/activate", self.out) not in (0, None):
            say("Failed to run activate script")
            self.code = 2

    def reload_systemd(self):
        if self.new_systemd:
            say("restarting systemd...")
            self.systemd.wait_for_reload("Reexecute")
        self.systemd.manager("ResetFailed")
        self.systemd.wait_for_reload("Reload")
        self.systemd.bus.unmatch(RELOADING)
        try:
            users = self.systemd.list_users()
        except BusError as error:
            say(f"Unable to list users with logind: {error}")
            finish(errno.EAGAIN)
        for user in users:
            say(f"reloading user units for {user}...")
            say("stand-in: the units of users are not looked at")

    def reactivate(self):
        say(f"restarting {REACTIVATION}")
        self.submit("restart", [REACTIVATION])

    def reload(self):
        plan = self.plan
        for unit in sorted(plan.reload):
            if self.systemd.is_active(unit):
                continue
            # It stopped with something it needs: whoever wanted it reloaded wants it to run.
            path = f"{plan.new}/{unit}"
            if os.path.exists(path) and not flag(parse_unit(path, path), "Unit", "RefuseManualStart", False):
                plan.record("start", unit)
            plan.unrecord("reload", unit)
        if plan.reload:
            show("reloading the following units", sorted(plan.reload, key=str.lower))
            self.submit("reload", plan.reload)
            remove(list_file("reload"))

    def restart(self):
        if self.plan.restart:
            show("restarting the following units", sorted(self.plan.restart, key=str.lower))
            self.submit("restart", self.plan.restart)
            remove(list_file("restart"))

    def start(self):
        show("starting the following units", self.plan.shown(self.plan.start))
        self.submit("start", self.plan.start)
        remove(list_file("start"))
        for unit, kind, result in self.systemd.finished:
            if result in ("timeout", "failed", "dependency"):
                say(f"Failed to {kind} {unit}")
                self.code = 4

    def report(self, systemd_path):
        self.systemd.bus.unmatch(JOBS)
        # Both matches are removed by now, so this is one look of a quarter of a second.
        while self.systemd.bus.process(0.25):
            pass
        failed, new = [], []
        for unit, (state, substate, path) in self.systemd.units().items():
            restarting = substate == "auto-restart" and unit.endswith(".service")
            if state == "failed" or (restarting and self.systemd.property(path, "Service", "ExecMainStatus") != 0):
                failed.append(unit)
            elif unit not in self.plan.active and not unit.endswith(".scope"):
                new.append(unit)
        show("the following new units were started", sorted(new, key=str.lower))
        if failed:
            show("warning: the following units failed", sorted(failed, key=str.lower))
            run(f"{systemd_path}/bin/systemctl", "status", "--no-pager", "--full", *sorted(failed, key=str.lower))
            self.code = 4


def remove(path):
    try:
        os.remove(path)
    except FileNotFoundError:
        pass


def switch(action):
    out, toplevel, distro = needed("OUT"), needed("TOPLEVEL"), needed("DISTRO_ID")
    check, installer, systemd_path = needed("PRE_SWITCH_CHECK"), needed("INSTALL_BOOTLOADER"), needed("SYSTEMD")
    os.environ["NIXOS_ACTION"] = action
    check_installation(distro)
    take_lock()
    log = Log()
    if os.environ.get("NIXOS_NO_CHECK") != "1" and run(check, toplevel, action) != 0:
        raise Failure("Pre-switch checks failed")
    if action == "check":
        return 0
    if action in ("switch", "boot") and run(installer, toplevel) != 0:
        raise Failure("Failed to install bootloader")
    if os.environ.get("NIXOS_NO_SYNC") != "1":
        sync_store()
    if action == "boot":
        return 0
    check_init_interface(toplevel)
    try:
        systemd = Systemd()
    except BusError as error:
        raise Failure(f"Failed to open dbus connection\n\nCaused by:\n    {error}") from error
    plan = Plan(toplevel, systemd.units(), action == "dry-activate")
    for unit, (_, _, path) in plan.active.items():
        if systemd.fragment(path).startswith("/etc/systemd/system"):
            plan.add_unit(unit)
    plan.add_file_systems()
    new_systemd = wants_new_systemd(systemd_path, toplevel)
    if action == "dry-activate":
        show_dry_run(plan, out, new_systemd)
    log.write(6, f"switching to system configuration {toplevel}")
    work = Run(systemd, plan, out, new_systemd)
    work.stop()
    work.activate()
    work.reload_systemd()
    work.reactivate()
    work.reload()
    work.restart()
    work.start()
    work.report(systemd_path)
    if work.code == 0:
        log.write(6, f"finished switching to system configuration {toplevel}")
    else:
        log.write(3, f"switching to system configuration {toplevel} failed (status {work.code})")
    return work.code


def main():
    try:
        # Said before anything else, and unlike all the rest: not being heard is not what ends a stand-in.
        os.write(2, b"stand-in: this is not the switch-to-configuration of NixOS\n")
    except OSError:
        pass
    with open("/proc/self/comm", "w", encoding="utf-8") as name:
        name.write("switch-to-confi")
    if len(sys.argv) < 2 or sys.argv[1] not in ACTIONS:
        say(USAGE)
        finish(1)
    try:
        if os.geteuid() != 0:
            raise Failure("switch-to-configuration must be run as the root user")
        finish(switch(sys.argv[1]))
    except (Failure, BusError) as failure:
        say(f"Error: {failure}")
        finish(1)


main()
