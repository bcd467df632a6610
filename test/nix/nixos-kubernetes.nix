# A stand-in for those modules of nixpkgs that run Kubernetes (services.k3s, services.kubernetes, services.etcd,
# services.flannel, services.keepalived, virtualisation.containerd, virtualisation.cri-o): the options that Muster's modules
# set or read, with their types and defaults, and units with the flags that the real modules are known to pass. It is written
# from what those modules document, and is none of them; whether a real NixOS agrees is not shown by it.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf mkOption types;
  option = type: default: mkOption { inherit type default; };
  must = type: mkOption { inherit type; };
  inherit (types)
    attrsOf
    bool
    either
    enum
    int
    listOf
    nullOr
    package
    path
    port
    str
    ;
  when = test: words: lib.optionals test words;
  maybe = flag: value: when (value != null) [ "--${flag}=${toString value}" ];
  ofMaster = lib.elem "master" kubernetes.roles;
  ofNode = lib.elem "node" kubernetes.roles;

  k3s = config.services.k3s;
  etcd = config.services.etcd;
  kubernetes = config.services.kubernetes;
  keepalived = config.services.keepalived;
  keepalivedFile = pkgs.writeText "keepalived.conf" (
    lib.concatStrings (
      lib.mapAttrsToList (name: one: ''
        vrrp_script ${name} {
          script "${one.script}"
          interval ${toString one.interval}
          fall ${toString one.fall}
          rise ${toString one.rise}
          ${lib.optionalString (one.user != null) "user ${one.user}"}
        }
      '') keepalived.vrrpScripts
      ++ lib.mapAttrsToList (name: one: ''
        vrrp_instance ${name} {
          interface ${one.interface}
          state ${one.state}
          virtual_router_id ${toString one.virtualRouterId}
          priority ${toString one.priority}
          ${lib.optionalString one.noPreempt "nopreempt"}
          virtual_ipaddress {
            ${lib.concatMapStringsSep "\n" (ip: ip.addr) one.virtualIps}
          }
          track_script {
            ${lib.concatStringsSep "\n" one.trackScripts}
          }
        }
      '') keepalived.vrrpInstances
    )
  );
  containerd = config.virtualisation.containerd;
  crio = config.virtualisation.cri-o;

  kubeconfigOptions = {
    server = option str "";
    caFile = option (nullOr path) null;
    certFile = option (nullOr path) null;
    keyFile = option (nullOr path) null;
  };
  kubeconfigFile =
    name: conf:
    pkgs.writeText "${name}-kubeconfig" (
      builtins.toJSON {
        apiVersion = "v1";
        kind = "Config";
        clusters = [
          {
            name = "local";
            cluster = {
              certificate-authority = if conf.caFile == null then kubernetes.caFile else conf.caFile;
              server = if conf.server == "" then kubernetes.apiserverAddress else conf.server;
            };
          }
        ];
        users = [
          {
            inherit name;
            user = {
              client-certificate = conf.certFile;
              client-key = conf.keyFile;
            };
          }
        ];
        contexts = [
          {
            name = "local";
            context = {
              cluster = "local";
              user = name;
            };
          }
        ];
        current-context = "local";
      }
    );

  # As pkgs.formats.toml has it: lists of several definitions come one after the other.
  tomlType = types.oneOf [
    bool
    int
    types.float
    str
    path
    (attrsOf tomlType)
    (listOf tomlType)
  ]
  // {
    description = "TOML value";
  };
  toml =
    let
      scalar = value: builtins.toJSON value;
      isTable = value: builtins.isAttrs value;
      table =
        names: value:
        let
          plain = lib.filterAttrs (_: one: !isTable one) value;
          tables = lib.filterAttrs (_: isTable) value;
        in
        lib.optionalString (names != [ ]) "[${lib.concatMapStringsSep "." builtins.toJSON names}]\n"
        + lib.concatStrings (lib.mapAttrsToList (name: one: "${name} = ${scalar one}\n") plain)
        + lib.concatStrings (lib.mapAttrsToList (name: one: table (names ++ [ name ]) one) tables);
    in
    table [ ];

  kubeUnit = name: description: words: more: {
    description = "${description} (stand-in for the unit of nixpkgs)";
    wantedBy = [ "kubernetes.target" ];
    after = if name == "kube-apiserver" then [ "network.target" ] else [ "kube-apiserver.service" ];
    unitConfig.StartLimitIntervalSec = 0;
    serviceConfig = {
      Slice = "kubernetes.slice";
      ExecStart = lib.concatStringsSep " " ([ "${kubernetes.package}/bin/${name}" ] ++ words);
      WorkingDirectory = kubernetes.dataDir;
      Restart = "on-failure";
    }
    // more;
  };
  asUser = {
    User = "kubernetes";
    Group = "kubernetes";
  };
  extra = text: when (text != "") [ text ];
