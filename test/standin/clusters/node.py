"""The real container runtime and kubelet of a node."""

import glob
import json
import os
import tomllib

import yaml

from options import as_flags
from programs import find, run, write_file
from say import Problem, say

CAP_SYS_RESOURCE = 24


def may_lower_oom_score() -> bool:
    with open("/proc/self/status", encoding="ascii") as file:
        effective = next(line for line in file if line.startswith("CapEff:")).split()[1]
    return bool(int(effective, 16) >> CAP_SYS_RESOURCE & 1)


def has_control_groups_v2() -> bool:
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def merged(below: dict, above: dict) -> dict:
    result = dict(below)
    for key, value in above.items():
        result[key] = merged(result[key], value) if isinstance(value, dict) and isinstance(result.get(key), dict) else value
    return result


def _toml(tables: dict, path: tuple[str, ...] = ()) -> list[str]:
    plain = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    lines = ["[" + ".".join(json.dumps(part) for part in path) + "]"] if path and plain else []
    lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in plain.items()]
    for key, value in tables.items():
        if isinstance(value, dict):
            lines += _toml(value, (*path, key))
    return lines


def containerd_config(path: str, sandbox_image: str, cni_config: str, cni_programs: str, drop_ins: str) -> None:
    """Writes the runtime's configuration: what a node needs, and over it each file that the pattern `drop_ins` names."""
    cri = {"sandbox_image": sandbox_image, "cni": {"bin_dir": cni_programs, "conf_dir": cni_config}}
    if not may_lower_oom_score():
        cri["restrict_oom_score_adj"] = True
    config = {"version": 2, "plugins": {"io.containerd.grpc.v1.cri": cri}}
    for file in sorted(glob.glob(drop_ins)):
        with open(file, "rb") as opened:
            config = merged(config, tomllib.load(opened))
    write_file(path, "\n".join(_toml(config)) + "\n", 0o644)


def cni_programs() -> str:
    for folder in ("/opt/cni/bin", "/usr/lib/cni"):
        if os.path.exists(os.path.join(folder, "bridge")):
            return folder
    raise Problem("no CNI plugin named bridge in /opt/cni/bin or /usr/lib/cni: install them there")


def containerd(config: str, root: str, state: str, socket: str) -> list[str]:
    return [find("containerd"), "--config", config, "--root", root, "--state", state, "--address", socket, "--log-level", "warn"]


def import_images(socket: str, folder: str) -> None:
    for archive in sorted(glob.glob(os.path.join(folder, "*.tar"))):
        run([find("ctr"), "--address", socket, "--namespace", "k8s.io", "images", "import", archive], 120)
        say(f"imported {archive}")


def runtime_answers(socket: str) -> bool:
    try:
        run([find("ctr"), "--address", socket, "version"], 5)
        return True
    except Problem:
        return False


# What a stand-in sets for every kubelet; the distributions' own settings and those of users go over it.
KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True, "cacheTTL": "0s"}},
    "authorization": {"mode": "Webhook"},
    "cgroupDriver": "cgroupfs",
    "failSwapOn": False,
    "rotateCertificates": True,
    "resolvConf": "/etc/resolv.conf",
}


def kubelet(config_file: str, config: dict, kubeconfig: str, root: str, flags: dict) -> list[str]:
    write_file(config_file, yaml.safe_dump(config))
    all_flags = {"config": config_file, "kubeconfig": kubeconfig, "root-dir": root, "cert-dir": os.path.join(root, "pki"), **flags}
    return [find("kubelet"), *as_flags(all_flags)]


def taints(texts: list[str]) -> list[dict]:
    """key=value:effect, as kubelet's configuration has them."""
    result = []
    for text in texts:
        pair, _, effect = text.rpartition(":")
        key, _, value = pair.partition("=")
        if effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute") or not key:
            raise Problem(f"invalid taint spec: {text}")
        result.append({"key": key, "value": value, "effect": effect} if value else {"key": key, "effect": effect})
    return result
