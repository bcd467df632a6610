"""What k0s puts into every cluster for its nodes: who may ask for certificates, and kubelets' settings."""

import json

from node import KUBELET, merged

RBAC = "rbac.authorization.k8s.io"


def _bind(name: str, role: str, group: str) -> dict:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group}],
    }


def rights() -> list[dict]:
    signer = "system:certificates.k8s.io:certificatesigningrequests:"
    name = {"name": "system:bootstrappers:worker-config", "namespace": "kube-system"}
    read = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}
    groups = [{"apiGroup": RBAC, "kind": "Group", "name": group} for group in ("system:nodes", "system:bootstrappers")]
    return [
        _bind("kubelet-bootstrap", "system:node-bootstrapper", "system:bootstrappers"),
        _bind("node-autoapprove-bootstrap", f"{signer}nodeclient", "system:bootstrappers"),
        _bind("node-autoapprove-certificate-rotation", f"{signer}selfnodeclient", "system:nodes"),
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": name, "rules": [read]},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": name,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name["name"]},
            "subjects": groups,
        },
    ]


def profile_name(profile: str, version: str) -> str:
    """Each minor has its own: a worker of a minor that no controller runs finds none."""
    return f"worker-config-{profile}-{'.'.join(version.split('.')[:2])}"


def profiles(config: dict, version: str, dns: str) -> list[dict]:
    network = {"clusterDNS": [dns], "clusterDomain": config["spec"]["network"]["clusterDomain"]}
    given = {"default": {}, **{one["name"]: one.get("values") or {} for one in config["spec"]["workerProfiles"]}}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": profile_name(name, version), "namespace": "kube-system"},
            "data": {
                "kubeletConfiguration": json.dumps(merged(merged(KUBELET, network), values)),
                "pauseImage": "quay.io/k0sproject/pause:3.10.1",
                "networkProvider": config["spec"]["network"]["provider"],
            },
        }
        for name, values in given.items()
    ]


def member_definition() -> dict:
    """The kind EtcdMember: one object a controller, whose spec.leave takes its member out of etcd."""
    loose = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    columns = {
        "Peer Address": ".status.peerAddress",
        "Member ID": ".status.memberID",
        "Joined": '.status.conditions[?(@.type=="Joined")].status',
        "Reconcile Status": ".status.reconcileStatus",
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "etcdmembers.etcd.k0sproject.io"},
        "spec": {
            "group": "etcd.k0sproject.io",
            "scope": "Cluster",
            "names": {"kind": "EtcdMember", "listKind": "EtcdMemberList", "plural": "etcdmembers", "singular": "etcdmember"},
            "versions": [
                {
                    "name": "v1beta1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": loose, "status": loose}}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": "string", "jsonPath": path} for name, path in columns.items()
                    ],
                }
            ],
        },
    }
