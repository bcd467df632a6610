"""The commands of k0s that this stand-in keeps."""

import json
import os
import sys

import bootstrap_tokens
import certificates
import cleanup
import options
from api import Api, from_kubeconfig, kubeconfig_text, until, user_of
from certificates import Pair
from k0s import archive, controller, status, tokens, worker
from k0s import config as settings
from k0s.config import Folders
from k0s.quick import full_version
from options import LIST, SWITCH, TEXT
from programs import find, own_version, read_text, run
from say import Problem, call_me, say

HERE = {"data-dir": TEXT, "status-socket": TEXT, "debug": SWITCH, "verbose": SWITCH}
# Of few commands; the others read what lies at the usual place.
CONFIG = {"config": TEXT}
WORKER = {
    **HERE, **CONFIG, "token-file": TEXT, "labels": LIST, "taints": LIST, "kubelet-extra-args": TEXT, "profile": TEXT,
    "kubelet-root-dir": TEXT, "cri-socket": TEXT, "iptables-mode": TEXT, "ignore-pre-flight-checks": SWITCH,
    "enable-cloud-provider": SWITCH, "logging": TEXT,
}
CONTROLLER = {
    **WORKER, "enable-worker": SWITCH, "no-taints": SWITCH, "single": SWITCH, "disable-components": LIST,
    "enable-dynamic-config": SWITCH, "enable-metrics-scraper": SWITCH, "init-only": SWITCH, "feature-gates": TEXT,
    "kube-controller-manager-extra-args": TEXT, "enable-k0s-cloud-provider": SWITCH,
}
SHORT = {"c": "config", "d": "debug", "v": "verbose", "l": "logging", "o": "out", "a": "all", "j": "json"}
HELP = """Usage: k0s [command]

A stand-in for k0s over the real Kubernetes and etcd programs. It knows:
  controller, worker, token create|list|invalidate|pre-shared, status, etcd member-list|leave, kubeconfig admin|create,
  kubectl, backup, restore, reset, config create|validate, version
"""


def main(argv: list[str]) -> int:
    call_me("k0s")
    version = own_version(argv[0])
    words = argv[1:]
    command, rest = (words[0], words[1:]) if words else ("help", [])
    try:
        return _COMMANDS[command](version, rest)
    except KeyError:
        raise Problem(f'unknown command "{command}" for "k0s"') from None


def _parse(rest: list[str], flags: dict, most: int = 0):
    values, words = options.parse(rest, flags, SHORT)
    if len(words) > most:
        raise Problem(f"accepts at most {most} arg(s), received {len(words)}")
    folders = Folders(values.get("data-dir", settings.DEFAULT_DATA))
    return values, words, folders


def _socket(values: dict, folders: Folders) -> str:
    return values.get("status-socket", folders.socket)


def _admin(folders: Folders) -> Api:
    try:
        return from_kubeconfig(read_text(folders.admin_conf))
    except FileNotFoundError:
        raise Problem(f"stat {folders.admin_conf}: no such file or directory") from None


def _controller(version: str, rest: list[str]) -> int:
    values, words, _ = _parse(rest, CONTROLLER, 1)
    if values.get("init-only"):
        raise Problem("this stand-in has no --init-only")
    return controller.run(version, values, words)


def _worker(version: str, rest: list[str]) -> int:
    values, words, _ = _parse(rest, WORKER, 1)
    return worker.run(version, values, words)


