# What every distribution has: the secrets' unit, the node's address, the start at a boot, the endpoint that the servers
# keep, and what the agent's driver reads of the configuration.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.muster.kubernetes;
  agent = config.services.muster.agent;
  shared = import ../../lib/clusters.nix { inherit lib config; };
  inherit (lib) mkIf;
  bash = lib.getExe' pkgs.bash "bash";
  inherit (shared) keeperInterface;
  kept = shared.keepsEndpoint && !cfg.existing;
  # A client's certificate that every server of the distribution has, for root alone: readiness is told to whoever has a name.
  client =
    {
      k3s = "/var/lib/rancher/k3s/server/tls/client-admin";
      k0s = "/var/lib/k0s/pki/admin";
      kubernetes = "${shared.pkiDir}/apiserver-kubelet-client";
      components = "${shared.pkiDir}/apiserver-kubelet-client";
    }
    .${cfg.distribution};
  tools = [
    pkgs.bash
    pkgs.coreutils
    pkgs.gnused
    pkgs.iproute2
  ];

  facts = {
    inherit (config.muster) cluster;
    inherit (cfg)
      distribution
      role
      version
      life
      endpoint
      apiPort
      clusterDomain
      nodeAddress
      nodeName
      servers
      certificateNames
      units
      ;
    podCidr = cfg.networks.pods or null;
    serviceCidr = cfg.networks.services or null;
    profile = if shared.isApart then cfg.profile.path else null;
    programs = if shared.isApart then [ "${cfg.profile.path}/bin" ] else map (package: "${package}/bin") cfg.programs;
  }
  // lib.optionalAttrs (cfg.files != [ ]) { files = lib.unique (lib.sort builtins.lessThan cfg.files); }
  // lib.optionalAttrs (etcdDataDir != "/var/lib/etcd") { inherit etcdDataDir; }
  // lib.optionalAttrs (kubelet != null) { inherit kubelet; }
  // lib.optionalAttrs (cfg.runtimeUnits != [ ]) {
    runtime = {
      units = lib.unique cfg.runtimeUnits;
      files = lib.unique (lib.sort builtins.lessThan cfg.runtimeFiles);
    };
  };
  # What the pods of a machine are ended by, and what is emptied behind them, when it leaves. k3s and k0s see to that themselves.
  kubelet =
    let
      ofComponents = cfg.components.kubelet;
      ofNixpkgs = config.services.kubernetes;
    in
    if cfg.distribution == "components" && ofComponents.enable then
      {
        folder = ofComponents.flags.root-dir or "/var/lib/kubelet";
        runtime = ofComponents.settings.containerRuntimeEndpoint or cfg.components.runtime.endpoint;
      }
    else if cfg.distribution == "kubernetes" && ofNixpkgs.kubelet.enable then
      {
        folder = ofNixpkgs.dataDir;
        runtime = ofNixpkgs.kubelet.containerRuntimeEndpoint;
      }
    else
      null;
  etcdDataDir =
    if !shared.isServer then
      "/var/lib/etcd"
    else if cfg.distribution == "components" then
      cfg.components.etcd.dataDir
    else if cfg.distribution == "kubernetes" then
      config.services.etcd.dataDir
    else
      "/var/lib/etcd";

  isOurs = name: lib.any (prefix: lib.hasPrefix prefix name) [
    "muster/"
    "k0s/"
    "cni/"
  ]
  # What units read by a name that stays, a person's own too.
  || lib.elem "/etc/${name}" cfg.files;
  forElsewhere = pkgs.linkFarm "muster-kubernetes-host" (
    map (name: {
      name = "etc/systemd/system/${name}";
      path = "${config.systemd.units.${name}.unit}/${name}";
    }) ([ "muster-cluster-secrets.service" "muster-kubernetes.service" ] ++ lib.optional shared.isDynamic "muster-node-address.service" ++ cfg.units)
    ++ lib.mapAttrsToList (name: file: {
      name = "etc/${name}";
      path = file.source;
    }) (lib.filterAttrs (name: _: isOurs name && name != "muster/agent.json") shared.etcFiles)
  );
