# The module for a host whose configuration is the operator's own (`config` in fleet.toml): the agent, and what the file says of
# the host and its cluster. Name, network, users and platform of the machine stay as they are.
{ musterModules }:
{
  # The fleet directory, with fleet.toml.
  src,
  # The host's name in it.
  host,
}:
let
  fleet = import ./read-fleet.nix src;
  entry =
    fleet.hosts.${host}
      or (throw "hostModule: fleet.toml has no host ${host}; write [hosts.${host}], or one of: ${builtins.concatStringsSep ", " (builtins.attrNames fleet.hosts)}");
in
if !entry.ownConfig then
  throw "hostModule: the configuration of ${host} is made by mkFleet, which brings all of this; write config = \"nixosConfigurations.NAME\" in [hosts.${host}] where it is your own"
else
  {
    imports = musterModules ++ [
      (import ./entry-values.nix {
        inherit fleet entry;
        kind = "host";
      })
    ];
  }
