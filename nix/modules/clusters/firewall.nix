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
  ports =
    {
      k3s = {
        tcp = kubelet ++ when isServer etcd;
        udp = [ 8472 ];
      };
      k0s = {
        # 9443: controllers join there; 8132: konnectivity; 179: kube-router.
        tcp =
          when isServer [
            2380
            config.services.k0s.spec.api.k0sApiPort
            config.services.k0s.spec.konnectivity.agentPort
          ]
          ++ when isWorker (kubelet ++ lib.optional (config.services.k0s.spec.network.provider == "kuberouter") 179);
        udp = lib.optional (config.services.k0s.spec.network.provider == "calico") 4789;
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
in
{
  config = lib.mkIf (cfg.enable && cfg.openFirewall) {
    networking.firewall = lib.mkMerge [
      { allowedTCPPorts = lib.optional isServer cfg.apiPort; }
      (if cfg.nodeInterface == null then nodePorts else { interfaces.${cfg.nodeInterface} = nodePorts; })
      { trustedInterfaces = cfg.podInterfaces; }
    ];
  };
}
