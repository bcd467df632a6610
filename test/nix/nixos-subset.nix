# A stand-in for NixOS: those of its options, with their real types, that Muster's modules set or read. What a module sets
# beyond them is an error here, as a misspelt option is in NixOS. Nothing is built, and a unit is rendered as NixOS does it
# in outline only; whether a real NixOS takes the result is not shown by it.
{
  lib,
  config,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  unitValue = types.oneOf [
    types.bool
    types.int
    types.str
  ];
  # As in NixOS, lists are joined, and null is nothing.
  sectionValue = (types.nullOr (types.either unitValue (types.listOf unitValue))) // {
    merge =
      loc: definitions:
      let
        list = builtins.filter (definition: builtins.isList definition.value) definitions;
        values = map (definition: definition.value) definitions;
      in
      if list != [ ] then lib.concatMap lib.toList values else lib.mergeEqualOption loc definitions;
  };
  unitSection = types.attrsOf sectionValue;
  option = type: default: mkOption { inherit type default; };

  commonUnit = {
    description = option types.str "";
    wantedBy = option (types.listOf types.str) [ ];
    enable = option types.bool true;
    wants = option (types.listOf types.str) [ ];
    requires = option (types.listOf types.str) [ ];
    after = option (types.listOf types.str) [ ];
    before = option (types.listOf types.str) [ ];
    conflicts = option (types.listOf types.str) [ ];
    unitConfig = option unitSection { };
  };

  service = types.submodule {
    options = commonUnit // {
      path = option (types.listOf types.package) [ ];
      environment = option (types.attrsOf types.str) { };
      restartIfChanged = option types.bool true;
      stopIfChanged = option types.bool true;
      restartTriggers = option (types.listOf types.unspecified) [ ];
      serviceConfig = option unitSection { };
    };
  };
  target = types.submodule { options = commonUnit; };
  slice = types.submodule {
    options = commonUnit // {
      sliceConfig = option unitSection { };
    };
  };
  # Both have no type of their own here unless one is given.
  fileSystem = types.submodule (
    { name, ... }:
    {
      options = {
        mountPoint = option types.str name;
        device = option (types.nullOr types.str) null;
        fsType = option types.str "auto";
        options = option (types.listOf types.str) [ "defaults" ];
      };
    }
  );
  mount = types.submodule {
    options = {
      where = mkOption { type = types.str; };
      what = mkOption { type = types.str; };
      type = option types.str "";
      options = option types.str "";
    };
  };
  network = types.submodule {
    options = {
      matchConfig = option unitSection { };
      networkConfig = option unitSection { };
      address = option (types.listOf types.str) [ ];
      gateway = option (types.listOf types.str) [ ];
    };
  };
  ports = {
    allowedTCPPorts = option (types.listOf types.port) [ ];
    allowedUDPPorts = option (types.listOf types.port) [ ];
  };
  user = types.submodule {
    options = {
      isNormalUser = option types.bool false;
      isSystemUser = option types.bool false;
      group = option types.str "";
      extraGroups = option (types.listOf types.str) [ ];
      home = option types.str "/var/empty";
      description = option types.str "";
      openssh.authorizedKeys.keys = option (types.listOf types.str) [ ];
    };
  };

  textOf = value: if value == true then "true" else if value == false then "false" else toString value;
  section =
    name: settings:
    lib.concatStringsSep "\n" (
      [ "[${name}]" ]
      ++ lib.concatLists (
        lib.mapAttrsToList (key: value: map (one: "${key}=${textOf one}") (lib.toList value)) (
          lib.filterAttrs (_: value: value != null) settings
        )
      )
    )
    + "\n";
  # What NixOS gives to every service.
  pathOf =
    unit:
    unit.path
    ++ [
      pkgs.coreutils
      pkgs.findutils
      pkgs.gnugrep
      pkgs.gnused
      config.systemd.package
    ];
  words = name: list: lib.optionalAttrs (list != [ ]) { ${name} = lib.concatStringsSep " " list; };
  unitSectionOf =
    unit:
    section "Unit" (
      {
        Description = unit.description;
      }
      // words "Wants" unit.wants
      // words "Requires" unit.requires
      // words "After" unit.after
      // words "Before" unit.before
      // words "Conflicts" unit.conflicts
      // unit.unitConfig
    );
