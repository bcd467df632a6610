# What a node of a cluster is, in Muster's own words. `lib.mkFleet` sets it from fleet.toml; every value is a default.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.muster.kubernetes;
  shared = import ../../lib/clusters.nix { inherit lib config; };
  network = types.strMatching "[0-9A-Fa-f.:]+/[0-9]{1,3}" // {
    description = "network such as 10.244.0.0/16";
  };

  dnsName = types.strMatching "[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?" // {
    description = "name of DNS, such as olaf.tail1234.ts.net";
  };

  # A kubelet that is told any other label of these domains does not start.
  maySetItself =
    name:
    let
      parts = lib.splitString "/" name;
      domain = if builtins.length parts == 2 then builtins.head parts else "";
      isReserved = domain == "kubernetes.io" || domain == "k8s.io" || lib.hasSuffix ".kubernetes.io" domain || lib.hasSuffix ".k8s.io" domain;
      isOpen =
        domain == "node.kubernetes.io"
        || domain == "kubelet.kubernetes.io"
        || lib.hasSuffix ".node.kubernetes.io" domain
        || lib.hasSuffix ".kubelet.kubernetes.io" domain;
    in
    !isReserved || isOpen;
in
{
  options.muster.kubernetes = {
    enable = mkOption {
      type = types.bool;
      default = config.muster.role != "none" && config.muster.cluster != null;
      defaultText = lib.literalMD "whether `fleet.toml` gives the machine a role in a cluster";
      description = "Whether this machine is configured as a node of its cluster.";
    };

    existing = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether a cluster that was made without Muster runs on this machine, and is not adopted yet. Its units stay as your
        configuration has them, and start at a boot as they did: Muster only tells its agent what they are, lets no switch restart
        them, and keeps a server without its datastore from founding another cluster. Switch it off when the cluster is adopted:
        what the agent orders from then on counts on units that wait for it.
      '';
    };

    distribution = mkOption {
      type = types.nullOr (
        types.enum [
          "k3s"
          "k0s"
          "kubernetes"
          "components"
        ]
      );
      default = null;
      description = ''
        Which Kubernetes it is: `k3s` is `services.k3s` of nixpkgs, `k0s` is `services.k0s` of this flake, `kubernetes` is
        `services.kubernetes` of nixpkgs, and `components` runs the parts one by one (`muster.kubernetes.components`).
      '';
    };

    role = mkOption {
      type = types.enum [
        "server"
        "worker"
        "server+worker"
        "none"
      ];
      default = config.muster.role;
      defaultText = lib.literalExpression "config.muster.role";
      description = "What it does in its cluster.";
    };

    version = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "1.34.3";
      description = "The version that all members shall run. `null`: what the packages bring.";
    };

    life = mkOption {
      type = types.enum [
        "apart"
        "with-system"
      ];
      default = "with-system";
      description = ''
        Whether Kubernetes comes with the system's closure, or from a profile of its own, which moves alone: units then name
        programs below `muster.kubernetes.profile.path`, and do not change with its version.
      '';
    };

    endpoint = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "10.0.100.9";
      description = "The address or name under which the servers are reached together.";
    };

    endpointKeeper = mkOption {
      type = types.enum [
        "outside"
        "servers"
      ];
      default = "outside";
      description = ''
        Who answers at `endpoint`. With `servers` it is a virtual address, which goes to a server whose API server is ready
        (VRRP, `services.keepalived`).
      '';
    };

    virtualRouterId = mkOption {
      type = types.ints.between 1 255;
      default = lib.mod (lib.fromHexString (builtins.substring 0 6 (builtins.hashString "sha256" (toString config.muster.cluster)))) 255 + 1;
      defaultText = lib.literalMD "made from the cluster's name";
      description = ''
        Tells the virtual addresses in one network apart. Set another where two clusters, or something else that speaks VRRP,
        have the same one.
      '';
    };

    nodeInterface = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "tailscale0";
      description = ''
        The interface whose address the nodes use among themselves. Units wait for it to have one, however long that takes, after
        `tailscaled` where its name says so. `null`: the fixed address of the host, else that of the default route's interface.
      '';
    };

    nodeDnsName = mkOption {
      type = types.nullOr dnsName;
      default = null;
      example = lib.literalExpression ''"''${config.networking.hostName}.tail1234.ts.net"'';
      description = ''
        A name whose address the nodes use among themselves, where it is not known which interface has it. Units wait until the name
        (of DNS, or in `/etc/hosts`) stands for an address that this machine has, on `nodeInterface` where that is set. The fixed
        addresses in `fleet.toml` are then those of another network, and no node's.
      '';
    };

    nodeAddress = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "10.0.100.2";
      description = "The node's address. `null`: it is found at the start (`muster-node-address.service`).";
    };

    nodeName = mkOption {
      type = types.nullOr types.str;
      default = config.muster.host;
      defaultText = lib.literalExpression "config.muster.host";
      description = ''
        The name of the Node, as Muster's drivers look for it: that of the host. `null`, for the machines of a group: the
        host name that the machine has.
      '';
    };

    nodeLabels = mkOption {
      type = types.attrsOf types.str;
      default = lib.filterAttrs (name: _: maySetItself name) config.muster.labels;
      defaultText = lib.literalMD "`config.muster.labels` without those that a kubelet may not give itself (`kubernetes.io`, `k8s.io`)";
      description = "Labels that the node registers with.";
    };

    nodeTaints = mkOption {
      type = types.listOf types.str;
      default = lib.optional (cfg.role == "server") "node-role.kubernetes.io/control-plane=:NoSchedule";
      defaultText = lib.literalMD "for role `server`, that only the control plane runs there";
      example = [ "dedicated=gpu:NoSchedule" ];
      description = "Taints that the node registers with.";
    };

    podCidr = mkOption {
      type = types.nullOr network;
      default = null;
      description = "The network of the pods. `null`: the distribution's.";
    };

    serviceCidr = mkOption {
      type = types.nullOr network;
      default = null;
      description = "The network of the services. `null`: the distribution's.";
    };

    clusterDomain = mkOption {
      type = types.str;
      default = "cluster.local";
      description = "The domain of the services.";
    };

    apiPort = mkOption {
      type = types.port;
      default = 6443;
      description = "The port of the API servers.";
    };

    servers = mkOption {
      type = types.attrsOf (types.nullOr types.str);
      default = { };
      example = {
        olaf = "10.0.100.2";
      };
      description = "The hosts that are servers of the cluster, each with its fixed address, or `null`.";
    };

    certificateNames = mkOption {
      type = types.listOf types.str;
      default = lib.unique (
        lib.optional (cfg.endpoint != null) cfg.endpoint
        ++ builtins.attrNames cfg.servers
        ++ builtins.filter (address: address != null) (builtins.attrValues cfg.servers)
      );
      defaultText = lib.literalMD "`endpoint`, and names and fixed addresses of all servers";
      description = "Names and addresses that the API servers' certificates hold, besides what the distribution adds.";
    };

    package = mkOption {
      type = types.nullOr types.package;
      default = null;
      example = lib.literalExpression "pkgs.k3s_1_34";
      description = ''
        The package with the programs of Kubernetes, for this host. `null`: that of nixpkgs for `version`. nixpkgs has none
        of k0s; name one, for instance `inputs.k0s-nix.packages.''${pkgs.stdenv.hostPlatform.system}.k0s_1_34` of
        `github:nix-community/k0s-nix`, or bring that flake's overlay. `components` has one for each part besides.
      '';
    };

    tools = mkOption {
      type = types.listOf types.package;
      default = [ pkgs.kubectl ];
      defaultText = lib.literalExpression "[ pkgs.kubectl ]";
      description = ''
        Packages with `kubectl` and what else the agent's drivers start, where the distribution's own package has none
        (`kubernetes`, `components`).
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether the firewall is opened for what the distribution and the role need: the API's port everywhere on servers, all
        others on `nodeInterface` alone where that is set.
      '';
    };

    podInterfaces = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Interfaces of pods on this node, which the firewall trusts: what pods send to their node comes in there.";
    };

    profile = {
      path = mkOption {
        type = types.str;
        default = "/nix/var/nix/profiles/muster-kubernetes";
        readOnly = true;
        description = "Where the programs of Kubernetes are with `life = \"apart\"`.";
      };
      package = mkOption {
        type = types.nullOr types.package;
        default = null;
        defaultText = lib.literalMD "the programs of `distribution` at `version`";
        description = ''
          What that profile is to hold, with `life = "apart"`: the programs in `bin`. Where the system is somebody else's
          (`os = "external"`) also the units and files, in `etc`.
        '';
      };
    };

    programs = mkOption {
      type = types.listOf types.package;
      default = [ ];
      internal = true;
      description = "Packages of Kubernetes that this node runs.";
    };

    units = mkOption {
      type = types.listOf types.str;
      default = [ ];
      defaultText = lib.literalMD "those of the distribution";
      example = [
        "etcd.service"
        "apiserver.service"
      ];
      description = ''
        Units of Kubernetes, in the order in which they start. To be set where `existing` is, of `components`, and they have other
        names than here: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `kubelet`, `kube-proxy`.
      '';
    };

    files = mkOption {
      type = types.listOf (types.strMatching "/etc/.+");
      default = [ ];
      defaultText = lib.literalMD "those of the distribution, which are always among them";
      example = [ "/etc/kubernetes/audit-policy.yaml" ];
      description = ''
        Files of `environment.etc` that the units of Kubernetes read at their start. A system in which one of them is another brings
        another Kubernetes, as one with other units does. What units name in the store need not stand here: then the units differ.
      '';
    };

    runtimeUnits = mkOption {
      type = types.listOf (types.strMatching "[A-Za-z0-9@.:_-]+\\.service");
      default = [ ];
      defaultText = lib.literalMD "`containerd.service` or `crio.service` of `kubernetes` and `components`, where they run, which is always among them";
      example = [ "docker.service" ];
      description = ''
        Units of the container runtime, in the order in which they start, where it is no part of k3s or k0s. No switch restarts them: where
        one of them is another, or a file that they read, the operation restarts them after the switch, once the node is drained, and takes
        that back with the system. Name units of a runtime of your own, and what it reads in `runtimeFiles`.
      '';
    };

    runtimeFiles = mkOption {
      type = types.listOf (types.strMatching "/etc/.+");
      default = [ ];
      defaultText = lib.literalMD "what lies in `/etc/cni`, `/etc/containerd`, `/etc/crio` and, of cri-o, `/etc/containers`, which is always among them";
      example = [ "/etc/cni/net.d/20-mine.conflist" ];
      description = "Files of `environment.etc` that `runtimeUnits` read at their start. What they name in the store need not stand here.";
    };

    networks = mkOption {
      type = types.attrsOf (types.nullOr types.str);
      default = { };
      internal = true;
      description = "`pods` and `services` as the distribution has them in the end.";
    };

    stateDir = mkOption {
      type = types.str;
      default = shared.stateDir;
      internal = true;
      readOnly = true;
      description = "Where the agent keeps what belongs to the cluster.";
    };
  };
}
