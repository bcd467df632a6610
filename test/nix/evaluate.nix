# What the tests ask of a configuration, as JSON. `flake` are the outputs of Muster's own flake over the stand-in, with
# packages that are names only.
{ libPath }:
let
  lib = import libPath;
  nixpkgs = import ./standin-nixpkgs.nix { inherit lib; };
  flakeOver =
    nixpkgs:
    let
      flake = (import ../../flake.nix).outputs {
        inherit nixpkgs;
        self = flake // {
          packages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
            system: lib.genAttrs [ "agent" "coordinator" "cli" ] (name: nixpkgs.package "${name}-${system}")
          );
        };
      };
    in
    flake;
  flake = flakeOver nixpkgs;

  # Where lab machines have their programs.
  labNixpkgs = import ./standin-nixpkgs.nix {
    inherit lib;
    pathOf =
      name:
      if lib.hasPrefix "agent-" name then
        "/usr/local"
      else if name == "kubernetes-of-the-profile" then
        "/nix/var/nix/profiles/muster-kubernetes"
      else
        "/usr";
  };

  enabled = lib.filterAttrs (_: file: file.enable);
  # What lies outside of the store is made on the machine.
  contents = lib.mapAttrs (
    _: file: if lib.hasPrefix "/run/" "${toString file.source}" then file.source else builtins.readFile file.source
  );

  describe =
    configuration:
    let
      inherit (configuration) config;
    in
    {
      inherit (config.standin) failedAssertions units;
      settings = lib.mapAttrs (_: file: builtins.fromJSON (builtins.readFile file.source)) (
        lib.filterAttrs (name: file: file.enable && lib.hasSuffix ".json" name) config.environment.etc
      );
      files = contents (enabled config.environment.etc);
      inherit (config) networking;
      networks = config.systemd.network.networks;
      users = config.users.users;
      systemName = config.system.name;
      hostPlatform = config.nixpkgs.hostPlatform;
      openssh = config.services.openssh.enable;
      checks = map (check: check.script) config.system.checks;
      systemPackages = map (package: package.name) config.environment.systemPackages;
      muster = if config ? muster then removeAttrs config.muster [ "kubernetes" ] else null;
      inherit (config.boot) kernelParams;
      tmpfiles = config.systemd.tmpfiles.rules;
      keepalived = { inherit (config.services.keepalived) enable openFirewall vrrpInstances vrrpScripts; };
      profile =
        if (config.muster.kubernetes.profile.package or null) != null then
          {
            inherit (config.muster.kubernetes.profile.package) name;
            holds = lib.concatMap (
              package: if package ? entries then map (entry: entry.name) package.entries else [ package.name ]
            ) config.muster.kubernetes.profile.package.paths;
          }
        else
          null;
      watchdog = config.systemd.settings.Manager.RuntimeWatchdogSec or config.systemd.watchdog.runtimeTime or null;
    };
in
{
  inherit lib nixpkgs flake describe;

  # The machines of the lab's fleet, as they are put onto lab machines.
  lab =
    src:
    lib.mapAttrs (_: configuration: {
      inherit (configuration.config.standin) failedAssertions units;
      files = contents (enabled configuration.config.environment.etc);
      users = lib.mapAttrs (_: user: { inherit (user) isSystemUser group home; }) configuration.config.users.users;
      groups = lib.attrNames configuration.config.users.groups;
      tmpfiles = configuration.config.systemd.tmpfiles.rules;
      inherit (configuration.config.boot.kernel) sysctl;
      brings = lib.concatMap (package: map (entry: entry.name) (package.entries or [ ])) (
        configuration.config.muster.kubernetes.profile.package.paths or [ ]
      );
    }) (
      (flakeOver labNixpkgs).lib.mkFleet {
        inherit src;
        inputs.nixpkgs = labNixpkgs;
        modules = [
          ./cluster-lab.nix
          {
            muster.kubernetes.package = lib.mkIf (
              (builtins.fromTOML (builtins.readFile (src + "/fleet.toml"))).clusters.lab.distribution == "k0s"
            ) (labNixpkgs.versioned "k0s" "1.34.3+k0s.0");
          }
        ];
      }
    );

  # One machine of a release of NixOS, with the given modules and the module of that name.
  module =
    release: name: modules:
    describe (
      nixpkgs.lib.nixosSystem {
        inherit release;
        modules = [
          flake.nixosModules.${name}
          { nixpkgs.hostPlatform = "x86_64-linux"; }
        ]
        ++ modules;
      }
    );

  # A host's own configuration, with what hostModule adds to it.
  own =
    src: host: modules:
    describe (
      nixpkgs.lib.nixosSystem {
        modules = [
          (flake.lib.hostModule { inherit src host; })
          { nixpkgs.hostPlatform = "x86_64-linux"; }
        ]
        ++ modules;
      }
    );

  fleet =
    arguments:
    lib.mapAttrs (_: describe) (
      flake.lib.mkFleet (
        {
          inputs = { inherit nixpkgs; };
        }
        // arguments
      )
    );
}
