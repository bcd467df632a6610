# The module that says, in NixOS' own options, what fleet.toml says of one host or group. Every value is a default: a
# module of the host overrides it without mkForce.
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
  matched = entry.interface != null || (fixed && entry.mac != null);
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
      networking.useNetworkd = mkDefault true;
      networking.useDHCP = mkDefault (!matched);
      networking.nameservers = mkIf (entry.nameservers != [ ]) (mkDefault entry.nameservers);
      systemd.network.networks."10-muster" = mkIf matched {
        matchConfig =
          if entry.interface != null then { Name = entry.interface; } else { PermanentMACAddress = lib.toLower entry.mac; };
        networkConfig.DHCP = if fixed then "no" else "yes";
        address = lib.optional fixed "${entry.address}/${toString entry.prefixLength}";
        gateway = lib.optional (entry.gateway != null) entry.gateway;
      };
    })
  ];
}
