# Reads fleet.toml as the coordinator and the command do: host over group over defaults, `labels` key by key, `users`
# name by name, `extra` key by key at every depth, everything else whole. It needs nothing but builtins. What `muster
# check` refuses is not checked again; only what would give a wrong system is.
src:
let
  file = src + "/fleet.toml";
  toml =
    if builtins.pathExists file then
      builtins.fromTOML (builtins.readFile file)
    else
      throw "${toString file}: no such file; `muster init` writes one";

  require =
    table: key: place:
    table.${key} or (throw "fleet.toml: ${place} lacks `${key}`; `muster check` names all that is missing");

  defaults = toml.defaults or { };
  groupTables = toml.groups or { };
  hostTables = toml.hosts or { };

  mergeDeep =
    below: above:
    below
    // builtins.mapAttrs (
      key: value:
      if builtins.isAttrs value && builtins.isAttrs (below.${key} or null) then mergeDeep below.${key} value else value
    ) above;

  # From the weakest layer to the strongest.
  resolve =
    {
      name,
      group,
      layers,
      own,
      place,
      # A group that only lends its settings may leave to its hosts what a machine must have.
      complete ? true,
    }:
    let
      plain = builtins.foldl' (below: above: below // above) { } layers;
      merged =
        key: merge:
        builtins.foldl' (below: above: merge below (above.${key} or { })) { } layers;

      role = plain.role or "none";
      address = plain.address or "dhcp";
      fixed = address != "dhcp";
      config = own.config or null;
    in
    {
      inherit
        name
        group
        role
        address
        ;
      # A machine without a role is no member, whatever the layers below say.
      cluster =
        if role == "none" then
          null
        else if complete then
          require plain "cluster" place
        else
          plain.cluster or null;
      prefixLength = if fixed then require plain "prefix-length" place else null;
      gateway = if fixed then plain.gateway or null else null;
      nameservers = plain.nameservers or [ ];
      interface = plain.interface or null;
      labels = merged "labels" (below: above: below // above);
      users = merged "users" (below: above: below // above);
      extra = merged "extra" mergeDeep;
      system = plain.system or "x86_64-linux";
      nixpkgs = plain.nixpkgs or "nixpkgs";
      ownConfig = config != null;
      attribute =
        if config == null then name else builtins.substring (builtins.stringLength "nixosConfigurations.") (-1) config;
      external = (own.os or null) == "external";
      mac = own.mac or null;
      # As written; what is null is as the agent's defaults say.
      safety = {
        gates = plain.gates or [ ];
        soak = plain.soak or null;
        confirmWithin = plain.confirm-within or null;
        confirm = plain.confirm or null;
        reboot = plain.reboot or null;
        trial = plain.trial or null;
        toleratedUnits = plain.tolerated-units or [ ];
      };
    };

  hostOf =
    name: table:
    let
      group = table.group or null;
      place = "[hosts.${name}]";
      groupTable =
        if group == null then
          { }
        else
          groupTables.${group} or (throw "fleet.toml: ${place}: there is no group ${group}; write [groups.${group}] or another name");
      # What says which machines a group admits, and how they are called, is not a setting of its hosts.
      shared = removeAttrs groupTable [
        "admit"
        "name"
      ];
    in
    resolve {
      inherit name group place;
      layers = [
        defaults
        shared
        table
      ];
      own = shared // table;
    };

  # What is null is as the distribution, or the machine, has it.
  clusterOf =
    name: table:
    {
      inherit name;
      distribution = require table "distribution" "[clusters.${name}]";
      version = table.version or null;
      life = table.life or "with-system";
      endpoint = table.endpoint or null;
      endpointKeeper = table.endpoint-keeper or "outside";
      nodeInterface = table.node-interface or null;
      podCidr = table.pod-cidr or null;
      serviceCidr = table.service-cidr or null;
    };

  groupOf =
    name: table:
    resolve {
      inherit name;
      group = name;
      place = "[groups.${name}]";
      complete = table ? admit;
      layers = [
        defaults
        (removeAttrs table [
          "admit"
          "name"
        ])
      ];
      own = table;
    }
    // {
      admits = table ? admit;
    };
in
{
  name = require (toml.fleet or { }) "name" "[fleet]";
  id = require (toml.fleet or { }) "id" "[fleet]";
  clusters = builtins.mapAttrs clusterOf (toml.clusters or { });
  hosts = builtins.mapAttrs hostOf hostTables;
  groups = builtins.mapAttrs groupOf groupTables;
}
