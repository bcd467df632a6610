"""`k3s server`: founds a cluster with embedded etcd or joins one, and runs its control plane."""

import os
import socket
import threading
import time
import urllib.parse

import certificates
from api import Api, ApiError, until, user_of, write_kubeconfig
from certificates import Pair
from control_plane import KUBERNETES_NAMES, ControlPlane, first_address
from k3s import agent, datastore, node_passwords, passwords, tokens
from k3s.config import Folders, pairs
from k3s.quick import KUBECONFIG
from k3s.front import Front
from k3s.log import error, info, warn
from k3s.supervisor import put_shared_files
from k3s.supervisor import Supervisor as Routes
from programs import check_version, read_text, write_file
from say import Problem, say
from supervise import Stopped, Supervisor, tell_systemd

API_PORT = 6444


def run(version: str, flags: dict) -> int:
    check_version(version)
    if flags.get("datastore-endpoint"):
        raise Problem("this stand-in has embedded etcd only, no --datastore-endpoint")
    folders = Folders(flags.get("data-dir", "/var/lib/rancher/k3s"))
    address = (flags.get("advertise-address") or (flags.get("node-ip") or [None])[0]) or agent.own_address()
    if flags.get("cluster-reset"):
        shown = folders.server("token")
        # It looks for its own file, whatever file it is told of.
        if flags.get("cluster-reset-restore-path") and not flags.get("server") and not flags.get("token") and not os.path.exists(shown):
            raise Problem(f"{shown} does not exist, please pass --token to complete the restoration")
        text = tokens.given(flags) or (read_text(folders.server("token")) if os.path.exists(folders.server("token")) else None)
        if text is None:
            raise Problem("--token is required to reset a cluster whose token is not on this server")
        server, agents = tokens.parse(text, "server").secret, tokens.given(flags, "agent-token")
        datastore.reset(folders, flags, address, server)
        # As at every start: where it is not told of the agents' token, that of servers is theirs from here on.
        passwords.ensure(folders, server, passwords.of_agents(agents) if agents else server)
        return 0
    say("this stand-in does not run kube-proxy, coredns, traefik, servicelb, metrics-server, local-storage")
    supervisor = Supervisor("/run/k3s", die_with_me=True)
    try:
        Server(version, flags, folders, address, supervisor).run()
    except Stopped:
        pass
    except ApiError as failure:
        raise Problem(str(failure)) from None
    finally:
        supervisor.stop()
    if supervisor.why:
        raise Problem(supervisor.why)
    return 0


