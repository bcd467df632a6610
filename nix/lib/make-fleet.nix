# Turns a fleet directory into nixosConfigurations: one for each host without `config` of its own, and one for each group
# that admits machines. `musterModules` is what Muster adds to every one of them.
{ musterModules }:
{
  # The fleet directory, with fleet.toml.
  src,
  # The inputs of the fleet's flake. `nixpkgs` in fleet.toml names one of them.
  inputs,
  # Modules for every host.
  modules ? [ ],
  # More arguments for all modules, besides `inputs`, `fleet` and `host`.
  specialArgs ? { },
  # More modules by the name of a host or group: one module or a list.
  hosts ? { },
}:
let
  fleet = import ./read-fleet.nix src;

  nixpkgsOf =
    entry:
    inputs.${entry.nixpkgs} or (throw ''
      fleet.toml: ${entry.name} takes its packages from the input `${entry.nixpkgs}`, which flake.nix does not have.
      Add it to the inputs, or name one of: ${builtins.concatStringsSep ", " (builtins.attrNames inputs)}.
    '');

  asList = value: if builtins.isList value then value else [ value ];
  ifPresent = path: if builtins.pathExists path then [ path ] else [ ];

  configurationOf =
    kind: name: entry:
    (nixpkgsOf entry).lib.nixosSystem {
      specialArgs = {
        inherit inputs;
        fleet = { inherit (fleet) name id clusters; };
        host = entry;
      }
      // specialArgs;
      modules =
        musterModules
        ++ [ (import ./entry-module.nix { inherit fleet kind entry; }) ]
        ++ (if entry.group == null then [ ] else ifPresent (src + "/groups/${entry.group}.nix"))
        ++ (if kind == "host" then ifPresent (src + "/hosts/${name}.nix") else [ ])
        ++ modules
        ++ asList (hosts.${name} or [ ]);
    };

  select =
    test: entries:
    builtins.listToAttrs (
      builtins.concatMap (
        name:
        if test entries.${name} then
          [
            {
              inherit name;
              value = entries.${name};
            }
          ]
        else
          [ ]
      ) (builtins.attrNames entries)
    );
  # Where the system is somebody else's, the configuration is that of Kubernetes alone.
  hasOwnKubernetes = entry: entry.cluster != null && fleet.clusters.${entry.cluster}.life == "apart";
  made = entry: !entry.ownConfig && (!entry.external || hasOwnKubernetes entry);

  madeHosts = select made fleet.hosts;
  madeGroups = select (entry: entry.admits && made entry) fleet.groups;

  both = builtins.attrNames (builtins.intersectAttrs madeHosts madeGroups);
  strangers = builtins.attrNames (removeAttrs hosts (builtins.attrNames (madeHosts // madeGroups)));
in
if both != [ ] then
  throw "fleet.toml: ${builtins.head both} is the name of a host and of a group that admits machines; rename one of them"
else if strangers != [ ] then
  throw "mkFleet: `hosts` has modules for ${builtins.head strangers}, for which fleet.toml asks no configuration; correct the name, or remove them"
else
  builtins.mapAttrs (configurationOf "host") madeHosts // builtins.mapAttrs (configurationOf "group") madeGroups
