# What the modules for clusters share: names of files and units, priorities, and how flags and held units are written.
{ lib, config }:
let
  cfg = config.muster.kubernetes;
  isDynamic = cfg.nodeAddress == null;
  bracketed = address: if lib.hasInfix ":" address then "[${address}]" else address;

  flag =
    name: value:
    if value == null then
      [ ]
    else if builtins.isBool value then
      [ "--${name}=${lib.boolToString value}" ]
    else if builtins.isList value then
      [ "--${name}=${lib.concatMapStringsSep "," toString value}" ]
    else if builtins.isAttrs value then
      [ "--${name}=${lib.concatStringsSep "," (lib.mapAttrsToList (key: one: "${key}=${textOf one}") value)}" ]
    else
      [ "--${name}=${toString value}" ];
  textOf = value: if builtins.isBool value then lib.boolToString value else toString value;
  # Only what systemd would split or unquote; a variable stays one that it expands.
  quoted = word: if builtins.match "[^ \t\n\"'\\\\]*" word != null then word else builtins.toJSON word;
in
rec {
  # Wins over the defaults that modules of nixpkgs set, and gives way to a plain assignment.
  soft = lib.mkOverride 900;

  # The agent keeps what must survive a boot in the first, and what units read at their start in the second.
  stateDir = "${config.services.muster.agent.stateDir}/cluster";
  runDir = "/run/muster-cluster";
  startFile = "${runDir}/start.env";
  tokenFile = "${runDir}/token";
  addressDir = "/run/muster-node";
  # Of the distributions whose certificates lie in kubeadm's layout.
  kubernetesDir = "/var/lib/kubernetes";
  pkiDir = "${kubernetesDir}/pki";

  isServer = lib.hasPrefix "server" cfg.role;
  isWorker = lib.hasSuffix "worker" cfg.role;
  isApart = cfg.life == "apart";
  inherit isDynamic bracketed;

  # Whether this server has its part in keeping the virtual endpoint, and where.
  keepsEndpoint = cfg.endpoint != null && cfg.endpointKeeper == "servers" && lib.hasPrefix "server" cfg.role;
  keeperInterface =
    if cfg.nodeInterface != null && !isTunnel cfg.nodeInterface then cfg.nodeInterface else config.muster.interface;
  # As shared/fleet-file/tunnel-interface.ts has it.
  isTunnel = name: builtins.match "(tailscale|wg|tun|nebula|ppp).*|wt[0-9]+" name != null;

  # What the configuration puts there, whoever it is: units read these by a name that stays.
  etcFiles = lib.filterAttrs (_: file: file.enable) config.environment.etc;
  filesBelow =
    folders:
    map (name: "/etc/${name}") (
      lib.filter (name: lib.any (folder: lib.hasPrefix folder name) folders) (builtins.attrNames etcFiles)
    );

  # The address of the name service, by custom the tenth of the services' network.
  dnsAddressIn =
    network:
    let
      base = lib.head (lib.splitString "/" network);
      octets = lib.splitString "." base;
    in
    if lib.hasInfix ":" base then
      "${base}a"
    else
      lib.concatStringsSep "." (lib.take 3 octets ++ [ (toString (lib.toInt (lib.last octets) + 10)) ]);
  # What a container runtime reads below /etc, networks of pods with it: their files are links that stay, so it sees no change by itself.
  runtimeFiles =
    kind:
    filesBelow (
      [ "cni/" ]
      ++ {
        containerd = [ "containerd/" ];
        cri-o = [
          "crio/"
          "containers/"
        ];
        none = [ ];
      }
      .${kind}
    );

  # For command lines of units: the address itself, or the variable that muster-node-address.service finds a value for.
  nodeAddress = if isDynamic then "\${MUSTER_NODE_ADDRESS}" else cfg.nodeAddress;
  nodeHost = if isDynamic then "\${MUSTER_NODE_HOST}" else bracketed cfg.nodeAddress;
  addressFiles = lib.optional isDynamic "${addressDir}/address.env";

  # A server as others reach it, as far as the file knows one.
  knownApiServer =
    let
      addresses = builtins.filter (address: address != null) (builtins.attrValues cfg.servers);
    in
    if cfg.endpoint != null then
      cfg.endpoint
    else if addresses != [ ] then
      builtins.head addresses
    else
      null;

  # Endpoints of etcd that are no server's of this cluster.
  etcdElsewhere =
    let
      own = [
        "127.0.0.1"
        "localhost"
        "[::1]"
        nodeHost
      ]
      ++ builtins.attrNames cfg.servers
      ++ map bracketed (builtins.filter (address: address != null) (builtins.attrValues cfg.servers));
      isOwn = endpoint: lib.any (host: builtins.elem endpoint [ "https://${host}:2379" "https://${host}" ]) own;
    in
    lib.filter (endpoint: !isOwn endpoint);

  # A flag whose value is null is left out, a list is joined with commas, and so are the pairs of a set.
  flagWords = flags: map quoted (lib.concatLists (lib.mapAttrsToList flag flags));
  # The same, as words that nobody splits again.
  commandLineWords = program: flags: [ program ] ++ lib.concatLists (lib.mapAttrsToList flag flags);
  commandLine = program: flags: lib.concatStringsSep " " ([ program ] ++ flagWords flags);
  # A null in what a person wrote takes a default away.
  flagsType = lib.types.attrsOf (
    lib.types.nullOr (
      lib.types.oneOf [
        lib.types.bool
        lib.types.int
        lib.types.str
        (lib.types.listOf lib.types.str)
        (lib.types.attrsOf (
          lib.types.oneOf [
            lib.types.bool
            lib.types.str
          ]
        ))
      ]
    )
  );

  # Ours below what a person wrote, key by key.
  softly = lib.mapAttrs (_: soft);
  softlyDeep = lib.mapAttrsRecursive (_: soft);

  # An API server that is stopped waits a minute for watches, which never end by themselves. With retryAfter it sends who asks
  # anew to another server, and ends two seconds after the last request that is no watch; those have a minute each.
  apiserverStop = {
    retryAfter = true;
    timeout = "70s";
  };

  # A unit of a cluster that ran before Muster came: it starts as it did, unless it is held down, and no switch restarts it.
  asItWas = {
    restartIfChanged = false;
    stopIfChanged = false;
    unitConfig = {
      ConditionPathExists = [ "!${stateDir}/hold" ];
      X-StopOnRemoval = false;
    };
  };

  # A unit of Kubernetes. No target wants it: a switch starts whatever an active target wants, and would start what was
  # stopped for maintenance, or wait for ever for a server without quorum. muster-kubernetes.service starts it at a boot.
  held = {
    wants = [ "muster-cluster-secrets.service" ];
    requires = lib.optional isDynamic "muster-node-address.service";
    after = [ "muster-cluster-secrets.service" ] ++ lib.optional isDynamic "muster-node-address.service";
    wantedBy = lib.mkForce [ ];
    restartIfChanged = false;
    stopIfChanged = false;
    unitConfig = {
      ConditionPathExists = [
        "${runDir}/ready"
        "!${stateDir}/hold"
      ];
      X-StopOnRemoval = false;
    };
  };
}
