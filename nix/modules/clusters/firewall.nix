# The ports of each distribution and role.
{
  config,
  lib,
  ...
}:
let
  cfg = config.muster.kubernetes;
  shared = import ../../lib/clusters.nix { inherit lib config; };
  inherit (shared) isServer isWorker;
  when = test: ports: lib.optionals test ports;
  # A server of k3s and nixpkgs' module has a kubelet, too.
  kubelet = [ 10250 ];
  etcd = [
    2379
    2380
  ];
  k0sNetwork = config.services.k0s.spec.network;
  calico = if k0sNetwork.provider == "calico" && k0sNetwork.calico != null then k0sNetwork.calico else { };
  calicoMode = calico.mode or null;
  # Of flannel and Calico, for IPv4 and IPv6.
  wireguard = [
    51820
    51821
  ];
  ports =
    {
      k3s = {
        tcp = kubelet ++ when isServer etcd;
        # Agents are not told which backend of flannel the servers chose. WireGuard answers nobody whose key it does not know.
        udp = [ 8472 ] ++ wireguard;
      };
      k0s = {
        # 9443: controllers join there; 8132: konnectivity; 179: kube-router.
        tcp =
          when isServer [
            2380
            config.services.k0s.spec.api.k0sApiPort
            config.services.k0s.spec.konnectivity.agentPort
          ]
          ++ when isWorker (
            kubelet ++ lib.optional (k0sNetwork.provider == "kuberouter" || calicoMode == "bird" || calicoMode == "ipip") 179
          );
        udp = when isWorker (
          lib.optional (calicoMode == "vxlan") calico.vxlanPort ++ lib.optionals (calico.wireguard or false) wireguard
        );
      };
      kubernetes = {
        tcp = kubelet ++ when isServer etcd;
        udp = [
          8285
          8472
        ];
      };
      components = {
        tcp =
          when config.muster.kubernetes.components.kubelet.enable kubelet
          ++ when config.muster.kubernetes.components.etcd.enable etcd;
        udp = [ ];
      };
    }
    .${cfg.distribution};
  nodePorts = {
    allowedTCPPorts = ports.tcp;
    allowedUDPPorts = ports.udp;
  };

  # Protocols that have no ports, each with the interface on which it comes in; null: any.
  ofK0s = cfg.distribution == "k0s";
  balancing = k0sNetwork.controlPlaneLoadBalancing;
  ownEndpoint = ofK0s && isServer && balancing.enabled && (balancing.keepalived.vrrpInstances or [ ]) != [ ];
  protocols =
    lib.optional shared.keepsEndpoint {
      number = 112;
      interface = shared.keeperInterface;
    }
    ++ map (instance: {
      number = 112;
      interface = instance.interface or null;
    }) (lib.optionals ownEndpoint balancing.keepalived.vrrpInstances)
    ++ lib.optional (ofK0s && isWorker && calicoMode == "ipip") {
      number = 4;
      interface = cfg.nodeInterface;
    };
  forIptables =
    action:
    lib.concatMapStrings (
      { number, interface }:
      "ip46tables -${action} nixos-fw -p ${toString number}${
        lib.optionalString (interface != null) " -i ${interface}"
      } -j nixos-fw-accept${lib.optionalString (action == "D") " 2>/dev/null || true"}\n"
    ) (lib.unique protocols);
  forNftables = lib.concatMapStrings (
    { number, interface }:
    "${lib.optionalString (interface != null) ''iifname "${interface}" ''}meta l4proto ${toString number} accept\n"
  ) (lib.unique protocols);
in
{
  config = lib.mkIf (cfg.enable && cfg.openFirewall && !cfg.existing) {
    networking.firewall = lib.mkMerge [
      { allowedTCPPorts = lib.optional isServer cfg.apiPort; }
      (if cfg.nodeInterface == null then nodePorts else { interfaces.${cfg.nodeInterface} = nodePorts; })
      { trustedInterfaces = cfg.podInterfaces; }
      # Each of the two firewalls of NixOS refuses the rules of the other one.
      (lib.mkIf (protocols != [ ] && !config.networking.nftables.enable) {
        extraCommands = forIptables "A";
        extraStopCommands = forIptables "D";
      })
      (lib.mkIf (protocols != [ ] && config.networking.nftables.enable) { extraInputRules = forNftables; })
    ];
  };
}
