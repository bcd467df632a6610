# Builds the three bundles from the source tree. Result: lib/muster/{agent,coordinator,muster}.mjs, the parts of agent and command in
# lib/muster/{agent,muster}, and beside them the one package that cannot be bundled, better-sqlite3, compiled here.
{
  lib,
  stdenv,
  srcOnly,
  callPackage,
  nodejs_24,
  python3,
  sourceTime,
}:
let
  root = ../..;
  # The one that the tests run on. The store's module is that of 24 and later (coordinator/store/sqlite.ts), which knows Node by Node-API alone:
  # the other is unsound when it is compiled against the headers of 24.19 and later.
  nodejs = nodejs_24;
  nodeModules = callPackage ./node-modules.nix { inherit nodejs; };

  # What the programs hold, and what makes the bundles; not what checks and tests the source.
  buildTools = path: path == "node_modules/esbuild" || lib.hasPrefix "node_modules/@esbuild/" path;
  modules = nodeModules {
    lockFile = root + "/package-lock.json";
    select =
      path: entry:
      buildTools path || (!(entry.dev or false) && path != "node_modules/better-sqlite3");
  };
in
stdenv.mkDerivation ({
  pname = "muster";
  inherit ((lib.importJSON (root + "/package.json"))) version;

  # Only what goes into the programs: a changed test or document builds nothing anew.
  src = builtins.path {
    name = "muster-source";
    path = root;
    filter =
      path: _:
      let
        relative = lib.removePrefix "${toString root}/" path;
      in
      builtins.elem (lib.head (lib.splitString "/" relative)) [
        "agent"
        "cli"
        "coordinator"
        "package.json"
        "scripts"
        "shared"
      ]
      && !(lib.hasSuffix ".test.ts" relative);
  };

  nativeBuildInputs = [
    nodejs
    python3
  ];

  # node-gyp wants the headers of the very Node that will load the result.
  nodeSource = srcOnly nodejs;
  nodeGyp = "${nodejs}/lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js";
  nodeModules = modules;

  buildPhase = builtins.readFile ./build.sh;
  installPhase = builtins.readFile ./install.sh;
  # better-sqlite3 brings objects that were made for linking only.
  dontStrip = true;

  meta.license = lib.licenses.asl20;
}
# Without it stdenv names a day of 1980, before which no clock stands.
// lib.optionalAttrs (sourceTime != null) { SOURCE_DATE_EPOCH = toString sourceTime; })