def _token(_version: str, rest: list[str]) -> int:
    action, rest = (rest[0], rest[1:]) if rest else ("", [])
    if action == "create":
        values, _, folders = _parse(rest, {**HERE, "role": TEXT, "expiry": TEXT, "wait": SWITCH})
        role, seconds = values.get("role", "worker"), options.seconds(values.get("expiry", "0s"))
        tokens.check_role(role)
        ask = lambda: _create_token(values, folders, role, seconds)
        print(until("a token", ask, 120) if values.get("wait") else ask())
        return 0
    if action == "list":
        values, _, folders = _parse(rest, {**HERE, "role": TEXT})
        role = values.get("role", "")
        # Seen with 1.34.3 and 1.35.4: without a role it is refused.
        tokens.check_role(role)
        known = bootstrap_tokens.listed(_admin(folders))
        if not known:
            print("No k0s join tokens found")
        found = [one for one in known if tokens.role_of(one) == role]
        # As k0s' table printer: where all there are have another role, nothing is printed.
        if not found:
            return 0
        rows = [("ID", "ROLE", "EXPIRES AT"), *((one.id, role, one.expires_text) for one in found)]
        for row in rows:
            print("   ".join(text.ljust(max(len(r[i]) for r in rows)) for i, text in enumerate(row)).rstrip())
        return 0
    if action == "invalidate":
        values, ids, folders = _parse(rest, HERE, 100)
        if not ids:
            raise Problem("requires at least 1 arg(s), only received 0")
        client = _admin(folders)
        for token_id in ids:
            # k0s says so whether or not there was one: only a list proves it.
            bootstrap_tokens.remove(client, token_id)
            print(f"token {token_id} deleted successfully")
        return 0
    if action == "pre-shared":
        flags = {**HERE, "role": TEXT, "cert": TEXT, "url": TEXT, "valid": TEXT, "out": TEXT}
        values, _, _ = _parse(rest, flags)
        missing = ", ".join(f'"{name}"' for name in ("cert", "url") if name not in values)
        if missing:
            raise Problem(f"required flag(s) {missing} not set")
        role = values.get("role", "worker")
        tokens.check_role(role)
        valid = options.seconds(values.get("valid", "0s"))
        tokens.prepare(values["cert"], values["url"], role, valid, values.get("out", "."))
        return 0
    raise Problem(f'unknown command "{action}" for "k0s token": create, list, invalidate, pre-shared')


def _create_token(values: dict, folders: Folders, role: str, seconds: float) -> str:
    try:
        running = status.ask(_socket(values, folders))
    except Problem as problem:
        raise Problem(f"failed to get k0s status: {problem}") from None
    if running["SingleNode"]:
        raise Problem("refusing to create token: cannot join into a single node cluster")
    ca = os.path.join(folders.pki, "ca.crt")
    if not os.path.exists(ca):
        raise Problem(
            f'failed to read cluster CA from "{ca}": open {ca}: no such file or directory; '
            "check if the control plane is initialized on this node"
        )
    server = (settings.join_url if role == "controller" else settings.api_url)(running["ClusterConfig"])
    return tokens.create(_admin(folders), ca, server, role, seconds)


def _status(_version: str, rest: list[str]) -> int:
    values, _, folders = _parse(rest, {**HERE, "out": TEXT})
    told = status.ask(_socket(values, folders))
    if values.get("out") == "json":
        print(json.dumps(told, indent=3))
    elif values.get("out") == "yaml":
        import yaml

        print(yaml.safe_dump(told))
    else:
        for title, key in (("Version", "Version"), ("Process ID", "Pid"), ("Role", "Role"), ("Workloads", "Workloads"), ("SingleNode", "SingleNode")):
            print(f"{title}: {str(told[key]).lower() if isinstance(told[key], bool) else told[key]}")
    return 0


def _etcd(_version: str, rest: list[str]) -> int:
    action, rest = (rest[0], rest[1:]) if rest else ("", [])
    values, _, folders = _parse(rest, {**HERE, "peer-address": TEXT})
    config = settings.load(None)
    etcd = archive.etcd_of(config, folders)
    if not os.path.exists(etcd.ca):
        raise Problem(f"can't list etcd cluster members: open {etcd.ca}: no such file or directory")
    if action == "member-list":
        print(json.dumps({"members": {one.name: one.peer for one in etcd.members()}}))
        return 0
    if action == "leave":
        address = values.get("peer-address") or etcd.address
        member = next((one for one in etcd.members() if one.peer == f"https://{address}:2380"), None)
        if member is None:
            raise Problem(f"peer not found: no member of etcd has the peer address {address}")
        # No look at the quorum, as with k0s.
        etcd.remove(member.id)
        say(f"successfully deleted peerID={member.id}")
        return 0
    raise Problem(f'unknown command "{action}" for "k0s etcd": member-list, leave')


