"""The commands of k3s that this stand-in keeps."""

import datetime
import glob
import json
import os
import shutil
import sys
import time

import bootstrap_tokens
import options
from api import ApiError, from_kubeconfig
from certificates import load
from k3s import agent, datastore, server, tokens
from k3s import config as settings
from k3s.config import Folders
from k3s.quick import KUBECONFIG
from k3s.log import info
from options import LIST, SWITCH, TEXT
from programs import find, own_version, read_text, run
from say import Problem, call_me, say

HELP = """NAME: k3s - Kubernetes, but small and simple

A stand-in for k3s over the real Kubernetes and etcd programs. It knows:
  server, agent, token create|list|delete|generate|rotate, etcd-snapshot save|ls|delete|prune, certificate check|rotate,
  kubectl, crictl and ctr where they are in PATH
"""
SNAPSHOT = {
    **settings.SERVER, "name": TEXT, "dir": TEXT, "snapshot-compress": SWITCH, "snapshot-retention": TEXT, "output": TEXT,
    "etcd-server": TEXT, "etcd-token": TEXT,
}


def main(argv: list[str]) -> int:
    call_me("k3s")
    version = own_version(argv[0])
    command, rest = (argv[1], argv[2:]) if len(argv) > 1 else ("help", [])
    if command not in _COMMANDS:
        raise Problem(f"No help topic for '{command}'")
    return _COMMANDS[command](version, rest)


def _server(version: str, rest: list[str]) -> int:
    return server.run(version, settings.read(rest, settings.SERVER))


def _agent(version: str, rest: list[str]) -> int:
    return agent.run(version, settings.read(rest, settings.AGENT))


def _token(_version: str, rest: list[str]) -> int:
    action, rest = (rest[0], rest[1:]) if rest else ("", [])
    flags = {
        "kubeconfig": TEXT, "data-dir": TEXT, "ttl": TEXT, "description": TEXT, "groups": LIST, "usages": LIST, "output": TEXT,
        "token": TEXT, "new-token": TEXT, "server": TEXT,
    }
    given, words = options.parse(rest, flags, settings.SHORT, settings.UNKNOWN)
    if action == "generate":
        print(bootstrap_tokens.make(0, "", ()).text)
        return 0
    folders = Folders(given.get("data-dir", settings.DEFAULT_DATA))
    if action == "rotate":
        return _rotate_token(folders, given)
    path = given.get("kubeconfig") or os.environ.get("KUBECONFIG") or KUBECONFIG
    if action in ("create", "list", "delete"):
        try:
            api = from_kubeconfig(read_text(path))
        except FileNotFoundError:
            raise Problem(f"stat {path}: no such file or directory") from None
    if action == "create":
        seconds = options.seconds(given.get("ttl", "24h"))
        usages = [f"bootstrap-{usage}" for usage in given.get("usages", ["signing", "authentication"])]
        groups = given.get("groups", ["system:bootstrappers:k3s:default-node-token"])
        if words and not bootstrap_tokens.FORM.match(words[0]):
            raise Problem(f'the bootstrap token "{words[0]}" was not of the form "\\A([a-z0-9]{{6}})\\.([a-z0-9]{{16}})\\z"')
        token = bootstrap_tokens.make(seconds, given.get("description", ""), usages, groups, words[0] if words else None)
        bootstrap_tokens.store(api, token)
        print(tokens.secure(api.ca, token.text))
        return 0
    if action == "list":
        _print_tokens(bootstrap_tokens.listed(api), given.get("output"))
        return 0
    if action == "delete":
        if not words:
            raise Problem("missing argument; 'token delete' is missing token")
        for word in words:
            token_id = word.partition(".")[0]
            if len(token_id) != 6:
                raise Problem('given token didn\'t match pattern "\\A([a-z0-9]{6})\\z" or "\\A([a-z0-9]{6})\\z"')
            if not bootstrap_tokens.remove(api, token_id):
                raise Problem(f'failed to delete bootstrap token "secrets \\"bootstrap-token-{token_id}\\" not found"')
            print(f'bootstrap token "{token_id}" deleted')
        return 0
    raise Problem(f"No help topic for '{action}'")


