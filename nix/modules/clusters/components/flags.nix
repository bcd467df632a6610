# The command lines of the parts, before what a person writes over them. Files are in kubeadm's layout.
{
  config,
  lib,
}:
let
  cfg = config.muster.kubernetes;
  components = cfg.components;
  shared = import ../../../lib/clusters.nix { inherit lib config; };
  inherit (shared)
    pkiDir
    kubernetesDir
    nodeAddress
    nodeHost
    ;
  labels = lib.mapAttrsToList (name: value: "${name}=${value}") cfg.nodeLabels;
  orNull = list: if list == [ ] then null else list;
in
{
  # Who the members are, and whether the cluster is new, is in the agent's file.
  etcd = {
    name = if cfg.nodeName == null then "%H" else cfg.nodeName;
    data-dir = components.etcd.dataDir;
    listen-client-urls = [
      "https://127.0.0.1:2379"
      "https://${nodeHost}:2379"
    ];
    advertise-client-urls = "https://${nodeHost}:2379";
    listen-peer-urls = "https://${nodeHost}:2380";
    initial-advertise-peer-urls = "https://${nodeHost}:2380";
    initial-cluster-token = "muster-${toString config.muster.cluster}";
    client-cert-auth = true;
    trusted-ca-file = "${pkiDir}/etcd/ca.crt";
    cert-file = "${pkiDir}/etcd/server.crt";
    key-file = "${pkiDir}/etcd/server.key";
    peer-client-cert-auth = true;
    peer-trusted-ca-file = "${pkiDir}/etcd/ca.crt";
    peer-cert-file = "${pkiDir}/etcd/peer.crt";
    peer-key-file = "${pkiDir}/etcd/peer.key";
  };

  apiserver = {
    advertise-address = nodeAddress;
    allow-privileged = true;
    authorization-mode = [
      "Node"
      "RBAC"
    ];
    client-ca-file = "${pkiDir}/ca.crt";
    enable-admission-plugins = [ "NodeRestriction" ];
    enable-bootstrap-token-auth = true;
    etcd-cafile = "${pkiDir}/etcd/ca.crt";
    etcd-certfile = "${pkiDir}/apiserver-etcd-client.crt";
    etcd-keyfile = "${pkiDir}/apiserver-etcd-client.key";
    etcd-servers = components.etcd.endpoints;
    kubelet-client-certificate = "${pkiDir}/apiserver-kubelet-client.crt";
    kubelet-client-key = "${pkiDir}/apiserver-kubelet-client.key";
    kubelet-preferred-address-types = [
      "InternalIP"
      "ExternalIP"
      "Hostname"
    ];
    proxy-client-cert-file = "${pkiDir}/front-proxy-client.crt";
    proxy-client-key-file = "${pkiDir}/front-proxy-client.key";
    requestheader-allowed-names = "front-proxy-client";
    requestheader-client-ca-file = "${pkiDir}/front-proxy-ca.crt";
    requestheader-extra-headers-prefix = "X-Remote-Extra-";
    requestheader-group-headers = "X-Remote-Group";
    requestheader-username-headers = "X-Remote-User";
    secure-port = cfg.apiPort;
    service-account-issuer = "https://kubernetes.default.svc.${cfg.clusterDomain}";
    service-account-key-file = "${pkiDir}/sa.pub";
    service-account-signing-key-file = "${pkiDir}/sa.key";
    service-cluster-ip-range = cfg.networks.services;
    shutdown-send-retry-after = shared.apiserverStop.retryAfter;
    tls-cert-file = "${pkiDir}/apiserver.crt";
    tls-private-key-file = "${pkiDir}/apiserver.key";
  };

  controllerManager = {
    allocate-node-cidrs = true;
    authentication-kubeconfig = "${kubernetesDir}/controller-manager.conf";
    authorization-kubeconfig = "${kubernetesDir}/controller-manager.conf";
    bind-address = "127.0.0.1";
    client-ca-file = "${pkiDir}/ca.crt";
    cluster-cidr = cfg.networks.pods;
    cluster-signing-cert-file = "${pkiDir}/ca.crt";
    cluster-signing-key-file = "${pkiDir}/ca.key";
    controllers = [
      "*"
      "bootstrapsigner"
      "tokencleaner"
    ];
    kubeconfig = "${kubernetesDir}/controller-manager.conf";
    leader-elect = true;
    requestheader-client-ca-file = "${pkiDir}/front-proxy-ca.crt";
    root-ca-file = "${pkiDir}/ca.crt";
    service-account-private-key-file = "${pkiDir}/sa.key";
    service-cluster-ip-range = cfg.networks.services;
    use-service-account-credentials = true;
  };

  scheduler = {
    authentication-kubeconfig = "${kubernetesDir}/scheduler.conf";
    authorization-kubeconfig = "${kubernetesDir}/scheduler.conf";
    bind-address = "127.0.0.1";
    kubeconfig = "${kubernetesDir}/scheduler.conf";
    leader-elect = true;
  };

  kubelet = {
    bootstrap-kubeconfig = "${shared.runDir}/bootstrap-kubelet.conf";
    config = "/etc/muster/kubernetes/kubelet.json";
    hostname-override = cfg.nodeName;
    kubeconfig = "${kubernetesDir}/kubelet.conf";
    node-ip = nodeAddress;
    node-labels = orNull labels;
    register-with-taints = orNull cfg.nodeTaints;
  };

  proxy = {
    config = "/etc/muster/kubernetes/kube-proxy.json";
    hostname-override = cfg.nodeName;
  };
}
