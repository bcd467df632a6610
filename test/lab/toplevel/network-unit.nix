# The network as a unit of the system, so that a configuration can change, break and lose it.
{
  address,
  prefixLength ? 24,
  gateway ? null,
}:
{
  "lab-network.service" = ''
    [Unit]
    Description=Network of a lab machine
    DefaultDependencies=no
    After=systemd-udevd.service
    Before=network.target network-online.target
    Wants=network.target
    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=ip addr replace ${address}/${toString prefixLength} dev host0
    ExecStart=ip link set host0 up
    ${if gateway == null then "" else "ExecStart=ip route replace default via ${gateway}"}
    ExecStop=ip addr flush dev host0 scope global
    [Install]
    WantedBy=multi-user.target network-online.target
  '';
}
