# A node of k0s: services.k0s (./k0s), with what fleet.toml says and the files that the agent writes.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.muster.kubernetes;
  k0s = config.services.k0s;
  shared = import ../../lib/clusters.nix { inherit lib config; };
  packages = import ./packages.nix { inherit lib pkgs; cfg = cfg // { inherit (config.muster) cluster; }; };
  types = import ../../lib/types.nix { inherit lib; };
  inherit (shared) soft isServer isWorker;
  chosen = packages.choose "k0s";
  bash = lib.getExe' pkgs.bash "bash";
  guard = "${bash} /etc/muster/cluster/datastore-guard.sh ${shared.stateDir}/member ${k0s.dataDir}/etcd/member";
  # Filled in at each start.
  fillsAddress = isServer && shared.isDynamic && !cfg.existing;
  unfilled = "k0s/unfilled.yaml";
  filled = "${shared.addressDir}/k0s.yaml";
  address = if shared.isDynamic then "@node-address@" else cfg.nodeAddress;
in
{
  config = lib.mkIf (cfg.enable && cfg.distribution == "k0s") (
    lib.mkMerge [
      {
        # Whoever made the cluster.
        assertions = [
          {
            assertion = k0s.dataDir == "/var/lib/k0s";
            message = ''
              services.k0s.dataDir: what lies in /var/lib/k0s is what keeps a machine of a cluster from founding another one. Leave it
              alone, and mount a file system of your own there (fileSystems."/var/lib/k0s").
            '';
          }
          {
            assertion = k0s.spec.storage.type == "etcd" && (k0s.spec.storage.etcd.externalCluster or null) == null;
            message = ''
              services.k0s.spec.storage: a cluster of Muster's keeps its state in the etcd that k0s runs. Only that grows by servers, and
              beside another one a further controller would start an authority of its own. Leave type and externalCluster alone.
            '';
          }
        ];

        muster.kubernetes = {
          programs = [ (if cfg.existing then k0s.package else chosen) ];
          units = [ "k0s.service" ];
          # Workers have the first without reading it. Its containerd is part of k0s, and reads networks of one's own.
          files = lib.filter (path: path != "/etc/k0s/k0s.yaml" || (isServer && !fillsAddress)) (
            shared.filesBelow ([ "k0s/" ] ++ lib.optional isWorker "cni/")
          );
          podInterfaces = lib.mkDefault (lib.optionals isWorker [ "kube-bridge" ]);
          networks = {
            pods = k0s.spec.network.podCIDR;
            services = k0s.spec.network.serviceCIDR;
          };
        };
      }

      (lib.mkIf cfg.existing {
        assertions = [ (packages.assertion "services.k0s.package" k0s.package) ];
        systemd.services.k0s = lib.mkMerge [
          shared.asItWas
          { serviceConfig.ExecStartPre = lib.mkIf isServer [ guard ]; }
        ];
      })

      (lib.mkIf (!cfg.existing) {
        assertions = [
          (packages.assertion "muster.kubernetes.package" chosen)
          {
            assertion = !k0s.controller.isLeader;
            message = ''
              services.k0s.controller.isLeader says who founds the cluster. That can move, so the agent writes it to
              ${shared.startFile}; leave it alone.
            '';
          }
          {
            assertion = !types.endsInStore k0s.tokenFile;
            message = ''
              services.k0s.tokenFile: a file of the store can be read by everybody on the machine. Name one outside of it, as a string: a
              path literal would be copied there.
            '';
          }
          {
            assertion = lib.all (repository: !(repository ? password)) (k0s.spec.extensions.helm.repositories or [ ]);
            message = ''
              services.k0s.spec.extensions.helm: the password of a repository would lie in the store, which everybody on the machine can
              read. Bring the chart as a manifest of the fleet directory, or from a repository that asks for none.
            '';
          }
          {
            assertion = lib.all (instance: !(instance ? authPass)) (
              k0s.spec.network.controlPlaneLoadBalancing.keepalived.vrrpInstances or [ ]
            );
            message = ''
              services.k0s.spec.network.controlPlaneLoadBalancing: authPass would lie in the store, which everybody on the machine can
              read. Write endpoint-keeper = "servers" in [clusters.${toString config.muster.cluster}] of fleet.toml instead.
            '';
          }
        ];

        services.k0s = {
          enable = soft true;
          role = soft (
            if cfg.role == "server+worker" then
              "controller+worker"
            else if isServer then
              "controller"
            else
              "worker"
          );
          package = soft (if shared.isApart then packages.fromProfile [ "k0s" ] else chosen);
          checkedBy = soft chosen;
          clusterName = soft (toString config.muster.cluster);
          tokenFile = soft shared.tokenFile;
          # The founder has no token, and nobody is the founder by its configuration.
          tokenArgument = lib.mkIf isServer (soft "$MUSTER_K0S_JOIN");
          # Not a path of the store, so that the unit does not change with the configuration.
          startedWith = soft (if shared.isDynamic then filled else "/etc/k0s/k0s.yaml");
          spec = {
            api = {
              # Workers do not read it, but the option must have a value.
              address = soft address;
              port = soft cfg.apiPort;
              sans = lib.mkIf isServer (soft (lib.unique (cfg.certificateNames ++ [ address ])));
              externalAddress = lib.mkIf (cfg.endpoint != null) (soft cfg.endpoint);
            };
            storage.etcd.peerAddress = lib.mkIf isServer (soft address);
            network = {
              podCIDR = lib.mkIf (cfg.podCidr != null) (soft cfg.podCidr);
              serviceCIDR = lib.mkIf (cfg.serviceCidr != null) (soft cfg.serviceCidr);
              clusterDomain = soft cfg.clusterDomain;
            };
          };
          # k0s takes one flag for all of them, so that they are joined with a person's.
          kubeletArguments = lib.optional isWorker "--node-ip=${shared.nodeAddress}";
          # Added to what a person writes, which the option joins with blanks.
          arguments =
            # It replaces its own program, which lies in the store.
            lib.optional isServer "--disable-components=${lib.concatStringsSep "," ([ "autopilot" ] ++ k0s.disableComponents)}"
            ++ lib.optionals isWorker (
              lib.optional (cfg.nodeLabels != { }) "--labels=${
                lib.concatStringsSep "," (lib.mapAttrsToList (name: value: "${name}=${value}") cfg.nodeLabels)
              }"
              ++ lib.optional (cfg.nodeTaints != [ ]) "--taints=${lib.concatStringsSep "," cfg.nodeTaints}"
            );
        };

        # `k0s backup` puts what lies at its usual place into the archive, and `k0s restore` makes a datastore at the address that is there.
        environment.etc = lib.mkIf fillsAddress {
          "k0s/k0s.yaml".source = filled;
          ${unfilled}.source = k0s.configFile;
          "muster/cluster/k0s-config.sh".source = ./scripts/k0s-config.sh;
        };

        systemd.services.k0s = lib.mkMerge [
          shared.held
          {
            path = lib.optionals fillsAddress [
              pkgs.coreutils
              pkgs.gnused
            ];
            serviceConfig = {
              EnvironmentFile = lib.optional isServer shared.startFile ++ shared.addressFiles;
              ExecStartPre = lib.mkIf isServer (
                [ guard ] ++ lib.optional fillsAddress "${bash} /etc/muster/cluster/k0s-config.sh /etc/${unfilled} ${filled}"
              );
            };
          }
        ];
      })
    ]
  );
}
