"""The real etcd with the certificates of a cluster: its flags, and questions about its members."""

import os
from dataclasses import dataclass

from certificates import Pair
from options import as_flags
from programs import find, run, run_json
from say import Problem


@dataclass(frozen=True)
class Member:
    id: str
    name: str
    peer: str
    learner: bool
    # Where its clients reach it; empty until it has started.
    client: str


@dataclass(frozen=True)
class Etcd:
    name: str
    data: str
    # Address at which the other members reach this one.
    address: str
    ca: str
    server: Pair
    peer: Pair
    client: Pair
    # Whether clients on other machines are served, too.
    serves_others: bool
    more: dict
    # Authority of the members among themselves; absent: the one of the clients.
    peer_ca: str | None = None

    @property
    def peer_url(self) -> str:
        return f"https://{self.address}:2380"

    @property
    def has_data(self) -> bool:
        return os.path.exists(os.path.join(self.data, "member", "snap", "db"))

    def argv(self, initial: list[str] | None = None, force_new: bool = False) -> list[str]:
        """`initial`: name=URL of all members, for a member that joins an existing cluster."""
        local = "https://127.0.0.1:2379"
        clients = f"{local},https://{self.address}:2379" if self.serves_others else local
        flags = {
            "name": self.name,
            "data-dir": self.data,
            "listen-client-urls": clients,
            "advertise-client-urls": f"https://{self.address}:2379" if self.serves_others else local,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "client-cert-auth": "true",
            "peer-client-cert-auth": "true",
            "cert-file": self.server.crt,
            "key-file": self.server.key,
            "trusted-ca-file": self.ca,
            "peer-cert-file": self.peer.crt,
            "peer-key-file": self.peer.key,
            "peer-trusted-ca-file": self.peer_ca or self.ca,
            "log-level": "warn",
            "initial-cluster": ",".join(initial) if initial else f"{self.name}={self.peer_url}",
            "initial-cluster-state": "existing" if initial else "new",
            **self.more,
        }
        return [find("etcd"), *as_flags(flags), *(["--force-new-cluster"] if force_new else [])]

    def command(self, at: str = "https://127.0.0.1:2379", timeout: float = 15) -> list[str]:
        access = ["--cacert", self.ca, "--cert", self.client.crt, "--key", self.client.key]
        return [find("etcdctl"), "--endpoints", at, *access, "--command-timeout", f"{timeout:.0f}s"]

    def ctl(self, *words: str, at: str = "https://127.0.0.1:2379", timeout: float = 15):
        return run_json([*self.command(at, timeout), "-w", "json", *words], timeout + 10)

    def members(self, at: str = "https://127.0.0.1:2379") -> list[Member]:
        return [
            Member(
                f"{one['ID']:x}", one.get("name", ""), (one.get("peerURLs") or [""])[0], one.get("isLearner", False),
                (one.get("clientURLs") or [""])[0],
            )
            for one in self.ctl("member", "list", at=at)["members"]
        ]

    def add_learner(self, name: str, peer_url: str, at: str = "https://127.0.0.1:2379") -> list[str]:
        """Adds a member that does not vote yet; name=URL of all members. What did not start yet under that URL is replaced."""
        for one in self.members(at):
            if one.peer == peer_url and one.name == "":
                self.remove(one.id, at)
        self.ctl("member", "add", name, "--learner", f"--peer-urls={peer_url}", at=at)
        return [f"{one.name or name}={one.peer}" for one in self.members(at)]

    def add_voter(self, name: str, peer_url: str) -> list[str]:
        """Adds a member that votes from now on, though it has not started; name=URL of all members."""
        # What the change itself answers: a list may find no majority before the new one runs.
        told = self.ctl("member", "add", name, f"--peer-urls={peer_url}")
        own = told["member"]["ID"]
        return [f"{name if one['ID'] == own else one.get('name', '')}={one['peerURLs'][0]}" for one in told["members"]]

    def remove(self, member_id: str, at: str = "https://127.0.0.1:2379") -> None:
        self.ctl("member", "remove", member_id, at=at)

    def promote_learners(self) -> None:
        """Makes members that have caught up vote. A refusal only means that one has not yet."""
        for one in self.members():
            if one.learner and one.name:
                try:
                    self.ctl("member", "promote", one.id)
                except Problem:
                    continue

    def is_up(self) -> bool:
        """Whether it answers, as a voter or as a learner."""
        try:
            self.ctl("endpoint", "status", timeout=3)
            return True
        except Problem:
            return False

    def votes(self) -> bool:
        try:
            status = self.ctl("endpoint", "status", timeout=3)[0]["Status"]
            return not status.get("isLearner", False) and status.get("leader", 0) != 0
        except (Problem, LookupError):
            return False

    def save_snapshot(self, path: str) -> None:
        run([*self.command(timeout=60), "snapshot", "save", path], 70)

    def restore_snapshot(self, path: str) -> None:
        """Fills an empty data folder as the one member of a new cluster."""
        words = ["--name", self.name, "--initial-cluster", f"{self.name}={self.peer_url}"]
        run([find("etcdutl"), "snapshot", "restore", path, "--data-dir", self.data, *words,
             "--initial-advertise-peer-urls", self.peer_url, "--skip-hash-check=false"], 60)


