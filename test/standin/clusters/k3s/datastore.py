"""A k3s server's etcd: its files, the authorities kept in it under the token's lock, snapshots, and its reset."""

import base64
import glob
import gzip
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time

from certificates import Pair, ensure_ca, ensure_certificate
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from etcd import Etcd
from k3s import passwords
from k3s.config import Folders, pairs
from k3s.log import info, warn
from k3s.supervisor import put_shared_files, shared_files
from programs import find, read_text, run, write_file
from say import Problem
from supervise import Supervisor

DIFFERENT_TOKEN = "bootstrap data already found and encrypted with different token"


def member_name(folders: Folders) -> str:
    """This server's name in etcd, which it keeps as long as its data."""
    path = folders.server("db", "etcd", "name")
    if not os.path.exists(path):
        write_file(path, f"{socket.gethostname()}-{secrets.token_hex(4)}")
    return read_text(path)


def etcd_of(folders: Folders, flags: dict, address: str) -> Etcd:
    tls = folders.tls("etcd")
    return Etcd(
        member_name(folders), folders.server("db", "etcd"), address, folders.tls("etcd", "server-ca.crt"),
        Pair.at(tls, "server-client"), Pair.at(tls, "peer-server-client"), Pair.at(tls, "client"),
        serves_others=True, more=pairs(flags.get("etcd-arg", [])), peer_ca=folders.tls("etcd", "peer-ca.crt"),
    )


def make_certificates(folders: Folders, etcd: Etcd) -> None:
    server, peer = Pair.at(folders.tls("etcd"), "server-ca"), Pair.at(folders.tls("etcd"), "peer-ca")
    ensure_ca(server, "etcd-server-ca")
    ensure_ca(peer, "etcd-peer-ca")
    names = ["localhost", "127.0.0.1", etcd.address, socket.gethostname()]
    ensure_certificate(etcd.server, server, "etcd-server", (), names)
    ensure_certificate(etcd.peer, peer, "etcd-peer", (), names)
    ensure_certificate(etcd.client, server, "etcd-client")


def _lock(token: str, salt: bytes) -> AESGCM:
    return AESGCM(hashlib.pbkdf2_hmac("sha256", token.encode(), salt, 4096, 32))


def _key_of(token: str) -> str:
    return "/bootstrap/" + hashlib.sha256(token.encode()).hexdigest()[:12]


def bootstrap_data(folders: Folders) -> dict:
    """What a server needs that joins, or comes back to a snapshot, as it lies here."""
    return {"files": shared_files(folders), "passwords": passwords.copy_of(folders)}


def keep_bootstrap_data(etcd: Etcd, folders: Folders, token: str) -> None:
    """Puts it into the datastore where it is not: a snapshot and the token are then all that a new server needs."""
    if _key_of(token) not in _kept(etcd):
        _put(etcd, token, bootstrap_data(folders))


def rotate_token(etcd: Etcd, folders: Folders, old: str, new: str) -> None:
    """
    Encrypts anew what is there, takes the old one away, and then writes what lies here over it. The new one is there before the old one
    goes, so that a server that is killed in between starts again.
    """
    kept = _kept(etcd)
    if _key_of(old) in kept and old != new:
        _put(etcd, new, _read(kept, old))
        etcd.ctl("del", _key_of(old))
    elif _key_of(new) not in kept:
        raise Problem(DIFFERENT_TOKEN)
    _put(etcd, new, bootstrap_data(folders))


def check_token(etcd: Etcd, folders: Folders, token: str) -> None:
    """A server that starts with another token than the cluster's keys are encrypted with ends."""
    kept = _kept(etcd)
    write_file(_seen(folders), json.dumps(kept))
    _judge(kept, token)


def read_own_copy(folders: Folders, token: str) -> dict:
    """The same by this server's own copy of the datastore, before its etcd serves anybody; that may lag behind. What it has."""
    kept = json.loads(read_text(_seen(folders))) if os.path.exists(_seen(folders)) else {}
    _judge(kept, token)
    return _read(kept, token) if kept else {}


def read_for_joiner(etcd: Etcd, folders: Folders, token: str) -> dict:
    """What a server is told that shows this token: by the datastore, or, where that is under another one, by this server's disk."""
    try:
        return _read(_kept(etcd), token)
    except Problem as problem:
        warn(f"Failed to retrieve HTTP bootstrap data from datastore; falling back to disk: {problem}")
        return bootstrap_data(folders)


def _judge(kept: dict, token: str) -> None:
    if kept and _key_of(token) not in kept:
        raise Problem(f"starting kubernetes: preparing server: failed to bootstrap cluster data: {DIFFERENT_TOKEN}")


def _seen(folders: Folders) -> str:
    return folders.server("db", "etcd", "seen-bootstrap-keys")


def see_keys(etcd: Etcd, folders: Folders) -> None:
    """What a copy of the datastore has of it."""
    _note(folders, _kept(etcd))


def _note(folders: Folders, keys: dict) -> None:
    kept = json.dumps(keys)
    if not os.path.exists(_seen(folders)) or read_text(_seen(folders)) != kept:
        write_file(_seen(folders), kept)


