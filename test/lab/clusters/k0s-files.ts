import { packageIn } from './packages.ts'
import type { KubernetesVersion } from './programs.ts'

export interface K0sUnitOptions {
  readonly version: KubernetesVersion
  readonly role: 'controller' | 'worker'
  /** Absent: the controller that founds. */
  readonly tokenFile?: string
}

/** What no lab machine can have: these pull images, or need a network of their own. */
const DISABLED =
  '--disable-components=coredns,konnectivity-server,metrics-server,helm,network-provider,kube-proxy,autopilot'
/** The name of the worker profile with which a kubelet runs where control groups are of the first version. */
const PROFILE = 'lab'

/** k0s.service as the public NixOS module of k0s renders it, with what only a lab machine needs. */
export function k0sUnit({ version, role, tokenFile }: K0sUnitOptions): string {
  const words = [
    `${packageIn('k0s', version)}/bin/k0s ${role} --data-dir=/var/lib/k0s`,
    ...(role === 'controller'
      ? ['--config=/etc/k0s/k0s.yaml', DISABLED]
      : [`--profile=${PROFILE} --ignore-pre-flight-checks`]),
    ...(tokenFile === undefined ? [] : [`--token-file=${tokenFile}`]),
  ]
  return `[Unit]
Description=k0s - Zero Friction Kubernetes
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=5
StartLimitBurst=10
${tokenFile === undefined ? '' : `ConditionPathExists=${tokenFile}`}
[Service]
ExecStart=${words.join(' ')}
Restart=always
RestartSec=120
Delegate=yes
KillMode=process
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
`
}

/** The configuration of a lab's controller. */
export function k0sConfig(address: string, controllers: readonly string[]): string {
  const config = {
    apiVersion: 'k0s.k0sproject.io/v1beta1',
    kind: 'ClusterConfig',
    metadata: { name: 'lab' },
    spec: {
      api: { address, sans: controllers },
      storage: { type: 'etcd', etcd: { peerAddress: address } },
      network: { provider: 'custom' },
      images: { default_pull_policy: 'Never' },
      telemetry: { enabled: false },
      workerProfiles: [{ name: PROFILE, values: { failCgroupV1: false } }],
    },
  }
  return `${JSON.stringify(config, undefined, 2)}\n`
}
