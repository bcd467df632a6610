"""`k0s backup` and `k0s restore`."""

import datetime
import os
import shutil
import sys
import tarfile
import tempfile

import yaml

from certificates import Pair
from etcd import Etcd
from k0s import config as settings
from k0s import status
from k0s.config import Folders
from programs import write_file
from say import Problem, say

SNAPSHOT, CONFIG = "etcd-snapshot.db", "k0s.yaml"


def etcd_of(config: dict, folders: Folders) -> Etcd:
    etcd, pki = config["spec"]["storage"]["etcd"], folders.etcd_pki
    pairs = (Pair.at(pki, "server"), Pair.at(pki, "peer"), Pair.at(folders.pki, "apiserver-etcd-client"))
    return Etcd(
        settings.member_name(config), folders.etcd, etcd["peerAddress"], os.path.join(pki, "ca.crt"), *pairs,
        serves_others=False, more={},
    )


def backup(folders: Folders, save_path: str) -> int:
    if save_path != "-" and not os.path.isdir(save_path):
        raise Problem(f"the save-path directory ({save_path}) does not exist")
    if not os.path.isdir(folders.data):
        raise Problem(f"cannot find data-dir ({folders.data}). check your environment and/or command input and try again")
    try:
        running = status.ask(folders.socket)
    except Problem as problem:
        raise Problem(f"unable to detect cluster status {problem}") from None
    if running["Role"] != "controller":
        raise Problem(f"backup command must be run on the controller node, have `{running['Role']}`")
    # Not with what it was started: with what lies at the usual place.
    config = settings.load(None)
    with tempfile.TemporaryDirectory(prefix="k0s-backup") as scratch:
        snapshot = os.path.join(scratch, SNAPSHOT)
        etcd_of(config, folders).save_snapshot(snapshot)
        kept = os.path.join(scratch, CONFIG)
        try:
            shutil.copyfile(settings.DEFAULT_FILE, kept)
        except OSError as error:
            raise Problem(f"failed to create archive: failed to open file: {error}") from None
        archive = os.path.join(scratch, "archive.tar.gz")
        with tarfile.open(archive, "w:gz") as tar:
            for path, name in ((snapshot, SNAPSHOT), (kept, CONFIG), (folders.pki, "pki"), (folders.manifests, "manifests"), (folders.images, "images")):
                if os.path.exists(path):
                    tar.add(path, name)
        if save_path == "-":
            with open(archive, "rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            return 0
        stamp = datetime.datetime.utcnow().strftime("%Y-%m-%dT%H_%M_%S_000Z")
        target = os.path.join(save_path, f"k0s_backup_{stamp}.tar.gz")
        shutil.copyfile(archive, target)
        os.chmod(target, 0o600)
    say(f"archive {target} created successfully")
    return 0


def restore(folders: Folders, path: str, config_out: str | None) -> int:
    try:
        status.ask(folders.socket)
    except Problem:
        pass
    else:
        raise Problem("k0s seems to be running! k0s must be down during the restore operation.")
    if path != "-" and not os.path.exists(path):
        raise Problem(f"given file {path} does not exist")
    os.makedirs(folders.data, mode=0o755, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="k0s-restore") as scratch:
        try:
            source = sys.stdin.buffer if path == "-" else open(path, "rb")
            with source, tarfile.open(fileobj=source, mode="r|gz") as tar:
                tar.extractall(scratch, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(scratch)
            with open(os.path.join(scratch, CONFIG), encoding="utf8") as file:
                config = settings.load(file.name)
        except (OSError, tarfile.TarError, EOFError, yaml.YAMLError) as error:
            raise Problem(f"failed to unpack backup archive `{path}`: {error}") from None
        if os.path.isdir(folders.etcd):
            if os.listdir(folders.etcd):
                raise Problem(f'failed to restore on step `etcd`: data-dir "{folders.etcd}" not empty or could not be read')
            os.rmdir(folders.etcd)
        # At the address that the archive says, whatever this machine has.
        etcd_of(config, folders).restore_snapshot(os.path.join(scratch, SNAPSHOT))
        # Over what is there, without a word.
        for name in ("pki", "manifests", "images"):
            if os.path.isdir(os.path.join(scratch, name)):
                shutil.copytree(os.path.join(scratch, name), os.path.join(folders.data, name), dirs_exist_ok=True)
        stamp = os.path.basename(path).split(".")[0].removeprefix("k0s_backup_")
        shutil.copyfile(os.path.join(scratch, CONFIG), config_out or f"k0s_{stamp}.yaml")
    say("restored; start this controller, then join the others anew")
    return 0
