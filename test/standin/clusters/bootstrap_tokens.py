"""Kubernetes' own bootstrap tokens: secrets of the cluster with an id, a secret, an end and what they are for."""

import base64
import datetime
import hmac
import re
import secrets
import string
from dataclasses import dataclass

from api import Api, ApiError

FORM = re.compile(r"^([a-z0-9]{6})\.([a-z0-9]{16})$")
_PATH = "/api/v1/namespaces/kube-system/secrets"
_PREFIX = "bootstrap-token-"


@dataclass(frozen=True)
class Token:
    id: str
    secret: str
    expires: datetime.datetime | None
    description: str
    # Names after "usage-" that are "true".
    usages: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{self.id}.{self.secret}"

    @property
    def expires_text(self) -> str:
        return self.expires.strftime("%Y-%m-%dT%H:%M:%SZ") if self.expires else ""


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def make(seconds: float, description: str, usages, groups=(), text: str | None = None) -> Token:
    """`seconds` 0: it never ends."""
    letters = string.ascii_lowercase + string.digits
    token_id, secret = (
        FORM.match(text).groups() if text else ("".join(secrets.choice(letters) for _ in range(n)) for n in (6, 16))
    )
    expires = now() + datetime.timedelta(seconds=seconds) if seconds > 0 else None
    return Token(token_id, secret, expires, description, tuple(usages), tuple(groups))


def secret_of(token: Token) -> dict:
    """The object that makes a token count, as programs write it into files: with its texts in base64."""
    data = {"token-id": token.id, "token-secret": token.secret, "description": token.description}
    if token.expires:
        data["expiration"] = token.expires_text
    if token.groups:
        data["auth-extra-groups"] = ",".join(token.groups)
    data |= {f"usage-{usage}": "true" for usage in token.usages}
    metadata = {"name": _PREFIX + token.id, "namespace": "kube-system"}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token", "metadata": metadata}
    return {**secret, "data": encoded}


def store(api: Api, token: Token) -> None:
    api.create(_PATH, secret_of(token))


def _read(secret: dict) -> Token:
    data = {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
    end = data.get("expiration")
    return Token(
        data.get("token-id", ""),
        data.get("token-secret", ""),
        datetime.datetime.fromisoformat(end.replace("Z", "+00:00")) if end else None,
        data.get("description", ""),
        tuple(key.removeprefix("usage-") for key, value in data.items() if key.startswith("usage-") and value == "true"),
        tuple(group for group in data.get("auth-extra-groups", "").split(",") if group),
    )


def listed(api: Api) -> list[Token]:
    found = api.get(f"{_PATH}?fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken")
    return [_read(secret) for secret in found["items"]]


def remove(api: Api, token_id: str) -> bool:
    """false: there was none."""
    try:
        api.delete(f"{_PATH}/{_PREFIX}{token_id}")
        return True
    except ApiError as error:
        if error.status == 404:
            return False
        raise


def is_good(api: Api, text: str, usage: str) -> bool:
    """Whether this token is known, of that use, and did not end yet."""
    form = FORM.match(text)
    if form is None:
        return False
    try:
        token = _read(api.get(f"{_PATH}/{_PREFIX}{form[1]}"))
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    if token.expires and token.expires <= now():
        return False
    return hmac.compare_digest(token.text, text) and usage in token.usages
