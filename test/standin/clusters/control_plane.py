"""Command lines of the real control plane's programs."""

from dataclasses import dataclass

from certificates import Pair
from options import as_flags
from programs import find


@dataclass(frozen=True)
class ControlPlane:
    """Where a server's files are, whatever its distribution calls them."""

    address: str
    bind: str
    port: int
    etcd_ca: str
    etcd_client: Pair
    # Signs and checks clients' certificates.
    client_ca: Pair
    # Signed the API's own certificate.
    server_ca: str
    serving: Pair
    kubelet_client: Pair
    front_proxy_ca: str
    front_proxy_client: Pair
    service_key: str
    service_pub: str
    service_cidr: str
    pod_cidr: str
    # Whether nodes are given a part of `pod_cidr`.
    allocate: bool
    manager_kubeconfig: str
    scheduler_kubeconfig: str

    def api_server(self, more: dict) -> list[str]:
        flags = {
            "advertise-address": self.address,
            "bind-address": self.bind,
            "secure-port": str(self.port),
            "authorization-mode": "Node,RBAC",
            # As k3s and k0s have it: whoever does not say who they are hears 401, also from /readyz.
            "anonymous-auth": "false",
            "enable-admission-plugins": "NodeRestriction",
            "enable-bootstrap-token-auth": "true",
            "allow-privileged": "true",
            "etcd-servers": "https://127.0.0.1:2379",
            "etcd-cafile": self.etcd_ca,
            "etcd-certfile": self.etcd_client.crt,
            "etcd-keyfile": self.etcd_client.key,
            "client-ca-file": self.client_ca.crt,
            "tls-cert-file": self.serving.crt,
            "tls-private-key-file": self.serving.key,
            "kubelet-client-certificate": self.kubelet_client.crt,
            "kubelet-client-key": self.kubelet_client.key,
            "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": self.service_pub,
            "service-account-signing-key-file": self.service_key,
            "service-cluster-ip-range": self.service_cidr,
            "proxy-client-cert-file": self.front_proxy_client.crt,
            "proxy-client-key-file": self.front_proxy_client.key,
            "requestheader-client-ca-file": self.front_proxy_ca,
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            **more,
        }
        # A file may say who asks without a name, and the program takes one of the two only.
        if "authentication-config" in more and "anonymous-auth" not in more:
            del flags["anonymous-auth"]
        return [find("kube-apiserver"), *as_flags(flags)]

    def controller_manager(self, more: dict) -> list[str]:
        flags = {
            "kubeconfig": self.manager_kubeconfig,
            "authentication-kubeconfig": self.manager_kubeconfig,
            "authorization-kubeconfig": self.manager_kubeconfig,
            "bind-address": "127.0.0.1",
            "leader-elect": "true",
            # A stand-in's cluster is small and its machine busy: a slow disk must not cost the lead.
            "leader-elect-lease-duration": "60s",
            "leader-elect-renew-deadline": "45s",
            "use-service-account-credentials": "true",
            "root-ca-file": self.server_ca,
            "service-account-private-key-file": self.service_key,
            "cluster-signing-cert-file": self.client_ca.crt,
            "cluster-signing-key-file": self.client_ca.key,
            "controllers": "*,bootstrapsigner,tokencleaner",
            "allocate-node-cidrs": "true" if self.allocate else "false",
            "cluster-cidr": self.pod_cidr,
            "service-cluster-ip-range": self.service_cidr,
            **more,
        }
        return [find("kube-controller-manager"), *as_flags(flags)]

    def scheduler(self, more: dict) -> list[str]:
        flags = {
            "kubeconfig": self.scheduler_kubeconfig,
            "authentication-kubeconfig": self.scheduler_kubeconfig,
            "authorization-kubeconfig": self.scheduler_kubeconfig,
            "bind-address": "127.0.0.1",
            "leader-elect": "true",
            **more,
        }
        return [find("kube-scheduler"), *as_flags(flags)]


KUBERNETES_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1")


def first_address(cidr: str) -> str:
    """The address of the service `kubernetes`."""
    import ipaddress

    return str(ipaddress.ip_network(cidr)[1])
