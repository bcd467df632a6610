# The units that nix/modules/agent.nix makes, as far as a lab machine needs them. `package` holds bin/muster-agent.
{
  package,
  # Whether there is a static dead man; an agent that does not know the word fails at every boot.
  deadMan ? true,
  # More lines for the agent's [Service], to make its unit another.
  serviceLines ? "",
  ...
}:
let
  environment = ''
    Environment=LC_ALL=C.UTF-8 HOME=/var/lib/muster-agent
    Environment=PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/muster-lab
  '';
in
{
  "muster-build.slice" = ''
    [Unit]
    Description=Evaluations and builds of the Muster agent
    [Slice]
    CPUWeight=20
  '';
  "muster-agent.service" = ''
    [Unit]
    Description=Muster agent
    Wants=network-online.target
    After=network-online.target
    StartLimitIntervalSec=0
    X-StopOnRemoval=false
    [Service]
    X-RestartIfChanged=false
    X-StopIfChanged=false
    ${environment}
    ${serviceLines}
    Type=simple
    ExecStart=${package}/bin/muster-agent --config /etc/muster/agent.json
    Restart=always
    RestartSec=1s
    KillMode=mixed
    TimeoutStopSec=35min
    StateDirectory=muster-agent
    StateDirectoryMode=0700
    RuntimeDirectory=muster-agent
    RuntimeDirectoryMode=0700
    UMask=0077
    [Install]
    WantedBy=multi-user.target
  '';
}
// (
  if !deadMan then
    { }
  else
    {
      "muster-dead-man.service" = ''
        [Unit]
        Description=Muster dead man: the way back from a change that was not confirmed
        Before=muster-agent.service
        StartLimitIntervalSec=0
        X-StopOnRemoval=false
        [Service]
        X-RestartIfChanged=false
        X-StopIfChanged=false
        ${environment}
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=${package}/bin/muster-agent dead-man --config /etc/muster/agent.json
        TimeoutStartSec=2min
        Restart=on-failure
        RestartSec=5s
        StateDirectory=muster-agent
        StateDirectoryMode=0700
        UMask=0077
        [Install]
        WantedBy=multi-user.target
      '';
    }
)
