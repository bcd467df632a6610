"""A small client of the Kubernetes API, and the kubeconfig files that the real programs read."""

import base64
import http.client
import json
import os
import ssl
import tempfile
import time
import urllib.parse
from dataclasses import dataclass

import yaml

from programs import read_text, write_file
from say import Problem


class ApiError(Exception):
    """An answer that is no success. `status` is 0 when there was none."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Api:
    """Where the API is and who asks: by a certificate, a token or a password."""

    server: str
    ca: str | None
    cert: str | None = None
    key: str | None = None
    token: str | None = None
    basic: str | None = None

    def ask(self, method: str, path: str, body=None, content: str = "application/json", headers=None, timeout: float = 10) -> bytes:
        where = urllib.parse.urlsplit(self.server)
        context = ssl.create_default_context(cafile=self.ca) if self.ca else ssl._create_unverified_context()
        if self.cert:
            context.load_cert_chain(self.cert, self.key)
        send = {"Accept": "application/json", **(headers or {})}
        if self.token:
            send["Authorization"] = f"Bearer {self.token}"
        if self.basic:
            send["Authorization"] = "Basic " + base64.b64encode(self.basic.encode()).decode()
        if body is not None:
            send["Content-Type"] = content
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPSConnection(where.hostname, where.port or 443, context=context, timeout=timeout)
        try:
            connection.request(method, path, body, send)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(0, str(error)) from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise ApiError(answer.status, _message(data) or f"{answer.status} {answer.reason}")
        return data

    def get(self, path: str, timeout: float = 10) -> dict:
        return json.loads(self.ask("GET", path, timeout=timeout))

    def create(self, path: str, thing: dict) -> dict:
        return json.loads(self.ask("POST", path, thing))

    def delete(self, path: str) -> None:
        self.ask("DELETE", path)

    def merge(self, path: str, change: dict) -> None:
        self.ask("PATCH", path, change, "application/merge-patch+json")

    def apply(self, thing: dict) -> None:
        """Makes the object be like this, whether or not it exists."""
        query = "?fieldManager=stand-in&force=true"
        self.ask("PATCH", path_of(thing) + query, thing, "application/apply-patch+yaml")

    def ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz", timeout=3) == b"ok"
        except ApiError:
            return False


def _message(data: bytes) -> str:
    try:
        return json.loads(data).get("message", "")
    except (ValueError, AttributeError):
        return data.decode("utf8", "replace").strip()[:500]


PLURALS = {
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "CustomResourceDefinition": "customresourcedefinitions",
    "EtcdMember": "etcdmembers",
    "Namespace": "namespaces",
}


def path_of(thing: dict) -> str:
    version, metadata = thing["apiVersion"], thing["metadata"]
    start = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    namespace = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{start}{namespace}/{PLURALS[thing['kind']]}/{metadata['name']}"


def until(what: str, look, timeout: float, every: float = 1.0):
    """Repeats until `look` returns something true. Errors of the API are looked at again until the time is over."""
    end = time.monotonic() + timeout
    why = ""
    while True:
        try:
            found = look()
            if found:
                return found
        except (ApiError, Problem) as error:
            why = f": {error}"
        if time.monotonic() > end:
            raise Problem(f"{what} did not come within {timeout:.0f} s{why}")
        time.sleep(every)


def _data(path: str) -> str:
    return base64.b64encode(read_text(path).encode()).decode()


def kubeconfig_text(server: str, ca: str, user: dict, name: str = "local", user_name: str = "user", context: str = "Default") -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": _data(ca)}}],
            "contexts": [{"name": context, "context": {"cluster": name, "user": user_name}}],
            "current-context": context,
            "users": [{"name": user_name, "user": user}],
        }
    )


def user_of(crt: str, key: str) -> dict:
    """A kubeconfig's user with the certificate in it."""
    return {"client-certificate-data": _data(crt), "client-key-data": _data(key)}


def write_kubeconfig(path: str, server: str, ca: str, user: dict, **names: str) -> None:
    write_file(path, kubeconfig_text(server, ca, user, **names))


def from_kubeconfig(text: str) -> Api:
    """The client of a kubeconfig's current context. Keys go through private files that last as long as this process."""
    config = yaml.safe_load(text)
    context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
    user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
    folder = tempfile.mkdtemp(prefix="stand-in-", dir="/run")

    def file_of(source: dict, name: str) -> str | None:
        if f"{name}-data" not in source:
            return source.get(name)
        path = os.path.join(folder, name)
        write_file(path, base64.b64decode(source[f"{name}-data"]))
        return path

    return Api(
        cluster["server"],
        file_of(cluster, "certificate-authority"),
        file_of(user, "client-certificate"),
        file_of(user, "client-key"),
        user.get("token"),
    )
