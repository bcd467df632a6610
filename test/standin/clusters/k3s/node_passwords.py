"""A node's name belongs to the machine that used it first: a hash of its password is kept in the cluster."""

import base64
import datetime
import hashlib
import hmac
import os

from api import Api, ApiError

_SECRETS = "/api/v1/namespaces/kube-system/secrets"
_SUFFIX = ".node-password.k3s"
# Since November 2025; before it was none of their own.
_TYPE = "k3s.cattle.io/node-password"
ORPHAN_SECONDS = 600


def _hash(password: str, salt: bytes) -> str:
    digest = hashlib.scrypt(password.encode(), salt=salt, n=1 << 12, r=8, p=1, dklen=32)
    return f"$1:{salt.hex()}:12:8:1:{base64.b64encode(digest).decode()}"


def accepts(api: Api, node: str, password: str) -> bool:
    """Keeps the password of a new name; false: the name is another machine's."""
    name = node.lower() + _SUFFIX
    try:
        kept = base64.b64decode(api.get(f"{_SECRETS}/{name}")["data"]["hash"]).decode()
    except ApiError as error:
        if error.status != 404:
            raise
        metadata = {"name": name, "namespace": "kube-system"}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": _TYPE, "metadata": metadata, "immutable": True}
        api.create(_SECRETS, {**secret, "stringData": {"hash": _hash(password, os.urandom(8))}})
        return True
    return hmac.compare_digest(kept, _hash(password, bytes.fromhex(kept.split(":")[1])))


def tidy(api: Api, nodes: dict) -> None:
    """Ties each password to its node, so that both go together; what has no node for ten minutes goes."""
    for secret in api.get(_SECRETS)["items"]:
        metadata = secret["metadata"]
        if not metadata["name"].endswith(_SUFFIX) or metadata.get("ownerReferences"):
            continue
        node = nodes.get(metadata["name"].removesuffix(_SUFFIX))
        path = f"{_SECRETS}/{metadata['name']}"
        if node:
            owner = {"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"], "uid": node["metadata"]["uid"]}
            api.merge(path, {"metadata": {"ownerReferences": [owner]}})
            continue
        made = datetime.datetime.fromisoformat(metadata["creationTimestamp"].replace("Z", "+00:00"))
        age = datetime.datetime.now(datetime.timezone.utc) - made
        if age.total_seconds() > ORPHAN_SECONDS:
            api.delete(path)