in
{
  options = {
    assertions = option (types.listOf types.unspecified) [ ];
    boot.kernelModules = option (types.listOf types.str) [ ];
    boot.kernel.sysctl = option (types.attrsOf unitValue) { };
    boot.kernelParams = option (types.listOf types.str) [ ];
    boot.loader.systemd-boot.enable = option types.bool false;
    fileSystems = option (types.attrsOf fileSystem) { };
    environment.etc = option (types.attrsOf (types.submodule ({ config, ... }: {
      options = {
        enable = option types.bool true;
        text = option (types.nullOr types.lines) null;
        source = mkOption { type = types.path; };
      };
      config.source = lib.mkIf (config.text != null) (lib.mkDefault (builtins.toFile "etc" config.text));
    }))) { };
    environment.systemPackages = option (types.listOf types.package) [ ];
    networking.hostName = option (types.strMatching "^$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$") "nixos";
    networking.useDHCP = option types.bool true;
    networking.useNetworkd = option types.bool false;
    networking.nameservers = option (types.listOf types.str) [ ];
    networking.nftables.enable = option types.bool false;
    networking.firewall = ports // {
      extraCommands = option types.lines "";
      extraStopCommands = option types.lines "";
      extraInputRules = option types.lines "";
      trustedInterfaces = option (types.listOf types.str) [ ];
      interfaces = option (types.attrsOf (types.submodule { options = ports; })) { };
    };
    nix.package = mkOption { type = types.package; };
    nixpkgs.hostPlatform = mkOption { type = types.str; };
    security.sudo.wheelNeedsPassword = option types.bool true;
    services.openssh.enable = option types.bool false;
    # What NixOS defines in it whatever else is set: its own programs.
    system.build = option (types.lazyAttrsOf types.package) { };
    system.checks = option (types.listOf types.package) [ ];
    system.name = option types.str (if config.networking.hostName == "" then "unnamed" else config.networking.hostName);
    systemd.package = mkOption { type = types.package; };
    systemd.mounts = option (types.listOf mount) [ ];
    systemd.services = option (types.attrsOf service) { };
    systemd.slices = option (types.attrsOf slice) { };
    systemd.targets = option (types.attrsOf target) { };
    systemd.tmpfiles.rules = option (types.listOf types.str) [ ];
    # Of NixOS' many keys the one that holds what was made of a unit.
    systemd.units = option (types.attrsOf (types.submodule { options.unit = mkOption { type = types.package; }; })) { };
    systemd.network.networks = option (types.attrsOf network) { };
    users.users = option (types.attrsOf user) { };
    users.groups = option (types.attrsOf (types.submodule { })) { };

    standin.units = mkOption {
      type = types.attrsOf types.str;
      readOnly = true;
    };
    standin.failedAssertions = mkOption {
      type = types.listOf types.str;
      readOnly = true;
    };
  };

  config.standin = {
    failedAssertions = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
    units =
      lib.mapAttrs' (
        name: unit:
        lib.nameValuePair "${name}.service" (
          unitSectionOf (
            unit
            // {
              unitConfig =
                unit.unitConfig
                // lib.optionalAttrs (unit.restartTriggers != [ ]) {
                  X-Restart-Triggers = lib.concatMapStringsSep " " toString unit.restartTriggers;
                };
            }
          )
          + section "Service" (
            {
              Environment =
                lib.mapAttrsToList (key: value: "\"${key}=${value}\"") unit.environment
                ++ [
                  "\"PATH=${
                    lib.concatStringsSep ":" (lib.unique (map (package: "${package}/bin") (pathOf unit) ++ map (package: "${package}/sbin") (pathOf unit)))
                  }\""
                ];
            }
            // lib.optionalAttrs (!unit.restartIfChanged) { X-RestartIfChanged = false; }
            // lib.optionalAttrs (!unit.stopIfChanged) { X-StopIfChanged = false; }
            // unit.serviceConfig
          )
          + section "Install" (words "WantedBy" unit.wantedBy)
        )
      ) (lib.filterAttrs (_: unit: unit.enable) config.systemd.services)
      // lib.mapAttrs' (
        name: unit:
        lib.nameValuePair "${name}.slice" (unitSectionOf unit + section "Slice" unit.sliceConfig)
      ) config.systemd.slices
      // lib.mapAttrs' (
        name: unit: lib.nameValuePair "${name}.target" (unitSectionOf unit + section "Install" (words "WantedBy" unit.wantedBy))
      ) config.systemd.targets;
  };
}
