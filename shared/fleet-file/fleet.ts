import type { Distribution } from '../kubernetes/distributions.ts'
import type { GateProbe } from '../revision/safety.ts'
import type { Amount } from '../rollout/amount.ts'
import type { MaintenanceWindow } from '../rollout/maintenance-window.ts'
import type { FailurePolicy, gateAskings } from '../rollout/rollout-bounds.ts'
import type { FreeTable } from './free-value.ts'
import type { confirmations, endpointKeepers, rebootPolicies, roles, systems, trials } from './schema.ts'

export type Role = (typeof roles)[number]
export type SystemName = (typeof systems)[number]

/** A fleet file that passed the check, with host over group over defaults applied. Lists are in the file's order. */
export interface Fleet {
  readonly name: string
  readonly id: string
  readonly store: string | undefined
  /** As written, or the store when only that is given. */
  readonly substituters: readonly string[]
  readonly publicKeys: readonly string[]
  /** Undefined: as in the revision before. */
  readonly floor: number | undefined
  readonly expiresDays: number
  readonly leastNixVersion: string | undefined
  readonly clusters: readonly Cluster[]
  readonly groups: readonly ResolvedGroup[]
  readonly hosts: readonly ResolvedHost[]
  readonly rollout: RolloutSettings
}

/** How rollouts go, as far as the file says; undefined or empty: as the coordinator's defaults say. */
export interface RolloutSettings {
  readonly maxUnavailable: Amount | undefined
  readonly canaries: readonly string[]
  readonly canarySize: Amount | undefined
  readonly canarySoakMs: number | undefined
  readonly soakMs: number | undefined
  readonly onFailure: FailurePolicy | undefined
  readonly maxFailures: number | undefined
  readonly spread: string | undefined
  readonly silentPercent: number | undefined
  readonly askGates: (typeof gateAskings)[number] | undefined
  readonly drainLimitMs: number | undefined
  readonly windows: readonly MaintenanceWindow[]
}

/** How rollouts treat one host or group, as far as the file says. */
export interface HostRolloutSettings {
  readonly windows: readonly MaintenanceWindow[]
  readonly after: readonly string[]
  readonly drainLimitMs: number | undefined
}

export interface Cluster {
  readonly name: string
  readonly distribution: Distribution
  /** Undefined: what the host's closure brings. */
  readonly version: string | undefined
  readonly life: 'apart' | 'with-system'
  readonly endpoint: string | undefined
  /** Servers: a virtual address that they keep among themselves; only with an endpoint that is an address. */
  readonly endpointKeeper: (typeof endpointKeepers)[number]
  readonly nodeInterface: string | undefined
  /** ADDRESS/LENGTH; undefined: the distribution's own. */
  readonly podCidr: string | undefined
  readonly serviceCidr: string | undefined
  /** Clusters that rollouts must have done before. */
  readonly after: readonly string[]
  /** Jobs that are asked before each step that disrupts a host of it. */
  readonly gates: readonly JobGateSettings[]
}

export interface JobGateSettings {
  readonly name: string
  /** Undefined: as the agent's defaults say. */
  readonly deadlineMs: number | undefined
  /** Of its file in the fleet directory. */
  readonly path: string
}

/** What hosts and groups have in common. */
export interface Settings {
  readonly role: Role
  /** Always defined for a role other than none, always undefined for none. */
  readonly cluster: string | undefined
  /** An IP address or "dhcp". */
  readonly address: string
  /** Defined exactly when the address is fixed. */
  readonly prefixLength: number | undefined
  /** Undefined with DHCP. */
  readonly gateway: string | undefined
  readonly nameservers: readonly string[]
  readonly interface: string | undefined
  readonly labels: Readonly<Record<string, string>>
  readonly system: SystemName
  readonly nixpkgs: string
  /** The name below nixosConfigurations: that of `config`, else of the host or group itself. */
  readonly attribute: string
  /** The configuration is the operator's own, taken as it is. */
  readonly ownConfig: boolean
  readonly users: ReadonlyMap<string, { readonly keys: readonly string[] }>
  readonly extra: FreeTable
  /** Somebody else manages its system; with a role, Kubernetes alone is ours. */
  readonly external: boolean
  readonly safety: SafetySettings
  readonly rollout: HostRolloutSettings
}

/** How a change is proved, as far as the file says; undefined: as the agent's defaults say. */
export interface SafetySettings {
  /** In the order of the list that names them. */
  readonly gates: readonly GateSettings[]
  readonly soakMs: number | undefined
  readonly confirmWithinMs: number | undefined
  readonly confirm: (typeof confirmations)[number] | undefined
  readonly reboot: (typeof rebootPolicies)[number] | undefined
  readonly trial: (typeof trials)[number] | undefined
  readonly toleratedUnits: readonly string[]
}

export interface GateSettings {
  readonly name: string
  readonly deadlineMs: number | undefined
  readonly probe: GateProbe
}

export interface ResolvedHost extends Settings {
  readonly name: string
  readonly group: string | undefined
  readonly binding: HostBinding
}

/** The hardware that a host is bound to; nothing at all means loose, by an operator's word alone. */
export interface HostBinding {
  readonly machine: string | undefined
  readonly serial: string | undefined
  readonly uuid: string | undefined
  readonly mac: string | undefined
  readonly diskSerial: string | undefined
}

export interface ResolvedGroup extends Settings {
  readonly name: string
  /** The rule and the template of a group that admits machines; undefined for one that only carries settings. */
  readonly admission: { readonly rule: string; readonly nameTemplate: string } | undefined
}
