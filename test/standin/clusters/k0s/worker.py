"""`k0s worker`: gets a kubelet's certificate by a join token, and runs container runtime and kubelet."""

import base64
import json
import os
import socket

import node
from api import Api, ApiError, from_kubeconfig, until, write_kubeconfig
from certificates import new_request
from k0s import config as settings
from k0s import status, tokens
from k0s.config import Folders
from k0s.objects import profile_name
from options import TEXT, parse
from programs import check_version, read_text, write_file
from say import Problem, say
from supervise import Stopped, Supervisor

RUNTIME_CONFIG = "/etc/k0s/containerd.toml"
OF_K0S = "# k0s_managed=true"
# What waits double without end, as k0s's do.
FOR_EVER = 3600


def check_machine(version: str, works: bool, ignored: bool) -> None:
    """k0s's checks before it starts, as far as they decide anything here."""
    minor = int(version.split(".")[1])
    if works and minor >= 35 and not node.has_control_groups_v2():
        say("pre-flight check: cgroup version: v1: Rejected: cgroup v1 is not supported" + (" (ignored)" if ignored else ""))
        if not ignored:
            raise Problem("pre-flight checks failed: cgroup v1 is not supported")


def run(version: str, flags: dict, words: list[str]) -> int:
    argument = words[0] if words else None
    tokens.check_single_source(argument, flags.get("token-file"), version)
    check_machine(version, True, bool(flags.get("ignore-pre-flight-checks")))
    check_version(version)
    folders = Folders(flags.get("data-dir", settings.DEFAULT_DATA))
    for folder in (folders.data, folders.run, folders.images):
        os.makedirs(folder, mode=0o755, exist_ok=True)
    if version == "1.35.1":
        # k0sproject/k0s#7202: this version reads the token at every start, whether or not it needs it.
        tokens.unpack_for("worker", tokens.given(argument, flags.get("token-file"), version))
    supervisor = Supervisor(folders.run, die_with_me=False)
    try:
        bootstrap(folders, supervisor, _node_name(flags), lambda: tokens.given(argument, flags.get("token-file"), version))
        status.serve(folders, status.of_worker(version, folders, flags, _node_name(flags)))
        start(version, flags, folders, supervisor, folders.kubelet_conf)
        supervisor.watch()
    except Stopped:
        pass
    finally:
        supervisor.stop()
    if supervisor.why:
        raise Problem(supervisor.why)
    return 0


def run_beside(version: str, flags: dict, folders: Folders, supervisor: Supervisor, ca: str, local: str) -> None:
    """The worker part of a controller: it asks the API server beside it, with the administrator's certificate."""
    admin = read_text(folders.admin_conf)
    _bootstrap_with(folders, supervisor, _node_name(flags), from_kubeconfig(admin), ca, local)
    labels = ["node.k0sproject.io/role=control-plane", *flags.get("labels", [])]
    tainted = [] if flags.get("no-taints") or flags.get("single") else ["node-role.kubernetes.io/control-plane=:NoSchedule"]
    more = {**flags, "labels": labels, "taints": [*flags.get("taints", []), *tainted]}
    start(version, more, folders, supervisor, folders.kubelet_conf)


def _node_name(flags: dict) -> str:
    given, _ = parse(flags.get("kubelet-extra-args", "").split(), _AnyFlag())
    return given.get("hostname-override") or socket.gethostname()


class _AnyFlag(dict):
    def get(self, _name, _default=None):
        return TEXT


def bootstrap(folders: Folders, supervisor: Supervisor, name: str, token) -> None:
    """Makes kubelet's kubeconfig. With one in place no token is looked at."""
    if os.path.exists(folders.kubelet_conf):
        return
    text = token()
    if not text:
        raise Problem(
            "failed to bootstrap kubelet client configuration: neither regular nor bootstrap kubeconfig files exist and "
            "no join token given; dunno how to make kubelet authenticate to API server"
        )
    try:
        kubeconfig = tokens.unpack_for("worker", text)
    except Problem as problem:
        raise Problem(f"failed to bootstrap kubelet client configuration: failed to get bootstrap kubeconfig: {problem}") from None
    client = from_kubeconfig(kubeconfig)
    _bootstrap_with(folders, supervisor, name, client, client.ca, client.server)