def _put(etcd: Etcd, token: str, data: dict) -> None:
    salt, nonce = secrets.token_bytes(8), secrets.token_bytes(12)
    packed = gzip.compress(json.dumps(data).encode())
    text = ":".join(base64.b64encode(part).decode() for part in (salt, nonce, _lock(token, salt).encrypt(nonce, packed, None)))
    run([*etcd.command(), "put", _key_of(token)], 30, input=text)


def _kept(etcd: Etcd) -> dict:
    found = etcd.ctl("get", "/bootstrap/", "--prefix").get("kvs", [])
    return {base64.b64decode(one["key"]).decode(): base64.b64decode(one["value"]).decode() for one in found}


def _read(kept: dict, token: str) -> dict:
    text = kept.get(_key_of(token))
    if text is None:
        raise Problem(DIFFERENT_TOKEN if kept else "no bootstrap data in this datastore")
    salt, nonce, sealed = (base64.b64decode(part) for part in text.split(":"))
    try:
        return json.loads(gzip.decompress(_lock(token, salt).decrypt(nonce, sealed, None)))
    except InvalidTag:
        raise Problem(DIFFERENT_TOKEN) from None


def set_aside(folders: Folders) -> None:
    path = folders.server("db", "etcd")
    if os.path.isdir(path):
        os.rename(path, f"{path}-old-{int(time.time())}")


def reset(folders: Folders, flags: dict, address: str, token: str) -> None:
    """Makes this server the only member, of its own data or of a snapshot's."""
    if flags.get("server"):
        raise Problem("cannot perform cluster-reset while server URL is set - remove server from configuration before resetting")
    flag = folders.server("db", "reset-flag")
    if os.path.exists(flag):
        raise Problem(
            "Managed etcd cluster membership was previously reset, please remove the cluster-reset flag and start k3s "
            f"normally. If you need to perform another cluster reset, you must first manually delete the {flag} file"
        )
    snapshot = flags.get("cluster-reset-restore-path")
    if snapshot:
        if not os.path.exists(snapshot):
            raise Problem(f"etcd: snapshot path does not exist: {snapshot}")
        set_aside(folders)
    etcd = etcd_of(folders, flags, address)
    if not snapshot and not etcd.has_data:
        raise Problem(f"etcd database not found in {etcd.data}: there is nothing to reset")
    make_certificates(folders, etcd)
    if snapshot:
        name = read_text(os.path.join(etcd.data, "name"))
        shutil.rmtree(etcd.data)
        etcd.restore_snapshot(snapshot)
        write_file(os.path.join(etcd.data, "name"), name)
    child = subprocess.Popen([find("setpriv"), "--pdeathsig", "KILL", *etcd.argv(force_new=not snapshot)])
    try:
        end = time.monotonic() + 60
        while not etcd.votes():
            if time.monotonic() > end or child.poll() is not None:
                raise Problem("etcd did not come up after its reset")
            time.sleep(0.3)
        kept = _kept(etcd)
        data = _read(kept, token)
        # On another machine etcd is asked no more from here on: it runs with certificates of the authority that was made for this reset.
        put_shared_files(folders, data["files"])
        passwords.put_copy(folders, data["passwords"])
        # The next start compares with what the datastore has now.
        _note(folders, kept)
    finally:
        child.terminate()
        child.wait()
    write_file(flag, "")
    info(
        "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. Backup and delete "
        "${datadir}/server/db on each peer etcd server and rejoin the nodes"
    )


def snapshot_folder(folders: Folders, flags: dict) -> str:
    return flags.get("etcd-snapshot-dir") or flags.get("dir") or folders.server("db", "snapshots")


def save(folders: Folders, etcd: Etcd, name: str, node: str, folder: str | None) -> str:
    """Called by the server that runs, whom the command asks. The name that the snapshot has."""
    where = folder or snapshot_folder(folders, {})
    os.makedirs(where, mode=0o700, exist_ok=True)
    full = f"{name}-{node}-{int(time.time())}"
    path = os.path.join(where, full)
    etcd.save_snapshot(path)
    os.chmod(path, 0o600)
    return full


def snapshots(folders: Folders, flags: dict) -> list[str]:
    return sorted(glob.glob(os.path.join(snapshot_folder(folders, flags), "*-*")))


def start(supervisor: Supervisor, etcd: Etcd, joins: str | None) -> None:
    """`joins`: address of a server whose etcd this one joins, as a learner that the others promote."""
    initial = None
    if joins and not etcd.has_data:
        from api import until

        there = f"https://{joins}:2379"
        initial = until("a place in etcd", lambda: etcd.add_learner(etcd.name, etcd.peer_url, there), 180, 3)
    supervisor.start("etcd", etcd.argv(initial))
    supervisor.wait_for("an answer of etcd", etcd.is_up, 240)
    # A quorum may be long in coming: its unit is activating all that time.
    supervisor.wait_for("this member's vote in etcd", etcd.votes, 24 * 3600)