class Server:
    def __init__(self, version: str, flags: dict, folders: Folders, address: str, supervisor: Supervisor):
        self.version, self.flags, self.folders, self.address, self.supervisor = version, flags, folders, address, supervisor
        self.port = int(flags.get("https-listen-port", 6443))
        self.pods = (flags.get("cluster-cidr") or ["10.42.0.0/16"])[0]
        self.services = (flags.get("service-cidr") or ["10.43.0.0/16"])[0]
        self.name = flags.get("node-name") or socket.gethostname()
        admin = Pair.at(folders.tls(), "client-admin")
        self.api = Api(f"https://localhost:{API_PORT}", folders.tls("server-ca.crt"), admin.crt, admin.key)

    def run(self) -> None:
        text, agent_text = tokens.given(self.flags), tokens.given(self.flags, "agent-token")
        joins = self.prepare(text, agent_text)
        self.etcd = datastore.etcd_of(self.folders, self.flags, self.address)
        self.make_certificates()
        self.supervisor.on_end["etcd"] = self.etcd_ended
        datastore.start(self.supervisor, self.etcd, joins)
        own = passwords.read(self.folders)
        datastore.check_token(self.etcd, self.folders, own["server"])
        self.start_control_plane()
        datastore.keep_bootstrap_data(self.etcd, self.folders, own["server"])
        until("this server's rights in the cluster", self.put_rights, 120)
        flag = self.folders.server("db", "reset-flag")
        if os.path.exists(flag):
            os.unlink(flag)
        threading.Thread(target=self.keep, daemon=True).start()
        info("k3s is up and running")
        tell_systemd("READY=1")
        if not self.flags.get("disable-agent"):
            credential = f"node:{own['node']}"
            node_flags = {**self.flags, "server": f"https://127.0.0.1:{self.port}", "token": tokens.secure(self.folders.tls("server-ca.crt"), credential)}
            agent.start(self.version, node_flags, self.folders, self.supervisor, beside_server=True)
        self.supervisor.watch()

    def prepare(self, text: str | None, agent_text: str | None) -> str | None:
        """Sees to it that the authorities are there: made, fetched or kept. Returns the address of who is joined."""
        db = self.folders.server("db", "etcd")
        if os.path.exists(os.path.join(db, "tombstone")):
            info("etcd: tombstone file has been detected, removing data dir to rejoin the cluster")
            datastore.set_aside(self.folders)
        given = tokens.parse(text, "server") if text is not None else None
        agent_secret = passwords.of_agents(agent_text) if agent_text else None
        if os.path.exists(os.path.join(db, "member", "snap", "db")):
            server = given.secret if given else passwords.read(self.folders).get("server")
            if server is None:
                raise Problem("--token is required")
            passwords.reconcile(self.folders, self.kept_data(given, server).get("passwords"))
            # What it is given counts, whatever it had before: whether that is the cluster's the datastore says.
            self.ensure_passwords(server, agent_secret)
            return None
        url = self.flags.get("server")
        if url and not self.flags.get("cluster-init"):
            if given is None:
                raise Problem("--token is required")
            return self.fetch(url, given, agent_secret)
        if not self.flags.get("cluster-init"):
            raise Problem("this stand-in has no sqlite: a first server needs --cluster-init")
        server = given.secret if given else tokens.new_password()
        for name, title in (("server-ca", "k3s-server-ca"), ("client-ca", "k3s-client-ca"), ("request-header-ca", "k3s-request-header-ca")):
            certificates.ensure_ca(Pair.at(self.folders.tls(), name), title)
        certificates.ensure_key_pair(self.folders.tls("service.key"), self.folders.tls("service.pub"))
        self.ensure_passwords(server, agent_secret)
        return None

    def kept_data(self, given: tokens.Credential | None, server: str) -> dict:
        """What the datastore has of bootstrap data: as another server tells it, or else as this server's own copy has it."""
        url = self.flags.get("server")
        if url and given:
            try:
                return tokens.reach(url, given, self.folders.server("joined-ca.crt")).get("/v1-k3s/server-bootstrap", timeout=15)
            except (ApiError, Problem, OSError) as failure:
                warn(f"Unable to reconcile with remote datastore: {failure}")
        return datastore.read_own_copy(self.folders, server)

    def ensure_passwords(self, server: str, agent_secret: str | None) -> None:
        passwords.ensure(self.folders, server, agent_secret or server)
        passwords.show_server(self.folders, server)
        passwords.show_node(self.folders, agent_secret or server, own=agent_secret is not None)

    def fetch(self, url: str, given: tokens.Credential, agent_secret: str | None) -> str:
        ca = self.folders.server("joined-ca.crt")
        begin = "starting kubernetes: preparing server: failed to bootstrap cluster data"
        try:
            there = tokens.reach(url, given, ca)
        except (ApiError, Problem) as failure:
            raise Problem(f"{begin}: failed to check if bootstrap data has been initialized: failed to validate token: {failure}") from None
        try:
            tokens.reach(url, tokens.Credential(given.ca_hash, "node", agent_secret or given.secret), ca).get("/v1-k3s/config")
        except ApiError as failure:
            warn(f"Skipping cluster configuration validation: {failure}")
        try:
            data = there.get("/v1-k3s/server-bootstrap")
            put_shared_files(self.folders, data["files"])
            passwords.put_copy(self.folders, data["passwords"])
            members = there.get("/db/info")["members"]
        except (ApiError, Problem) as failure:
            raise Problem(f"{begin}: {failure}") from None
        self.ensure_passwords(given.secret, agent_secret)
        # The URL may be one of several servers together: where etcd is, its members say.
        hosts = [urllib.parse.urlsplit(one).hostname for each in members if not each["isLearner"] for one in each["clientURLs"]]
        asked = urllib.parse.urlsplit(url).hostname
        others = [host for host in hosts if host and host != self.address]
        if not others:
            raise Problem(f"starting kubernetes: preparing server: no member of etcd but this one is known at {url}")
        return asked if asked in others else others[0]

    def make_certificates(self) -> None:
        tls, folders = self.folders.tls(), self.folders
        client, server, proxy = (Pair.at(tls, name) for name in ("client-ca", "server-ca", "request-header-ca"))
        certificates.ensure_key_pair(folders.tls("service.key"), folders.tls("service.pub"))
        names = [
            *KUBERNETES_NAMES, f"kubernetes.default.svc.{self.flags.get('cluster-domain', 'cluster.local')}", self.address,
            self.name, first_address(self.services), *self.flags.get("tls-san", []), *self.flags.get("node-external-ip", []),
        ]
        certificates.ensure_certificate(Pair.at(tls, "serving-kube-apiserver"), server, "kube-apiserver", (), names)
        for name, common_name, organisations in (
            ("client-admin", "system:admin", ["system:masters"]),
            ("client-controller", "system:kube-controller-manager", []),
            ("client-scheduler", "system:kube-scheduler", []),
            ("client-kube-apiserver", "system:apiserver", ["system:masters"]),
        ):
            certificates.ensure_certificate(Pair.at(tls, name), client, common_name, organisations)
        certificates.ensure_certificate(Pair.at(tls, "client-auth-proxy"), proxy, "system:auth-proxy")
        ca = folders.tls("server-ca.crt")
        for name, pair in (("admin", "client-admin"), ("controller", "client-controller"), ("scheduler", "client-scheduler")):
            user = user_of(*(folders.tls(f"{pair}.{kind}") for kind in ("crt", "key")))
            write_kubeconfig(folders.server("cred", f"{name}.kubeconfig"), f"https://127.0.0.1:{API_PORT}", ca, user)
        path, user = self.flags.get("write-kubeconfig", KUBECONFIG), user_of(folders.tls("client-admin.crt"), folders.tls("client-admin.key"))
        write_kubeconfig(path, f"https://127.0.0.1:{self.port}", ca, user, name="default", user_name="default", context="default")
        os.chmod(path, int(self.flags.get("write-kubeconfig-mode", "600"), 8))
        datastore.make_certificates(folders, self.etcd)

    def start_control_plane(self) -> None:
        tls, flags = self.folders.tls, self.flags
        plane = ControlPlane(
            address=self.address, bind="127.0.0.1", port=API_PORT, etcd_ca=self.etcd.ca, etcd_client=self.etcd.client,
            client_ca=Pair.at(tls(), "client-ca"), server_ca=tls("server-ca.crt"), serving=Pair.at(tls(), "serving-kube-apiserver"),
            kubelet_client=Pair.at(tls(), "client-kube-apiserver"), front_proxy_ca=tls("request-header-ca.crt"),
            front_proxy_client=Pair.at(tls(), "client-auth-proxy"), service_key=tls("service.key"), service_pub=tls("service.pub"),
            service_cidr=self.services, pod_cidr=self.pods, allocate=True,
            manager_kubeconfig=self.folders.server("cred", "controller.kubeconfig"),
            scheduler_kubeconfig=self.folders.server("cred", "scheduler.kubeconfig"),
        )
        kubelets = {"kubelet-certificate-authority": tls("server-ca.crt"), "requestheader-allowed-names": "system:auth-proxy"}
        self.supervisor.start("kube-apiserver", plane.api_server({**kubelets, **pairs(flags.get("kube-apiserver-arg", []))}))
        self.supervisor.wait_for("an answer of the API server", self.api.ready, 240)
        settings = {"version": self.version, "standIn": True, "clusterCIDR": self.pods, "serviceCIDR": self.services,
                    "clusterDNS": (flags.get("cluster-dns") or [first_address(self.services).rsplit(".", 1)[0] + ".10"])[0],
                    "clusterDomain": flags.get("cluster-domain", "cluster.local"), "flannelBackend": flags.get("flannel-backend", "vxlan")}
        self.routes = Routes(
            self.folders, self.api, settings, self.rotate,
            lambda token: datastore.read_for_joiner(self.etcd, self.folders, token), self.etcd.members,
            lambda name, folder: datastore.save(self.folders, self.etcd, name, self.name, folder),
        )
        front = Front(self.routes, Pair.at(tls(), "serving-kube-apiserver"), tls("client-ca.crt"), tls("server-ca.crt"), Pair.at(tls(), "client-auth-proxy"), API_PORT)
        front.serve(flags.get("bind-address", "0.0.0.0"), self.port)
        if not flags.get("disable-scheduler"):
            self.supervisor.start("kube-scheduler", plane.scheduler(pairs(flags.get("kube-scheduler-arg", []))))
        self.supervisor.start("kube-controller-manager", plane.controller_manager(pairs(flags.get("kube-controller-manager-arg", []))))

    def put_rights(self) -> bool:
        rbac = "rbac.authorization.k8s.io"
        name = {"name": "system:k3s-controller"}
        rules = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}]
        subject = {"apiGroup": rbac, "kind": "User", "name": name["name"]}
        role = {"apiGroup": rbac, "kind": "ClusterRole", "name": name["name"]}
        self.api.apply({"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": name, "rules": rules})
        self.api.apply({"apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": name, "roleRef": role, "subjects": [subject]})
        return True

    def rotate(self, new: str) -> None:
        """
        Puts the datastore under another server token. Whoever starts needs it from then on; this server, too, takes the old one until
        it is started anew. Agents' is changed where it is the same and was not given.
        """
        kept = passwords.read(self.folders)
        if "server" not in kept:
            raise Problem("server token not found")
        shared = kept["node"] == kept["server"] and tokens.given(self.flags, "agent-token") is None
        passwords.ensure(self.folders, new, new if shared else kept["node"])
        passwords.show_server(self.folders, new)
        datastore.rotate_token(self.etcd, self.folders, kept["server"], new)

    def keep(self) -> None:
        while True:
            time.sleep(3)
            try:
                datastore.see_keys(self.etcd, self.folders)
                self.etcd.promote_learners()
                nodes = {node["metadata"]["name"]: node for node in self.api.get("/api/v1/nodes")["items"]}
                self.mark_own(nodes.get(self.name))
                self.remove_asked(nodes)
                node_passwords.tidy(self.api, nodes)
            except (ApiError, Problem) as failure:
                say(f"controllers: {failure}")

    def mark_own(self, node: dict | None) -> None:
        wanted = {f"node-role.kubernetes.io/{role}": "true" for role in ("control-plane", "etcd")}
        notes = {"etcd.k3s.cattle.io/node-name": self.etcd.name, "etcd.k3s.cattle.io/node-address": self.address}
        if node is None:
            return
        has = node["metadata"]
        if not (wanted.items() <= has.get("labels", {}).items() and notes.items() <= has.get("annotations", {}).items()):
            self.api.merge(f"/api/v1/nodes/{self.name}", {"metadata": {"labels": wanted, "annotations": notes}})

    def remove_asked(self, nodes: dict) -> None:
        """Takes out of etcd whose node is annotated so, and notes that it was."""
        start = "etcd.k3s.cattle.io"
        for name, node in nodes.items():
            notes = node["metadata"].get("annotations", {})
            member_name = notes.get(f"{start}/node-name")
            if notes.get(f"{start}/remove") != "true" or not member_name or notes.get(f"{start}/removed-node-name") == member_name:
                continue
            # The note first: once its own member is gone, a server can write nothing any more.
            member = next((one for one in self.etcd.members() if one.name == member_name), None)
            self.api.merge(f"/api/v1/nodes/{name}", {"metadata": {"annotations": {f"{start}/removed-node-name": member_name}}})
            if member:
                self.etcd.remove(member.id)

    def etcd_ended(self, code: int) -> bool:
        """A member that the others took out ends by itself and without complaint; it comes back as a new one."""
        if code != 0 or self.supervisor.stopping:
            return False
        write_file(self.folders.server("db", "etcd", "tombstone"), "")
        error("this server has been removed from the etcd cluster")
        self.supervisor.ask_to_stop("etcd: this server has been removed from the cluster")
        return True
