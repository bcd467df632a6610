"""The pods' network: a bridge on each node, and routes between nodes of one network, which flannel calls host-gw."""

import json
import os
import subprocess
import time

from api import Api, ApiError
from programs import write_file
from say import say

EVERY = 3


def _subnet_and_address(node: dict) -> tuple[str, str] | None:
    subnet = node.get("spec", {}).get("podCIDR")
    addresses = [one["address"] for one in node.get("status", {}).get("addresses", []) if one["type"] == "InternalIP"]
    return (subnet, addresses[0]) if subnet and addresses else None


def keep(api: Api, own: str, folder: str) -> None:
    """Follows the nodes as long as the process lives."""
    while True:
        try:
            for node in api.get("/api/v1/nodes")["items"]:
                found = _subnet_and_address(node)
                if found is None:
                    continue
                if node["metadata"]["name"] == own:
                    _write(os.path.join(folder, "10-flannel.conflist"), found[0])
                else:
                    subprocess.run(["ip", "route", "replace", found[0], "via", found[1]], check=False, capture_output=True)
        except ApiError as error:
            say(f"flannel: {error}")
        time.sleep(EVERY)


def _write(path: str, subnet: str) -> None:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    text = json.dumps({"cniVersion": "1.0.0", "name": "cbr0", "plugins": [bridge]})
    try:
        with open(path, encoding="utf8") as file:
            if file.read() == text:
                return
    except FileNotFoundError:
        pass
    write_file(path, text, 0o644)
    say(f"wrote {path} for {subnet}, host-gw in place of vxlan")
