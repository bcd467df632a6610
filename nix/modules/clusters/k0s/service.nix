# services.k0s, with the options that users of the public k0s flake (github:nix-community/k0s-nix) know, so that they change
# an import and no configuration. nixpkgs has neither such a module nor the package.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.k0s;
  isLeader = cfg.role == "single" || cfg.controller.isLeader;
  hasExternalEtcd = cfg.spec.storage.type == "etcd" && (cfg.spec.storage.etcd.externalCluster or null) != null;
  needsToken = cfg.role == "worker" || (!isLeader && !hasExternalEtcd);
  forbidden = [
    "--data-dir"
    "--config"
    "--single"
    "--token-file"
  ];

  # Of two --kubelet-extra-args k0s takes the last one alone, so that what stands in extraArgs is joined with what is wanted here; its own
  # come last, and win.
  kubeletFlag = "--kubelet-extra-args";
  kubeletParts = builtins.match "(|.* )${kubeletFlag}(=| +)(\"[^\"]*\"|'[^']*'|[^\\ \"']+)(| .*)" cfg.extraArgs;
  kubeletFlags = lib.length (lib.splitString kubeletFlag cfg.extraArgs) - 1;
  isJoined = cfg.kubeletArguments != [ ] && kubeletFlags == 1 && kubeletParts != null;
  givenKubelet = lib.elemAt kubeletParts 2;
  quote = if lib.hasPrefix "'" givenKubelet then "'" else "\"";
  ownKubelet = lib.concatStringsSep " " cfg.kubeletArguments;
  kubeletWord =
    if isJoined then
      "${quote}${kubeletFlag}=${ownKubelet} ${lib.removePrefix quote (lib.removeSuffix quote givenKubelet)}${quote}"
    else if lib.hasInfix " " ownKubelet then
      "\"${kubeletFlag}=${ownKubelet}\""
    else
      "${kubeletFlag}=${ownKubelet}";
  extraArgs =
    if isJoined then
      lib.concatStringsSep " " (
        lib.filter (part: part != "") [
          (lib.removeSuffix " " (lib.elemAt kubeletParts 0))
          (lib.removePrefix " " (lib.elemAt kubeletParts 3))
        ]
      )
    else
      cfg.extraArgs;

  # k0s refuses what belongs to another kind of store or network.
  withoutOthers =
    spec:
    spec
    // {
      storage = removeAttrs spec.storage (if spec.storage.type == "etcd" then [ "kine" ] else [ "etcd" ]);
      network = removeAttrs spec.network (
        lib.optional (spec.network.provider != "kuberouter") "kuberouter"
        ++ lib.optional (spec.network.provider != "calico") "calico"
        ++ lib.optional (!spec.network.dualStack.enabled) "dualStack"
      );
    };
  # JSON is YAML.
  configuration = pkgs.writeText "k0s.yaml" (
    builtins.toJSON {
      apiVersion = "k0s.k0sproject.io/v1beta1";
      kind = "Cluster";
      metadata.name = cfg.clusterName;
      spec = withoutOthers cfg.spec;
    }
  );
  # k0s takes no name for an address, and where one is found at the start the file has only a place for it.
  validated = pkgs.runCommand "k0s-validated.yaml" { preferLocalBuild = true; } ''
    sed s/@node-address@/192.0.2.1/g ${configuration} > checked.yaml
    ${cfg.checkedBy}/bin/k0s config validate --config checked.yaml
    ln -s ${configuration} $out
  '';
