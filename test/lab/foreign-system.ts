import type { AgentProgram } from './agent-program.ts'

/** Where a machine of somebody else's would tell that a program which changes systems was called there. */
export const CALLED = '/var/log/called-for-a-system'

/** They are there as on any machine; whoever calls one is found out. */
const CHANGES_SYSTEMS = ['nixos-rebuild', 'switch-to-configuration', 'bootctl']

const unit = (agent: AgentProgram) => `[Unit]
Description=Muster agent, as somebody's own service
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0
[Service]
Environment=LC_ALL=C.UTF-8 HOME=/var/lib/muster-agent
Environment=PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/muster-lab
ExecStart=${agent.path}/bin/muster-agent --config /etc/muster/agent.json
Restart=always
RestartSec=1s
KillMode=mixed
StateDirectory=muster-agent
StateDirectoryMode=0700
RuntimeDirectory=muster-agent
RuntimeDirectoryMode=0700
UMask=0077
`

/**
 * What makes a lab machine one whose system somebody else manages, as files of its disk: no NixOS but Debian, whose owner installed
 * the agent as a service and starts it at a boot, with these other services of the owner's.
 */
export function foreignSystem(
  agent: AgentProgram,
  config: object,
  services: readonly string[],
): Readonly<Record<string, string>> {
  const called = `#!/bin/sh\necho "$0 $*" >>${CALLED}\nexit 1\n`
  return {
    'etc/muster/agent.json': `${JSON.stringify(config)}\n`,
    'etc/systemd/system/muster-agent.service': unit(agent),
    'etc/systemd/system/multi-user.target.d/owner.conf': `[Unit]\nWants=${['muster-agent.service', ...services].join(' ')}\n`,
    ...Object.fromEntries(CHANGES_SYSTEMS.map(name => [`usr/local/bin/${name}`, called])),
  }
}
