"""What is asked of k0s all the time. It loads nothing else, since each of these commands is a program of its own."""

import os
import sys

from programs import find, own_version
from say import Problem, call_me, say

DEFAULT_DATA = "/var/lib/k0s"


def full_version(version: str) -> str:
    """As k0s writes it; the last word says what this is."""
    return f"v{version}+k0s.0.stand-in"


def kubectl(version: str, rest: list[str]) -> int:
    data = DEFAULT_DATA
    if rest and rest[0].startswith("--data-dir="):
        data = rest.pop(0).partition("=")[2]
    environment = dict(os.environ)
    if any(word == "--kubeconfig" or word.startswith("--kubeconfig=") for word in rest):
        environment.pop("KUBECONFIG", None)
    elif "KUBECONFIG" not in environment:
        # Its own comes last: on a worker, too, k0s talks to a cluster by a kubeconfig that is given.
        admin = os.path.join(data, "pki/admin.conf")
        if not os.path.exists(admin):
            raise Problem(f"cannot stat k0s kubeconfig, is the server running?: stat {admin}: no such file or directory")
        environment["KUBECONFIG"] = admin
    say(f"kubectl of the real Kubernetes {version}")
    os.execve(find("kubectl"), ["kubectl", *rest], environment)


def is_quick(argv: list[str]) -> bool:
    return argv[1:2] in (["kubectl"], ["kc"]) or argv[1:] == ["version"]


def run_quick() -> None:
    call_me("k0s")
    try:
        version = own_version(sys.argv[0])
        if sys.argv[1] == "version":
            print(full_version(version))
        else:
            kubectl(version, sys.argv[2:])
    except Problem as problem:
        say(f"Error: {problem}")
        sys.exit(1)
