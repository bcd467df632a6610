# What lab machines ask of Kubernetes, besides fleet.toml: containers of systemd-nspawn on control groups of version 1, with
# containerd, runc and network plugins of Debian, and no registry to pull from. All of it is set through options.
{ lib, host, ... }:
let
  # One network of pods for each host, with the last number of its address; the lab routes between them.
  subnet = "10.244.${lib.last (lib.splitString "." host.address)}.0/24";
  bridge = {
    type = "bridge";
    bridge = "cni0";
    isGateway = true;
    ipMasq = true;
    ipam = {
      type = "host-local";
      ranges = [ [ { inherit subnet; } ] ];
      routes = [ { dst = "0.0.0.0/0"; } ];
    };
  };
  kubelet = {
    cgroupDriver = "cgroupfs";
    failCgroupV1 = false;
    failSwapOn = false;
  };
  # 10.91.0.1 is the lab's coordinator.
  pin = "00" + lib.concatStrings (lib.genList (_: "00") 31);
in
{
  services.muster.agent = {
    coordinator = "10.91.0.1:7443";
    caPin = pin;
  };

  muster.kubernetes.components = {
    kubelet.settings = kubelet;
    proxy.enable = false;
    staticPods = lib.mkIf (host.extra.staticPods or false) {
      enable = true;
      repository = "images.lab/kubernetes";
    };
    cni = {
      packages = [ ];
      binDir = "/usr/lib/cni";
      config = {
        cniVersion = "1.0.0";
        name = "lab";
        plugins = [ bridge ];
      };
    };
  };
  virtualisation.containerd.settings.plugins."io.containerd.grpc.v1.cri" = {
    restrict_oom_score_adj = true;
    sandbox_image = "registry.k8s.io/pause:3.10";
    cni.bin_dir = "/usr/lib/cni";
    containerd.runtimes.runc.options.SystemdCgroup = false;
  };

  services.kubernetes = {
    flannel.enable = false;
    proxy.enable = false;
    kubelet = {
      extraConfig = kubelet;
      cni.config = [
        (
          bridge
          // {
            cniVersion = "1.0.0";
            name = "lab";
          }
        )
      ];
    };
  };

  services.k0s = {
    disableComponents = [
      "coredns"
      "konnectivity-server"
      "metrics-server"
      "helm"
      "network-provider"
      "kube-proxy"
    ];
    extraArgs = lib.optionalString (host.role == "worker") "--profile=lab --ignore-pre-flight-checks";
    spec = {
      network.provider = "custom";
      images.default_pull_policy = "Never";
      workerProfiles = [
        {
          name = "lab";
          values = {
            failCgroupV1 = false;
            failSwapOn = false;
          };
        }
      ];
    };
  };
}
