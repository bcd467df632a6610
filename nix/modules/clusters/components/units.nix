# The parts of Kubernetes one by one, as units (or the control plane as static pods), with a runtime and network plugins.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.muster.kubernetes;
  components = cfg.components;
  shared = import ../../../lib/clusters.nix { inherit lib config; };
  packages = import ../packages.nix { inherit lib pkgs; cfg = cfg // { inherit (config.muster) cluster; }; };
  defaults = import ./flags.nix { inherit config lib; };
  staticPod = import ./static-pods.nix { inherit config lib; };
  inherit (lib) mkIf;
  inherit (shared) pkiDir kubernetesDir softlyDeep;
  bash = lib.getExe' pkgs.bash "bash";
  guard = "${bash} /etc/muster/cluster/datastore-guard.sh ${shared.stateDir}/member ${components.etcd.dataDir}/member";
  podsInUnits = !components.staticPods.enable;
  staticParts = "/etc/muster/kubernetes/manifests";

  program = part: name: if shared.isApart then "${cfg.profile.path}/bin/${name}" else "${part.package}/bin/${name}";
  flagsOf = part: components.${part}.flags // removeAttrs defaults.${part} (builtins.attrNames components.${part}.flags);
  unit =
    {
      part,
      name,
      description,
      after ? [ ],
      environmentFiles ? [ ],
      service ? { },
      path ? [ ],
    }:
    mkIf components.${part}.enable (
      lib.mkMerge [
        shared.held
        {
          inherit description after path;
          wants = [ "network-online.target" ];
          unitConfig.StartLimitIntervalSec = 0;
          serviceConfig = {
            ExecStart = shared.commandLine (program components.${part} name) (flagsOf part);
            EnvironmentFile = environmentFiles ++ shared.addressFiles;
            Slice = "kubernetes.slice";
            Restart = "always";
            RestartSec = "5s";
            LimitNOFILE = 1048576;
          }
          // service;
        }
      ]
    );

  kubelet = lib.recursiveUpdate {
    apiVersion = "kubelet.config.k8s.io/v1beta1";
    kind = "KubeletConfiguration";
    authentication = {
      anonymous.enabled = false;
      webhook.enabled = true;
      x509.clientCAFile = "${pkiDir}/ca.crt";
    };
    authorization.mode = "Webhook";
    cgroupDriver = "systemd";
    clusterDNS = [ (shared.dnsAddressIn cfg.networks.services) ];
    inherit (cfg) clusterDomain;
    containerRuntimeEndpoint = components.runtime.endpoint;
    inherit (components.kubelet) rotateCertificates;
  } (lib.optionalAttrs components.staticPods.enable { staticPodPath = components.staticPods.directory; } // components.kubelet.settings);
  proxy = lib.recursiveUpdate {
    apiVersion = "kubeproxy.config.k8s.io/v1alpha1";
    kind = "KubeProxyConfiguration";
    clientConnection.kubeconfig = "${kubernetesDir}/kubelet.conf";
    clusterCIDR = cfg.networks.pods;
  } components.proxy.settings;

  pods = {
    kube-apiserver = staticPod {
      name = "kube-apiserver";
      flags = flagsOf "apiserver";
      probe = {
        path = "/livez";
        port = cfg.apiPort;
      };
    };
    kube-controller-manager = staticPod {
      name = "kube-controller-manager";
      flags = flagsOf "controllerManager";
      probe = {
        host = "127.0.0.1";
        path = "/healthz";
        port = 10257;
      };
    };
    kube-scheduler = staticPod {
      name = "kube-scheduler";
      flags = flagsOf "scheduler";
      probe = {
        host = "127.0.0.1";
        path = "/healthz";
        port = 10259;
      };
    };
  };
  asFile = name: value: pkgs.writeText name (builtins.toJSON value);
  runtimeUnit =
    {
      containerd = [ "containerd.service" ];
      cri-o = [ "crio.service" ];
      none = [ ];
    }
    .${components.runtime.kind};
  # A configuration of before Muster may have another one than the option says.
  runtimeIsOurs =
    {
      containerd = config.virtualisation.containerd.enable;
      cri-o = config.virtualisation.cri-o.enable;
      none = false;
    }
    .${components.runtime.kind};
  used = lib.filter (part: part.enable) [
    components.apiserver
    components.controllerManager
    components.scheduler
    components.kubelet
    components.proxy
  ];
  # Of parts, other than the one that all have.
  ownPackages = lib.filter (package: toString package != toString components.package) (
    lib.unique (map (part: part.package) used)
  );
  takesBootstrapTokens = lib.elem ((flagsOf "apiserver").enable-bootstrap-token-auth or null) [
    true
    "true"
  ];
  etcdServers = lib.toList ((flagsOf "apiserver").etcd-servers or components.etcd.endpoints);
  etcdElsewhere = shared.etcdElsewhere (lib.concatMap (lib.splitString ",") (lib.remove null etcdServers));
in
{
  config = mkIf (cfg.enable && cfg.distribution == "components") (
    lib.mkMerge [
      {
        muster.kubernetes = {
          networks = {
            pods = if cfg.podCidr != null then cfg.podCidr else "10.244.0.0/16";
            services = if cfg.serviceCidr != null then cfg.serviceCidr else "10.96.0.0/12";
          };
          programs = lib.unique (
            lib.optional components.etcd.enable components.etcd.package ++ [ components.package ] ++ map (part: part.package) used ++ cfg.tools
          );
          files = shared.filesBelow [ "muster/kubernetes/" ];
          runtimeUnits = lib.optionals (components.kubelet.enable && runtimeIsOurs) runtimeUnit;
          runtimeFiles = lib.optionals components.kubelet.enable (shared.runtimeFiles components.runtime.kind);
          # Somebody's own have other names, perhaps.
          units = lib.mkDefault (
              lib.optional components.etcd.enable "etcd.service"
              ++ lib.optional (components.staticPods.enable && shared.isServer) "muster-static-pods.service"
              ++ lib.optionals podsInUnits (
                lib.optional components.apiserver.enable "kube-apiserver.service"
                ++ lib.optional components.controllerManager.enable "kube-controller-manager.service"
                ++ lib.optional components.scheduler.enable "kube-scheduler.service"
              )
              ++ lib.optional components.kubelet.enable "kubelet.service"
              ++ lib.optional components.proxy.enable "kube-proxy.service"
          );
        };
      }

      (mkIf cfg.existing {
        assertions = [
          {
            assertion = shared.isServer -> lib.elem "etcd.service" cfg.units;
            message = ''
              muster.kubernetes.existing: no etcd.service is among muster.kubernetes.units, and a server of single components is adopted with
              the etcd that runs on it alone: without its data that would found another cluster, and nothing would keep it from that. Call
              its unit etcd, and name it in units.
            '';
          }
        ];
        systemd.services = lib.mkMerge [
          (lib.genAttrs (map (lib.removeSuffix ".service") cfg.units) (_: shared.asItWas))
          # Whoever the unit runs as may not look into the agent's directory.
          (mkIf shared.isServer { etcd.serviceConfig.ExecStartPre = [ "+${guard}" ]; })
        ];
      })

      (mkIf (!cfg.existing) {
        assertions =
          map (packages.assertion "muster.kubernetes.components (package)") (
            if shared.isApart then [ components.package ] else lib.unique (map (part: part.package) used)
          )
          ++ [
            {
              assertion = shared.isApart -> ownPackages == [ ];
              message = ''
                muster.kubernetes.components: with life = "apart" every part is started from the one profile, which holds one program of a name,
                so no part can have a package of its own (${lib.concatMapStringsSep ", " (package: package.name) ownPackages}). Set
                muster.kubernetes.components.package, or write life = "with-system" in [clusters.${toString config.muster.cluster}].
              '';
            }
            {
              assertion = components.etcd.enable == shared.isServer;
              message = ''
                muster.kubernetes.components.etcd.enable: in a cluster of Muster's every server is a member of its etcd, and nobody else is.
                Muster counts servers by its members; it founds and joins nobody beside an etcd of another kind. Leave enable alone.
              '';
            }
            {
              assertion = shared.isServer -> etcdElsewhere == [ ];
              message = ''
                muster.kubernetes.components: the API server would keep its state in ${lib.concatStringsSep ", " etcdElsewhere}, and no
                server of [clusters.${toString config.muster.cluster}] is there. Muster counts servers by the members of their own etcd, and
                neither copies nor restores another one. Name servers of the cluster only, or leave etcd.endpoints and etcd-servers alone.
              '';
            }
            {
              assertion = components.apiserver.enable -> takesBootstrapTokens;
              message = ''
                muster.kubernetes.components.apiserver.flags.enable-bootstrap-token-auth: machines join by such a token, which this API server
                would refuse. Leave that flag alone.
              '';
            }
            {
              assertion = components.staticPods.enable -> cfg.version != null;
              message = ''
                muster.kubernetes.components.staticPods needs the version whose images it runs: write version in
                [clusters.${toString config.muster.cluster}] of fleet.toml.
              '';
            }
            {
              assertion = components.staticPods.enable -> components.staticPods.repository != null;
              message = ''
                muster.kubernetes.components.staticPods is enabled, but nothing says where its images are: set
                muster.kubernetes.components.staticPods.repository.
              '';
            }
            {
              assertion = components.staticPods.enable -> !shared.isDynamic;
              message = ''
                muster.kubernetes.components.staticPods needs the node's address beforehand: give ${toString cfg.nodeName} a fixed address in
                fleet.toml, or set muster.kubernetes.nodeAddress.
              '';
            }
          ];

        boot.kernelModules = mkIf components.kubelet.enable [
          "br_netfilter"
          "overlay"
        ];
        boot.kernel.sysctl = mkIf components.kubelet.enable (
          shared.softly {
            "net.bridge.bridge-nf-call-iptables" = 1;
            "net.bridge.bridge-nf-call-ip6tables" = 1;
            "net.ipv4.ip_forward" = 1;
          }
        );

        environment.etc =
          lib.optionalAttrs components.kubelet.enable {
            "muster/kubernetes/kubelet.json".source = asFile "kubelet.json" kubelet;
            "muster/cluster/cni-links.sh".source = ../scripts/cni-links.sh;
          }
          // lib.optionalAttrs components.proxy.enable {
            "muster/kubernetes/kube-proxy.json".source = asFile "kube-proxy.json" proxy;
          }
          // lib.optionalAttrs (components.kubelet.enable && components.cni.config != null) {
            "cni/net.d/10-muster.conflist".source = asFile "10-muster.conflist" components.cni.config;
          }
          # nixpkgs brings networks of cri-o's own, and cri-o takes the first by its name: before the one above, before most that a
          # DaemonSet lays there, and where there is none yet.
          // lib.optionalAttrs (components.kubelet.enable && components.runtime.kind == "cri-o") (
            lib.genAttrs [
              "cni/net.d/10-crio-bridge.conflist"
              "cni/net.d/99-loopback.conflist"
            ] (_: { enable = shared.soft false; })
          )
          // lib.optionalAttrs (components.staticPods.enable && shared.isServer) (
            lib.mapAttrs' (name: pod: lib.nameValuePair "muster/kubernetes/manifests/${name}.json" { source = asFile "${name}.json" pod; }) pods
            // {
              "muster/cluster/static-pods.sh".source = ../scripts/static-pods.sh;
            }
          );

        virtualisation.containerd = mkIf (components.kubelet.enable && components.runtime.kind == "containerd") {
          enable = shared.soft true;
          settings = softlyDeep {
            version = 2;
            plugins."io.containerd.grpc.v1.cri" = {
              cni = {
                bin_dir = components.cni.binDir;
                conf_dir = "/etc/cni/net.d";
              };
              containerd.runtimes.runc = {
                runtime_type = "io.containerd.runc.v2";
                options.SystemdCgroup = kubelet.cgroupDriver == "systemd";
              };
            };
          };
        };
        virtualisation.cri-o = mkIf (components.kubelet.enable && components.runtime.kind == "cri-o") {
          enable = shared.soft true;
          settings.crio = {
            # nixpkgs says both itself, plainly. A list of ours stands before its own; of two words one has to win.
            network = softlyDeep { network_dir = "/etc/cni/net.d/"; } // {
              plugin_dirs = lib.mkBefore [ components.cni.binDir ];
            };
            runtime.cgroup_manager = mkIf (kubelet.cgroupDriver != "systemd") (lib.mkOverride 90 kubelet.cgroupDriver);
          };
        };

        systemd.services = {
          etcd = unit {
            part = "etcd";
            name = "etcd";
            description = "etcd, the state of Kubernetes";
            after = [ "network-online.target" ];
            environmentFiles = [ shared.startFile ];
            service = {
              Type = "notify";
              # A member waits for the others, however long they are away.
              TimeoutStartSec = 0;
              UMask = "0077";
              ExecStartPre = [ guard ];
            };
          };

          kube-apiserver = mkIf podsInUnits (unit {
            part = "apiserver";
            name = "kube-apiserver";
            description = "Kubernetes API server";
            after = [ "etcd.service" ];
            # It tells systemd when it is ready.
            service = {
              Type = "notify";
              TimeoutStartSec = 0;
              TimeoutStopSec = shared.apiserverStop.timeout;
            };
          });

          kube-controller-manager = mkIf podsInUnits (unit {
            part = "controllerManager";
            name = "kube-controller-manager";
            description = "Kubernetes controller manager";
            after = [ "kube-apiserver.service" ];
          });

          kube-scheduler = mkIf podsInUnits (unit {
            part = "scheduler";
            name = "kube-scheduler";
            description = "Kubernetes scheduler";
            after = [ "kube-apiserver.service" ];
          });

          kubelet = unit {
            part = "kubelet";
            name = "kubelet";
            description = "Kubernetes kubelet";
            after = runtimeUnit ++ [ "kube-apiserver.service" ];
            path = [
              pkgs.util-linux
              pkgs.iproute2
              pkgs.iptables
              pkgs.ethtool
              pkgs.socat
              pkgs.coreutils
            ]
            ++ components.kubelet.path;
            service = {
              # Pods stay when it goes.
              KillMode = "process";
              Delegate = true;
              TasksMax = "infinity";
              ExecStartPre = mkIf (components.cni.packages != [ ]) [
                "${bash} /etc/muster/cluster/cni-links.sh ${components.cni.binDir} ${lib.concatMapStringsSep " " toString components.cni.packages}"
              ];
            };
          };

          kube-proxy = unit {
            part = "proxy";
            name = "kube-proxy";
            description = "Kubernetes proxy";
            after = [ "kubelet.service" ];
            path = [
              pkgs.iptables
              pkgs.conntrack-tools
              pkgs.kmod
            ];
          };

          muster-static-pods = mkIf (components.staticPods.enable && shared.isServer) (
            lib.mkMerge [
              shared.held
              {
                description = "Static pods of the control plane";
                before = [ "kubelet.service" ];
                path = [ pkgs.coreutils ];
                serviceConfig = {
                  Type = "oneshot";
                  RemainAfterExit = true;
                  UMask = "0077";
                  ExecStart = "${bash} /etc/muster/cluster/static-pods.sh ${staticParts} ${components.staticPods.directory}";
                };
              }
            ]
          );
        };
        systemd.slices.kubernetes.description = "Kubernetes";
      })
    ]
  );
}
