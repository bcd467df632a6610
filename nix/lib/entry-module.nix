# The module that says, in NixOS' own options, what fleet.toml says of one host or group. Every value is a default: a
# module of the host overrides it without mkForce. Groups and keys of administrators are lists, to which it adds.
{
  fleet,
  kind,
  entry,
}:
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkDefault mkIf mkMerge;
  isHost = kind == "host";
  fixed = entry.address != "dhcp";
  inherit (config.muster) interface;
  matched = interface != null || (fixed && entry.mac != null);
  # nixos-generate-config writes defaults of its own into hardware-configuration.nix, which know nothing of the file.
  aboveGenerated = lib.mkOverride 900;
in
{
  _file = "fleet.toml, [${kind}s.${entry.name}]";
  imports = [ (import ./entry-values.nix { inherit fleet kind entry; }) ];

  config = mkMerge [
    {
      nixpkgs.hostPlatform = mkDefault entry.system;

      # A machine of a group gets its name from its facts, so the one closure of all of them names none.
      networking.hostName = mkDefault (if isHost then entry.name else "");
    }

    (mkIf (!isHost) { system.name = mkDefault entry.name; })

    (mkIf (entry.users != { }) {
      users.users = builtins.mapAttrs (_: user: {
        isNormalUser = mkDefault true;
        extraGroups = [ "wheel" ];
        openssh.authorizedKeys.keys = user.keys;
      }) entry.users;
      services.openssh.enable = mkDefault true;
      # They log in by key and have no password to be asked for.
      security.sudo.wheelNeedsPassword = mkDefault false;
    })

    (mkIf config.muster.network.enable {
      assertions = [
        {
          assertion = fixed -> matched;
          message = ''
            fleet.toml, [hosts.${entry.name}]: the address ${entry.address} is fixed, but nothing says for which interface.
            Write `interface` (or bind the host by `mac`), or set muster.network.enable = false and configure it in Nix.
          '';
        }
      ];
      networking.useNetworkd = aboveGenerated true;
      networking.useDHCP = aboveGenerated (!matched);
      networking.nameservers = mkIf (entry.nameservers != [ ]) (mkDefault entry.nameservers);
      systemd.network.networks."10-muster" = mkIf matched {
        matchConfig = builtins.mapAttrs (_: mkDefault) (
          if interface != null then { Name = interface; } else { PermanentMACAddress = lib.toLower entry.mac; }
        );
        networkConfig.DHCP = mkDefault (if fixed then "no" else "yes");
        address = mkDefault (lib.optional fixed "${entry.address}/${toString entry.prefixLength}");
        gateway = mkDefault (lib.optional (entry.gateway != null) entry.gateway);
      };
    })
  ];
}