def _print_tokens(found: list, output: str | None) -> None:
    usages = lambda token: [usage.removeprefix("bootstrap-") for usage in token.usages]
    if output == "json":
        rows = [
            {
                # k3s leaves both its id and its secret out of this form.
                "token": {},
                **({"description": token.description} if token.description else {}),
                **({"expires": token.expires_text} if token.expires else {}),
                "usages": usages(token),
                "groups": list(token.groups),
            }
            for token in found
        ]
        print(json.dumps(rows))
        return
    rows = [("TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS")]
    for token in found:
        left = int((token.expires - bootstrap_tokens.now()).total_seconds()) if token.expires else None
        ttl = "<forever>" if left is None else f"{left // 60}m" if left >= 120 else f"{left}s"
        texts = (",".join(usages(token)), token.description, ",".join(token.groups))
        rows.append((token.id, ttl, token.expires_text or "<never>", *(text or "<none>" for text in texts)))
    for row in rows:
        print("   ".join(text.ljust(max(len(r[i]) for r in rows)) for i, text in enumerate(row)).rstrip())


def _rotate_token(folders: Folders, given: dict) -> int:
    print("WARNING: Recommended to keep a record of the old token. If restoring from a snapshot, you must use the token associated with that snapshot.")
    text = given.get("token") or read_text(folders.server("token"))
    url = given.get("server", "https://127.0.0.1:6443")
    new = given.get("new-token") or tokens.new_password()
    try:
        api = tokens.reach(url, tokens.parse(text, "server"), "/run/k3s/rotate-ca.crt")
        api.ask("PUT", "/v1-k3s/token", {"newToken": tokens.parse(new, "server").secret})
    except ApiError as error:
        raise Problem(str(error)) from None
    print("Token rotated, restart k3s nodes with new token")
    return 0


def _snapshot(_version: str, rest: list[str]) -> int:
    known = ("save", "ls", "list", "l", "delete", "prune")
    action, rest = (rest[0], rest[1:]) if rest and rest[0] in known else ("save", rest)
    given, words = options.parse(rest, SNAPSHOT, settings.SHORT, settings.UNKNOWN)
    folders = Folders(given.get("data-dir", settings.DEFAULT_DATA))
    if action == "save":
        _save_snapshot(folders, given)
        return 0
    files = datastore.snapshots(folders, given)
    if action == "delete":
        if not words:
            raise Problem("no snapshots given for removal")
        for word in words:
            if word not in map(os.path.basename, files):
                raise Problem(f"snapshot {word} not found")
            os.unlink(os.path.join(datastore.snapshot_folder(folders, given), word))
            info(f"Snapshot {word} deleted.")
        return 0
    if action == "prune":
        keep = int(given.get("snapshot-retention", 5))
        for path in sorted(files, key=os.path.getmtime)[: max(0, len(files) - keep)]:
            os.unlink(path)
            info(f"Snapshot {os.path.basename(path)} deleted.")
        return 0
    _print_snapshots(files, given.get("output"))
    return 0


def _save_snapshot(folders: Folders, given: dict) -> None:
    """The running server is asked for it, by the token that it has written down; what that takes it says itself."""
    shown = folders.server("token")
    if not given.get("etcd-token") and not os.path.exists(shown):
        raise Problem(f"open {shown}: no such file or directory")
    credential = tokens.parse(given.get("etcd-token") or read_text(shown), "server")
    asked = {"operation": "save", "name": [given.get("name") or "on-demand"]}
    folder = given.get("dir") or given.get("etcd-snapshot-dir")
    if folder:
        asked["dir"] = folder
    try:
        there = tokens.reach(given.get("etcd-server", "https://127.0.0.1:6443"), credential, "/run/k3s/snapshot-ca.crt")
        made = json.loads(there.ask("POST", "/db/snapshot", asked, timeout=120))
    except ApiError as failure:
        raise Problem(f"see server log for details: {failure}") from None
    for name in made["created"]:
        info(f"Snapshot {name} saved.")


