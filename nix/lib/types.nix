# Option types and tests that the modules share.
{ lib }:
let
  millisecondsOf =
    text:
    let
      parts = builtins.match "([0-9]+)([smh])" text;
    in
    if parts == null then
      throw "${text}: must be a duration such as 90s, 10m or 2h"
    else
      builtins.fromJSON (builtins.elemAt parts 0)
      * {
        s = 1000;
        m = 60000;
        h = 3600000;
      }
      .${builtins.elemAt parts 1};
  inStore = path: path == builtins.storeDir || lib.hasPrefix "${builtins.storeDir}/" path;
in
{
  hostPort = lib.types.strMatching "([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+]):[0-9]{1,5}" // {
    description = "host:port, an IPv6 address in brackets";
  };

  pin = lib.types.strMatching "[0-9a-f]{64}" // {
    description = "SHA-256 as 64 lower-case hex digits";
  };

  # A string on purpose: a path literal would be copied to the store, and with it what lies there.
  absolutePath = lib.types.strMatching "/.+" // {
    description = "absolute path, as a string";
  };

  # The form that systemd and fleet.toml read alike. The agent counts in milliseconds and refuses what is above a day.
  duration = lib.types.addCheck (lib.types.strMatching "[1-9][0-9]{0,5}[smh]") (text: millisecondsOf text <= 86400000) // {
    description = "duration such as 90s, 10m or 2h, at most a day";
  };
  inherit millisecondsOf;

  # What has an option of its own wins over it, so that one setting has one place.
  extraSettings =
    program: example:
    lib.mkOption {
      type = lib.types.attrsOf lib.types.anything;
      default = { };
      inherit example;
      description = ''
        More keys of the ${program}'s configuration file. The ${program} refuses to start with one that it does not know. What
        has an option of its own is set there. No secrets: the file lies in the store.
      '';
    };

  inherit inStore;
  # A path literal is copied there by whatever names it.
  endsInStore = path: path != null && (builtins.isPath path || inStore (toString path));

  belowVarLib = path: builtins.match "/var/lib/[A-Za-z0-9_-][A-Za-z0-9._-]*" path != null;

  # Whether a directory is gone after a boot, as far as the configuration says where it is mounted: the deepest mount that
  # holds it decides. What is mounted by other means is not seen.
  isVolatile =
    config: directory:
    let
      mounts =
        lib.mapAttrsToList (path: mount: {
          where = path;
          type = mount.fsType;
        }) config.fileSystems
        ++ map (mount: { inherit (mount) where type; }) config.systemd.mounts;
      holds = mount: lib.hasPrefix "${lib.removeSuffix "/" mount.where}/" "${directory}/";
      deepestFirst = lib.sort (a: b: lib.stringLength a.where > lib.stringLength b.where) (lib.filter holds mounts);
    in
    deepestFirst != [ ]
    && lib.elem (lib.head deepestFirst).type [
      "tmpfs"
      "ramfs"
    ];
}
