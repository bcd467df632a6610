# services.k0s.spec: k0s' own Cluster configuration. Every key that k0s knows may be written; those that are declared have
# the types and defaults that users of the public k0s flake know.
{ lib, dataDir }:
let
  inherit (lib) mkOption types;
  # Whether an address is right is k0s' to say; what is left out by mistake is caught here.
  address = types.strMatching "[0-9A-Fa-f.:]+|@node-address@" // {
    description = "IP address";
  };
  network = types.strMatching "[0-9A-Fa-f.:]+/[0-9]{1,3}" // {
    description = "network such as 10.244.0.0/16";
  };
  texts = types.attrsOf types.str;
  open = options: types.submodule { freeformType = types.attrsOf types.anything; inherit options; };
  option = type: default: description: mkOption { inherit type default description; };
  part = description: options: option (open options) { } description;
  inherit (types) bool enum ints listOf nullOr port str;
in
{
  freeformType = types.attrsOf types.anything;
  options = {
    api = part "The API server." {
      address = mkOption {
        type = address;
        description = "Address of the API on this controller; on a worker that of a controller.";
      };
      externalAddress = option str "" "The address under which the controllers are reached together.";
      extraArgs = option texts { } "More flags of the API server.";
      k0sApiPort = option port 9443 "Port where controllers join.";
      port = option port 6443 "Port of the API.";
      sans = option (listOf str) [ ] "More names and addresses in the API server's certificate.";
    };
    storage = part "Where the cluster's state lies." {
      type = option (enum [ "etcd" "kine" ]) "etcd" "Kind of the data store.";
      etcd = option (nullOr (open {
        peerAddress = option address "127.0.0.1" "Address among the members of etcd; its default serves one controller only.";
        extraArgs = option texts { } "More flags of etcd.";
        externalCluster = option (nullOr (open { })) null "An etcd that k0s does not run.";
      })) { } "With `type = \"etcd\"`.";
      kine = option (nullOr (open {
        dataSource = option str "sqlite://${dataDir}/db/state.db?mode=rwc&_journal=WAL&cache=shared" "Data source of kine.";
      })) { } "With `type = \"kine\"`.";
    };
    network = part "The network of pods and services." {
      provider = option (enum [ "kuberouter" "calico" "custom" ]) "kuberouter" "Who connects the pods. It cannot be changed later.";
      podCIDR = option network "10.244.0.0/16" "The network of the pods.";
      serviceCIDR = option network "10.96.0.0/12" "The network of the services.";
      clusterDomain = option str "cluster.local" "The domain of the services.";
      kuberouter = option (nullOr (open {
        autoMTU = option bool true "Whether the MTU is found.";
        mtu = option ints.unsigned 0 "The MTU, without `autoMTU`.";
        metricsPort = option ints.unsigned 8080 "Port of its metrics; 0: none.";
        hairpin = option (enum [ "Enabled" "Allowed" "Disabled" ]) "Enabled" "Whether a pod reaches itself by its service.";
        ipMasq = option bool false "Whether what leaves the network of pods is masked.";
        extraArgs = option texts { } "More flags of kube-router.";
      })) { } "With `provider = \"kuberouter\"`.";
      calico = option (nullOr (open {
        mode = option (enum [ "vxlan" "ipip" "bird" ]) "vxlan" "How pods of different nodes reach each other.";
        overlay = option (enum [ "Always" "CrossSubnet" "Never" ]) "Always" "When packets are wrapped.";
        vxlanPort = option port 4789 "UDP port of VXLAN.";
        vxlanVNI = option ints.unsigned 4096 "Its network's number.";
        mtu = option ints.unsigned 0 "The MTU; 0: found.";
        wireguard = option bool false "Whether packets between nodes are encrypted.";
        flexVolumeDriverPath = option str "/usr/libexec/k0s/kubelet-plugins/volume/exec/nodeagent~uds" "Path of the volume driver.";
        ipAutodetectionMethod = option str "" "How the node's address is found.";
        ipV6AutodetectionMethod = option str "" "The same for IPv6.";
        envVars = option texts { } "More variables of calico-node.";
      })) { } "With `provider = \"calico\"`.";
      dualStack = part "IPv4 and IPv6 together." {
        enabled = option bool false "Whether both are used.";
        IPv6podCIDR = option str "" "The IPv6 network of the pods.";
        IPv6serviceCIDR = option str "" "The IPv6 network of the services.";
      };
      kubeProxy = part "kube-proxy." {
        disabled = option bool false "Whether there is none.";
        mode = option (enum [ "iptables" "ipvs" "nftables" "userspace" ]) "iptables" "How it works.";
        metricsBindAddress = option str "0.0.0.0:10249" "Where its metrics are.";
        iptables = option (nullOr (types.attrsOf types.anything)) null "With `mode = \"iptables\"`.";
        ipvs = option (nullOr (types.attrsOf types.anything)) null "With `mode = \"ipvs\"`.";
        nodePortAddresses = option (nullOr (listOf str)) null "Networks of node ports.";
      };
      nodeLocalLoadBalancing = part "A load balancer on every node, in front of the API servers." {
        enabled = option bool false "Whether there is one.";
        type = option (enum [ "EnvoyProxy" ]) "EnvoyProxy" "Its kind.";
        envoyProxy = option (types.attrsOf types.anything) { } "Image and ports.";
      };
      controlPlaneLoadBalancing = part "A virtual address of the controllers, by k0s itself." {
        enabled = option bool false "Whether there is one.";
        type = option (enum [ "Keepalived" ]) "Keepalived" "Its kind.";
        keepalived = option (open {
          vrrpInstances = option (listOf (types.attrsOf types.anything)) [ ] "Virtual addresses.";
          virtualServers = option (listOf (types.attrsOf types.anything)) [ ] "Load balancers.";
        }) { } "Its settings. `authPass` lies in the store.";
      };
    };
    extensions = part "Storage and charts that k0s installs. Passwords in `helm` lie in the store." { };
    konnectivity = part "The way from the API server to the nodes." {
      adminPort = option port 8133 "Port for the API server.";
      agentPort = option port 8132 "Port for the nodes.";
    };
    controllerManager = part "The controller manager." { extraArgs = option texts { } "More flags."; };
    scheduler = part "The scheduler." { extraArgs = option texts { } "More flags."; };
    workerProfiles = option (listOf (types.submodule {
      options = {
        name = mkOption { type = str; description = "What workers select it by."; };
        values = mkOption { type = types.attrsOf types.anything; description = "Settings of the kubelet."; };
      };
    })) [ ] "Settings of kubelets, by name.";
    featureGates = option (listOf (types.submodule {
      options = {
        name = mkOption { type = str; description = "The gate."; };
        enabled = mkOption { type = bool; description = "Whether it is on."; };
        components = option (nullOr (listOf (enum [ "kube-apiserver" "kube-controller-manager" "kubelet" "kube-scheduler" "kube-proxy" ]))) null "Where; `null`: everywhere.";
      };
    })) [ ] "Feature gates.";
    images = option (types.attrsOf types.anything) { } "Images that k0s runs, and how they are pulled.";
    installConfig = part "Users that k0s runs its parts as." {
      users = part "Each is made on the machine." {
        etcdUser = option str "etcd" "Of etcd.";
        kineUser = option str "kube-apiserver" "Of kine.";
        konnectivityUser = option str "konnectivity-server" "Of konnectivity.";
        kubeAPIserverUser = option str "kube-apiserver" "Of the API server.";
        kubeSchedulerUser = option str "kube-scheduler" "Of the scheduler.";
      };
    };
    telemetry = part "What is told to the makers of k0s." { enabled = option bool false "Whether anything is."; };
  };
}
