"""`k3s agent`, and the part of a server that is one: gets a node's certificates and runs container runtime and kubelet."""

import asyncio
import json
import os
import secrets
import socket
import threading
import time
import urllib.parse

import node
from api import Api, ApiError, user_of, write_kubeconfig
from certificates import Pair, new_request
from k3s import flannel, tokens
from k3s.config import NODE_PASSWORD, Folders, pairs
from k3s.log import error, info
from programs import check_version, read_text, run as run_program, write_file
from say import Problem
from supervise import Stopped, Supervisor

RETRY = 2
BALANCER_PORT = 6444


def own_address() -> str:
    for route in json.loads(run_program(["ip", "-4", "-json", "route", "show", "default"])):
        for link in json.loads(run_program(["ip", "-4", "-json", "addr", "show", "dev", route["dev"]])):
            for address in link["addr_info"]:
                if address.get("scope") == "global":
                    return address["local"]
    raise Problem("no default routes found in \"/proc/net/route\": give --node-ip")


def run(version: str, flags: dict) -> int:
    folders = Folders(flags.get("data-dir", "/var/lib/rancher/k3s"))
    text = tokens.given(flags)
    if text is None and not os.path.exists(folders.agent("client-kubelet.crt")):
        raise Problem("--token is required")
    if not flags.get("server"):
        raise Problem("--server is required")
    check_version(version)
    supervisor = Supervisor("/run/k3s", die_with_me=True)
    try:
        start(version, {**flags, "token": text}, folders, supervisor, beside_server=False)
        supervisor.watch()
    except Stopped:
        pass
    finally:
        supervisor.stop()
    if supervisor.why:
        raise Problem(supervisor.why)
    return 0


def start(version: str, flags: dict, folders: Folders, supervisor: Supervisor, beside_server: bool) -> None:
    name = _node_name(flags)
    address = (flags.get("node-ip") or [own_address()])[0]
    url = flags["server"].rstrip("/")
    there = _again(supervisor, lambda: _reach(url, flags.get("token"), folders), f"Failed to validate connection to cluster at {url}: ")
    settings, there = _again(supervisor, lambda: _configuration(there, folders), "Waiting to retrieve agent configuration; server is not ready: ")
    _again(supervisor, lambda: _certificates(there, folders, name, address), "")
    if beside_server:
        server = url
    else:
        server = f"https://127.0.0.1:{flags.get('lb-server-port', BALANCER_PORT)}"
        balancer = Balancer(folders, urllib.parse.urlsplit(url).netloc)
        balancer.serve(int(flags.get("lb-server-port", BALANCER_PORT)))
        threading.Thread(target=balancer.keep, args=(Api(server, folders.agent("server-ca.crt"), *_kubelet_pair(folders)),), daemon=True).start()
    ca = folders.agent("server-ca.crt")
    for file, pair in (("kubelet", "client-kubelet"), ("k3scontroller", "client-k3s-controller")):
        crt, key = (folders.agent(f"{pair}.{kind}") for kind in ("crt", "key"))
        write_kubeconfig(folders.agent(f"{file}.kubeconfig"), server, ca, {"client-certificate": crt, "client-key": key})
    _start_runtime(flags, folders, supervisor)
    cni = folders.agent("etc", "cni", "net.d")
    if settings["flannelBackend"] != "none":
        reader = Api(server, ca, folders.agent("client-k3s-controller.crt"), folders.agent("client-k3s-controller.key"))
        threading.Thread(target=flannel.keep, args=(reader, name, cni), daemon=True).start()
    _start_kubelet(flags, folders, supervisor, settings, name, address)


def _kubelet_pair(folders: Folders) -> tuple[str, str]:
    return folders.agent("client-kubelet.crt"), folders.agent("client-kubelet.key")


def _node_name(flags: dict) -> str:
    name = flags.get("node-name") or socket.gethostname().lower()
    if flags.get("with-node-id"):
        path = "/etc/rancher/node/id"
        if not os.path.exists(path):
            write_file(path, secrets.token_hex(4))
        name = f"{name}-{read_text(path)}"
    return name


def _again(supervisor: Supervisor, work, before: str):
    """k3s repeats for ever, and its unit is active all that time."""
    while not supervisor.stopping:
        try:
            return work()
        except (ApiError, Problem) as failure:
            error(f"{before}{failure}")
        end = time.monotonic() + RETRY
        while time.monotonic() < end and not supervisor.stopping:
            supervisor.check()
            time.sleep(0.2)
    raise Stopped()


def _reach(url: str, text: str | None, folders: Folders) -> Api:
    ca = folders.agent("server-ca.crt")
    if text is None:
        return Api(url, ca, *_kubelet_pair(folders))
    try:
        return tokens.reach(url, tokens.parse(text, "node"), ca)
    except ApiError as failure:
        raise Problem(f"failed to get CA certs: {failure}") from None


def _configuration(there: Api, folders: Folders) -> tuple[dict, Api]:
    """With a kubelet's certificate a token that was used up matters no more."""
    try:
        return there.get("/v1-k3s/config"), there
    except ApiError as failure:
        crt, key = _kubelet_pair(folders)
        if failure.status != 401 or not os.path.exists(crt):
            raise ApiError(failure.status, f"failed to retrieve configuration from server: {failure}") from None
        by_certificate = Api(there.server, there.ca, crt, key)
        return by_certificate.get("/v1-k3s/config"), by_certificate


