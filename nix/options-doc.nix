# docs/reference/nixos-options.md, made from the modules' options. Evaluates with the library of nixpkgs alone:
#
#   nix-instantiate --eval --strict --json --arg lib 'import PATH/TO/nixpkgs/lib' nix/options-doc.nix
{ lib }:
let
  modules = [
    ./modules/agent.nix
    ./modules/coordinator.nix
    ./modules/host.nix
    ./modules/clusters
  ];
  options =
    (lib.evalModules {
      modules = modules ++ [
        {
          # The modules set options of NixOS, which are not declared here.
          config._module.check = false;
          config._module.args.pkgs = throw "nix/options-doc.nix: an option's documentation depends on pkgs";
        }
      ];
    }).options;

  listed = builtins.filter (option: option.visible && !option.internal && (lib.hasInfix "muster" option.name || lib.hasPrefix "services.k0s." option.name)) (
    lib.optionAttrSetToDocList options
  );
  sorted = lib.sort (a: b: a.name < b.name) listed;

  textOf = value: if value._type or null == "literalMD" then value.text else "`${oneLine value.text}`";
  oneLine = text: lib.concatStringsSep " " (builtins.filter (word: word != "") (lib.splitString " " (lib.replaceStrings [ "\n" ] [ " " ] text)));

  section = option: ''

    ## `${option.name}`

    ${lib.removeSuffix "\n" option.description}

    - Type: ${option.type}
    - Default: ${if option ? default then textOf option.default else "none, must be set"}
    ${lib.optionalString (option ? example) "- Example: ${textOf option.example}\n"}'';
in
''
  # NixOS options

  Made from the modules by `nix/options-doc.nix`; a test compares the two. How to use them: [NixOS](../nixos.md).
''
+ lib.concatMapStrings section sorted
