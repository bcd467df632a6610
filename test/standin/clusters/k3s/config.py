"""k3s's options, from flags, its configuration files and the environment; and its folders."""

import glob
import os
from dataclasses import dataclass

import yaml

import options
from options import LIST, SWITCH, TEXT
from programs import read_text
from say import Problem

DEFAULT_DATA = "/var/lib/rancher/k3s"
DEFAULT_FILE = "/etc/rancher/k3s/config.yaml"
NODE_PASSWORD = "/etc/rancher/node/password"

AGENT = {
    "config": TEXT, "debug": SWITCH, "v": TEXT, "log": TEXT, "data-dir": TEXT, "token": TEXT, "token-file": TEXT,
    "server": TEXT, "node-name": TEXT, "with-node-id": SWITCH, "node-label": LIST, "node-taint": LIST, "node-ip": LIST,
    "node-external-ip": LIST, "resolv-conf": TEXT, "flannel-iface": TEXT, "kubelet-arg": LIST, "kube-proxy-arg": LIST,
    "pause-image": TEXT, "snapshotter": TEXT, "container-runtime-endpoint": TEXT, "private-registry": TEXT,
    "protect-kernel-defaults": SWITCH, "selinux": SWITCH, "image-credential-provider-config": TEXT, "rootless": SWITCH,
    "disable-default-registry-endpoint": SWITCH, "airgap-extra-registry": LIST, "lb-server-port": TEXT,
}
SERVER = {
    **AGENT, "cluster-init": SWITCH, "cluster-reset": SWITCH, "cluster-reset-restore-path": TEXT, "agent-token": TEXT,
    "agent-token-file": TEXT, "disable-agent": SWITCH, "tls-san": LIST, "advertise-address": TEXT, "advertise-port": TEXT,
    "bind-address": TEXT, "https-listen-port": TEXT, "cluster-cidr": LIST, "service-cidr": LIST, "cluster-dns": LIST,
    "cluster-domain": TEXT, "service-node-port-range": TEXT, "flannel-backend": TEXT, "egress-selector-mode": TEXT,
    "disable": LIST, "disable-cloud-controller": SWITCH, "disable-network-policy": SWITCH, "disable-kube-proxy": SWITCH,
    "disable-helm-controller": SWITCH, "disable-scheduler": SWITCH, "write-kubeconfig": TEXT, "write-kubeconfig-mode": TEXT,
    "write-kubeconfig-group": TEXT, "kube-apiserver-arg": LIST, "kube-controller-manager-arg": LIST, "kube-scheduler-arg": LIST,
    "kube-cloud-controller-manager-arg": LIST, "etcd-arg": LIST, "etcd-snapshot-schedule-cron": TEXT, "etcd-snapshot-retention": TEXT,
    "etcd-snapshot-dir": TEXT, "etcd-snapshot-name": TEXT, "etcd-snapshot-compress": SWITCH, "etcd-disable-snapshots": SWITCH,
    "etcd-expose-metrics": SWITCH, "secrets-encryption": SWITCH, "embedded-registry": SWITCH, "supervisor-metrics": SWITCH,
    "tls-san-security": SWITCH, "datastore-endpoint": TEXT, "default-local-storage-path": TEXT, "system-default-registry": TEXT,
}
SHORT = {"c": "config", "d": "data-dir", "t": "token", "s": "server", "o": "output"}
ENVIRONMENT = {
    "K3S_TOKEN": "token", "K3S_TOKEN_FILE": "token-file", "K3S_URL": "server", "K3S_NODE_NAME": "node-name",
    "K3S_AGENT_TOKEN": "agent-token", "K3S_AGENT_TOKEN_FILE": "agent-token-file", "K3S_CONFIG_FILE": "config",
    "K3S_DATA_DIR": "data-dir", "K3S_CLUSTER_INIT": "cluster-init", "K3S_KUBECONFIG_MODE": "write-kubeconfig-mode",
}
UNKNOWN = "flag provided but not defined: -{}"


def read(rest: list[str], flags: dict) -> dict:
    """A flag counts more than the environment, and that more than the configuration file."""
    given, words = options.parse(rest, flags, SHORT, UNKNOWN)
    if words:
        raise Problem(f"no such argument: {words[0]}")
    environment = {}
    for variable, name in ENVIRONMENT.items():
        text = os.environ.get(variable)
        if text and name in flags:
            environment[name] = text.lower() == "true" if flags[name] == SWITCH else text
    path = given.get("config") or environment.get("config") or DEFAULT_FILE
    return {**_from_files(path, flags), **environment, **given}


def _from_files(path: str, flags: dict) -> dict:
    """What agents do not know is ignored there, as one file serves both."""
    result: dict = {}
    for file in [path, *sorted(glob.glob(os.path.join(f"{path}.d", "*.yaml")))]:
        if not os.path.exists(file):
            continue
        try:
            told = yaml.safe_load(read_text(file)) or {}
        except yaml.YAMLError as error:
            raise Problem(f"failed to read {file}: {error}") from None
        for key, value in told.items():
            name = key.rstrip("+")
            if name not in SERVER:
                raise Problem(f"{UNKNOWN.format(name)} (in {file})")
            if name not in flags:
                continue
            result[name] = _value(flags[name], value, result.get(name, []) if key.endswith("+") else [])
    return result


def _value(kind: str, value, before: list):
    if kind == SWITCH:
        return value is True or str(value).lower() == "true"
    if kind == LIST:
        values = value if isinstance(value, list) else str(value).split(",")
        return [*before, *(str(one) for one in values)]
    return str(value)


def pairs(texts: list[str]) -> dict:
    """key=value arguments for a component."""
    return dict(text.partition("=")[::2] for text in texts)


@dataclass(frozen=True)
class Folders:
    data: str

    def server(self, *names: str) -> str:
        return os.path.join(self.data, "server", *names)

    def tls(self, *names: str) -> str:
        return self.server("tls", *names)

    def agent(self, *names: str) -> str:
        return os.path.join(self.data, "agent", *names)

    @property
    def containerd_socket(self) -> str:
        return "/run/k3s/containerd/containerd.sock"
