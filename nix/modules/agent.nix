# The agent on a node. It is started with a JSON file that holds no secret; docs/nixos.md explains the choices.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  cfg = config.services.muster.agent;
  types = import ../lib/types.nix { inherit lib; };
  inherit (lib) mkEnableOption mkIf mkOption;

  hasToken = cfg.tokenFile != null;

  settings = {
    inherit (cfg)
      coordinator
      caPin
      trustPin
      stateDir
      allow
      activation
      ;
    tokenFile = if hasToken then "/run/credentials/muster-agent.service/token" else null;
    socket = "/run/muster-agent/agent.sock";
    sourceBuild = {
      enabled = cfg.sourceBuilds.enable;
      leastMemoryBytes = cfg.sourceBuilds.leastMemory;
    };
    generations = { inherit (cfg.generations) keep; };
    deadlines = {
      switchMs = types.millisecondsOf cfg.switchTimeout;
      bootMs = types.millisecondsOf cfg.bootTimeout;
    };
  };
  settingsFile = pkgs.writeText "muster-agent.json" (
    builtins.toJSON (lib.recursiveUpdate cfg.extraSettings (lib.filterAttrs (_: value: value != null) settings))
  );

  # Every program that the agent, the way back and the gates start. A unit on NixOS finds nothing else: a tool missing here
  # is a fact missing there, or a way back that is not walked.
  tools = [
    config.nix.package
    config.systemd.package
    # Not of pkgs: the program of nixos-rebuild-ng there goes by that name in some releases.
    config.system.build.nixos-rebuild
    pkgs.gitMinimal
    pkgs.bash
    pkgs.coreutils
    pkgs.findutils
    pkgs.gnused
    pkgs.util-linux
    pkgs.iproute2
    pkgs.iputils
    pkgs.dmidecode
    pkgs.pciutils
    pkgs.usbutils
    pkgs.smartmontools
    pkgs.which
    pkgs.gnugrep
    pkgs.gawk
    # Called nettools before 25.11.
    (pkgs.net-tools or pkgs.nettools)
  ]
  ++ cfg.extraTools;

  environment = {
    LC_ALL = "C.UTF-8";
    # git and Nix keep their caches below it; the agent's directory is the only one that is surely there.
    HOME = cfg.stateDir;
  };

  # Its name before 25.11 was systemd.watchdog.runtimeTime.
  watchdog =
    if options ? systemd.settings then
      { settings.Manager.RuntimeWatchdogSec = lib.mkDefault cfg.watchdog; }
    else
      { watchdog.runtimeTime = lib.mkDefault cfg.watchdog; };

  units = config.systemd.services;
  systemctl = lib.getExe' config.systemd.package "systemctl";
