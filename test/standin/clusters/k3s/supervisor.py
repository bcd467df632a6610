"""What a k3s server serves beside the API, at the same port: the CA, nodes' certificates, the keys for joining servers."""

import base64
import hmac
import json

import bootstrap_tokens
import certificates
from api import Api, ApiError
from certificates import Pair
from cryptography import x509
from k3s import node_passwords, passwords
from k3s.config import Folders
from programs import read_text, write_file

# What a joining server is given: every authority with its key.
SHARED = (
    "server-ca.crt server-ca.key client-ca.crt client-ca.key request-header-ca.crt request-header-ca.key service.key "
    "service.pub etcd/server-ca.crt etcd/server-ca.key etcd/peer-ca.crt etcd/peer-ca.key"
).split()
REJECTED = (
    "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server "
    "node-passwd entry, try enabling a unique node name with the --with-node-id flag"
)


def shared_files(folders: Folders) -> dict:
    return {name: read_text(folders.tls(name)) for name in SHARED}


def put_shared_files(folders: Folders, files: dict) -> None:
    for name in SHARED:
        write_file(folders.tls(name), files[name], 0o644 if name.endswith((".crt", ".pub")) else 0o600)


def _status(code: int, reason: str, message: str) -> dict:
    """What a client of k3s shows of it is the message alone."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}


class Supervisor:
    def __init__(self, folders: Folders, api: Api, settings: dict, rotate, bootstrap, members, snapshot):
        self.folders, self.api, self.settings, self.rotate, self.members = folders, api, settings, rotate, members
        self.bootstrap, self.snapshot = bootstrap, snapshot
        # Read once: until it ends, a server takes what it was started with.
        self.known = passwords.read(folders)

    def is_mine(self, path: str) -> bool:
        return path.startswith("/v1-k3s/") or path in ("/cacerts", "/ping", "/db/info", "/db/snapshot")

    def role(self, headers: dict, subject: tuple[str, list[str]] | None) -> str | None:
        """"server", "node" (may get a node's certificates), "member" (has one), or None."""
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind == "Basic":
            try:
                user, _, password = base64.b64decode(value).decode().partition(":")
            except ValueError:
                return None
            known = self.known.get(user)
            return user if known and hmac.compare_digest(known, password) else None
        if kind == "Bearer":
            return "node" if bootstrap_tokens.is_good(self.api, value, "bootstrap-authentication") else None
        return "member" if subject and "system:nodes" in subject[1] else None

    def answer(self, method: str, path: str, headers: dict, body: bytes, subject) -> tuple[int, object]:
        path = path.partition("?")[0]
        if path == "/cacerts":
            return 200, read_text(self.folders.tls("server-ca.crt"))
        if path == "/ping":
            return 200, "pong"
        role = self.role(headers, subject)
        if role is None:
            return 401, _status(401, "Unauthorized", "not authorized")
        what = path.removeprefix("/v1-k3s/")
        # Only k3s:server reaches the ones, and only agents the others.
        if what in ("server-bootstrap", "token", "/db/info", "/db/snapshot") and role != "server":
            return 403, _status(403, "Forbidden", "forbidden")
        if what in ("config", "readyz") and role == "server":
            return 403, _status(403, "Forbidden", "forbidden")
        if what == "readyz":
            return (200, "ok") if self.api.ready() else (503, "not ready")
        if what == "/db/info":
            return 200, {
                "members": [
                    {"name": one.name, "peerURLs": [one.peer], "clientURLs": [one.client] if one.client else [], "isLearner": one.learner}
                    for one in self.members()
                ]
            }
        if what == "config":
            return 200, self.settings
        if what in ("client-ca.crt", "server-ca.crt"):
            return 200, read_text(self.folders.tls(what))
        if what == "apiservers":
            return 200, self.servers()
        if what == "server-bootstrap":
            return 200, self.bootstrap(base64.b64decode(headers["authorization"].partition(" ")[2]).decode().partition(":")[2])
        if (method, what) == ("PUT", "token"):
            self.rotate(json.loads(body)["newToken"])
            return 200, ""
        if (method, what) == ("POST", "/db/snapshot"):
            asked = json.loads(body)
            return 200, {"created": [self.snapshot(asked["name"][0], asked.get("dir"))]}
        if method == "POST" and what in ("client-kubelet.crt", "serving-kubelet.crt", "client-k3s-controller.crt"):
            return self.certificate(what, headers, body, role, subject)
        return 404, "not found"

    def servers(self) -> list[str]:
        found = self.api.get("/api/v1/nodes?labelSelector=node-role.kubernetes.io%2Fcontrol-plane%3Dtrue")["items"]
        return [
            address["address"] for node in found for address in node["status"]["addresses"] if address["type"] == "InternalIP"
        ]

    def certificate(self, what: str, headers: dict, body: bytes, role: str, subject) -> tuple[int, object]:
        name, password = headers.get("k3s-node-name", ""), headers.get("k3s-node-password", "")
        if not name or not password:
            return 400, "node name or node password not set"
        if role == "member" and subject[0] != f"system:node:{name}":
            return 403, "forbidden: another node's certificate"
        try:
            good = node_passwords.accepts(self.api, name, password)
        except ApiError as error:
            return 503, f"unable to verify the password of node {name}: {error}"
        if not good:
            return 403, REJECTED
        key = x509.load_pem_x509_csr(body).public_key()
        if what == "serving-kubelet.crt":
            names = [name, "localhost", "127.0.0.1", *filter(None, headers.get("k3s-node-ip", "").split(","))]
            return 200, self._signed("server-ca", key, name, [], names)
        if what == "client-kubelet.crt":
            return 200, self._signed("client-ca", key, f"system:node:{name}", ["system:nodes"])
        return 200, self._signed("client-ca", key, "system:k3s-controller", [])

    def _signed(self, authority: str, key, name: str, organisations: list[str], names=()) -> bytes:
        ca = Pair.at(self.folders.tls(), authority)
        return certificates.pem(certificates.sign(ca, key, name, organisations, names))
