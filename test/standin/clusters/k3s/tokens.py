"""k3s's credentials: K10<hash of the CA>::user:password, ::id.secret, or a password alone."""

import hashlib
import os
import secrets
import time
from dataclasses import dataclass

import bootstrap_tokens
from api import Api, ApiError
from k3s.log import info, warn
from programs import write_file
from say import Problem

FILE_WAIT = 240
FILE_EVERY = 2


@dataclass(frozen=True)
class Credential:
    # Of the CA whose cluster it is for; None: it trusts the first one it sees.
    ca_hash: str | None
    user: str
    # A password, or "id.secret" when `user` is "".
    secret: str


def parse(text: str, user: str) -> Credential:
    """`user`: who it is when the token does not say. A malformed token is a Problem."""
    text = text.strip()
    if not text:
        raise Problem("token must not be empty")
    ca_hash = None
    if text.startswith("K10"):
        ca_hash, separator, text = text[3:].partition("::")
        if not separator or len(ca_hash) != 64:
            raise Problem("invalid token CA hash length")
    if bootstrap_tokens.FORM.match(text):
        return Credential(ca_hash, "", text)
    name, separator, password = text.partition(":")
    if separator:
        if not name or not password:
            raise Problem("invalid token format")
        return Credential(ca_hash, name, password)
    return Credential(ca_hash, user, text)


def hash_of(ca_text: bytes) -> str:
    return hashlib.sha256(ca_text).hexdigest()


def secure(ca_path: str, credential: str) -> str:
    with open(ca_path, "rb") as file:
        return f"K10{hash_of(file.read())}::{credential}"


def given(flags: dict, name: str = "token") -> str | None:
    """The text of an option or of the file it names, for which k3s waits for a while."""
    if flags.get(name):
        return flags[name]
    path = flags.get(f"{name}-file")
    if not path:
        return None
    end = time.monotonic() + FILE_WAIT
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise Problem(f"Timeout while trying to read the file {path}")
        info(f"Waiting for {path} to be available")
        time.sleep(FILE_EVERY)
    with open(path, encoding="utf8") as file:
        return file.read().strip()


def reach(url: str, credential: Credential, ca_file: str) -> Api:
    """A client of that supervisor. Its CA is fetched without proof and then compared with the token's hash."""
    found = Api(url, None).ask("GET", "/cacerts", timeout=10)
    if credential.ca_hash is None:
        warn("Cluster CA certificate is not trusted by the host CA bundle, but the token does not include a CA hash. Use the full token from the server's node-token file to enable Cluster CA validation.")
    elif hash_of(found) != credential.ca_hash:
        raise Problem(f"token CA hash does not match the Cluster CA certificate hash: {credential.ca_hash} != {hash_of(found)}")
    write_file(ca_file, found, 0o644)
    if credential.user == "":
        return Api(url, ca_file, token=credential.secret)
    return Api(url, ca_file, basic=f"{credential.user}:{credential.secret}")


def new_password() -> str:
    return secrets.token_hex(16)
