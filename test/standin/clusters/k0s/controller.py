"""`k0s controller`: founds a cluster or joins one, and runs its control plane."""

import base64
import os
import socket
import threading
import time

import certificates
from api import Api, ApiError, from_kubeconfig, until, user_of, write_kubeconfig
from certificates import Pair
from control_plane import KUBERNETES_NAMES, ControlPlane, first_address
from etcd import Etcd
from k0s import config as settings
from k0s import join_api, members, objects, status, tokens, worker
from k0s.config import Folders
from programs import check_version, write_file
from say import Problem, say
from supervise import Stopped, Supervisor
from tls_server import serve

# What k0s would run unless it is disabled, and this stand-in does not.
LACKING = "autopilot coredns helm konnectivity-server kube-proxy metrics-server network-provider update-prober".split()
COMPONENTS = (
    "applier-manager autopilot control-api coredns csr-approver endpoint-reconciler helm konnectivity-server "
    "kube-controller-manager kube-proxy kube-scheduler metrics-server network-provider node-role system-rbac "
    "update-prober windows-node worker-config"
).split()


def run(version: str, flags: dict, words: list[str]) -> int:
    tokens.check_single_source(words[0] if words else None, flags.get("token-file"), version)
    for name in flags.get("disable-components", []):
        if name not in COMPONENTS:
            raise Problem(f"unknown component {name}")
    works = bool(flags.get("enable-worker") or flags.get("single"))
    worker.check_machine(version, works, bool(flags.get("ignore-pre-flight-checks")))
    config = settings.load(flags.get("config"))
    check_version(version)
    folders = Folders(flags.get("data-dir", settings.DEFAULT_DATA))
    for folder in (folders.data, folders.run, folders.pki, folders.etcd_pki, folders.etcd, folders.images, folders.manifests):
        os.makedirs(folder, mode=0o755, exist_ok=True)
    os.chmod(folders.etcd, 0o700)
    supervisor = Supervisor(folders.run, die_with_me=False)
    try:
        Controller(version, flags, config, folders, supervisor).run(words[0] if words else None)
    except Stopped:
        pass
    finally:
        supervisor.stop()
    if supervisor.why:
        raise Problem(supervisor.why)
    return 0


