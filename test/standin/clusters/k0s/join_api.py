"""What a controller serves to those that join as controllers, on port 9443."""

import base64
import json
import os

import bootstrap_tokens
from api import Api
from etcd import Etcd
from k0s.config import Folders
from k0s.tokens import USAGES


def _packed(path: str) -> str:
    with open(path, "rb") as file:
        return base64.b64encode(file.read()).decode()


def routes(folders: Folders, api: Api, etcd: Etcd):
    def authority(folder: str) -> dict:
        return {"key": _packed(os.path.join(folder, "ca.key")), "cert": _packed(os.path.join(folder, "ca.crt"))}

    def route(method: str, path: str, headers: dict, body: bytes):
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if not any(bootstrap_tokens.is_good(api, token, usage) for usage in USAGES["controller"]):
            return 401, "go away"
        if (method, path) == ("GET", "/v1beta1/ca"):
            account = {"saKey": _packed(os.path.join(folders.pki, "sa.key")), "saPub": _packed(os.path.join(folders.pki, "sa.pub"))}
            return 200, {**authority(folders.pki), **account}
        if (method, path) == ("POST", "/v1beta1/etcd/members"):
            asked = json.loads(body)
            members = etcd.add_voter(asked["node"], asked["peerAddress"])
            return 200, {"ca": authority(folders.etcd_pki), "initialCluster": members}
        return 404, "not found"

    return route