in
{
  imports = [
    (lib.mkRemovedOptionModule [ "services" "k0s" "isLeader" ] "Use services.k0s.controller.isLeader instead.")
    (lib.mkRemovedOptionModule [ "services" "k0s" "configText" ] ''
      Write it into services.k0s.spec, which takes any key of k0s' configuration.
    '')
    (lib.mkRemovedOptionModule [ "services" "k0s" "manifest" ] ''
      Put it below manifests/CLUSTER/ of the fleet directory; or, without Muster, into manifests/ of services.k0s.dataDir.
    '')
    (lib.mkRenamedOptionModule [ "services" "k0s" "validateConfig" ] [ "services" "k0s" "enableConfigCheck" ])
  ];

  options.services.k0s = {
    enable = lib.mkEnableOption "k0s, a distribution of Kubernetes";

    package = mkOption {
      type = types.package;
      defaultText = lib.literalMD "`pkgs.k0s` of an overlay; nixpkgs has no such package";
      example = lib.literalExpression "inputs.k0s-nix.packages.\${pkgs.stdenv.hostPlatform.system}.k0s_1_34";
      description = "The package with `bin/k0s`, such as one of `github:nix-community/k0s-nix`.";
    };

    role = mkOption {
      type = types.enum [
        "controller"
        "controller+worker"
        "worker"
        "single"
      ];
      default = "single";
      description = "What the node does.";
    };

    controller.isLeader = mkOption {
      type = types.bool;
      default = false;
      description = "Of a controller: whether it founds the cluster and needs no token.";
    };

    dataDir = mkOption {
      type = types.path;
      default = "/var/lib/k0s";
      description = "Where k0s keeps its data.";
    };

    tokenFile = mkOption {
      type = types.path;
      default = "/etc/k0s/k0stoken";
      description = "File with the join token, outside of the store.";
    };

    tokenArgument = mkOption {
      type = types.nullOr types.str;
      default = null;
      internal = true;
      description = "What stands in place of `--token-file`, where that is decided at the start.";
    };

    clusterName = mkOption {
      type = types.str;
      default = "k0s";
      description = "Name of the cluster.";
    };

    spec = mkOption {
      type = types.submodule (import ./spec.nix { inherit lib; inherit (cfg) dataDir; });
      default = { };
      description = "k0s' own configuration; keys that are not listed here may be written, too.";
    };

    configFile = mkOption {
      type = types.package;
      default = configuration;
      defaultText = lib.literalMD "made from `spec`";
      readOnly = true;
      description = "The file that `spec` makes.";
    };

    validatedConfigFile = mkOption {
      type = types.package;
      default = validated;
      defaultText = lib.literalMD "`configFile`, checked";
      readOnly = true;
      description = ''
        `configFile`, once `k0s config validate` took it at the build. What k0s compares with the machine that it runs on cannot be
        checked there.
      '';
    };

    enableConfigCheck = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether the system is built only with a configuration that `k0s config validate` takes. The builder must be able to run k0s.
      '';
    };

    checkedBy = mkOption {
      type = types.package;
      default = cfg.package;
      defaultText = lib.literalMD "`package`";
      internal = true;
      description = "The package whose k0s checks, as one that is there at a build.";
    };

    startedWith = mkOption {
      type = types.str;
      default = "${configuration}";
      defaultText = lib.literalMD "`configFile`";
      internal = true;
      description = "The file that controllers are started with.";
    };

    disableComponents = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "metrics-server" ];
      description = "Parts that controllers do not start, besides `autopilot`, which cannot replace a program in the store.";
    };

    arguments = mkOption {
      type = types.listOf types.str;
      default = [ ];
      internal = true;
      description = "Arguments before `extraArgs`.";
    };

    kubeletArguments = mkOption {
      type = types.listOf types.str;
      default = [ ];
      internal = true;
      description = "Arguments of the kubelet, before those of `--kubelet-extra-args` in `extraArgs`.";
    };

    extraArgs = mkOption {
      type = types.str;
      default = "";
      example = "--profile=large --kubelet-extra-args=\"--max-pods=200 --v=2\"";
      description = ''
        More arguments of `k0s controller` or `k0s worker`. `--kubelet-extra-args` among them is joined with what a cluster's node needs
        (`--node-ip`), for of two k0s takes the last one alone; what is written here wins.
      '';
    };
  };

  config = lib.mkMerge [
    # What the public flake's overlay brings.
    (lib.mkIf (pkgs ? k0s) { services.k0s.package = lib.mkDefault pkgs.k0s; })

    (lib.mkIf cfg.enable {
      assertions = [
        {
          assertion = !(lib.any (word: lib.hasInfix word cfg.extraArgs) forbidden);
          message = "services.k0s.extraArgs must not hold ${lib.concatStringsSep ", " forbidden}: options of their own say that.";
        }
        {
          assertion = cfg.kubeletArguments == [ ] || kubeletFlags == 0 || isJoined;
          message = ''
            services.k0s.extraArgs: its ${kubeletFlag} cannot be joined with ${kubeletFlag}=${ownKubelet}, which this node needs, and of two k0s takes
            the last one alone. Write it once, and what it says in one pair of quotes: ${kubeletFlag}="--max-pods=200 --v=2".
          '';
        }
      ];

      system.checks = lib.optional cfg.enableConfigCheck cfg.validatedConfigFile;

      # Where k0s' own commands look for it, whatever a controller is started with.
      environment.etc."k0s/k0s.yaml".source = lib.mkDefault configuration;

      systemd.services.k0s = {
        description = "k0s";
        path = [
          pkgs.kmod
          pkgs.util-linux
          pkgs.mount
        ];
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ];
        unitConfig = {
          StartLimitIntervalSec = 5;
          StartLimitBurst = 10;
          # A machine that has not joined is not a failed one.
          ConditionPathExists = lib.mkIf (needsToken && cfg.tokenArgument == null) [ (toString cfg.tokenFile) ];
        };
        serviceConfig = {
          ExecStart = lib.concatStringsSep " " (
            [
              "${cfg.package}/bin/k0s"
              (if cfg.role == "worker" then "worker" else "controller")
              "--data-dir=${cfg.dataDir}"
            ]
            ++ lib.optional (cfg.role != "worker") "--config=${cfg.startedWith}"
            ++ lib.optional (cfg.role == "single") "--single"
            ++ lib.optionals (cfg.role == "controller+worker") [
              "--enable-worker"
              "--no-taints"
            ]
            ++ (
              if cfg.tokenArgument != null then
                [ cfg.tokenArgument ]
              else
                lib.optional needsToken "--token-file=${cfg.tokenFile}"
            )
            ++ cfg.arguments
            ++ lib.optional (cfg.kubeletArguments != [ ]) kubeletWord
            ++ lib.optional (extraArgs != "") extraArgs
          );
          Restart = "always";
          RestartSec = 120;
          Delegate = true;
          KillMode = "process";
          LimitCORE = "infinity";
          LimitNOFILE = 999999;
          TasksMax = "infinity";
          TimeoutStartSec = 0;
        };
      };

      users.users = lib.mapAttrs' (
        _: user:
        lib.nameValuePair user {
          isSystemUser = true;
          group = "users";
          home = toString cfg.dataDir;
        }
      ) cfg.spec.installConfig.users;
    })
  ];
}