def _certificates(there: Api, folders: Folders, name: str, address: str) -> bool:
    if not os.path.exists(NODE_PASSWORD):
        write_file(NODE_PASSWORD, secrets.token_hex(16) + "\n")
    about = {"k3s-Node-Name": name, "k3s-Node-Password": read_text(NODE_PASSWORD).strip(), "k3s-Node-IP": address}
    for file in ("serving-kubelet", "client-kubelet", "client-k3s-controller"):
        key, request = new_request(name, [])
        signed = there.ask("POST", f"/v1-k3s/{file}.crt", request, "text/plain", about)
        pair = Pair.at(folders.agent(), file)
        write_file(pair.key, key)
        write_file(pair.crt, signed, 0o644)
    for file in ("client-ca.crt", "server-ca.crt"):
        write_file(folders.agent(file), there.ask("GET", f"/v1-k3s/{file}"), 0o644)
    return True


def _start_runtime(flags: dict, folders: Folders, supervisor: Supervisor) -> None:
    config = folders.agent("etc", "containerd", "config.toml")
    image = flags.get("pause-image", "registry.k8s.io/pause:3.10")
    node.containerd_config(config, image, folders.agent("etc", "cni", "net.d"), node.cni_programs(), folders.agent("etc", "containerd", "config.toml.d", "*.toml"))
    os.makedirs(folders.agent("etc", "cni", "net.d"), exist_ok=True)
    path = folders.containerd_socket
    supervisor.start("containerd", node.containerd(config, folders.agent("containerd"), "/run/k3s/containerd", path))
    supervisor.wait_for("an answer of containerd", lambda: node.runtime_answers(path), 60)
    info("containerd is now running")
    node.import_images(path, folders.agent("images"))


def _start_kubelet(flags: dict, folders: Folders, supervisor: Supervisor, settings: dict, name: str, address: str) -> None:
    config = node.merged(
        node.KUBELET,
        {
            "authentication": {"x509": {"clientCAFile": folders.agent("client-ca.crt")}},
            "tlsCertFile": folders.agent("serving-kubelet.crt"),
            "tlsPrivateKeyFile": folders.agent("serving-kubelet.key"),
            "containerRuntimeEndpoint": f"unix://{folders.containerd_socket}",
            "clusterDNS": [settings["clusterDNS"]],
            "clusterDomain": settings["clusterDomain"],
            "rotateCertificates": False,
        },
    )
    if not node.has_control_groups_v2():
        config["failCgroupV1"] = False
    if flags.get("node-taint"):
        config["registerWithTaints"] = node.taints(flags["node-taint"])
    given = pairs(flags.get("kubelet-arg", []))
    if "config" in given:
        import yaml

        config = node.merged(config, yaml.safe_load(read_text(given.pop("config"))) or {})
    labels = {"node-labels": ",".join(flags["node-label"])} if flags.get("node-label") else {}
    argv = node.kubelet(
        folders.agent("etc", "kubelet.conf.d", "00-k3s.yaml"), config, folders.agent("kubelet.kubeconfig"), "/var/lib/kubelet",
        {"hostname-override": name, "node-ip": address, **labels, **given},
    )
    supervisor.start("kubelet", argv)


class Balancer:
    """The agent's way to a server: any of those it knows, so that it outlives the one it joined by."""

    def __init__(self, folders: Folders, first: str):
        self.path = folders.agent("etc", "k3s-agent-load-balancer.json")
        self.first = first if ":" in first else f"{first}:6443"
        try:
            known = json.loads(read_text(self.path))["ServerAddresses"]
        except (OSError, ValueError, LookupError):
            known = []
        self.servers = [self.first, *(one for one in known if one != self.first)]

    def serve(self, port: int) -> None:
        async def main() -> None:
            server = await asyncio.start_server(self.carry, "127.0.0.1", port)
            await server.serve_forever()

        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()

    async def carry(self, reader, writer) -> None:
        from k3s.front import _first_to_end, _pump

        for address in list(self.servers):
            host, _, port = address.rpartition(":")
            try:
                there = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 3)
                break
            except (OSError, asyncio.TimeoutError):
                continue
        else:
            writer.close()
            return
        try:
            await _first_to_end(_pump(reader, there[1]), _pump(there[0], writer))
        except OSError:
            pass
        finally:
            writer.close()
            there[1].close()

    def keep(self, api: Api) -> None:
        while True:
            time.sleep(5)
            try:
                found = [f"{address}:6443" for address in api.get("/v1-k3s/apiservers")]
            except ApiError:
                continue
            if found and set(found) | {self.first} != set(self.servers):
                self.servers = [*found, *([self.first] if self.first not in found else [])]
                write_file(self.path, json.dumps({"ServerURL": f"https://{self.first}", "ServerAddresses": self.servers}))
                info(f"Updated load balancer k3s-agent-load-balancer server addresses -> {self.servers}")
