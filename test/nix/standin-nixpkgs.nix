# A stand-in for the flake input nixpkgs: the real library, packages that are names only, and a nixosSystem made of
# nixos-subset.nix. `lib` is the real library of nixpkgs.
{ lib }:
let
  # The paths are made up, long enough to look real, and never built.
  package = name: {
    type = "derivation";
    inherit name;
    pname = name;
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
    meta.mainProgram = name;
    getExe' = program: "${name}/${program}";
  };
  packages = lib.genAttrs [
    "bash"
    "coreutils"
    "dmidecode"
    "findutils"
    "gawk"
    "gitMinimal"
    "gnugrep"
    "gnused"
    "iproute2"
    "iputils"
    "net-tools"
    "nixos-rebuild-ng"
    "openssh"
    "pciutils"
    "smartmontools"
    "usbutils"
    "util-linux"
    "which"
  ] package;
  pkgsOf =
    system:
    packages
    // {
      stdenv.hostPlatform = { inherit system; };
      # Really in the store, so that a test sees what the file holds and refers to.
      writeText = builtins.toFile;
    };
  # systemd's own settings have had this name since 25.11.
  managerOf =
    release:
    if release == "25.05" then
      { options.systemd.watchdog.runtimeTime = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; }; }
    else
      {
        options.systemd.settings.Manager = lib.mkOption {
          type = lib.types.attrsOf lib.types.str;
          default = { };
        };
      };
in
{
  inherit package packages;
  lib = lib // {
    nixosSystem =
      {
        modules,
        specialArgs ? { },
        release ? "26.05",
      }:
      lib.evalModules {
        inherit specialArgs;
        modules = modules ++ [
          ./nixos-subset.nix
          (managerOf release)
          (
            { config, ... }:
            {
              _module.args.pkgs = pkgsOf config.nixpkgs.hostPlatform;
              nix.package = package "nix";
              systemd.package = package "systemd";
            }
          )
        ];
      };
  };
}