def _bootstrap_with(folders: Folders, supervisor: Supervisor, name: str, client: Api, ca: str, server: str) -> None:
    if os.path.exists(folders.kubelet_conf):
        return
    say("bootstrapping client configuration")
    try:
        key, certificate = supervisor.retry(1, FOR_EVER, lambda: _asked(client, name))
    except ApiError as error:
        raise Problem(f"failed to bootstrap kubelet client configuration: failed to bootstrap client configuration: {error}") from None
    current = os.path.join(folders.kubelet, "pki", "kubelet-client-current.pem")
    write_file(current, certificate + key)
    write_kubeconfig(folders.kubelet_conf, server, ca, {"client-certificate": current, "client-key": current})
    say("successfully bootstrapped client configuration")


def _asked(client: Api, name: str) -> tuple[bytes, bytes]:
    try:
        return _certificate(client, name)
    except ApiError as error:
        if error.status == 401:
            say('"Failed to connect to apiserver" err="the server has asked for the client to provide credentials"')
        raise


def _certificate(client: Api, name: str) -> tuple[bytes, bytes]:
    """(key, certificate) of a node, which the cluster's controllers approve for who may ask."""
    key, request = new_request(f"system:node:{name}", ["system:nodes"])
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    made = client.create(
        path,
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "node-csr-"},
            "spec": {
                "request": base64.b64encode(request).decode(),
                "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
                "usages": ["digital signature", "client auth"],
            },
        },
    )
    look = f"{path}/{made['metadata']['name']}"
    found = until("this node's certificate", lambda: client.get(look).get("status", {}).get("certificate"), 180)
    return key, base64.b64decode(found)


def _runtime_part(folders: Folders) -> str:
    return os.path.join(folders.run, "containerd-cri.toml")


def keep_runtime_config(folders: Folders) -> str:
    """The file that containerd is started with: k0s writes it, unless one without its mark is there."""
    if not os.path.exists(RUNTIME_CONFIG) or OF_K0S in read_text(RUNTIME_CONFIG).split("\n"):
        write_file(RUNTIME_CONFIG, f'{OF_K0S}\nimports = ["{_runtime_part(folders)}"]\nversion = 2\n', 0o644)
    return RUNTIME_CONFIG


def start(version: str, flags: dict, folders: Folders, supervisor: Supervisor, kubeconfig: str) -> None:
    client = from_kubeconfig(read_text(kubeconfig))
    name = profile_name(flags.get("profile", "default"), version)
    try:
        path = f"/api/v1/namespaces/kube-system/configmaps/{name}"
        # Without a controller that answers no worker starts.
        found = supervisor.retry(0.5, FOR_EVER, lambda: client.get(path)["data"])
    except ApiError as error:
        why = "the k0s worker node credentials are invalid, the node needs to be rejoined into the cluster with a fresh bootstrap token: "
        raise Problem(f"{why if error.status == 401 else ''}{error}") from None
    containerd_file = keep_runtime_config(folders)
    node.containerd_config(_runtime_part(folders), found["pauseImage"], "/etc/cni/net.d", node.cni_programs(), "/etc/k0s/containerd.d/*.toml")
    socket_path = folders.containerd_socket
    state = os.path.join(folders.run, "containerd")
    supervisor.start("containerd", node.containerd(containerd_file, folders.containerd, state, socket_path))
    supervisor.wait_for("an answer of containerd", lambda: node.runtime_answers(socket_path), 60)
    node.import_images(socket_path, folders.images)
    authority = os.path.join(folders.run, "kubelet", "ca.crt")
    write_file(authority, read_text(client.ca), 0o644)
    config = node.merged(
        json.loads(found["kubeletConfiguration"]),
        {"authentication": {"x509": {"clientCAFile": authority}}, "containerRuntimeEndpoint": f"unix://{socket_path}"},
    )
    if flags.get("taints"):
        config["registerWithTaints"] = node.taints(flags["taints"])
    extra, _ = parse(flags.get("kubelet-extra-args", "").split(), _AnyFlag())
    labels = {"node-labels": ",".join(flags["labels"])} if flags.get("labels") else {}
    argv = node.kubelet(
        os.path.join(folders.run, "kubelet", "config.yaml"), config, kubeconfig,
        flags.get("kubelet-root-dir", folders.kubelet), {**labels, **extra, "hostname-override": _node_name(flags)},
    )
    supervisor.start("kubelet", argv)