in
{
  options.services.muster.agent = {
    enable = mkEnableOption "the Muster agent, which enrols this machine and moves it to signed revisions";

    package = mkOption {
      type = lib.types.package;
      defaultText = lib.literalMD "the `agent` package of Muster's flake";
      description = "The agent to run. Its command, `muster-agent`, is in every user's `PATH`; the agent listens to root alone.";
    };

    commandPackage = mkOption {
      type = lib.types.nullOr lib.types.package;
      defaultText = lib.literalMD "the `cli` package of Muster's flake";
      description = ''
        The package with the operators' command `muster`, for who works from this node; it speaks to the coordinator alone.
        `null` leaves it out. What root does at the node, also without a coordinator, is `muster-agent`, which is always
        there: `muster-agent status`, `muster-agent trust set FILE`.
      '';
    };

    coordinator = mkOption {
      type = types.hostPort;
      example = "coordinator.home:7443";
      description = ''
        Host and port of the coordinator's enrolment listener. The agent learns the address of the fleet listener there.
        An IPv6 address stands in brackets.
      '';
    };

    caPin = mkOption {
      type = types.pin;
      example = "1f0e7d…";
      description = ''
        SHA-256, in hex, of the public key of the coordinator's certificate authority; `muster trust show` prints it. The
        agent proves the coordinator's certificate against it before it sends anything.
      '';
    };

    trustPin = mkOption {
      type = lib.types.nullOr types.pin;
      default = null;
      description = ''
        SHA-256, in hex, of the fleet's trust set. Without it the first trust set offered is taken, once, and the machine is
        shown with `trust: first use` until an operator confirms it.
      '';
    };

    tokenFile = mkOption {
      type = lib.types.nullOr types.absolutePath;
      default = null;
      example = "/var/lib/secrets/muster-token";
      description = ''
        File that holds an enrolment token; make it readable by root alone (0600). It is handed over with systemd's
        `LoadCredential=`, which reads it whatever its mode, and may be deleted once the machine is enrolled. It must not lie
        in the Nix store, which everybody can read. Write the path as a string: a path literal would be copied there.
      '';
    };

    stateDir = mkOption {
      type = types.absolutePath;
      default = "/var/lib/muster-agent";
      description = ''
        The one directory that must survive a reboot: the machine's key, certificates, the highest revision accepted and the
        journal of operations. It lies below `/var/lib`, on a file system with owners and hard links (not FAT): elsewhere the
        agent does not start. A machine that loses it comes back as a stranger.
      '';
    };

    allow = mkOption {
      type = lib.types.listOf (
        lib.types.enum [
          "apply"
          "upgrade"
          "rollback"
          "reboot"
          "restart"
          "join"
          "drain"
          "snapshot"
          "leave"
          "restore"
          "rotate"
          "kubeconfig"
          "wipe"
          "logs"
        ]
      );
      default = [
        "apply"
        "upgrade"
        "rollback"
        "reboot"
        "restart"
        "join"
        "drain"
        "snapshot"
      ];
      description = ''
        What this node may be ordered to do. Everything else is refused here, whoever asks and with whatever signature. What
        destroys or exposes (`leave`, `restore`, `rotate`, `kubeconfig`, `wipe`) is off unless it is named; it needs an
        operator's signature besides. `join` is whatever follows from the signed fleet file: founding, joining, minting
        tokens, clearing away what a reinstalled machine left, adopting, manifests. `drain` cordons, drains and lifts
        our cordons by way of this server; `snapshot` copies its datastore. Taking another machine out by way of this
        server is `leave`, too. `logs` shows lines of units' logs to operators who ask (`muster query --probe
        journal=UNIT`): it is off unless it is named, for what programs log is theirs to keep secret.
      '';
    };

    activation = mkOption {
      type = lib.types.enum [
        "switch"
        "never"
      ];
      default = "switch";
      description = ''
        What follows a build. `switch` activates it; `never` verifies, fetches and builds, then stops: for a machine that a
        person switches by hand.
      '';
    };

    sourceBuilds = {
      enable = mkOption {
        type = lib.types.bool;
        default = true;
        description = "Whether this node evaluates and builds revisions itself, when a revision brings no built closure.";
      };

      leastMemory = mkOption {
        type = lib.types.ints.unsigned;
        default = 2 * 1024 * 1024 * 1024;
        defaultText = lib.literalMD "2 GiB";
        description = ''
          Least memory of the machine, in bytes, for building from source. Below it the agent refuses before it starts,
          which is better than being killed in the middle.
        '';
      };

      memoryMax = mkOption {
        type = lib.types.str;
        default = "75%";
        example = "6G";
        description = ''
          Most memory that evaluations and builds may use together: `MemoryMax=` of `muster-build.slice`, in bytes, with a
          suffix, or as a share of the machine's memory.
        '';
      };

      cpuWeight = mkOption {
        type = lib.types.ints.between 1 10000;
        default = 20;
        description = "`CPUWeight=` of `muster-build.slice`. Everything else on the node has 100.";
      };

      ioWeight = mkOption {
        type = lib.types.ints.between 1 10000;
        default = 20;
        description = "`IOWeight=` of `muster-build.slice`. Everything else on the node has 100.";
      };
    };

    generations.keep = mkOption {
      type = lib.types.ints.between 2 1000;
      default = 10;
      description = ''
        How many generations of the system stay. Older ones go, from the boot partition too, after every change that stays. Where an operation
        finds too little room, all of them but the newest go, whatever this says.
        What was booted, what runs, what ran before and the profile's own generation are never removed.
      '';
    };

    switchTimeout = mkOption {
      type = types.duration;
      default = "30m";
      description = ''
        How long one switch may take, from its start to its end. What takes longer is stopped with everything that it
        started, and the machine goes back to the system that ran before.
      '';
    };

    bootTimeout = mkOption {
      type = types.duration;
      default = "10m";
      description = ''
        How long a reboot that Muster orders may take, until the agent runs in another boot. A machine that still runs in
        the same boot by then did not reboot, and the operation says so.
      '';
    };

    panicReboot = mkOption {
      type = lib.types.bool;
      default =
        config.boot.loader.systemd-boot.enable
        || ((config.boot.lanzaboote.enable or false) && (config.boot.lanzaboote.bootCounting.initialTries or 0) > 0);
      defaultText = lib.literalMD "whether the boot loader is systemd-boot, which can boot a system once, for a trial, or lanzaboote with boot counting, which goes back by itself";
      description = ''
        Whether a boot that fails ends in another boot instead of waiting for a person: kernel parameters `panic=10` and
        `boot.panic_on_fail`; `muster-emergency.service`, which reboots a machine that has been in emergency mode for
        ten minutes (`systemctl stop muster-emergency` at the console keeps it there); and `muster-trial-limit.service`,
        which reboots a trial that has not come as far as the dead man within `bootTimeout` (`systemctl stop
        muster-trial-limit` keeps it). After a trial boot that is the way back to the system before. With a boot loader that
        cannot boot a system once, or does not go back after some boots by itself, the same system is booted again.
      '';
    };

    watchdog = mkOption {
      type = lib.types.nullOr types.duration;
      default = "1m";
      description = ''
        After how long without a sign of life from systemd the hardware's watchdog resets the machine; a machine without
        one ignores it. The way back out of a hang that no program on the machine can notice. `null` leaves the watchdog
        alone; a value of your own for systemd's `RuntimeWatchdogSec` wins over this one.
      '';
    };

    volatileState = mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Allows `stateDir` on a file system that is gone after a boot, as on installation media. Such a machine is a
        stranger after each boot, and its dead man does not outlive one.
      '';
    };

    extraSettings = types.extraSettings "agent" { logLevel = "debug"; };

    extraTools = mkOption {
      type = lib.types.listOf lib.types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.openssh ]";
      description = "More packages for the agent's `PATH`, such as what a flake input needs to be fetched.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = hasToken -> !(types.inStore cfg.tokenFile);
        message = ''
          services.muster.agent.tokenFile is ${toString cfg.tokenFile}, in the Nix store, which everybody on the machine can
          read. Put the token into a file that only root can read, such as /var/lib/secrets/muster-token, and name that.
        '';
      }
      {
        assertion = types.belowVarLib cfg.stateDir;
        message = ''
          services.muster.agent.stateDir is ${cfg.stateDir}; it must be a directory directly below /var/lib, such as
          /var/lib/muster-agent. To keep it elsewhere, mount that place there.
        '';
      }
      {
        assertion = cfg.volatileState || !(types.isVolatile config cfg.stateDir);
        message = ''
          services.muster.agent.stateDir is ${cfg.stateDir}, on a tmpfs: after a reboot the machine would be a stranger, and
          nothing would bring it back from a change that failed. Mount a place that stays there, for instance
          fileSystems."${cfg.stateDir}" = { device = "/persist${cfg.stateDir}"; options = [ "bind" ]; };
          with /persist in use before it (neededForBoot). On installation media set services.muster.agent.volatileState.
        '';
      }
      {
        assertion = units.muster-dead-man.enable && lib.elem "multi-user.target" units.muster-dead-man.wantedBy;
        message = ''
          systemd.services.muster-dead-man is switched off: after a reboot in the middle of a change nothing would take this
          machine back. Leave it on while services.muster.agent.enable is set; agents refuse a system without it.
        '';
      }
      {
        assertion = units.muster-agent.enable && !units.muster-agent.restartIfChanged;
        message = ''
          systemd.services.muster-agent is switched off, or a switch may restart it (restartIfChanged): the agent restarts
          itself, once, while the dead man is armed. To have no agent, set services.muster.agent.enable = false.
        '';
      }
    ];

    boot.kernelParams = mkIf cfg.panicReboot [
      "panic=10"
      "boot.panic_on_fail"
    ];

    environment.etc."muster/agent.json".source = settingsFile;
    environment.systemPackages = [ cfg.package ] ++ lib.optional (cfg.commandPackage != null) cfg.commandPackage;

    systemd = lib.mkMerge [
      (mkIf (cfg.watchdog != null) watchdog)
      {
        # On btrfs a file that is written in place takes a new block all the same, which a full disk has not, unless it was
        # made in a directory with this attribute. Other file systems ignore it.
        tmpfiles.rules = [
          "d ${cfg.stateDir} 0700 root root -"
          "h ${cfg.stateDir} - - - - +C"
          "h ${cfg.stateDir}/ops - - - - +C"
        ];

        slices.muster-build = {
          description = "Evaluations and builds of the Muster agent";
          sliceConfig = {
            MemoryMax = cfg.sourceBuilds.memoryMax;
            CPUWeight = cfg.sourceBuilds.cpuWeight;
            IOWeight = cfg.sourceBuilds.ioWeight;
          };
        };

        services.muster-agent = {
          description = "Muster agent";
          wantedBy = [ "multi-user.target" ];
          wants = [ "network-online.target" ];
          after = [
            "network-online.target"
            "nix-daemon.socket"
          ];
          path = tools;
          inherit environment;

          # A switch that the agent runs must not stop the agent, not even one whose closure has no agent. It restarts itself
          # into the new version, while the dead man is armed.
          restartIfChanged = false;
          stopIfChanged = false;
          # Makes the unit's file change with its settings, for the agent to see.
          restartTriggers = [ settingsFile ];
          unitConfig = {
            X-StopOnRemoval = false;
            # It never gives up: nobody is there to start it again.
            StartLimitIntervalSec = 0;
          };

          serviceConfig = {
            Type = "simple";
            ExecStart = "${lib.getExe' cfg.package "muster-agent"} --config /etc/muster/agent.json";
            Restart = "always";
            RestartSec = "5s";
            # A stop signals the agent alone, which cancels what it runs itself. A switch has a unit of its own and goes on.
            KillMode = "mixed";
            TimeoutStopSec = "2min";
            StateDirectory = lib.removePrefix "/var/lib/" cfg.stateDir;
            StateDirectoryMode = "0700";
            RuntimeDirectory = "muster-agent";
            RuntimeDirectoryMode = "0700";
            UMask = "0077";
            # No sandbox: builds and tools are its children and inherit what it is denied. A mount namespace would hide their
            # mounts from the machine, a filter would fail builds, a closed device list would hide disks.
          }
          // lib.optionalAttrs hasToken {
            LoadCredential = "token:${cfg.tokenFile}";
            # What the credential holds when the file is gone, so that a token deleted after use does not stop the agent.
            SetCredential = "token:\\n";
          };
        };

        # Once at every boot, from the journal: what was armed before is armed again, or taken back. Timers that the agent
        # made are gone by then, and the agent may be what does not start.
        services.muster-dead-man = {
          description = "Muster dead man: the way back from a change that was not confirmed";
          wantedBy = [ "multi-user.target" ];
          before = [ "muster-agent.service" ];
          path = tools;
          inherit environment;
          restartIfChanged = false;
          stopIfChanged = false;
          unitConfig = {
            X-StopOnRemoval = false;
            StartLimitIntervalSec = 0;
          };
          serviceConfig = {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = "${lib.getExe' cfg.package "muster-agent"} dead-man --config /etc/muster/agent.json";
            # It only reads and starts other units. The agent waits for the first try and not for those after it.
            TimeoutStartSec = "2min";
            Restart = "on-failure";
            RestartSec = "5s";
            # Which also waits for the file systems that hold it.
            StateDirectory = lib.removePrefix "/var/lib/" cfg.stateDir;
            StateDirectoryMode = "0700";
            UMask = "0077";
          };
        };

        # The dead man is started when the basic system is up. A trial boot that waits for ever before that, such as for a
        # passphrase that nobody types, is ended by this unit, which needs the state's file system and nothing else.
        services.muster-trial-limit = mkIf cfg.panicReboot {
          description = "Muster: end of a trial boot that hangs before the dead man";
          wantedBy = [ "sysinit.target" ];
          # Emergency mode has a reboot of its own, which a person can stop.
          conflicts = [ "emergency.target" ];
          path = tools;
          inherit environment;
          restartIfChanged = false;
          stopIfChanged = false;
          unitConfig = {
            # Those that every unit gets would have it wait for what hangs.
            DefaultDependencies = false;
            RequiresMountsFor = cfg.stateDir;
            X-StopOnRemoval = false;
            StartLimitIntervalSec = 0;
          };
          serviceConfig = {
            # The boot does not wait for it. It ends at once where nothing is tried.
            Type = "exec";
            RemainAfterExit = true;
            ExecStart = "${lib.getExe' cfg.package "muster-agent"} trial-limit --config /etc/muster/agent.json";
            Restart = "on-failure";
            RestartSec = "5s";
            StandardOutput = "journal+console";
            StandardError = "journal+console";
            UMask = "0077";
          };
        };

        # Emergency mode is neither a panic nor a hang, and waits for a person for ever.
        services.muster-emergency = mkIf cfg.panicReboot {
          description = "Reboot out of emergency mode in ten minutes";
          wantedBy = [ "emergency.target" ];
          # Those that every unit gets would end emergency mode at its start.
          unitConfig.DefaultDependencies = false;
          conflicts = [ "shutdown.target" ];
          before = [ "shutdown.target" ];
          serviceConfig = {
            # Started at once: while the start of a unit of emergency mode is under way, systemd refuses every reboot.
            Type = "exec";
            ExecStart = "${lib.getExe' pkgs.bash "bash"} -c '${lib.getExe' pkgs.coreutils "sleep"} 10m && { ${systemctl} reboot || ${systemctl} reboot --force; }'";
            StandardOutput = "journal+console";
          };
        };
      }
    ];
  };
}
