# Which package runs: the host's own, else that of nixpkgs for the cluster's version; and whether it is that version.
{
  lib,
  pkgs,
  cfg,
}:
let
  minor = lib.concatStringsSep "_" (lib.take 2 (lib.splitString "." (toString cfg.version)));
  wanted = lib.head (lib.splitString "+" (toString cfg.version));
  versionOf = package: lib.head (lib.splitString "+" (lib.removePrefix "v" (package.version or "")));
in
rec {
  choose =
    name:
    if cfg.package != null then
      cfg.package
    else if cfg.version != null && pkgs ? "${name}_${minor}" then
      pkgs."${name}_${minor}"
    else
      pkgs.${name} or (throw ''
        muster.kubernetes.package: nixpkgs has no package ${name}. Add the input k0s-nix (github:nix-community/k0s-nix) to
        flake.nix and set muster.kubernetes.package = inputs.k0s-nix.packages.''${pkgs.stdenv.hostPlatform.system}.k0s_1_34, or
        bring its overlay.
      '');

  isWanted =
    package: cfg.version == null || versionOf package == wanted || lib.hasPrefix "${wanted}." (versionOf package);

  # What else than the version that fleet.toml asks for would be found out at the join of a machine.
  assertion = option: package: {
    assertion = isWanted package;
    message = ''
      fleet.toml asks for version ${toString cfg.version} in [clusters.${toString cfg.cluster}], but ${option} is ${package.name}. Take
      the input of nixpkgs that has it, name another package for ${option}, or write version = "${versionOf package}".
    '';
  };

  # Programs that are found in the profile of Kubernetes when they start: a package that stays the same when that moves on.
  fromProfile =
    programs:
    pkgs.linkFarm "kubernetes-of-the-profile" (
      map (program: {
        name = "bin/${program}";
        path = "${cfg.profile.path}/bin/${program}";
      }) programs
    );
}
