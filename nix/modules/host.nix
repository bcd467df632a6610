# What fleet.toml says of this machine, for its own modules to read. `lib.mkFleet` sets all of it.
{ lib, ... }:
let
  inherit (lib) mkOption types;
in
{
  options.muster = {
    fleet = {
      name = mkOption {
        type = types.str;
        description = "Name of the fleet.";
      };
      id = mkOption {
        type = types.str;
        description = "Id of the fleet.";
      };
    };

    host = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Name of the host; `null` in the configuration of a group, which many machines share.";
    };

    group = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "The group whose settings it takes.";
    };

    role = mkOption {
      type = types.enum [
        "server"
        "worker"
        "server+worker"
        "none"
      ];
      default = "none";
      description = "What it does in its cluster.";
    };

    cluster = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "The cluster it belongs to.";
    };

    interface = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "The network interface that its address is for; `null` where the machine chooses.";
    };

    external = mkOption {
      type = types.bool;
      default = false;
      description = "Whether its system is somebody else's (`os = \"external\"`), and only Kubernetes is Muster's.";
    };

    labels = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Its labels.";
    };

    extra = mkOption {
      type = types.attrsOf types.anything;
      default = { };
      example = {
        backup.hour = 3;
      };
      description = ''
        The table `extra` of fleet.toml, read by no part of Muster: what your own modules want to know of a host. The module
        argument `host` holds it as well, as `host.extra`, and may be used in `imports`.
      '';
    };

    network.enable = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether address, gateway, name servers and interface of fleet.toml become the network configuration, with
        systemd-networkd. Switch it off to write your own.
      '';
    };
  };
}
