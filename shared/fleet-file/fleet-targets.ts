import { create, type MessageInitShape } from '@bufbuild/protobuf'
import {
  type ClusterEntry,
  ClusterEntrySchema,
  type Target,
  TargetSchema,
} from '../gen/muster/v1/manifest_pb.ts'
import { kubernetesAttribute } from '../revision/kubernetes-target.ts'
import { durationFromMs } from '../time.ts'
import type { Cluster, Fleet, HostBinding, Settings } from './fleet.ts'
import { rolloutTargetMessage } from './rollout-message.ts'
import { safetyMessage, saysNothing } from './safety-message.ts'

/** What a publisher built for one host or group. */
export interface BuiltClosure {
  readonly storePath: string
  readonly closureDigest: string
  readonly closureBytes: bigint
}

/** How machines get their system: by building from the tree, or by fetching what the publisher built. */
export type TargetMode =
  | { readonly mode: 'source' }
  | {
      readonly mode: 'closure'
      /** By name of host or group; these names never clash. */
      readonly storePaths: ReadonlyMap<string, BuiltClosure>
      /** By the same names: the profiles of Kubernetes that lives apart. */
      readonly kubernetesPaths?: ReadonlyMap<string, BuiltClosure>
      /** Keys beside those of the file, such as the publisher's own. */
      readonly publicKeys?: readonly string[]
    }

type Way = NonNullable<MessageInitShape<typeof TargetSchema>['way']>

const storePathShape = /^\/nix\/store\/[0-9a-df-np-sv-z]{32}-[A-Za-z0-9+._?=-]{1,211}$/

/**
 * The targets of a fleet: one for each host, and one for each group that admits machines. A host with another system
 * has a target without a way, so no system can be installed on it. Throws when a closure or a key to check it is missing.
 */
export function fleetTargets(fleet: Fleet, mode: TargetMode): readonly Target[] {
  const hosts = fleet.hosts.map(host =>
    create(TargetSchema, {
      ...targetOf(fleet, host.name, host, mode),
      host: host.name,
      binding: bindingOf(host.binding),
    }),
  )
  const groups = fleet.groups.flatMap(group =>
    group.admission === undefined
      ? []
      : create(TargetSchema, {
          ...targetOf(fleet, group.name, group, mode),
          group: group.name,
          binding: { rule: group.admission.rule, nameTemplate: group.admission.nameTemplate },
        }),
  )
  return [...hosts, ...groups]
}

/** Whether a target has anything that can be installed; one that has nothing is no part of a revision. */
export function installs({ way, kubernetes }: Target): boolean {
  return way.case !== undefined || kubernetes !== undefined
}

function targetOf(fleet: Fleet, name: string, settings: Settings, mode: TargetMode) {
  const rollout = rolloutTargetMessage(settings.rollout)
  return {
    fleetId: fleet.id,
    system: settings.system,
    ...(settings.external ? {} : { way: wayOf(fleet, name, settings, mode) }),
    ...kubernetesOf(fleet, name, settings, mode),
    ...(settings.external || saysNothing(settings.safety) ? {} : { safety: safetyMessage(settings.safety) }),
    labels: settings.labels,
    role: settings.role,
    cluster: settings.cluster ?? '',
    ...(rollout && { rollout }),
  }
}

function bindingOf({ machine, serial, uuid, mac, diskSerial }: HostBinding) {
  return {
    machine: machine ?? '',
    serial: serial ?? '',
    uuid: uuid ?? '',
    mac: mac ?? '',
    diskSerial: diskSerial ?? '',
  }
}

function wayOf(fleet: Fleet, name: string, { attribute }: Settings, mode: TargetMode): Way {
  if (mode.mode === 'source') return { case: 'source', value: { attribute } }
  return fetched(fleet, name, mode.storePaths.get(name), mode.publicKeys)
}

function fetched(
  fleet: Fleet,
  name: string,
  built: BuiltClosure | undefined,
  more: readonly string[] | undefined,
): Extract<Way, { case: 'closure' }> {
  if (built === undefined) throw new Error(`no closure was built for ${name}`)
  if (!storePathShape.test(built.storePath)) {
    throw new Error(`what was built for ${name} is no path in /nix/store`)
  }
  const publicKeys = [...new Set([...fleet.publicKeys, ...(more ?? [])])]
  if (publicKeys.length === 0) {
    throw new Error('closures need a key to check them by: write public-keys in [fleet] of fleet.toml')
  }
  return { case: 'closure', value: { ...built, substituters: [...fleet.substituters], publicKeys } }
}

function kubernetesOf(
  fleet: Fleet,
  name: string,
  settings: Settings,
  mode: TargetMode,
): Pick<MessageInitShape<typeof TargetSchema>, 'kubernetes'> {
  const cluster = clusterOf(fleet, settings)
  if (!cluster) return {}
  const version = cluster.version ?? ''
  if (cluster.life !== 'apart') return { kubernetes: { version } }
  const way =
    mode.mode === 'source'
      ? ({ case: 'source', value: { attribute: kubernetesAttribute(settings.attribute) } } as const)
      : fetched(fleet, `Kubernetes of ${name}`, mode.kubernetesPaths?.get(name), mode.publicKeys)
  return { kubernetes: { version, apart: true, externalSystem: settings.external, way } }
}

/** The cluster that a host or group has a role in; undefined: none. */
export function clusterOf(fleet: Fleet, { cluster, role }: Settings): Cluster | undefined {
  return role === 'none' ? undefined : fleet.clusters.find(({ name }) => name === cluster)
}

/** What the manifest says of each cluster, with the key of every machine that the file names. */
export function clusterEntries(fleet: Fleet): readonly ClusterEntry[] {
  return fleet.clusters.map(({ name, distribution, version, endpoint, gates }) =>
    create(ClusterEntrySchema, {
      name,
      distribution,
      version: version ?? '',
      endpoint: endpoint ?? '',
      admitsWorkers: fleet.groups.some(
        ({ admission, cluster, role }) => admission !== undefined && cluster === name && role !== 'none',
      ),
      members: fleet.hosts
        .filter(({ cluster, role }) => cluster === name && role !== 'none')
        .map(({ name: host, role, binding }) => ({ host, role, machine: binding.machine ?? '' })),
      gates: gates
        .map(({ name: gate, deadlineMs, path }) => ({
          name: gate,
          path,
          ...(deadlineMs === undefined ? {} : { deadline: durationFromMs(deadlineMs) }),
        }))
        .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    }),
  )
}