in
{
  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.distribution != null;
        message = ''
          muster.kubernetes is enabled, but nothing says which distribution: give the machine a role and a cluster in fleet.toml,
          or set muster.kubernetes.distribution.
        '';
      }
      {
        assertion = agent.enable;
        message = ''
          muster.kubernetes is enabled without services.muster.agent: nobody would write the files that its units wait for. Enable
          the agent, or set muster.kubernetes.enable = false.
        '';
      }
      {
        assertion = kept -> keeperInterface != null && !shared.isTunnel keeperInterface;
        message = ''
          muster.kubernetes.endpointKeeper is "servers", but nothing says on which interface ${cfg.endpoint} is kept: write
          interface for the host in fleet.toml, or node-interface for the cluster. Neither VRRP nor a virtual address goes over a
          tunnel, such as tailscale0.
        '';
      }
      {
        assertion = cfg.nodeDnsName != null -> cfg.nodeAddress == null;
        message = ''
          muster.kubernetes.nodeDnsName and nodeAddress both say which address the node has: set one of them.
        '';
      }
      {
        assertion = cfg.existing -> !shared.isApart;
        message = ''
          muster.kubernetes.existing: the units of a cluster that was made without Muster start the programs of the system. Write
          life = "with-system" in [clusters.${toString config.muster.cluster}], or leave life out, until the cluster is adopted.
        '';
      }
      {
        assertion = config.muster.external -> shared.isApart;
        message = ''
          The system of this machine is somebody else's (os = "external"), so Kubernetes cannot come with it: write
          life = "apart" in [clusters.${toString config.muster.cluster}].
        '';
      }
    ];

    environment.etc = {
      "muster/cluster.json".source = pkgs.writeText "muster-cluster.json" (builtins.toJSON facts);
      "muster/cluster/datastore-guard.sh".source = ./scripts/datastore-guard.sh;
    }
    // lib.optionalAttrs shared.isDynamic {
      "muster/cluster/node-address.sh".source = ./scripts/node-address.sh;
    }
    // lib.optionalAttrs kept {
      "muster/cluster/api-ready.sh".source = ./scripts/api-ready.sh;
    };

    muster.kubernetes.profile.package = mkIf shared.isApart (
      pkgs.buildEnv {
        name = "muster-kubernetes-${cfg.distribution}${lib.optionalString (cfg.version != null) "-${cfg.version}"}";
        paths = cfg.programs ++ lib.optional config.muster.external forElsewhere;
        pathsToLink = [ "/bin" ] ++ lib.optional config.muster.external "/etc";
      }
    );

    # A restart of the runtime is one for every pod of the node: the operation sees to it.
    systemd.services = lib.genAttrs (map (lib.removeSuffix ".service") (lib.unique cfg.runtimeUnits)) (_: {
      restartIfChanged = false;
      # As its kubelet's: a configuration without them leaves both running.
      unitConfig.X-StopOnRemoval = false;
    }) // {
      # Without a network and without the coordinator: a boot needs neither. Nothing sealed is no failure, the units wait then.
      muster-cluster-secrets = {
        description = "Secrets of the cluster, opened for its units";
        wantedBy = [ "multi-user.target" ];
        before = [ "muster-agent.service" ];
        path = tools;
        restartIfChanged = false;
        stopIfChanged = false;
        unitConfig.X-StopOnRemoval = false;
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "${lib.getExe' agent.package "muster-agent"} cluster-secrets --config /etc/muster/agent.json";
          RuntimeDirectory = "muster-cluster";
          RuntimeDirectoryMode = "0700";
          # They are there as long as the machine runs, whatever becomes of this unit.
          RuntimeDirectoryPreserve = true;
          StateDirectory = "${lib.removePrefix "/var/lib/" agent.stateDir} ${lib.removePrefix "/var/lib/" cfg.stateDir}";
          StateDirectoryMode = "0700";
          UMask = "0077";
          # What does not open now does not open in five seconds either: the unit fails, and that is seen.
          TimeoutStartSec = "2min";
        };
      };

      # Once a boot, and not by a target: a switch starts again what active targets want.
      muster-kubernetes = mkIf (!cfg.existing) {
        description = "Kubernetes of this machine, started at a boot";
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [
          "network-online.target"
          "muster-cluster-secrets.service"
        ];
        restartIfChanged = false;
        stopIfChanged = false;
        unitConfig.X-StopOnRemoval = false;
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          # It does not wait: a server without quorum takes as long as the others are away.
          ExecStart = "${lib.getExe' config.systemd.package "systemctl"} start --no-block ${lib.concatStringsSep " " cfg.units}";
        };
      };

      muster-node-address = mkIf shared.isDynamic (
        let
          tailscale = lib.optionals (lib.hasPrefix "tailscale" (toString cfg.nodeInterface)) [
            "tailscaled.service"
            "tailscaled-autoconnect.service"
          ];
        in
        {
          description = "The address of this node of the cluster";
          # Otherwise the units of Kubernetes ask for it.
          wantedBy = lib.optional cfg.existing "multi-user.target";
          wants = [ "network-online.target" ] ++ tailscale;
          after = [ "network-online.target" ] ++ tailscale ++ lib.optional (cfg.nodeDnsName != null) "nss-lookup.target";
          path = tools ++ lib.optional (cfg.nodeDnsName != null) pkgs.getent;
          restartIfChanged = false;
          stopIfChanged = false;
          unitConfig.X-StopOnRemoval = false;
          serviceConfig = {
            # A boot or a switch that wants it by itself does not wait until it has ended.
            Type = if cfg.existing then "exec" else "oneshot";
            RemainAfterExit = true;
            ExecStart = lib.concatStringsSep " " (
              [
                bash
                "/etc/muster/cluster/node-address.sh"
                shared.addressDir
              ]
              # systemd drops an empty word that is not quoted.
              ++ lib.optional (cfg.nodeInterface != null || cfg.nodeDnsName != null) (
                if cfg.nodeInterface != null then cfg.nodeInterface else "''"
              )
              ++ lib.optional (cfg.nodeDnsName != null) cfg.nodeDnsName
            );
            RuntimeDirectory = "muster-node";
            RuntimeDirectoryPreserve = true;
            # systemd ends the start of all that requires it when its own has failed, and nobody would start Kubernetes in this boot again.
            TimeoutStartSec = "infinity";
            Restart = "on-failure";
            RestartSec = "5s";
          };
        }
      );
    };

    services.keepalived = mkIf (kept && keeperInterface != null) {
      enable = true;
      # ./firewall.nix lets VRRP in, on this interface and with either of NixOS' firewalls.
      openFirewall = shared.soft false;
      vrrpScripts.muster-api = shared.softly {
        script = "${bash} /etc/muster/cluster/api-ready.sh ${lib.getExe pkgs.curl} ${toString cfg.apiPort} ${client}.crt ${client}.key";
        interval = 3;
        fall = 3;
        rise = 2;
        # The certificate's key is root's.
        user = "root";
      };
      vrrpInstances.muster-endpoint = {
        interface = shared.soft keeperInterface;
        virtualRouterId = shared.soft cfg.virtualRouterId;
        # Equal ones: whoever has the address keeps it as long as its API server is ready.
        priority = shared.soft 100;
        noPreempt = shared.soft true;
        state = shared.soft "BACKUP";
        virtualIps = [ { addr = cfg.endpoint; } ];
        trackScripts = [ "muster-api" ];
      };
    };
  };
}