def _kubeconfig(_version: str, rest: list[str]) -> int:
    action, rest = (rest[0], rest[1:]) if rest else ("", [])
    own = {**CONFIG, "groups": TEXT, "certificate-expires-after": TEXT, "context-name": TEXT}
    flags = {**HERE, **(own if action == "create" else {})}
    values, words, folders = _parse(rest, flags, 1)
    ca = Pair.at(folders.pki, "ca")
    server = settings.api_url(settings.load(values.get("config")))
    if action == "admin":
        pair = Pair.at(folders.pki, "admin")
        if not os.path.exists(pair.crt):
            raise Problem(f'admin config "{folders.admin_conf}" not found, check if the control plane is initialized on this node')
        print(kubeconfig_text(server, ca.crt, user_of(pair.crt, pair.key)), end="")
        return 0
    if action == "create" and words:
        if not os.path.exists(ca.key):
            raise Problem(f"failed generate user certificate: open {ca.crt}: no such file or directory, check if the control plane is initialized on this node")
        name, context = words[0], values.get("context-name", "k0s")
        pair = Pair.at(folders.pki, name)
        days = max(1, round(options.seconds(values.get("certificate-expires-after", "8760h")) / 86400))
        groups = [values["groups"]] if values.get("groups") else []
        certificates.ensure_certificate(pair, ca, name, groups, days=days)
        text = kubeconfig_text(server, ca.crt, user_of(pair.crt, pair.key), name=context, user_name=name, context=context)
        print(text, end="")
        return 0
    raise Problem('unknown command for "k0s kubeconfig": admin, create USERNAME')


def _backup(_version: str, rest: list[str]) -> int:
    values, _, folders = _parse(rest, {**HERE, "save-path": TEXT})
    return archive.backup(folders, values.get("save-path", ""))


def _restore(_version: str, rest: list[str]) -> int:
    values, words, folders = _parse(rest, {**HERE, "config-out": TEXT}, 1)
    if not words:
        raise Problem("accepts 1 arg(s), received 0")
    return archive.restore(folders, words[0], values.get("config-out"))


def _reset(_version: str, rest: list[str]) -> int:
    values, _, folders = _parse(rest, {**HERE, **CONFIG, "cri-socket": TEXT, "kubelet-root-dir": TEXT})
    try:
        status.ask(_socket(values, folders))
    except Problem:
        pass
    else:
        raise Problem("k0s seems to be running, please stop k0s before reset")
    config = settings.load(values.get("config"))
    for step, work in (
        # It would start a runtime of its own for that, and writes its configuration also where no container ever ran.
        ("containers steps", lambda: (worker.keep_runtime_config(folders), cleanup.end_containers(folders.containerd_socket))),
        ("remove k0s users step:", lambda: cleanup.delete_users(settings.users(config))),
        ("remove directories step", lambda: (cleanup.empty(folders.data), cleanup.empty(folders.run))),
        ("CNI leftovers cleanup step", cleanup.forget_network),
    ):
        say(f"* {step}")
        work()
    say("k0s cleanup operations done.")
    say("To ensure a full reset, a node reboot is recommended.")
    return 0


def _config(_version: str, rest: list[str]) -> int:
    import yaml

    action, rest = (rest[0], rest[1:]) if rest else ("", [])
    values, _, _ = _parse(rest, {**HERE, **CONFIG})
    if action in ("create", "validate"):
        config = settings.load(values.get("config"))
        print(yaml.safe_dump(config) if action == "create" else "OK", end="\n" if action == "validate" else "")
        return 0
    raise Problem(f'unknown command "{action}" for "k0s config": create, validate')


def _version(version: str, rest: list[str]) -> int:
    values, _, _ = _parse(rest, {**HERE, "all": SWITCH, "json": SWITCH})
    told = {"k0s": full_version(version), "kubernetes": version, "etcd": run([find("etcd"), "--version"]).split()[2]}
    if values.get("json"):
        print(json.dumps(told, indent=3))
    else:
        print("\n".join(f"{name} : {text}" for name, text in told.items()) if values.get("all") else told["k0s"])
    return 0


def _help(_version: str, _rest: list[str]) -> int:
    print(HELP, end="")
    return 0


_COMMANDS = {
    "controller": _controller, "worker": _worker, "token": _token, "status": _status, "etcd": _etcd,
    "kubeconfig": _kubeconfig, "backup": _backup, "restore": _restore, "reset": _reset,
    "config": _config, "version": _version, "help": _help, "--help": _help, "-h": _help,
}


def run_main() -> None:
    try:
        sys.exit(main(sys.argv))
    except Problem as problem:
        say(f"Error: {problem}")
    except BrokenPipeError:
        pass
    sys.exit(1)
