# A node of services.kubernetes of nixpkgs, without easyCerts: certificates are the agent's, so that there can be more than
# one server.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.muster.kubernetes;
  kubernetes = config.services.kubernetes;
  shared = import ../../lib/clusters.nix { inherit lib config; };
  packages = import ./packages.nix { inherit lib pkgs; cfg = cfg // { inherit (config.muster) cluster; }; };
  inherit (shared)
    soft
    softly
    isServer
    pkiDir
    kubernetesDir
    nodeHost
    ;
  chosen = packages.choose "kubernetes";
  programs = [
    "kube-apiserver"
    "kube-controller-manager"
    "kube-scheduler"
    "kube-proxy"
    "kubelet"
  ];
  labels = lib.mapAttrsToList (name: value: "${name}=${value}") cfg.nodeLabels;
  # KEY=VALUE:EFFECT, as kubelets take it.
  taintOf =
    text:
    let
      parts = builtins.match "([^=:]+)=?([^:]*):([A-Za-z]+)" text;
    in
    if parts == null then
      throw "muster.kubernetes.nodeTaints: ${text} is no taint; write KEY=VALUE:EFFECT"
    else
      # One key may have several effects.
      lib.nameValuePair "${builtins.elemAt parts 0}:${builtins.elemAt parts 2}" {
        key = builtins.elemAt parts 0;
        value = builtins.elemAt parts 1;
        effect = builtins.elemAt parts 2;
      };
  # The parts reach the API server of their own machine; a worker the endpoint, or a server.
  apiHost = if isServer then nodeHost else shared.bracketed (toString shared.knownApiServer);
  kubelet = "${kubernetesDir}/kubelet.conf";
  units =
    lib.optionals isServer [
      "etcd.service"
      "kube-apiserver.service"
      "kube-controller-manager.service"
      "kube-scheduler.service"
    ]
    ++ lib.optional kubernetes.kubelet.enable "kubelet.service"
    ++ lib.optional kubernetes.proxy.enable "kube-proxy.service"
    ++ lib.optional kubernetes.flannel.enable "flannel.service";
  nameOf = lib.removeSuffix ".service";
  # An address stands for the interface that has it.
  flannelInterface = if cfg.nodeInterface != null then cfg.nodeInterface else cfg.nodeAddress;
  # It may ask who owns what is there: the units' user may not look into the agent's directory.
  guard = "+${lib.getExe' pkgs.bash "bash"} /etc/muster/cluster/datastore-guard.sh ${shared.stateDir}/member ${config.services.etcd.dataDir}/member";
  etcdElsewhere = shared.etcdElsewhere kubernetes.apiserver.etcd.servers;
in
{
  config = lib.mkIf (cfg.enable && cfg.distribution == "kubernetes") (
    lib.mkMerge [
      {
        assertions = [
          (if cfg.existing then packages.assertion "services.kubernetes.package" kubernetes.package else packages.assertion "muster.kubernetes.package" chosen)
          {
            assertion = isServer -> config.services.etcd.enable && etcdElsewhere == [ ];
            message = ''
              services.kubernetes: in a cluster of Muster's every server is a member of its etcd, and no API server keeps its state
              elsewhere (${if etcdElsewhere == [ ] then "services.etcd.enable is false" else lib.concatStringsSep ", " etcdElsewhere}): Muster counts servers
              by its members. Leave services.etcd.enable alone, and name servers of the cluster only in apiserver.etcd.servers.
            '';
          }
          {
            assertion = !kubernetes.easyCerts;
            message = ''
              services.kubernetes.easyCerts: a cluster with certificates of nixpkgs' own is neither founded nor adopted by Muster, and its
              units would wait for the agent for ever: after the next boot no Kubernetes would run here. Leave easyCerts off for a cluster of
              Muster's. For one that runs already take role and cluster of this host out of fleet.toml, or set
              muster.kubernetes.enable = false: then only the system is Muster's.
            '';
          }
        ];

        muster.kubernetes = {
          programs =
            if cfg.existing then
              [ kubernetes.package ] ++ lib.optional isServer config.services.etcd.package ++ cfg.tools
            else
              [ chosen ] ++ lib.optional isServer cfg.components.etcd.package ++ cfg.tools;
          inherit units;
          files = lib.optionals kubernetes.flannel.enable (shared.filesBelow [ "kube-flannel/" ]);
          # Not one of Kubernetes' own, and started by its target.
          runtimeUnits = lib.optional (kubernetes.kubelet.enable && config.virtualisation.containerd.enable) "containerd.service";
          runtimeFiles = lib.optionals kubernetes.kubelet.enable (shared.runtimeFiles "containerd");
          networks = {
            pods = kubernetes.clusterCidr;
            services = kubernetes.apiserver.serviceClusterIpRange;
          };
        };
      }

      (lib.mkIf cfg.existing {
        systemd.services = lib.mkMerge [
          (lib.genAttrs (map nameOf units) (_: shared.asItWas))
          (lib.mkIf isServer { etcd.serviceConfig.ExecStartPre = [ guard ]; })
        ];
      })

      (lib.mkIf (!cfg.existing) {
        services.kubernetes = {
          roles = soft (
            if cfg.role == "server+worker" then
              [
                "master"
                "node"
              ]
            else if isServer then
              [ "master" ]
            else
              [ "node" ]
          );
          # The module makes an image of this package's `pause`. That of the system stays the same when Kubernetes moves.
          package = soft (
            if shared.isApart then packages.fromProfile programs // { inherit (pkgs.kubernetes) pause; } else chosen
          );
          easyCerts = soft false;
          masterAddress = soft (toString (if isServer then cfg.nodeName else shared.knownApiServer));
          apiserverAddress = soft "https://${apiHost}:${toString cfg.apiPort}";
          clusterCidr = lib.mkIf (cfg.podCidr != null) (soft cfg.podCidr);
          # Its addons are put in by a manager that needs easyCerts; manifests of the fleet directory do the same.
          addonManager.enable = soft false;
          addons.dns.enable = soft false;
          addons.dns.clusterDomain = soft cfg.clusterDomain;
          # On all interfaces, where whoever reaches one speaks to pods. ./firewall.nix opens what is needed, where it is.
          flannel.openFirewallPorts = soft false;
          kubelet = {
            nodeIp = soft shared.nodeAddress;
            # %H: the name that the machine has, for the machines of a group.
            hostname = soft (if cfg.nodeName == null then "%H" else cfg.nodeName);
            # Without its own addon nixpkgs has pods ask an address of their own network, at which nobody is.
            clusterDns = lib.mkIf (!kubernetes.addons.dns.enable) (
              soft [ (shared.dnsAddressIn kubernetes.apiserver.serviceClusterIpRange) ]
            );
            taints = lib.listToAttrs (map taintOf cfg.nodeTaints);
            extraOpts = lib.mkIf (labels != [ ]) "--node-labels=${lib.concatStringsSep "," labels}";
          };
          proxy.hostname = soft (if cfg.nodeName == null then "%H" else cfg.nodeName);
          apiserver = {
            advertiseAddress = lib.mkIf isServer (soft shared.nodeAddress);
            securePort = soft cfg.apiPort;
            extraSANs = soft cfg.certificateNames;
            serviceClusterIpRange = lib.mkIf (cfg.serviceCidr != null) (soft cfg.serviceCidr);
            allowPrivileged = soft true;
          };
        };

        systemd.services = lib.genAttrs (map nameOf units) (_: shared.held);
        systemd.targets.kubernetes.wantedBy = lib.mkForce [ ];
      })

      (lib.mkIf (!cfg.existing && !kubernetes.easyCerts) {
        assertions = [
          {
            assertion =
              isServer -> !lib.elem "--enable-bootstrap-token-auth=false" (lib.splitString " " kubernetes.apiserver.extraOpts);
            message = ''
              services.kubernetes.apiserver.extraOpts, --enable-bootstrap-token-auth: machines join by such a token, which this API server
              would refuse. Leave that flag alone.
            '';
          }
        ];

        services.kubernetes = {
          caFile = soft "${pkiDir}/ca.crt";
          kubelet = {
            clientCaFile = soft "${pkiDir}/ca.crt";
            # The module's own kubeconfig lies in the store, where no kubelet can write what it was given. The last flag counts.
            extraOpts = "--kubeconfig=${kubelet} --bootstrap-kubeconfig=${shared.runDir}/bootstrap-kubelet.conf --rotate-certificates=true";
          };
          # A node may do what its proxy and flannel do; the founder binds that once.
          proxy.extraOpts = "--kubeconfig=${kubelet}";
          apiserver = lib.mkIf isServer (
            softly {
              clientCaFile = "${pkiDir}/ca.crt";
              # Kubelets sign what they serve with themselves, as kubeadm has them do.
              kubeletClientCaFile = null;
              kubeletClientCertFile = "${pkiDir}/apiserver-kubelet-client.crt";
              kubeletClientKeyFile = "${pkiDir}/apiserver-kubelet-client.key";
              proxyClientCertFile = "${pkiDir}/front-proxy-client.crt";
              proxyClientKeyFile = "${pkiDir}/front-proxy-client.key";
              serviceAccountKeyFile = "${pkiDir}/sa.pub";
              serviceAccountSigningKeyFile = "${pkiDir}/sa.key";
              tlsCertFile = "${pkiDir}/apiserver.crt";
              tlsKeyFile = "${pkiDir}/apiserver.key";
            }
            // {
              etcd = softly {
                servers = [ "https://127.0.0.1:2379" ];
                caFile = "${pkiDir}/etcd/ca.crt";
                certFile = "${pkiDir}/apiserver-etcd-client.crt";
                keyFile = "${pkiDir}/apiserver-etcd-client.key";
              };
              extraOpts = "--enable-bootstrap-token-auth=true --shutdown-send-retry-after=${lib.boolToString shared.apiserverStop.retryAfter} --requestheader-client-ca-file=${pkiDir}/front-proxy-ca.crt --requestheader-allowed-names=front-proxy-client --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra-";
            }
          );
          controllerManager = lib.mkIf isServer {
            rootCaFile = soft "${pkiDir}/ca.crt";
            serviceAccountKeyFile = soft "${pkiDir}/sa.key";
            extraOpts = "--kubeconfig=${kubernetesDir}/controller-manager.conf --cluster-signing-cert-file=${pkiDir}/ca.crt --cluster-signing-key-file=${pkiDir}/ca.key --controllers=*,bootstrapsigner,tokencleaner";
          };
          scheduler.extraOpts = lib.mkIf isServer "--kubeconfig=${kubernetesDir}/scheduler.conf";
        };

        services.flannel = lib.mkIf kubernetes.flannel.enable {
          kubeconfig = soft kubelet;
          # By itself it takes the interface of the default route, whatever the nodes speak over and the firewall lets in.
          iface = lib.mkIf (flannelInterface != null) (soft flannelInterface);
        };

        services.etcd = lib.mkIf isServer (
          softly {
            package =
              if shared.isApart then
                packages.fromProfile [
                  "etcd"
                  "etcdctl"
                  "etcdutl"
                ]
              else
                cfg.components.etcd.package;
            name = toString cfg.nodeName;
            listenClientUrls = [ "https://127.0.0.1:2379" ] ++ lib.optional (!shared.isDynamic) "https://${nodeHost}:2379";
            listenPeerUrls = lib.optional (!shared.isDynamic) "https://${nodeHost}:2380";
            advertiseClientUrls = lib.optional (!shared.isDynamic) "https://${nodeHost}:2379";
            initialAdvertisePeerUrls = lib.optional (!shared.isDynamic) "https://${nodeHost}:2380";
            # The agent's file says who the members are; no configuration founds anything.
            initialCluster = [ ];
            initialClusterState = "existing";
            initialClusterToken = "muster-${toString config.muster.cluster}";
            clientCertAuth = true;
            trustedCaFile = "${pkiDir}/etcd/ca.crt";
            certFile = "${pkiDir}/etcd/server.crt";
            keyFile = "${pkiDir}/etcd/server.key";
            peerClientCertAuth = true;
            peerTrustedCaFile = "${pkiDir}/etcd/ca.crt";
            peerCertFile = "${pkiDir}/etcd/peer.crt";
            peerKeyFile = "${pkiDir}/etcd/peer.key";
          }
        );
      })

      (lib.mkIf (!cfg.existing && isServer) {
        systemd.services.kube-apiserver.serviceConfig.TimeoutStopSec = soft shared.apiserverStop.timeout;
        systemd.services.etcd.serviceConfig = {
          EnvironmentFile = [ shared.startFile ] ++ lib.optional shared.isDynamic "${shared.addressDir}/etcd.env";
          ExecStartPre = [ guard ];
        };
      })

      (lib.mkIf (!cfg.existing && shared.isDynamic) {
        systemd.services = lib.genAttrs (map nameOf (lib.remove "etcd.service" units)) (_: {
          serviceConfig.EnvironmentFile = shared.addressFiles;
        });
      })
    ]
  );
}
