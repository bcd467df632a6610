"""What the stand-in asks of systemd, over D-Bus."""

from bus import Bus, BusError

SYSTEMD = "org.freedesktop.systemd1"
MANAGER = ("/org/freedesktop/systemd1", f"{SYSTEMD}.Manager")
JOBS = f"type='signal',sender='{SYSTEMD}',interface='{MANAGER[1]}',member='JobRemoved'"
RELOADING = f"type='signal',sender='{SYSTEMD}',interface='{MANAGER[1]}',member='Reloading'"
RELOAD_SECONDS = 180


class Systemd:
    def __init__(self):
        self.bus = Bus()
        self.submitted, self.finished, self.reloading = {}, [], False
        self.bus.on_signal = {"JobRemoved": self.job_removed, "Reloading": self.set_reloading}
        self.manager("Subscribe")
        self.bus.match(RELOADING)
        self.bus.match(JOBS)

    def manager(self, member, *arguments, timeout=30):
        return self.bus.call(SYSTEMD, *MANAGER, member, *arguments, timeout=timeout)

    def property(self, path, interface, name):
        arguments = (("s", f"{SYSTEMD}.{interface}"), ("s", name))
        return self.bus.call(SYSTEMD, path, "org.freedesktop.DBus.Properties", "Get", *arguments)[0]

    def job_removed(self, _number, path, unit, result):
        kind = self.submitted.pop(path, None)
        if kind is not None:
            self.finished.append((unit, kind, result))

    def set_reloading(self, active):
        self.reloading = bool(active)

    def units(self):
        """All units that are not inactive, by name: (state, substate, object path)."""
        found = {}
        for name, _, _, state, substate, following, path, *_ in self.manager("ListUnits")[0]:
            if following == "" and state != "inactive":
                found[name] = (state, substate, path)
        return found

    def fragment(self, path):
        try:
            return self.property(path, "Unit", "FragmentPath")
        except BusError:
            return ""

    def is_active(self, unit):
        """Fails for a unit that is not loaded, as the real program does."""
        try:
            (path,) = self.manager("GetUnit", ("s", unit))
        except BusError as error:
            raise BusError(f"Failed to get unit {unit}\n\nCaused by:\n    {error}") from error
        return self.property(path, "Unit", "ActiveState") in ("active", "activating")

    def submit(self, kind, unit):
        """Asks for a job: start, stop, restart or reload."""
        (path,) = self.manager(f"{kind.capitalize()}Unit", ("s", unit), ("s", "replace"))
        self.submitted[path] = kind

    def wait_for_jobs(self):
        """However long it takes: a job without a time limit holds the switch for ever."""
        while self.submitted:
            self.bus.process(0.5)

    def wait_for_reload(self, member):
        self.reloading = True
        # Its answer may be lost in what it asks for.
        self.bus.send(SYSTEMD, *MANAGER, member, ())
        waited = 0
        while self.reloading:
            if not self.bus.process(0.5):
                waited += 0.5
            if waited >= RELOAD_SECONDS:
                raise BusError(f"systemd daemon {member.lower()} failed, timeout after {RELOAD_SECONDS}s")

    def list_users(self):
        where = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
        return [name for _, name, _ in self.bus.call(*where, "ListUsers")[0]]
