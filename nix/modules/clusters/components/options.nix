# muster.kubernetes.components: each part with its own package, flags and settings. What is written here lies over the
# defaults that the module makes, key by key; null takes a default away.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.muster.kubernetes;
  components = cfg.components;
  shared = import ../../../lib/clusters.nix { inherit lib config; };
  packages = import ../packages.nix { inherit lib pkgs; cfg = cfg // { inherit (config.muster) cluster; }; };

  packageOf =
    what: default: text:
    mkOption {
      type = types.package;
      inherit default;
      defaultText = lib.literalMD text;
      description = "The package with `bin/${what}`, on this host.";
    };
  enableOf =
    what: default: text:
    mkOption {
      type = types.bool;
      inherit default;
      defaultText = lib.literalMD text;
      description = "Whether ${what} runs on this machine.";
    };
  flagsOf =
    what:
    mkOption {
      type = shared.flagsType;
      default = { };
      example = {
        v = 2;
        feature-gates.SomeGate = true;
      };
      description = ''
        Flags of ${what}, without the dashes. A list is joined with commas, a set to `KEY=VALUE` with commas, `null` leaves the
        flag away. No secrets: they stand in the unit.
      '';
    };
  settingsOf =
    what:
    mkOption {
      type = types.attrsOf types.anything;
      default = { };
      description = "Keys of ${what}, over the defaults key by key at every depth. No secrets: the file lies in the store.";
    };
  ofServers = "on servers";
  fromCommon = "`muster.kubernetes.components.package`, and nothing else with `life = \"apart\"`";
  part = what: program: {
    enable = enableOf what shared.isServer ofServers;
    package = packageOf program components.package fromCommon;
    flags = flagsOf "`${program}`";
  };
in
{
  options.muster.kubernetes.components = {
    package = packageOf "kubelet` and the other parts of Kubernetes as `bin/…" (packages.choose "kubernetes")
      "`muster.kubernetes.package`, else that of nixpkgs for `version`";

    etcd = {
      enable = enableOf "a member of etcd" shared.isServer "on servers, and anything else is refused";
      package = packageOf "etcd" pkgs.etcd "`pkgs.etcd`";
      dataDir = mkOption {
        type = types.str;
        default = "/var/lib/etcd";
        description = "Where it keeps its data.";
      };
      flags = flagsOf "`etcd`";
      endpoints = mkOption {
        type = types.listOf types.str;
        default = [ "https://127.0.0.1:2379" ];
        description = "Where the API server finds etcd: on servers of the cluster. Another etcd than theirs is refused.";
      };
    };

    apiserver = part "the API server" "kube-apiserver";
    controllerManager = part "the controller manager" "kube-controller-manager";
    scheduler = part "the scheduler" "kube-scheduler";

    staticPods = {
      enable = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether API server, controller manager and scheduler are static pods of the server's kubelet instead of units, from the
          image of the version that `fleet.toml` names. etcd stays a unit: its file of members is the agent's.
        '';
      };
      repository = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "images.home/kubernetes";
        description = "Where their images are, as `REPOSITORY/kube-apiserver:vVERSION` and so on. Needed with `enable`.";
      };
      directory = mkOption {
        type = types.str;
        default = "${shared.kubernetesDir}/manifests";
        readOnly = true;
        description = "Where the kubelet reads them. `muster-static-pods.service` copies them there when the agent starts it, and the agent takes them away when it stops Kubernetes.";
      };
    };

    kubelet = {
      enable = enableOf "a kubelet" (shared.isWorker || components.staticPods.enable) "on workers, and on servers with static pods";
      package = packageOf "kubelet" components.package fromCommon;
      flags = flagsOf "`kubelet`";
      settings = settingsOf "its `KubeletConfiguration`";
      rotateCertificates = mkOption {
        type = types.bool;
        default = true;
        description = "Whether it asks for a new certificate of its own before the old one ends.";
      };
      path = mkOption {
        type = types.listOf types.package;
        default = [ ];
        example = lib.literalExpression "[ pkgs.nfs-utils ]";
        description = "More programs that it finds, for volumes for instance.";
      };
    };

    proxy = {
      enable = enableOf "kube-proxy" components.kubelet.enable "where a kubelet runs";
      package = packageOf "kube-proxy" components.package fromCommon;
      flags = flagsOf "`kube-proxy`";
      settings = settingsOf "its `KubeProxyConfiguration`";
    };

    runtime = {
      kind = mkOption {
        type = types.enum [
          "containerd"
          "cri-o"
          "none"
        ];
        default = "containerd";
        description = ''
          What runs containers: `virtualisation.containerd` or `virtualisation.cri-o` of nixpkgs, whose options stay open; or
          something that you configure, at `endpoint`.
        '';
      };
      endpoint = mkOption {
        type = types.str;
        default =
          {
            containerd = "unix:///run/containerd/containerd.sock";
            cri-o = "unix:///var/run/crio/crio.sock";
            none = "unix:///run/containerd/containerd.sock";
          }
          .${components.runtime.kind};
        defaultText = lib.literalMD "that of `kind`";
        description = "Its socket.";
      };
    };

    cni = {
      packages = mkOption {
        type = types.listOf types.package;
        default = [ pkgs.cni-plugins ];
        defaultText = lib.literalExpression "[ pkgs.cni-plugins ]";
        description = "Network plugins, whose programs are linked into `binDir`. What others put there stays.";
      };
      binDir = mkOption {
        type = types.str;
        default = "/opt/cni/bin";
        description = "Where the runtime finds plugins.";
      };
      config = mkOption {
        type = types.nullOr (types.attrsOf types.anything);
        default = null;
        example = {
          cniVersion = "1.0.0";
          name = "pods";
          plugins = [ { type = "bridge"; } ];
        };
        description = ''
          A list of network plugins (conflist), as `/etc/cni/net.d/10-muster.conflist`. `null`: the network brings its own, as
          Cilium or Calico do from a DaemonSet among the manifests; until then nodes are not Ready.
        '';
      };
    };
  };
}