in
{
  options = {
    services.k3s = {
      enable = option bool false;
      package = must package;
      role = option (enum [ "server" "agent" ]) "server";
      serverAddr = option str "";
      token = option str "";
      tokenFile = option (nullOr path) null;
      agentToken = option str "";
      agentTokenFile = option (nullOr path) null;
      extraFlags = option (either str (listOf str)) [ ];
      environmentFile = option (nullOr path) null;
      configPath = option (nullOr path) null;
      disable = option (listOf str) [ ];
      nodeName = option (nullOr str) null;
      nodeLabel = option (listOf str) [ ];
      nodeTaint = option (listOf str) [ ];
      nodeIP = option (nullOr str) null;
      nodeExternalIP = option (nullOr str) null;
      clusterInit = option bool false;
      disableAgent = option bool false;
      containerdConfigTemplate = option (nullOr str) null;
    };

    services.etcd = {
      enable = option bool false;
      package = option package pkgs.etcd;
      name = option str config.networking.hostName;
      dataDir = option path "/var/lib/etcd";
      listenClientUrls = option (listOf str) [ "http://127.0.0.1:2379" ];
      listenPeerUrls = option (listOf str) [ "http://127.0.0.1:2380" ];
      advertiseClientUrls = option (listOf str) etcd.listenClientUrls;
      initialAdvertisePeerUrls = option (listOf str) etcd.listenPeerUrls;
      initialCluster = option (listOf str) [ "${etcd.name}=http://127.0.0.1:2380" ];
      initialClusterState = option (enum [ "new" "existing" ]) "new";
      initialClusterToken = option str "etcd-cluster";
      clientCertAuth = option bool false;
      trustedCaFile = option (nullOr path) null;
      certFile = option (nullOr path) null;
      keyFile = option (nullOr path) null;
      peerClientCertAuth = option bool false;
      peerTrustedCaFile = option (nullOr path) etcd.trustedCaFile;
      peerCertFile = option (nullOr path) etcd.certFile;
      peerKeyFile = option (nullOr path) etcd.keyFile;
    };

    services.flannel = {
      kubeconfig = option (nullOr path) null;
      iface = option (nullOr str) null;
    };

    services.keepalived = {
      enable = option bool false;
      openFirewall = option bool false;
      vrrpScripts = option (attrsOf (types.submodule {
        options = {
          script = must str;
          interval = option int 1;
          fall = option int 1;
          rise = option int 1;
          user = option (nullOr str) null;
        };
      })) { };
      vrrpInstances = option (attrsOf (types.submodule {
        options = {
          interface = must str;
          virtualRouterId = must (types.ints.between 1 255);
          priority = option int 100;
          noPreempt = option bool false;
          state = option (enum [ "MASTER" "BACKUP" ]) "BACKUP";
          virtualIps = option (listOf (types.submodule { options.addr = must str; })) [ ];
          trackScripts = option (listOf str) [ ];
        };
      })) { };
    };

    virtualisation.containerd = {
      enable = option bool false;
      settings = option (attrsOf types.anything) { };
    };
    virtualisation.cri-o = {
      enable = option bool false;
      settings = option tomlType { };
    };

    services.kubernetes = {
      roles = option (listOf (enum [ "master" "node" ])) [ ];
      package = option package pkgs.kubernetes;
      easyCerts = option bool false;
      masterAddress = must str;
      apiserverAddress = must str;
      caFile = option (nullOr path) null;
      clusterCidr = option (nullOr str) "10.1.0.0/16";
      dataDir = option path "/var/lib/kubernetes";
      addonManager.enable = option bool false;
      addons.dns.enable = option bool false;
      addons.dns.clusterDomain = option str "cluster.local";
      flannel.enable = option bool false;
      flannel.openFirewallPorts = option bool true;
      kubelet = {
        enable = option bool false;
        nodeIp = option (nullOr str) null;
        hostname = must str;
        clientCaFile = option (nullOr path) kubernetes.caFile;
        clusterDns = option (listOf str) [ "10.1.0.1" ];
        extraOpts = option (types.separatedString " ") "";
        containerRuntimeEndpoint = option str "unix:///run/containerd/containerd.sock";
        extraConfig = option (attrsOf types.anything) { };
        kubeconfig = kubeconfigOptions;
        cni.config = option (listOf types.attrs) [ ];
        seedDockerImages = option (listOf package) [ ];
        taints = option (attrsOf (types.submodule {
          options = {
            key = must str;
            value = must str;
            effect = must str;
          };
        })) { };
      };
      proxy = {
        enable = option bool false;
        hostname = option str config.networking.hostName;
        extraOpts = option (types.separatedString " ") "";
        kubeconfig = kubeconfigOptions;
      };
      apiserver = {
        enable = option bool false;
        advertiseAddress = option (nullOr str) null;
        allowPrivileged = option bool false;
        authorizationMode = option (listOf str) [ "RBAC" "Node" ];
        clientCaFile = option (nullOr path) kubernetes.caFile;
        enableAdmissionPlugins = option (listOf str) [ "NamespaceLifecycle" "LimitRanger" "ServiceAccount" "ResourceQuota" "DefaultStorageClass" "DefaultTolerationSeconds" "NodeRestriction" ];
        etcd = {
          servers = option (listOf str) [ "http://127.0.0.1:2379" ];
          caFile = option (nullOr path) kubernetes.caFile;
          certFile = option (nullOr path) null;
          keyFile = option (nullOr path) null;
        };
        extraOpts = option (types.separatedString " ") "";
        extraSANs = option (listOf str) [ ];
        kubeletClientCaFile = option (nullOr path) kubernetes.caFile;
        kubeletClientCertFile = option (nullOr path) null;
        kubeletClientKeyFile = option (nullOr path) null;
        proxyClientCertFile = option (nullOr path) null;
        proxyClientKeyFile = option (nullOr path) null;
        securePort = option port 6443;
        serviceAccountIssuer = option str "https://kubernetes.default.svc";
        serviceAccountKeyFile = must path;
        serviceAccountSigningKeyFile = must path;
        serviceClusterIpRange = option str "10.0.0.0/24";
        tlsCertFile = option (nullOr path) null;
        tlsKeyFile = option (nullOr path) null;
      };
      controllerManager = {
        enable = option bool false;
        extraOpts = option (types.separatedString " ") "";
        kubeconfig = kubeconfigOptions;
        rootCaFile = option (nullOr path) kubernetes.caFile;
        serviceAccountKeyFile = option (nullOr path) null;
      };
      scheduler = {
        enable = option bool false;
        extraOpts = option (types.separatedString " ") "";
        kubeconfig = kubeconfigOptions;
      };
    };
  };

  config = lib.mkMerge [
    (mkIf k3s.enable {
      systemd.services.k3s = {
        description = "k3s service (stand-in for the unit of nixpkgs)";
        wantedBy = [ "multi-user.target" ];
        wants = [ "firewall.service" "network-online.target" ];
        after = [ "firewall.service" "network-online.target" ];
        serviceConfig = {
          Type = if k3s.role == "agent" then "exec" else "notify";
          KillMode = "process";
          Delegate = "yes";
          Restart = "always";
          RestartSec = "5s";
          LimitNOFILE = 1048576;
          LimitNPROC = "infinity";
          LimitCORE = "infinity";
          TasksMax = "infinity";
          TimeoutStartSec = 0;
          EnvironmentFile = k3s.environmentFile;
          ExecStart = lib.concatStringsSep " " (
            [ "${k3s.package}/bin/k3s ${k3s.role}" ]
            ++ when (k3s.serverAddr != "") [ "--server ${k3s.serverAddr}" ]
            ++ when (k3s.token != "") [ "--token ${k3s.token}" ]
            ++ when (k3s.tokenFile != null) [ "--token-file ${k3s.tokenFile}" ]
            ++ when (k3s.agentTokenFile != null) [ "--agent-token-file ${k3s.agentTokenFile}" ]
            ++ when (k3s.configPath != null) [ "--config ${k3s.configPath}" ]
            ++ map (one: "--disable=${one}") k3s.disable
            ++ maybe "node-name" k3s.nodeName
            ++ map (one: "--node-label=${one}") k3s.nodeLabel
            ++ map (one: "--node-taint=${one}") k3s.nodeTaint
            ++ maybe "node-ip" k3s.nodeIP
            ++ maybe "node-external-ip" k3s.nodeExternalIP
            ++ when k3s.clusterInit [ "--cluster-init" ]
            ++ when k3s.disableAgent [ "--disable-agent" ]
            ++ lib.flatten [ k3s.extraFlags ]
          );
        };
      };
    })

    (mkIf keepalived.enable {
      systemd.services.keepalived = {
        description = "Keepalive Daemon (stand-in for the unit of nixpkgs)";
        wantedBy = [ "multi-user.target" ];
        after = [ "network.target" "network-online.target" ];
        wants = [ "network-online.target" ];
        serviceConfig = {
          Type = "forking";
          PIDFile = "/run/keepalived.pid";
          KillMode = "process";
          RuntimeDirectory = "keepalived";
          ExecStart = "${pkgs.keepalived}/sbin/keepalived -f ${keepalivedFile} -p /run/keepalived.pid";
          Restart = "always";
          RestartSec = "1s";
        };
      };
    })

    (mkIf etcd.enable {
      systemd.services.etcd = {
        description = "etcd key-value store (stand-in for the unit of nixpkgs)";
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ];
        environment = lib.filterAttrs (_: value: value != null && value != "") {
          ETCD_NAME = etcd.name;
          ETCD_DATA_DIR = etcd.dataDir;
          ETCD_LISTEN_CLIENT_URLS = lib.concatStringsSep "," etcd.listenClientUrls;
          ETCD_LISTEN_PEER_URLS = lib.concatStringsSep "," etcd.listenPeerUrls;
          ETCD_ADVERTISE_CLIENT_URLS = lib.concatStringsSep "," etcd.advertiseClientUrls;
          ETCD_INITIAL_ADVERTISE_PEER_URLS = lib.concatStringsSep "," etcd.initialAdvertisePeerUrls;
          ETCD_INITIAL_CLUSTER = lib.concatStringsSep "," etcd.initialCluster;
          ETCD_INITIAL_CLUSTER_STATE = etcd.initialClusterState;
          ETCD_INITIAL_CLUSTER_TOKEN = etcd.initialClusterToken;
          ETCD_CLIENT_CERT_AUTH = toString etcd.clientCertAuth;
          ETCD_TRUSTED_CA_FILE = etcd.trustedCaFile;
          ETCD_CERT_FILE = etcd.certFile;
          ETCD_KEY_FILE = etcd.keyFile;
          ETCD_PEER_CLIENT_CERT_AUTH = toString etcd.peerClientCertAuth;
          ETCD_PEER_TRUSTED_CA_FILE = etcd.peerTrustedCaFile;
          ETCD_PEER_CERT_FILE = etcd.peerCertFile;
          ETCD_PEER_KEY_FILE = etcd.peerKeyFile;
        };
        serviceConfig = {
          Type = "notify";
          Restart = "always";
          RestartSec = "30s";
          ExecStart = "${etcd.package}/bin/etcd";
          User = "etcd";
          LimitNOFILE = 40000;
        };
      };
      systemd.tmpfiles.rules = [ "d ${etcd.dataDir} 0700 etcd - - -" ];
      users.users.etcd = {
        isSystemUser = true;
        group = "etcd";
        home = etcd.dataDir;
      };
      users.groups.etcd = { };
    })

    (mkIf ofMaster {
      services.etcd.enable = true;
      services.kubernetes = {
        addonManager.enable = lib.mkDefault true;
        apiserver.enable = lib.mkDefault true;
        controllerManager.enable = lib.mkDefault true;
        scheduler.enable = lib.mkDefault true;
        kubelet.enable = lib.mkDefault true;
        proxy.enable = lib.mkDefault true;
        kubelet.taints = mkIf (!ofNode) {
          master = {
            key = "node-role.kubernetes.io/master";
            value = "true";
            effect = "NoSchedule";
          };
        };
      };
    })
    (mkIf ofNode {
      services.kubernetes.kubelet.enable = lib.mkDefault true;
      services.kubernetes.proxy.enable = lib.mkDefault true;
    })
    (mkIf (kubernetes.roles != [ ]) {
      services.kubernetes.easyCerts = lib.mkDefault true;
      services.kubernetes.flannel.enable = lib.mkDefault true;
      services.kubernetes.kubelet.hostname = lib.mkDefault (lib.toLower config.networking.hostName);
      services.kubernetes.apiserverAddress = lib.mkDefault "https://${kubernetes.masterAddress}:${toString kubernetes.apiserver.securePort}";
      systemd.targets.kubernetes = {
        description = "Kubernetes (stand-in for the target of nixpkgs)";
        wantedBy = [ "multi-user.target" ];
      };
      systemd.tmpfiles.rules = [
        "d /opt/cni/bin 0755 root root -"
        "d /run/kubernetes 0755 kubernetes kubernetes -"
        "d ${kubernetes.dataDir} 0755 kubernetes kubernetes -"
      ];
      users.groups.kubernetes = { };
      users.users.kubernetes = {
        isSystemUser = true;
        group = "kubernetes";
        home = kubernetes.dataDir;
      };
    })
    (mkIf kubernetes.apiserver.enable {
      services.kubernetes.apiserver.etcd.servers = lib.mkDefault [ "https://${kubernetes.masterAddress}:2379" ];
      services.etcd = {
        clientCertAuth = lib.mkDefault true;
        peerClientCertAuth = lib.mkDefault true;
        listenClientUrls = lib.mkDefault [ "https://0.0.0.0:2379" ];
        listenPeerUrls = lib.mkDefault [ "https://0.0.0.0:2380" ];
        advertiseClientUrls = lib.mkDefault [ "https://${kubernetes.masterAddress}:2379" ];
        initialCluster = lib.mkDefault [ "${kubernetes.masterAddress}=https://${kubernetes.masterAddress}:2380" ];
        name = lib.mkDefault kubernetes.masterAddress;
        initialAdvertisePeerUrls = lib.mkDefault [ "https://${kubernetes.masterAddress}:2380" ];
      };
      systemd.services.kube-apiserver = kubeUnit "kube-apiserver" "Kubernetes APIServer Service" (
        let
          one = kubernetes.apiserver;
        in
        [
          "--allow-privileged=${lib.boolToString one.allowPrivileged}"
          "--authorization-mode=${lib.concatStringsSep "," one.authorizationMode}"
          "--bind-address=0.0.0.0"
        ]
        ++ maybe "advertise-address" one.advertiseAddress
        ++ maybe "client-ca-file" one.clientCaFile
        ++ [
          "--enable-admission-plugins=${lib.concatStringsSep "," one.enableAdmissionPlugins}"
          "--etcd-servers=${lib.concatStringsSep "," one.etcd.servers}"
        ]
        ++ maybe "etcd-cafile" one.etcd.caFile
        ++ maybe "etcd-certfile" one.etcd.certFile
        ++ maybe "etcd-keyfile" one.etcd.keyFile
        ++ maybe "kubelet-certificate-authority" one.kubeletClientCaFile
        ++ maybe "kubelet-client-certificate" one.kubeletClientCertFile
        ++ maybe "kubelet-client-key" one.kubeletClientKeyFile
        ++ maybe "proxy-client-cert-file" one.proxyClientCertFile
        ++ maybe "proxy-client-key-file" one.proxyClientKeyFile
        ++ [
          "--secure-port=${toString one.securePort}"
          "--api-audiences=api,https://kubernetes.default.svc"
          "--service-account-issuer=${one.serviceAccountIssuer}"
          "--service-account-signing-key-file=${one.serviceAccountSigningKeyFile}"
          "--service-account-key-file=${one.serviceAccountKeyFile}"
          "--service-cluster-ip-range=${one.serviceClusterIpRange}"
          "--storage-backend=etcd3"
        ]
        ++ maybe "tls-cert-file" one.tlsCertFile
        ++ maybe "tls-private-key-file" one.tlsKeyFile
        ++ extra one.extraOpts
      ) (asUser // { AmbientCapabilities = "cap_net_bind_service"; RestartSec = 5; });
    })
    (mkIf kubernetes.controllerManager.enable {
      systemd.services.kube-controller-manager = kubeUnit "kube-controller-manager" "Kubernetes Controller Manager Service" (
        let
          one = kubernetes.controllerManager;
        in
        [
          "--allocate-node-cidrs=true"
          "--bind-address=127.0.0.1"
        ]
        ++ maybe "cluster-cidr" kubernetes.clusterCidr
        ++ [
          "--kubeconfig=${kubeconfigFile "kube-controller-manager" one.kubeconfig}"
          "--leader-elect=true"
        ]
        ++ maybe "root-ca-file" one.rootCaFile
        ++ [ "--secure-port=10252" ]
        ++ maybe "service-account-private-key-file" one.serviceAccountKeyFile
        ++ [ "--use-service-account-credentials" ]
        ++ extra one.extraOpts
      ) (asUser // { RestartSec = "30s"; });
    })
    (mkIf kubernetes.scheduler.enable {
      systemd.services.kube-scheduler = kubeUnit "kube-scheduler" "Kubernetes Scheduler Service" (
        [
          "--bind-address=127.0.0.1"
          "--kubeconfig=${kubeconfigFile "kube-scheduler" kubernetes.scheduler.kubeconfig}"
          "--leader-elect=true"
          "--secure-port=10251"
        ]
        ++ extra kubernetes.scheduler.extraOpts
      ) (asUser // { RestartSec = 5; });
    })
    (mkIf kubernetes.proxy.enable {
      systemd.services.kube-proxy = kubeUnit "kube-proxy" "Kubernetes Proxy Service" (
        [ "--bind-address=0.0.0.0" ]
        ++ maybe "cluster-cidr" kubernetes.clusterCidr
        ++ [
          "--hostname-override=${kubernetes.proxy.hostname}"
          "--kubeconfig=${kubeconfigFile "kube-proxy" kubernetes.proxy.kubeconfig}"
        ]
        ++ extra kubernetes.proxy.extraOpts
      ) { RestartSec = 5; }
      // {
        path = [ pkgs.iptables pkgs.conntrack-tools ];
      };
    })
    (mkIf (kubernetes.flannel.enable && kubernetes.flannel.openFirewallPorts) {
      networking.firewall.allowedUDPPorts = [ 8285 8472 ];
    })
    # The one thing that flannel reads of its configuration lies where flannel looks for it.
    (mkIf kubernetes.flannel.enable {
      environment.etc."kube-flannel/net-conf.json".source = lib.mkDefault (
        pkgs.writeText "net-conf.json" (builtins.toJSON { Network = kubernetes.clusterCidr; Backend.Type = "vxlan"; })
      );
      systemd.services.flannel = {
        description = "Flannel Service (stand-in for the unit of nixpkgs)";
        wantedBy = [ "multi-user.target" ];
        environment = {
          FLANNELD_KUBECONFIG_FILE = toString config.services.flannel.kubeconfig;
        }
        // lib.optionalAttrs (config.services.flannel.iface != null) { FLANNELD_IFACE = config.services.flannel.iface; };
        serviceConfig.ExecStart = "${pkgs.flannel}/bin/flannel";
      };
    })
    (mkIf kubernetes.kubelet.enable {
      # The image that holds a pod together.
      services.kubernetes.kubelet.seedDockerImages = [ kubernetes.package.pause ];
      virtualisation.containerd = {
        enable = lib.mkDefault true;
        settings = lib.mapAttrsRecursive (_: lib.mkDefault) {
          version = 2;
          root = "/var/lib/containerd";
          state = "/run/containerd";
          oom_score = 0;
          grpc.address = "/run/containerd/containerd.sock";
          plugins."io.containerd.grpc.v1.cri" = {
            cni = {
              bin_dir = "/opt/cni/bin";
              max_conf_num = 0;
            };
            containerd.runtimes.runc = {
              options.SystemdCgroup = true;
              runtime_type = "io.containerd.runc.v2";
            };
            sandbox_image = "docker.io/library/pause:latest";
          };
        };
      };
      environment.etc = lib.listToAttrs (
        lib.imap1 (
          index: plugin:
          lib.nameValuePair "cni/net.d/${toString (10 + index)}-${plugin.type}.conf" {
            source = pkgs.writeText "${plugin.type}.conf" (builtins.toJSON plugin);
          }
        ) kubernetes.kubelet.cni.config
      );
      systemd.services.kubelet = kubeUnit "kubelet" "Kubernetes Kubelet Service" (
        let
          one = kubernetes.kubelet;
          taints = lib.mapAttrsToList (_: taint: "${taint.key}=${taint.value}:${taint.effect}") one.taints;
        in
        # The real unit loads these before it starts; lab machines have them.
        builtins.deepSeq (map toString one.seedDockerImages)
        [
          "--config=${
            pkgs.writeText "kubelet-config" (
              builtins.toJSON (
                lib.recursiveUpdate {
                  apiVersion = "kubelet.config.k8s.io/v1beta1";
                  kind = "KubeletConfiguration";
                  address = "0.0.0.0";
                  port = 10250;
                  authentication = {
                    x509 = lib.optionalAttrs (one.clientCaFile != null) { clientCAFile = one.clientCaFile; };
                    webhook = {
                      enabled = true;
                      cacheTTL = "10s";
                    };
                  };
                  authorization.mode = "Webhook";
                  cgroupDriver = "systemd";
                  hairpinMode = "hairpin-veth";
                  registerNode = true;
                  inherit (one) containerRuntimeEndpoint;
                  healthzPort = 10248;
                  healthzBindAddress = "127.0.0.1";
                  clusterDomain = kubernetes.addons.dns.clusterDomain;
                  clusterDNS = one.clusterDns;
                } one.extraConfig
              )
            )
          }"
          "--hostname-override=${one.hostname}"
          "--kubeconfig=${kubeconfigFile "kubelet" one.kubeconfig}"
        ]
        ++ maybe "node-ip" one.nodeIp
        ++ when (taints != [ ]) [ "--register-with-taints=${lib.concatStringsSep "," taints}" ]
        ++ [ "--root-dir=${kubernetes.dataDir}" ]
        ++ extra one.extraOpts
      ) { RestartSec = "1000ms"; }
      // {
        path = [ pkgs.util-linux pkgs.iproute2 pkgs.ethtool pkgs.iptables pkgs.socat ];
      };
      boot.kernelModules = [ "br_netfilter" "overlay" ];
    })

    (mkIf containerd.enable {
      environment.etc."containerd/config.toml".source = pkgs.writeText "containerd.toml" (toml containerd.settings);
      systemd.services.containerd = {
        description = "containerd - container runtime (stand-in for the unit of nixpkgs)";
        wantedBy = [ "multi-user.target" ];
        after = [ "network.target" ];
        path = [ pkgs.containerd pkgs.runc pkgs.iptables ];
        serviceConfig = {
          Type = "notify";
          ExecStart = "${pkgs.containerd}/bin/containerd --config /etc/containerd/config.toml";
          Delegate = "yes";
          KillMode = "process";
          Restart = "always";
          RestartSec = "10";
          LimitNPROC = "infinity";
          LimitCORE = "infinity";
          LimitNOFILE = "infinity";
          TasksMax = "infinity";
          OOMScoreAdjust = -999;
        };
      };
    })
    (mkIf kubernetes.addons.dns.enable {
      services.kubernetes.kubelet.clusterDns = lib.mkDefault [ "10.0.0.254" ];
    })
    (mkIf crio.enable {
      virtualisation.cri-o.settings.crio = {
        storage_driver = "overlay";
        network.plugin_dirs = [ "${pkgs.cni-plugins}/bin" ];
        runtime = {
          cgroup_manager = "systemd";
          log_level = "info";
        };
      };
      # Networks that nixpkgs takes from cri-o's own examples.
      environment.etc."cni/net.d/10-crio-bridge.conflist".source = pkgs.writeText "10-crio-bridge.conflist" (
        builtins.toJSON {
          cniVersion = "1.0.0";
          name = "crio";
          plugins = [ { type = "bridge"; } ];
        }
      );
      environment.etc."cni/net.d/99-loopback.conflist".source = pkgs.writeText "99-loopback.conflist" (
        builtins.toJSON {
          cniVersion = "1.0.0";
          name = "loopback";
          plugins = [ { type = "loopback"; } ];
        }
      );
      environment.etc."crio/crio.conf.d/00-default.conf".source = pkgs.writeText "crio.conf" (toml crio.settings);
      systemd.services.crio = {
        description = "Container Runtime Interface for OCI (stand-in for the unit of nixpkgs)";
        wantedBy = [ "multi-user.target" ];
        serviceConfig = {
          Type = "notify";
          ExecStart = "${pkgs.cri-o}/bin/crio";
          Restart = "on-abnormal";
        };
      };
    })
  ];
}
