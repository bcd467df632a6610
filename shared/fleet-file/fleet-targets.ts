import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { type Target, TargetSchema } from '../gen/muster/v1/manifest_pb.ts'
import type { Fleet, HostBinding, Settings } from './fleet.ts'
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
      /** Keys beside those of the file, such as the publisher's own. */
      readonly publicKeys?: readonly string[]
    }

type Way = NonNullable<MessageInitShape<typeof TargetSchema>['way']>

const storePathShape = /^\/nix\/store\/[0-9a-df-np-sv-z]{32}-[A-Za-z0-9+._?=-]{1,211}$/

/**
 * The targets of a fleet: one for each host, and one for each group that admits machines. A host with another system
 * has a target without a way, so nothing can be installed on it. Throws when a closure or a key to check it is missing.
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

function targetOf(fleet: Fleet, name: string, settings: Settings, mode: TargetMode) {
  return {
    fleetId: fleet.id,
    system: settings.system,
    ...(settings.external ? {} : { way: wayOf(fleet, name, settings, mode) }),
    ...(settings.external || saysNothing(settings.safety) ? {} : { safety: safetyMessage(settings.safety) }),
    labels: settings.labels,
    role: settings.role,
    cluster: settings.cluster ?? '',
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
  const built = mode.storePaths.get(name)
  if (built === undefined) throw new Error(`no closure was built for ${name}`)
  if (!storePathShape.test(built.storePath)) {
    throw new Error(`what was built for ${name} is no path in /nix/store`)
  }
  const publicKeys = [...new Set([...fleet.publicKeys, ...(mode.publicKeys ?? [])])]
  if (publicKeys.length === 0) {
    throw new Error('closures need a key to check them by: write public-keys in [fleet] of fleet.toml')
  }
  return { case: 'closure', value: { ...built, substituters: [...fleet.substituters], publicKeys } }
}
