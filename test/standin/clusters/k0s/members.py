"""Keeps etcd's members and the EtcdMember objects alike; every controller does it, whichever comes first."""

import datetime

from api import Api, ApiError
from etcd import Etcd

_PATH = "/apis/etcd.k0sproject.io/v1beta1/etcdmembers"


def _status(joined: bool, previous: dict, **more) -> dict:
    state = "True" if joined else "False"
    old = next((c for c in previous.get("conditions", []) if c["type"] == "Joined"), None)
    since = old["lastTransitionTime"] if old and old["status"] == state else datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": "Joined", "status": state, "lastTransitionTime": since, "message": ""}
    return {**more, "reconcileStatus": "Success", "message": "", "conditions": [condition]}


def register(api: Api, etcd: Etcd) -> None:
    """This controller's object, with which nobody wants it to leave."""
    thing = {
        "apiVersion": "etcd.k0sproject.io/v1beta1",
        "kind": "EtcdMember",
        "metadata": {"name": etcd.name},
        "spec": {"leave": False},
    }
    api.apply(thing)


def reconcile(api: Api, etcd: Etcd) -> None:
    """Takes out those that shall leave, and writes down who is a member."""
    try:
        objects = api.get(_PATH)["items"]
    except ApiError as error:
        if error.status == 404:
            return
        raise
    members = {one.name: one for one in etcd.members()}
    for thing in objects:
        name = thing["metadata"]["name"]
        member = members.get(name)
        if member and thing.get("spec", {}).get("leave"):
            etcd.remove(member.id)
            member = None
        previous = thing.get("status", {})
        address = member.peer if member else previous.get("peerAddress", "")
        about = {"peerAddress": address.removeprefix("https://").removesuffix(":2380"), "memberID": member.id if member else ""}
        status = _status(member is not None, previous, **about)
        if status != previous:
            api.merge(f"{_PATH}/{name}/status", {"status": status})
