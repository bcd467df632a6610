# A stand-in for a NixOS system: the parts of a toplevel that Muster, the boot loader and the switch look at, as a real
# derivation without nixpkgs. Needs /usr/bin/python3 where it is built and where it runs.
#
#   (import ./toplevel { hostName = "olaf"; units."x.service" = "[Service]…"; }).config.system.build.toplevel
{
  hostName,
  # Anything, to make another system of the same configuration.
  generation ? "1",
  system ? "x86_64-linux",
  # What the file `system` claims, if not the truth.
  claimsSystem ? system,
  # Name of a unit file -> its text, or null: masked. WantedBy= and RequiredBy= become links. "X.service.d/y.conf" is a drop-in.
  units ? { },
  # Path below /etc -> text.
  etc ? { },
  # Shell, run by `activate` after /etc is set up and before /run/current-system moves. /bin/sh with `set -e` off.
  activationScript ? "",
  # What a boot alone puts in place: text, of which a change is a reason for a reboot.
  kernel ? "6.18",
  initrd ? "1",
  kernelModules ? "6.18",
  kernelParams ? [ ],
  # Real files in their place, for machines that really boot them.
  kernelFile ? builtins.toFile "linux-${kernel}" "stand-in: no kernel for ${kernel}\n",
  initrdFile ? builtins.toFile "initrd-${initrd}" "stand-in: no initrd for ${initrd}\n",
  initInterface ? "systemd 2",
  # Key -> value, as `system.switch.inhibitors`.
  inhibitors ? { },
  # Another version of systemd by name only: the program is the machine's.
  systemdVersion ? "1",
  # Name -> shell. A check that does not end with 0 keeps the switch from beginning: exit 1. $1: toplevel, $2: action.
  preSwitchChecks ? { },
  # { address = "10.91.0.10"; prefixLength = 24; } or null: no unit sets up the network.
  network ? null,
  # { package = "/nix/store/…"; config = { … }; deadMan = true; } or null; more in agent-units.nix. The package must be in
  # the store where this is built.
  agent ? null,
  # A folder of the machine with the programs of its Kubernetes, for `muster.kubernetes.profile.package`; null: none.
  kubernetes ? null,
  # Path below /etc -> text: what that package brings besides where the system is somebody else's.
  kubernetesEtc ? { },
  # Names of parts that are missing: "activate", "init-interface-version", "systemd", "sysinit-reactivation.target", …
  omit ? [ ],
  # Called with the toplevel. A store path with a program of that name at its root, or a file.
  bootLoader ? ./install-boot-loader.py,
  # Name -> more arguments, laid over these.
  specialisation ? { },
}@arguments:
let
  inherit (builtins) mapAttrs toJSON;

  # A path that is there already becomes part of the closure; Nix does not have to know how it was made.
  existing =
    path:
    let
      storePath = builtins.head (builtins.match "(/nix/store/[^/]+).*" path);
    in
    if builtins.hasContext path then path else builtins.appendContext path { ${storePath}.path = true; };

  allUnits =
    (if network == null then { } else import ./network-unit.nix network)
    // (if agent == null then { } else import ./agent-units.nix (agent // { package = existing agent.package; }))
    // units;

  allEtc =
    {
      hostname = "${hostName}\n";
      # The switch starts systemd anew when this file is another.
      "systemd/system.conf" = "[Manager]\nShowStatus=no\n";
    }
    // (if agent == null then { } else { "muster/agent.json" = toJSON agent.config; })
    // etc;

  special = mapAttrs (
    _: more: (import ./toplevel.nix (removeAttrs arguments [ "specialisation" ] // more)).config.system.build.toplevel
  ) specialisation;

  label = "26.05.lab.${generation}";

  toplevel = derivation {
    name = "nixos-system-${hostName}-${label}";
    inherit system;
    builder = "/usr/bin/python3";
    args = [ "${./build-toplevel.py}" ];
    preferLocalBuild = true;
    allowSubstitutes = false;

    passAsFile = [ "spec" ];
    spec = toJSON {
      inherit
        hostName
        label
        claimsSystem
        activationScript
        kernelParams
        initInterface
        inhibitors
        preSwitchChecks
        omit
        ;
      units = allUnits;
      # Each file has a store path of its own, so that what did not change is the same file in the next system.
      etc = mapAttrs (path: text: builtins.toFile (builtins.baseNameOf path) text) allEtc;
      kernel = existing kernelFile;
      initrd = existing initrdFile;
      kernelModules = builtins.toFile "modules-${kernelModules}" "stand-in: no modules\n";
      baseUnits = "${./base-units}";
      switchProgram = "${./switch}";
      setUpEtc = "${./set-up-etc.py}";
      checkInhibitors = "${./check-inhibitors.py}";
      bootLoader = "${bootLoader}";
      systemd = derivation {
        name = "systemd-lab-${systemdVersion}";
        inherit system;
        builder = "/bin/sh";
        args = [
          "-c"
          ''
            PATH=/usr/bin:/bin
            mkdir -p $out/lib/systemd $out/bin
            ln -s /usr/lib/systemd/systemd $out/lib/systemd/systemd
            ln -s /usr/bin/systemctl $out/bin/systemctl
          ''
        ];
      };
      specialisation = special;
    };
  };
in
{
  config.system.build.toplevel = toplevel;
  # What the profile of a Kubernetes that lives apart shall hold. The programs are in the machine's image, not in the store.
  config.muster.kubernetes.profile.package = derivation {
    name = "muster-kubernetes-${builtins.baseNameOf kubernetes}";
    inherit system;
    builder = "/bin/sh";
    args = [
      "-c"
      (
        ''
          PATH=/usr/bin:/bin
          mkdir -p $out/bin
          ln -s ${kubernetes}/* $out/bin/
        ''
        + builtins.concatStringsSep "" (
          map (path: ''
            mkdir -p $out/etc/${dirOf path}
            ln -s ${builtins.toFile (baseNameOf path) kubernetesEtc.${path}} $out/etc/${path}
          '') (builtins.attrNames kubernetesEtc)
        )
      )
    ];
  };
}
