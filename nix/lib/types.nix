# Option types and tests that the modules share.
{ lib }:
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

  inStore = path: path == builtins.storeDir || lib.hasPrefix "${builtins.storeDir}/" path;

  belowVarLib = path: builtins.match "/var/lib/[A-Za-z0-9_-][A-Za-z0-9._-]*" path != null;
}
