# A node of k3s: services.k3s of nixpkgs, with what fleet.toml says and the files that the agent writes. Who founds the
# cluster is in the agent's file, never here: the configurations of all servers are alike.
{
  config,
  options,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.muster.kubernetes;
  k3s = config.services.k3s;
  shared = import ../../lib/clusters.nix { inherit lib config; };
  packages = import ./packages.nix { inherit lib pkgs; cfg = cfg // { inherit (config.muster) cluster; }; };
  types = import ../../lib/types.nix { inherit lib; };
  inherit (shared) soft isServer;
  chosen = packages.choose "k3s";
  guard = "${lib.getExe' pkgs.bash "bash"} /etc/muster/cluster/datastore-guard.sh ${shared.stateDir}/member /var/lib/rancher/k3s/server/db/etcd/member";
  # k3s makes the file anew at each start, from the tokens that it is given; the datastore holds a copy of another time. Where both are
  # there and differ, k3s ends ("newer than datastore"): after every change of a token, that of agents too.
  forgetPasswords = "${lib.getExe' pkgs.coreutils "rm"} -f /var/lib/rancher/k3s/server/cred/passwd";
  # Not every release of nixpkgs has the option.
  containerdTemplate = k3s.containerdConfigTemplate or null;
  # What is told to k3s beside its options, wherever it stands. What is made only at a build cannot be read here.
  words = lib.concatMap (flags: lib.filter builtins.isString (builtins.split "[[:space:]\"'\\]+" flags)) (
    lib.toList k3s.extraFlags
  );
  configPath = k3s.configPath or null;
  isConfig = name: builtins.match "rancher/k3s/config[.]yaml([.]d/.*)?" name != null;
  # Of a file that is there when this is evaluated, in a repository or copied from one.
  textOf =
    file:
    let
      context = builtins.attrValues (builtins.getContext file);
      isThere = builtins.isPath file || (builtins.isString file && context != [ ] && lib.all (one: one == { path = true; }) context);
    in
    if isThere then builtins.readFile file else "";
  configLines = lib.concatMap (lib.splitString "\n") (
    [ (textOf configPath) ]
    ++ lib.mapAttrsToList (_: file: if file.text == null then textOf file.source else file.text) (
      lib.filterAttrs (name: file: file.enable && isConfig name) config.environment.etc
    )
  );
  says =
    long: short: variables:
    let
      names = lib.concatStringsSep "|" long;
      flags = "--?(${names})(=.*)?" + lib.optionalString (short != [ ]) "|-(${lib.concatStringsSep "|" short})(=.*)?";
    in
    lib.any (word: builtins.match flags word != null) words
    || lib.any (line: builtins.match "[[:space:]]*['\"]?(${names})[+]?['\"]?[[:space:]]*:.*" line != null) configLines
    || lib.any (name: (config.systemd.services.k3s.environment.${name} or null) != null) variables;

  ownFlags =
    lib.optionals isServer (
      map (name: "--tls-san=${name}") cfg.certificateNames
      ++ lib.optional (cfg.apiPort != 6443) "--https-listen-port=${toString cfg.apiPort}"
      ++ lib.optional (cfg.podCidr != null) "--cluster-cidr=${cfg.podCidr}"
      ++ lib.optional (cfg.serviceCidr != null) "--service-cidr=${cfg.serviceCidr}"
      ++ lib.optional (cfg.clusterDomain != "cluster.local") "--cluster-domain=${cfg.clusterDomain}"
    )
    ++ lib.optional (cfg.nodeInterface != null) "--flannel-iface=${cfg.nodeInterface}";
  isOurs = cfg.enable && cfg.distribution == "k3s" && !cfg.existing;
  # As mkForce says it.
  isForced = options.services.k3s.extraFlags.highestPrio < 100;
in
{
  # A person's flags come after ours. They may be one string, with which no list of ours would join, so ours are no definition.
  options.services.k3s.extraFlags = lib.mkOption {
    apply = flags: if isOurs && !isForced then ownFlags ++ lib.toList flags else flags;
  };

  config = lib.mkIf (cfg.enable && cfg.distribution == "k3s") (
    lib.mkMerge [
      {
        # Whoever made the cluster.
        assertions = [
          {
            assertion = !(says [ "data-dir" ] [ "d" ] [ "K3S_DATA_DIR" ]);
            message = ''
              services.k3s: what lies in /var/lib/rancher/k3s is what keeps a machine of a cluster from founding another one. Leave
              --data-dir out, in files and the environment too, and mount a file system of your own there (fileSystems."/var/lib/rancher/k3s").
            '';
          }
          {
            assertion = isServer -> !(says [ "datastore-endpoint" "disable-etcd" ] [ ] [ "K3S_DATASTORE_ENDPOINT" ]);
            message = ''
              services.k3s: a cluster of Muster's keeps its state in the etcd that k3s runs. Only that grows by servers, and a server that was a
              member once does not start without it. Leave --datastore-endpoint and --disable-etcd out, in files and the environment too.
            '';
          }
        ];

        muster.kubernetes = {
          programs = [ (if cfg.existing then k3s.package else chosen) ];
          units = [ "k3s.service" ];
          files = shared.filesBelow [ "rancher/k3s/" ];
          podInterfaces = lib.mkDefault [
            "cni0"
            "flannel.1"
          ];
          networks = {
            pods = if cfg.podCidr != null then cfg.podCidr else "10.42.0.0/16";
            services = if cfg.serviceCidr != null then cfg.serviceCidr else "10.43.0.0/16";
          };
        };
      }

      (lib.mkIf cfg.existing {
        assertions = [ (packages.assertion "services.k3s.package" k3s.package) ];
        systemd.services.k3s = lib.mkMerge [
          shared.asItWas
          { serviceConfig.ExecStartPre = lib.mkIf isServer [ guard ]; }
        ];
      })

      (lib.mkIf (!cfg.existing) {
        assertions = [
          (packages.assertion "muster.kubernetes.package" chosen)
          {
            assertion =
              k3s.token == ""
              && k3s.agentToken == ""
              && !(says [ "token" "agent-token" ] [ "t" ] [ "K3S_TOKEN" "K3S_AGENT_TOKEN" ]);
            message = ''
              services.k3s.token and agentToken, or such a flag, file or environment, would lie in the store, which everybody on the machine can read. Leave them empty: the
              agent writes the tokens to ${shared.runDir}. A token of your own goes into a file that tokenFile names.
            '';
          }
          {
            assertion = !lib.any types.endsInStore [ k3s.tokenFile k3s.agentTokenFile k3s.environmentFile ];
            message = ''
              services.k3s.tokenFile, agentTokenFile, environmentFile: a file of the store can be read by everybody on the machine. Name one
              outside of it, as a string: a path literal would be copied there. Variables that are no secret go into
              systemd.services.k3s.environment.
            '';
          }
          {
            assertion =
              !k3s.clusterInit
              && k3s.serverAddr == ""
              && !(says [ "cluster-init" "server" ] [ "s" ] [ "K3S_CLUSTER_INIT" "K3S_URL" ]);
            message = ''
              services.k3s.clusterInit and serverAddr, or such a flag, file or environment, say who founds the cluster and who is joined. That can move, so the agent writes
              it to ${shared.startFile}; leave both alone.
            '';
          }
        ];

        services.k3s = {
          enable = soft true;
          role = soft (if isServer then "server" else "agent");
          package = soft (if shared.isApart then packages.fromProfile [ "k3s" "k3s-killall.sh" ] else chosen);
          tokenFile = soft shared.tokenFile;
          agentTokenFile = lib.mkIf isServer (soft "${shared.runDir}/agent-token");
          nodeName = soft cfg.nodeName;
          nodeIP = soft shared.nodeAddress;
          nodeLabel = soft (lib.mapAttrsToList (name: value: "${name}=${value}") cfg.nodeLabels);
          nodeTaint = soft cfg.nodeTaints;
        };

        systemd.services.k3s = lib.mkMerge [
          shared.held
          {
            # It lies beside k3s' data and not in /etc, so the unit tells of it.
            restartTriggers = lib.optional (containerdTemplate != null) (pkgs.writeText "k3s-containerd-template" containerdTemplate);
            serviceConfig = {
              # services.k3s has room for one file, a person's own.
              EnvironmentFile = lib.mkForce (
                [ shared.startFile ] ++ shared.addressFiles ++ lib.optional (k3s.environmentFile != null) k3s.environmentFile
              );
              ExecStartPre = lib.mkIf isServer [
                guard
                forgetPasswords
              ];
            };
          }
        ];
      })
    ]
  );
}
