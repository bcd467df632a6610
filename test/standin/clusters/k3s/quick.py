"""What is asked of k3s all the time. It loads nothing else, since each of these commands is a program of its own."""

import os
import sys

from programs import find, own_version
from say import Problem, call_me, say

KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"


def kubectl(version: str, rest: list[str]) -> None:
    say(f"kubectl of the real Kubernetes {version}")
    config = os.environ.get("KUBECONFIG") or (KUBECONFIG if os.path.exists(KUBECONFIG) else "")
    os.execve(find("kubectl"), ["kubectl", *rest], {**os.environ, **({"KUBECONFIG": config} if config else {})})


def is_quick(argv: list[str]) -> bool:
    return argv[1:2] == ["kubectl"] or argv[1:] in (["--version"], ["-v"])


def run_quick() -> None:
    call_me("k3s")
    try:
        version = own_version(sys.argv[0])
        if sys.argv[1] == "kubectl":
            kubectl(version, sys.argv[2:])
        else:
            print(f"k3s version v{version}+k3s1.stand-in (stand-in)")
    except Problem as problem:
        say(f'level=fatal msg="{problem}"')
        sys.exit(1)
