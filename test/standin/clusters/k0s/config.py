"""k0s's configuration file and folders."""

import ipaddress
import os
import socket
from dataclasses import dataclass

import yaml

from k0s.quick import DEFAULT_DATA
from node import merged
from programs import read_text, run
from say import Problem

DEFAULT_FILE = "/etc/k0s/k0s.yaml"


@dataclass(frozen=True)
class Folders:
    data: str
    run: str = "/run/k0s"

    def __getattr__(self, name: str) -> str:
        below = {
            "pki": "pki",
            "etcd_pki": "pki/etcd",
            "etcd": "etcd",
            "images": "images",
            "manifests": "manifests",
            "kubelet": "kubelet",
            "kubelet_conf": "kubelet.conf",
            "admin_conf": "pki/admin.conf",
            "containerd": "containerd",
        }
        if name not in below:
            raise AttributeError(name)
        return os.path.join(self.data, below[name])

    @property
    def socket(self) -> str:
        return os.path.join(self.run, "status.sock")

    @property
    def containerd_socket(self) -> str:
        return os.path.join(self.run, "containerd.sock")


def own_address() -> str:
    """The first address that others can reach."""
    import json

    for link in json.loads(run(["ip", "-4", "-json", "addr"])):
        for address in link.get("addr_info", []):
            if address.get("scope") == "global" and link["ifname"] not in ("cni0", "kube-bridge"):
                return address["local"]
    raise Problem("this machine has no address: give spec.api.address in the configuration")


def load(path: str | None) -> dict:
    """The configuration with what it leaves out. A default file that is missing is an empty one."""
    name = path or DEFAULT_FILE
    try:
        given = yaml.safe_load(read_text(name)) or {}
    except FileNotFoundError:
        if path is not None and path != DEFAULT_FILE:
            raise Problem(f"failed to load node config: open {path}: no such file or directory") from None
        given = {}
    except yaml.YAMLError as error:
        raise Problem(f"failed to load node config: {name}: {error}") from None
    # The public NixOS module of k0s writes the second one, and k0s takes it.
    if not isinstance(given, dict) or given.get("kind", "ClusterConfig") not in ("ClusterConfig", "Cluster"):
        raise Problem(f"failed to load node config: {name} is no ClusterConfig")
    spec = given.get("spec") or {}
    address = (spec.get("api") or {}).get("address") or own_address()
    defaults = {
        "apiVersion": "k0s.k0sproject.io/v1beta1",
        "kind": "ClusterConfig",
        "metadata": {"name": "k0s", "namespace": "kube-system"},
        "spec": {
            "api": {"address": address, "port": 6443, "k0sApiPort": 9443, "sans": [], "extraArgs": {}, "externalAddress": ""},
            "storage": {"type": "etcd", "etcd": {"peerAddress": address, "extraArgs": {}, "externalCluster": None}},
            "network": {
                "provider": "kuberouter",
                "podCIDR": "10.244.0.0/16",
                "serviceCIDR": "10.96.0.0/12",
                "clusterDomain": "cluster.local",
            },
            "controllerManager": {"extraArgs": {}},
            "scheduler": {"extraArgs": {}},
            "images": {"default_pull_policy": "IfNotPresent"},
            "workerProfiles": [],
            "installConfig": {
                "users": {
                    "etcdUser": "etcd",
                    "kineUser": "kube-apiserver",
                    "konnectivityUser": "konnectivity-server",
                    "kubeAPIserverUser": "kube-apiserver",
                    "kubeSchedulerUser": "kube-scheduler",
                },
            },
        },
    }
    # What the file sets to null counts as left out.
    config = merged(defaults, _without_none(given))
    _check(config)
    return config


def _without_none(value):
    if not isinstance(value, dict):
        return value
    return {key: _without_none(inner) for key, inner in value.items() if inner is not None}


def _check(config: dict) -> None:
    spec = config["spec"]
    storage = spec["storage"]
    if storage["type"] != "etcd" or storage["etcd"].get("externalCluster"):
        raise Problem(f"this stand-in runs k0s's own etcd only, not spec.storage.type {storage['type']} or an external cluster")
    for what, text in (("api.address", spec["api"]["address"]), ("storage.etcd.peerAddress", storage["etcd"]["peerAddress"])):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise Problem(f"invalid node config: spec: {what}: Invalid value: {text!r}: invalid IP address") from None
    for profile in spec["workerProfiles"]:
        forbidden = {"clusterDNS", "clusterDomain", "apiVersion", "kind", "staticPodURL"} & set(profile.get("values") or {})
        if forbidden:
            raise Problem(f"invalid node config: spec: workerProfiles: field `{min(forbidden)}` is prohibited to override in worker profile")


def users(config: dict) -> list[str]:
    return list(config["spec"]["installConfig"]["users"].values())


def member_name(config: dict) -> str:
    return config["spec"]["storage"]["etcd"].get("extraArgs", {}).get("name") or socket.gethostname()


def api_url(config: dict) -> str:
    api = config["spec"]["api"]
    return f"https://{api['externalAddress'] or api['address']}:{api['port']}"


def join_url(config: dict) -> str:
    api = config["spec"]["api"]
    return f"https://{api['externalAddress'] or api['address']}:{api['k0sApiPort']}"