def _print_snapshots(files: list[str], output: str | None) -> None:
    when = lambda path: datetime.datetime.utcfromtimestamp(os.path.getmtime(path)).strftime("%Y-%m-%dT%H:%M:%SZ")
    if output == "json":
        items = [
            {
                "metadata": {"name": f"local-{os.path.basename(path)}"},
                "spec": {"snapshotName": os.path.basename(path), "location": f"file://{path}", "nodeName": os.uname().nodename},
                "status": {"size": str(os.path.getsize(path)), "creationTime": when(path), "readyToUse": True},
            }
            for path in files
        ]
        print(json.dumps({"kind": "ETCDSnapshotFileList", "apiVersion": "k3s.cattle.io/v1", "metadata": {}, "items": items}))
        return
    rows = [("Name", "Location", "Size", "Created"), *((os.path.basename(p), f"file://{p}", str(os.path.getsize(p)), when(p)) for p in files)]
    for row in rows:
        print(" ".join(text.ljust(max(len(r[i]) for r in rows)) for i, text in enumerate(row)).rstrip())


def _certificate_files(folders: Folders) -> list[str]:
    patterns = (folders.tls("*.crt"), folders.tls("etcd", "*.crt"), folders.agent("*.crt"))
    return sorted(path for pattern in patterns for path in glob.glob(pattern))


def _certificate(_version: str, rest: list[str]) -> int:
    action, rest = (rest[0], rest[1:]) if rest else ("", [])
    given, _ = options.parse(rest, {"data-dir": TEXT, "output": TEXT, "service": LIST, "config": TEXT}, settings.SHORT, settings.UNKNOWN)
    folders = Folders(given.get("data-dir", settings.DEFAULT_DATA))
    files = _certificate_files(folders)
    if action == "check":
        rows = [_about(path) for path in files]
        output = given.get("output", "text")
        if output == "json":
            print(json.dumps({"Certificates": rows}))
        elif output in ("text", "table"):
            for row in rows:
                info(f"{row['Filename']}: certificate {row['Subject']} ({','.join(row['Usages'])}) is {row['Status']}, expires at {row['ExpiryTime']}")
        else:
            raise Problem(f"invalid output format {output}")
        return 0
    if action == "rotate":
        base = folders.server() if os.path.isdir(folders.tls()) else folders.agent()
        backup = os.path.join(base, f"tls-{int(time.time())}")
        os.makedirs(backup, mode=0o700)
        # The authorities stay: they are another command's.
        for path in (path for path in files if not path.endswith("-ca.crt")):
            shutil.copy2(path, backup)
            os.unlink(path)
        info(f"Successfully backed up certificates to {backup}, please restart k3s server or agent to rotate certificates")
        return 0
    raise Problem(f"No help topic for '{action}'")


def _about(path: str) -> dict:
    certificate = load(path)
    now = datetime.datetime.utcnow()
    left = certificate.not_valid_after - now
    status = "EXPIRED" if left.total_seconds() < 0 else "WARNING" if left.days < 120 else "OK"
    name = lambda one: next((part.value for part in one if part.oid.dotted_string == "2.5.4.3"), "")
    return {
        "Filename": os.path.basename(path),
        "Subject": name(certificate.subject),
        "Issuer": name(certificate.issuer),
        "Usages": ["CertSign"] if path.endswith("-ca.crt") else ["ServerAuth", "ClientAuth"],
        "ExpiryTime": certificate.not_valid_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ResidualTime": int(left.total_seconds() * 1e9),
        "Status": status,
    }


def _ctr(_version: str, rest: list[str]) -> int:
    program = find("ctr")
    os.execv(program, ["ctr", "--address", Folders("").containerd_socket, *rest])


def _help(_version: str, _rest: list[str]) -> int:
    print(HELP, end="")
    return 0


_COMMANDS = {
    "server": _server, "agent": _agent, "token": _token, "etcd-snapshot": _snapshot, "certificate": _certificate,
    "ctr": _ctr, "help": _help, "--help": _help, "-h": _help,
}


def run_main() -> None:
    try:
        sys.exit(main(sys.argv))
    except (Problem, ApiError) as problem:
        say(f'level=fatal msg="{problem}"')
    except BrokenPipeError:
        pass
    sys.exit(1)
