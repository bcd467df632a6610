"""What a k3s server serves beside the API, at the same port: the CA, nodes' certificates, the keys for joining servers."""

import base64
import hmac
import json
import os

import bootstrap_tokens
import certificates
from api import Api, ApiError
from certificates import Pair
from cryptography import x509
from k3s import node_passwords
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


def passwords(folders: Folders) -> dict:
    """Password by user: server, node."""
    lines = (line.split(",") for line in read_text(folders.server("cred", "passwd")).splitlines() if line)
    return {user: password for password, user, *_ in lines}


class Supervisor:
    def __init__(self, folders: Folders, api: Api, settings: dict, rotate):
        self.folders, self.api, self.settings, self.rotate = folders, api, settings, rotate

    def is_mine(self, path: str) -> bool:
        return path.startswith("/v1-k3s/") or path in ("/cacerts", "/ping")

    def role(self, headers: dict, subject: tuple[str, list[str]] | None) -> str | None:
        """"server", "node" (may get a node's certificates), "member" (has one), or None."""
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind == "Basic":
            try:
                user, _, password = base64.b64decode(value).decode().partition(":")
            except ValueError:
                return None
            known = passwords(self.folders).get(user)
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
            return 401, {"kind": "Status", "status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401}
        what = path.removeprefix("/v1-k3s/")
        if what in ("server-bootstrap", "token") and role != "server":
            return 403, {"kind": "Status", "status": "Failure", "message": f"forbidden: only k3s:server reaches {path}", "code": 403}
        if what == "readyz":
            return (200, "ok") if self.api.ready() else (503, "not ready")
        if what == "config":
            return 200, self.settings
        if what in ("client-ca.crt", "server-ca.crt"):
            return 200, read_text(self.folders.tls(what))
        if what == "apiservers":
            return 200, self.servers()
        if what == "server-bootstrap":
            return 200, shared_files(self.folders)
        if (method, what) == ("PUT", "token"):
            self.rotate(json.loads(body)["newToken"])
            return 200, ""
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


def write_credentials(folders: Folders, server: str, node: str) -> None:
    """The files that say which tokens this server takes."""
    from k3s.tokens import secure

    lines = [f"{server},server,server,k3s:server", f"{node},node,node,k3s:agent", ""]
    write_file(folders.server("cred", "passwd"), "\n".join(lines))
    ca = folders.tls("server-ca.crt")
    write_file(folders.server("token"), secure(ca, f"server:{server}") + "\n")
    write_file(folders.server("agent-token"), secure(ca, f"node:{node}") + "\n")
    link = folders.server("node-token")
    if not os.path.islink(link):
        os.symlink(folders.server("token"), link)
