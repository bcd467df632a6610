# A node_modules folder made from package-lock.json alone. The lock file says where each package lies, its version and the
# SHA-512 of its archive, and that hash makes every archive a fixed-output derivation: nothing here needs a hash of its
# own, and a changed lock file needs no further step. The lock file names no URLs; npm finds the archive at its default
# registry, and a wrong one fails by its hash. No install script runs.
{
  lib,
  stdenvNoCC,
  nodejs,
  cacert,
}:
{
  lockFile,
  # Which entries of the lock file to take: a function of its path below the root and its content.
  select,
}:
let
  lock = lib.importJSON lockFile;
  platform = stdenvNoCC.hostPlatform;

  matches =
    wanted: actual:
    let
      excluded = builtins.filter (lib.hasPrefix "!") wanted;
      included = lib.subtractLists excluded wanted;
    in
    !(builtins.elem "!${actual}" excluded) && (included == [ ] || builtins.elem actual included);
  fits =
    entry:
    matches (entry.os or [ ]) platform.node.platform
    && matches (entry.cpu or [ ]) platform.node.arch
    && matches (entry.libc or [ ]) (if platform.isMusl then "musl" else "glibc");

  entries = lib.filterAttrs (path: entry: path != "" && fits entry && select path entry) lock.packages;

  # node_modules/a/node_modules/@b/c holds the package @b/c.
  nameOf = path: lib.last (lib.splitString "node_modules/" path);

  archiveOf =
    path: entry:
    let
      # Under another name than its own where a second version of it is wanted.
      name = entry.name or (nameOf path);
    in
    stdenvNoCC.mkDerivation {
      name = "${lib.replaceStrings [ "@" "/" ] [ "" "-" ] name}-${entry.version}.tgz";
      outputHash = entry.integrity;
      outputHashMode = "flat";
      nativeBuildInputs = [
        nodejs
        cacert
      ];
      spec = "${name}@${entry.version}";
      impureEnvVars = lib.fetchers.proxyImpureEnvVars ++ [
        "npm_config_registry"
        "npm_config_cafile"
      ];
      buildCommand = builtins.readFile ./fetch-archive.sh;
    };
  archives = lib.mapAttrs archiveOf entries;
in
stdenvNoCC.mkDerivation {
  name = "muster-node-modules";
  places = lib.concatStrings (lib.mapAttrsToList (path: archive: "${path} ${archive}\n") archives);
  passAsFile = [ "places" ];
  buildCommand = builtins.readFile ./unpack-archives.sh;
  passthru = { inherit archives; };
}
