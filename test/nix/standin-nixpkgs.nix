# A stand-in for the flake input nixpkgs: the real library, packages that are names only, and a nixosSystem made of
# nixos-subset.nix. `lib` is the real library of nixpkgs.
{
  lib,
  # The paths are made up, long enough to look real, and never built.
  pathOf ? name: "/nix/store/00000000000000000000000000000000-${name}",
}:
let
  package = name: {
    type = "derivation";
    inherit name;
    pname = name;
    outPath = pathOf name;
    meta.mainProgram = name;
    getExe' = program: "${name}/${program}";
  };
  versioned =
    name: version:
    package "${name}-${version}"
    // {
      inherit version;
    }
    // lib.optionalAttrs (name == "kubernetes") { pause = package "${name}-pause-${version}"; };
  packages = {
    k3s = versioned "k3s" "1.35.4+k3s1";
    k3s_1_34 = versioned "k3s" "1.34.3+k3s1";
    kubernetes = versioned "kubernetes" "1.34.3";
  }
  // lib.genAttrs [
    "bash"
    "cni-plugins"
    "conntrack-tools"
    "containerd"
    "coreutils"
    "cri-o"
    "curl"
    "dmidecode"
    "etcd"
    "ethtool"
    "findutils"
    "flannel"
    "gawk"
    "getent"
    "gitMinimal"
    "gnugrep"
    "gnused"
    "iproute2"
    "iptables"
    "iputils"
    "keepalived"
    "kmod"
    "kubectl"
    "mount"
    "net-tools"
    "openssh"
    "pciutils"
    "runc"
    "smartmontools"
    "socat"
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
      # What they would hold, for tests to see.
      runCommand = name: _: script: package name // { inherit script; };
      linkFarm = name: entries: package name // { inherit entries; };
      buildEnv = { name, paths, ... }: package name // { inherit paths; };
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
  inherit package versioned packages;
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
          ./nixos-kubernetes.nix
          (managerOf release)
          (
            { config, ... }:
            {
              _module.args.pkgs = pkgsOf config.nixpkgs.hostPlatform;
              nix.package = package "nix";
              systemd.package = package "systemd";
              system.build.nixos-rebuild = package "nixos-rebuild";
            }
          )
        ];
      };
  };
}
