# The coordinator. Its state is one directory, its two listeners are open to machines, its socket to root alone.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.muster.coordinator;
  types = import ../lib/types.nix { inherit lib; };
  inherit (lib) mkEnableOption mkIf mkOption;

  settings = {
    inherit (cfg)
      stateDir
      names
      logLevel
      machineCertificateDays
      heartbeatSeconds
      ;
    enrolmentListen = cfg.listen.enrolment;
    fleetListen = cfg.listen.fleet;
    socket = "/run/muster-coordinator/coordinator.sock";
  }
  // lib.optionalAttrs (cfg.fleetAddress != null) { inherit (cfg) fleetAddress; };
  settingsFile = pkgs.writeText "muster-coordinator.json" (builtins.toJSON (cfg.extraSettings // settings));

  portOf = listen: lib.toInt (lib.last (lib.splitString ":" listen));
in
{
  options.services.muster.coordinator = {
    enable = mkEnableOption "the Muster coordinator, which admits machines and decides when each moves";

    package = mkOption {
      type = lib.types.package;
      defaultText = lib.literalMD "the `coordinator` package of Muster's flake";
      description = "The coordinator to run.";
    };

    commandPackage = mkOption {
      type = lib.types.nullOr lib.types.package;
      defaultText = lib.literalMD "the `cli` package of Muster's flake";
      description = ''
        The package with the command `muster`, which root uses on this machine without further ceremony. `null` leaves it
        out.
      '';
    };

    names = mkOption {
      type = lib.types.nonEmptyListOf lib.types.nonEmptyStr;
      example = [
        "coordinator.home"
        "10.0.100.9"
      ];
      description = ''
        Every host name and address by which machines and operators reach this coordinator, without port. They stand in its
        server certificate; what is not listed is refused by the callers.
      '';
    };

    listen = {
      enrolment = mkOption {
        type = types.hostPort;
        default = "[::]:7443";
        description = "Address and port for machines that have no certificate yet. Only the server proves itself there.";
      };

      fleet = mkOption {
        type = types.hostPort;
        default = "[::]:7444";
        description = "Address and port for enrolled machines and operators. Both sides prove themselves there.";
      };
    };

    fleetAddress = mkOption {
      type = lib.types.nullOr types.hostPort;
      default = null;
      description = ''
        Host and port of the fleet listener as machines reach it. `null`: the first of `names`, with the listener's port.
      '';
    };

    openFirewall = mkOption {
      type = lib.types.bool;
      default = false;
      description = "Whether to open the ports of both listeners in the firewall of NixOS.";
    };

    stateDir = mkOption {
      type = types.absolutePath;
      default = "/var/lib/muster-coordinator";
      description = ''
        The one directory that holds everything worth keeping: the store, the certificate authority and the blobs. It lies
        below `/var/lib`. `muster backup` copies it while the coordinator runs.
      '';
    };

    logLevel = mkOption {
      type = lib.types.enum [
        "debug"
        "info"
        "warn"
        "error"
      ];
      default = "info";
      description = "The least level of what is written to the journal.";
    };

    machineCertificateDays = mkOption {
      type = lib.types.ints.between 1 365;
      default = 30;
      description = ''
        How long the certificate of a machine lasts. Machines renew it well before its end; one that was off for longer comes
        back with its key.
      '';
    };

    heartbeatSeconds = mkOption {
      type = lib.types.ints.between 1 3600;
      default = 10;
      description = "Time between two heartbeats of an agent, before jitter.";
    };

    extraSettings = types.extraSettings "coordinator" { retention.days = 30; };

    stopSeconds = mkOption {
      type = lib.types.ints.between 1 3600;
      default = 60;
      description = ''
        How long `systemctl stop` waits for the whole stop: the coordinator ends its sessions, takes no new calls, gives each
        listener five seconds for those that run, then cuts them, and writes what it knows. Afterwards it is killed, which
        costs nothing that was acknowledged.
      '';
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = types.belowVarLib cfg.stateDir;
        message = ''
          services.muster.coordinator.stateDir is ${cfg.stateDir}; it must be a directory directly below /var/lib, such as
          /var/lib/muster-coordinator. To keep it elsewhere, mount that place there.
        '';
      }
      {
        assertion = portOf cfg.listen.enrolment != portOf cfg.listen.fleet;
        message = ''
          services.muster.coordinator.listen.enrolment and .fleet both use port ${toString (portOf cfg.listen.fleet)}; give
          each a port of its own.
        '';
      }
      {
        assertion = lib.all (listen: portOf listen >= 1024 && portOf listen <= 65535) [
          cfg.listen.enrolment
          cfg.listen.fleet
        ];
        message = ''
          services.muster.coordinator.listen: the ports are ${cfg.listen.enrolment} and ${cfg.listen.fleet}; they must lie
          between 1024 and 65535, because the coordinator runs without rights to the lower ones.
        '';
      }
    ];

    environment.etc."muster/coordinator.json".source = settingsFile;
    environment.systemPackages = lib.optional (cfg.commandPackage != null) cfg.commandPackage;

    networking.firewall.allowedTCPPorts = lib.optionals cfg.openFirewall [
      (portOf cfg.listen.enrolment)
      (portOf cfg.listen.fleet)
    ];

    # A user of its own and not DynamicUser: that one moves the state directory, which fails where it is a mount.
    users.users.muster-coordinator = {
      isSystemUser = true;
      group = "muster-coordinator";
      description = "Muster coordinator";
    };
    users.groups.muster-coordinator = { };

    systemd.services.muster-coordinator = {
      description = "Muster coordinator";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      restartTriggers = [ settingsFile ];

      serviceConfig = {
        Type = "simple";
        ExecStart = "${lib.getExe' cfg.package "muster-coordinator"} --config /etc/muster/coordinator.json";
        Restart = "always";
        RestartSec = "2s";
        KillSignal = "SIGTERM";
        TimeoutStopSec = "${toString cfg.stopSeconds}s";

        User = "muster-coordinator";
        Group = "muster-coordinator";
        StateDirectory = lib.removePrefix "/var/lib/" cfg.stateDir;
        StateDirectoryMode = "0700";
        RuntimeDirectory = "muster-coordinator";
        RuntimeDirectoryMode = "0700";
        UMask = "0077";

        AmbientCapabilities = "";
        CapabilityBoundingSet = "";
        DevicePolicy = "closed";
        # One connection for each machine.
        LimitNOFILE = 65536;
        LockPersonality = true;
        NoNewPrivileges = true;
        PrivateDevices = true;
        PrivateTmp = true;
        PrivateUsers = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHome = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        ProtectSystem = "strict";
        RemoveIPC = true;
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_UNIX"
        ];
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        SystemCallErrorNumber = "EPERM";
        SystemCallFilter = [
          "@system-service"
          "~@privileged"
          "~@resources"
        ];
        # No MemoryDenyWriteExecute: the JavaScript engine makes the code it runs.
      };
    };
  };
}
