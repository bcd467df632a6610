# What fleet.toml says of one host or group, as Muster's own options have it, and the agent: all that is added where the
# configuration is somebody's own. Every value is a default.
{
  fleet,
  kind,
  entry,
}:
{ config, lib, ... }:
let
  inherit (lib) mkDefault mkIf;
  byDefault = builtins.mapAttrs (_: mkDefault);
  isHost = kind == "host";
  fixed = entry.address != "dhcp";
  cluster = if entry.cluster == null then null else fleet.clusters.${entry.cluster};
  inherit (config.muster.kubernetes) nodeDnsName nodeInterface;
  # Another interface than the host's own, or a name, has another address than the one that is fixed in the file.
  isElsewhere = interface: nodeDnsName != null || (nodeInterface != null && nodeInterface != interface);
in
{
  _file = "fleet.toml, [${kind}s.${entry.name}]";

  config = {
    muster = {
      fleet = byDefault { inherit (fleet) name id; };
      host = mkDefault (if isHost then entry.name else null);
      labels = byDefault entry.labels;
      extra = lib.mapAttrsRecursive (_: mkDefault) entry.extra;
      kubernetes = mkIf (cluster != null) {
        distribution = mkDefault cluster.distribution;
        version = mkDefault cluster.version;
        life = mkDefault cluster.life;
        endpoint = mkDefault cluster.endpoint;
        endpointKeeper = mkDefault cluster.endpointKeeper;
        nodeInterface = mkDefault cluster.nodeInterface;
        podCidr = mkDefault cluster.podCidr;
        serviceCidr = mkDefault cluster.serviceCidr;
        nodeAddress = mkIf (fixed && !isElsewhere config.muster.interface) (mkDefault entry.address);
        servers = mkDefault (
          builtins.mapAttrs (_: host: if host.address == "dhcp" || isElsewhere host.interface then null else host.address) (
            lib.filterAttrs (_: host: host.cluster == entry.cluster && lib.hasPrefix "server" host.role) fleet.hosts
          )
        );
      };
    }
    // byDefault {
      inherit (entry)
        group
        role
        cluster
        interface
        external
        ;
    };
    services.muster.agent.enable = mkDefault true;
  };
}
