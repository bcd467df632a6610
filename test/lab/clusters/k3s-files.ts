import { packageIn } from './packages.ts'
import type { KubernetesVersion } from './programs.ts'

export interface K3sUnitOptions {
  readonly version: KubernetesVersion
  readonly role: 'server' | 'agent'
  readonly tokenFile: string
  /** Password of agents alone, for servers. */
  readonly agentTokenFile?: string
  /** Settings that change without the unit: K3S_CLUSTER_INIT, K3S_URL. */
  readonly environmentFile: string
}

/** k3s.service as the NixOS module renders it. */
export function k3sUnit(options: K3sUnitOptions): string {
  const { version, role, tokenFile, agentTokenFile, environmentFile } = options
  const agents = agentTokenFile === undefined ? '' : ` --agent-token-file=${agentTokenFile}`
  return `[Unit]
Description=k3s service
After=network-online.target
Wants=network-online.target
[Service]
Type=${role === 'server' ? 'notify' : 'exec'}
KillMode=process
Delegate=yes
Restart=always
RestartSec=5s
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
EnvironmentFile=-${environmentFile}
ExecStart=${packageIn('k3s', version)}/bin/k3s ${role} --token-file=${tokenFile}${agents}
`
}