class Controller:
    def __init__(self, version: str, flags: dict, config: dict, folders: Folders, supervisor: Supervisor):
        self.version, self.flags, self.config, self.folders, self.supervisor = version, flags, config, folders, supervisor
        self.spec = config["spec"]
        self.off = set(flags.get("disable-components", []))
        lacking = [name for name in LACKING if name not in self.off]
        if lacking:
            say(f"this stand-in does not run {', '.join(lacking)}")
        self.ca = Pair.at(folders.pki, "ca")
        self.local = f"https://localhost:{self.spec['api']['port']}"
        admin = Pair.at(folders.pki, "admin")
        self.api = Api(self.local, self.ca.crt, admin.crt, admin.key)
        etcd, pki = self.spec["storage"]["etcd"], folders.etcd_pki
        self.etcd = Etcd(
            settings.member_name(config), folders.etcd, etcd["peerAddress"], os.path.join(pki, "ca.crt"),
            Pair.at(pki, "server"), Pair.at(pki, "peer"), Pair.at(folders.pki, "apiserver-etcd-client"),
            serves_others=False, more=etcd.get("extraArgs") or {},
        )

    def run(self, token_argument: str | None) -> None:
        joiner = self.join(token_argument)
        self.make_certificates()
        initial = self.join_etcd(joiner) if joiner else None
        self.make_etcd_certificates()
        works = bool(self.flags.get("enable-worker") or self.flags.get("single"))
        status.serve(self.folders, status.of_controller(self.version, self.config, self.folders, self.flags, works))
        self.supervisor.start("etcd", self.etcd.argv(initial))
        self.supervisor.wait_for("an answer of etcd", self.etcd.is_up, 240)
        # It votes since it was added; now it and the others have a leader.
        self.supervisor.wait_for("a leader of etcd", self.etcd.votes, 240)
        self.start_control_plane()
        if "control-api" not in self.off:
            route = join_api.routes(self.folders, self.api, self.etcd)
            serve("0.0.0.0", self.spec["api"]["k0sApiPort"], Pair.at(self.folders.pki, "k0s-api"), route)
        until("this controller's objects in the cluster", self.put_objects, 120)
        threading.Thread(target=self.keep_members, daemon=True).start()
        say("controller has started")
        if works:
            worker.run_beside(self.version, self.flags, self.folders, self.supervisor, self.ca.crt, self.local)
        self.supervisor.watch()

    def join(self, argument: str | None) -> Api | None:
        """Fetches the cluster's authority unless this node is a member already; None: it is, or it founds one."""
        if self.etcd.has_data:
            return None
        text = tokens.given_to_controller(argument, self.flags.get("token-file"), self.version)
        if text is None:
            return None
        try:
            kubeconfig = tokens.unpack_for("controller", text)
        except Problem as problem:
            raise Problem(f"failed to join controller: failed to create join client: {problem}") from None
        joiner = from_kubeconfig(kubeconfig)
        say(f"joining existing cluster via {joiner.server}")
        what = f"failed to join controller: failed to join existing cluster via {joiner.server}"
        found = self.retry(what, 0.1, lambda: joiner.get("/v1beta1/ca"))
        for name, field, mode in (("ca.key", "key", 0o600), ("ca.crt", "cert", 0o644), ("sa.key", "saKey", 0o600), ("sa.pub", "saPub", 0o644)):
            write_file(os.path.join(self.folders.pki, name), base64.b64decode(found[field]), mode)
        return joiner

    def join_etcd(self, joiner: Api) -> list[str]:
        asked = {"node": self.etcd.name, "peerAddress": self.etcd.peer_url}
        what = f"failed to sync etcd config: failed to synchronize etcd config with existing cluster via {joiner.server}"
        found = self.retry(what, 1, lambda: joiner.create("/v1beta1/etcd/members", asked))
        for name, field in (("ca.key", "key"), ("ca.crt", "cert")):
            write_file(os.path.join(self.folders.etcd_pki, name), base64.b64decode(found["ca"][field]))
        return found["initialCluster"]

    def retry(self, what: str, first: float, work):
        try:
            return self.supervisor.retry(first, 60, work)
        except ApiError as error:
            # As k0s's client words it.
            why = "the server has asked for the client to provide credentials" if error.status == 401 else error
            raise Problem(f"{what}: {why}") from None

    def make_certificates(self) -> None:
        pki, spec = self.folders.pki, self.spec
        certificates.ensure_ca(self.ca, "kubernetes-ca")
        proxy = Pair.at(pki, "front-proxy-ca")
        certificates.ensure_ca(proxy, "kubernetes-front-proxy-ca")
        certificates.ensure_key_pair(os.path.join(pki, "sa.key"), os.path.join(pki, "sa.pub"))
        api = spec["api"]
        names = [
            *KUBERNETES_NAMES, f"kubernetes.default.svc.{spec['network']['clusterDomain']}", api["address"],
            *([api["externalAddress"]] if api["externalAddress"] else []), *api["sans"], settings.own_address(),
            first_address(spec["network"]["serviceCIDR"]),
        ]
        masters, manager, scheduler = "system:masters", "system:kube-controller-manager", "system:kube-scheduler"
        for name, common_name, organisation, alternatives in (
            ("admin", "kubernetes-admin", masters, ()),
            ("ccm", manager, manager, ()),
            ("scheduler", scheduler, scheduler, ()),
            ("apiserver-kubelet-client", "apiserver-kubelet-client", masters, ()),
            ("server", "kubernetes", "kubernetes", names),
            ("k0s-api", "k0s-api", "kubernetes", names),
        ):
            certificates.ensure_certificate(Pair.at(pki, name), self.ca, common_name, [organisation], alternatives)
        certificates.ensure_certificate(Pair.at(pki, "front-proxy-client"), proxy, "front-proxy-client", ["front-proxy-client"])
        for name in ("admin", "ccm", "scheduler"):
            pair = Pair.at(pki, name)
            write_kubeconfig(os.path.join(pki, f"{name}.conf"), self.local, self.ca.crt, user_of(pair.crt, pair.key))

    def make_etcd_certificates(self) -> None:
        ca = Pair.at(self.folders.etcd_pki, "ca")
        certificates.ensure_ca(ca, "etcd-ca")
        names = ["localhost", "127.0.0.1", self.etcd.address, socket.gethostname()]
        certificates.ensure_certificate(self.etcd.server, ca, "etcd-server", ["etcd-server"], names)
        certificates.ensure_certificate(self.etcd.peer, ca, self.etcd.name, ["etcd-peer"], names)
        certificates.ensure_certificate(self.etcd.client, ca, "apiserver-etcd-client", ["apiserver-etcd-client"], names)

    def start_control_plane(self) -> None:
        pki, spec = self.folders.pki, self.spec
        plane = ControlPlane(
            address=spec["api"]["address"], bind="0.0.0.0", port=spec["api"]["port"],
            etcd_ca=self.etcd.ca, etcd_client=self.etcd.client, client_ca=self.ca, server_ca=self.ca.crt,
            serving=Pair.at(pki, "server"), kubelet_client=Pair.at(pki, "apiserver-kubelet-client"),
            front_proxy_ca=os.path.join(pki, "front-proxy-ca.crt"), front_proxy_client=Pair.at(pki, "front-proxy-client"),
            service_key=os.path.join(pki, "sa.key"), service_pub=os.path.join(pki, "sa.pub"),
            service_cidr=spec["network"]["serviceCIDR"], pod_cidr=spec["network"]["podCIDR"],
            allocate=True,
            manager_kubeconfig=os.path.join(pki, "ccm.conf"), scheduler_kubeconfig=os.path.join(pki, "scheduler.conf"),
        )
        self.supervisor.start("kube-apiserver", plane.api_server(spec["api"].get("extraArgs") or {}))
        self.supervisor.wait_for("an answer of the API server", self.api.ready, 240)
        if "kube-scheduler" not in self.off:
            self.supervisor.start("kube-scheduler", plane.scheduler(spec["scheduler"].get("extraArgs") or {}))
        if "kube-controller-manager" not in self.off:
            self.supervisor.start("kube-controller-manager", plane.controller_manager(spec["controllerManager"].get("extraArgs") or {}))

    def put_objects(self) -> bool:
        network = self.spec["network"]
        dns = first_address(network["serviceCIDR"]).rsplit(".", 1)[0] + ".10"
        for thing in [*objects.rights(), *objects.profiles(self.config, self.version, dns), objects.member_definition()]:
            self.api.apply(thing)
        members.register(self.api, self.etcd)
        return True

    def keep_members(self) -> None:
        while True:
            try:
                if self.etcd.votes():
                    members.reconcile(self.api, self.etcd)
            except (ApiError, Problem) as error:
                say(f"members of etcd: {error}")
            time.sleep(3)
