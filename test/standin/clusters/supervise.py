"""Runs the real programs as children: starts them again when they end, stops them in reverse order."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable

from api import ApiError
from programs import find, write_file
from say import Problem, say

RESTART_AFTER = 2.0
STOP_WITHIN = 30.0
ASK_AGAIN_AFTER = 5.0


class Supervisor:
    """`die_with_me`: children end with this process whatever ends it, as parts of one program do."""

    def __init__(self, run_dir: str, die_with_me: bool):
        self.run_dir = run_dir
        self.die_with_me = die_with_me
        self.children: dict[str, tuple[list[str], dict, subprocess.Popen]] = {}
        self.ended: dict[str, float] = {}
        # Told of a child's end; true: it is not started again.
        self.on_end: dict[str, Callable[[int], bool]] = {}
        self.stopping = False
        self.why: str | None = None
        os.makedirs(run_dir, exist_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.ask_to_stop(None))

    def ask_to_stop(self, why: str | None) -> None:
        """`why`: it ends as a failure, with these words."""
        self.why = self.why or why
        self.stopping = True

    def start(self, name: str, argv: list[str], environment: dict | None = None) -> None:
        self._end_leftover(name)
        environment = {**os.environ, **(environment or {})}
        # What asks systemd is this program's business, not its children's.
        environment.pop("NOTIFY_SOCKET", None)
        before = [find("setpriv"), "--pdeathsig", "KILL"] if self.die_with_me else []
        child = subprocess.Popen([*before, *argv], env=environment, cwd="/", stdin=subprocess.DEVNULL, start_new_session=True)
        self.children[name] = (argv, environment, child)
        write_file(self._pid_file(name), f"{child.pid}\n", 0o644)
        say(f"started {name} (real), pid {child.pid}")

    def _pid_file(self, name: str) -> str:
        return os.path.join(self.run_dir, f"{name}.pid")

    def _end_leftover(self, name: str) -> None:
        """A program that outlived the one that started it would hold ports and files."""
        try:
            pid = int(open(self._pid_file(name), encoding="ascii").read())
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                program = os.path.basename(file.read().split(b"\0")[0].decode())
        except (OSError, ValueError):
            return
        if program != name:
            return
        say(f"{name} of an earlier run is still there, pid {pid}: ending it")
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            end = time.monotonic() + 10
            while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
                time.sleep(0.1)

    def check(self) -> None:
        """Starts again what ended. Called from the thread that started it: a child's life hangs on that thread."""
        for name, (argv, environment, child) in list(self.children.items()):
            if child.poll() is None:
                continue
            if name not in self.ended:
                if name in self.on_end and self.on_end[name](child.returncode):
                    del self.children[name]
                    continue
                say(f"{name} ended with {child.returncode}, it is started again")
                self.ended[name] = time.monotonic()
            if time.monotonic() - self.ended[name] > RESTART_AFTER:
                del self.ended[name]
                self.start(name, argv, environment)

    def wait_for(self, what: str, look: Callable[[], bool], timeout: float) -> None:
        """Waits while children are kept running; ends early when asked to stop."""
        end = time.monotonic() + timeout
        while not self.stopping:
            if look():
                return
            if time.monotonic() > end:
                raise Problem(f"{what} did not come within {timeout:.0f} s")
            self.check()
            time.sleep(0.3)
        raise Stopped()

    def retry(self, first: float, longest: float, work: Callable[[], object]):
        """Ten times, each wait twice as long as the one before; what failed is told of the last alone."""
        for attempt in range(10):
            try:
                return work()
            except ApiError:
                if attempt == 9:
                    raise
            end = time.monotonic() + min(first * 2**attempt, longest)
            while time.monotonic() < end:
                if self.stopping:
                    raise Stopped()
                time.sleep(0.1)

    def watch(self) -> None:
        """Keeps everything running until asked to stop."""
        while not self.stopping:
            self.check()
            time.sleep(0.5)

    def stop(self) -> None:
        for name, (_, _, child) in reversed(self.children.items()):
            end = time.monotonic() + STOP_WITHIN
            # Again and again, as k0s does: the second one ends a program of Kubernetes at once.
            while child.poll() is None and time.monotonic() < end:
                child.terminate()
                try:
                    child.wait(ASK_AGAIN_AFTER)
                except subprocess.TimeoutExpired:
                    continue
            if child.poll() is None:
                say(f"{name} does not end: killed")
                child.kill()
                child.wait()
            try:
                os.unlink(self._pid_file(name))
            except FileNotFoundError:
                pass


class Stopped(Exception):
    """Asked to stop while waiting."""


def tell_systemd(state: str) -> None:
    """As sd_notify does; without effect outside a unit of Type=notify."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.sendall(state.encode())
