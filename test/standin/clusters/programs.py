"""The real Kubernetes, etcd and container programs, which are found in PATH."""

import json
import os
import re
import shutil
import subprocess

from say import Problem


def find(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Problem(f"no {name} in PATH={os.environ.get('PATH', '')}: this stand-in runs the real programs, put them there")
    return path


def own_version(argv0: str) -> str:
    """The version that this stand-in is called by, as in k0s-1.34.3."""
    found = re.search(r"-(\d+\.\d+\.\d+)$", os.path.basename(argv0))
    if found is None:
        raise Problem(f"{argv0} names no version: call it by a name like k0s-1.34.3")
    return found[1]


def check_version(version: str) -> None:
    """The programs in PATH must be of the version this stand-in claims to be."""
    said = run([find("kubelet"), "--version"]).strip()
    if said != f"Kubernetes v{version}":
        raise Problem(f"kubelet in PATH says {said!r}, but this is {version}: put Kubernetes {version} first in PATH")


def run(argv: list[str], timeout: float = 60, **more) -> str:
    """A program's standard output; what it says on standard error is in the Problem when it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False, **more)
    except subprocess.TimeoutExpired:
        raise Problem(f"{os.path.basename(argv[0])} did not end within {timeout} s") from None
    if done.returncode != 0:
        raise Problem(f"{os.path.basename(argv[0])} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def run_json(argv: list[str], timeout: float = 60):
    return json.loads(run(argv, timeout))


def write_file(path: str, text: str | bytes, mode: int = 0o600) -> None:
    """Whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    aside = f"{path}.new"
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(aside, mode)
    os.replace(aside, path)


def read_text(path: str) -> str:
    with open(path, encoding="utf8") as file:
        return file.read()
