import type { Cluster, Fleet, ResolvedGroup, ResolvedHost, Settings } from './fleet.ts'
import { type FreeTable, mergeFree } from './free-value.ts'
import { jobGateSettings } from './gate-probe.ts'
import { groupLayers, hostLayers, type Layers, pick, stack } from './layers.ts'
import type { ClusterTable, GroupTable, HostTable, Sections } from './read-sections.ts'
import { resolveHostRollout, resolveRollout } from './resolve-rollout.ts'
import { resolveSafety } from './resolve-safety.ts'
import { defaultExpiresDays } from './schema.ts'
import { flakeAttribute } from './text-types.ts'

/** Applies host over group over defaults to a file without errors; undefined when [fleet] could not be read. */
export function resolveFleet(sections: Sections): Fleet | undefined {
  const values = sections.fleet?.values
  if (values?.name === undefined || values.id === undefined) return undefined
  const store = values.store?.value
  return {
    name: values.name.value,
    id: values.id.value,
    store,
    substituters: values.substituters?.value ?? (store === undefined ? [] : [store]),
    publicKeys: values['public-keys']?.value ?? [],
    floor: values.floor?.value,
    expiresDays: values['expires-days']?.value ?? defaultExpiresDays,
    leastNixVersion: values['least-nix-version']?.value,
    clusters: [...sections.clusters.values()].flatMap(cluster => resolveCluster(sections, cluster)),
    groups: [...sections.groups.values()].map(group => resolveGroup(sections, group)),
    hosts: [...sections.hosts.values()].map(host => resolveHost(sections, host)),
    rollout: resolveRollout(sections),
  }
}

function resolveCluster(
  { gates }: Pick<Sections, 'gates'>,
  { name, table: { values } }: ClusterTable,
): Cluster[] {
  if (values.distribution === undefined) return []
  return [
    {
      name,
      distribution: values.distribution.value,
      version: values.version?.value,
      life: values.life?.value ?? 'with-system',
      endpoint: values.endpoint?.value,
      endpointKeeper: values['endpoint-keeper']?.value ?? 'outside',
      nodeInterface: values['node-interface']?.value,
      podCidr: values['pod-cidr']?.value,
      serviceCidr: values['service-cidr']?.value,
      after: values.after?.value ?? [],
      gates: (values.gates?.value ?? []).flatMap(gate => {
        const table = gates.get(gate)
        return (table && jobGateSettings(table)) ?? []
      }),
    },
  ]
}

function resolveGroup(sections: Sections, group: GroupTable): ResolvedGroup {
  const { admit, name } = group.table.values
  return {
    ...resolveSettings(sections, group.name, groupLayers(sections, group)),
    name: group.name,
    admission: admit && name && { rule: admit.value, nameTemplate: name.value },
  }
}

function resolveHost(sections: Sections, host: HostTable): ResolvedHost {
  const { group, machine, serial, uuid, mac, disk } = host.table.values
  return {
    ...resolveSettings(sections, host.name, hostLayers(sections, host)),
    name: host.name,
    group: group?.value,
    binding: {
      machine: machine?.value,
      serial: serial?.value,
      uuid: uuid?.value,
      mac: mac?.value,
      diskSerial: disk?.value.values.serial?.value,
    },
  }
}

function resolveSettings(sections: Sections, name: string, layers: Layers): Settings {
  const role = pick(layers, 'role').found?.value ?? 'none'
  const address = pick(layers, 'address').found?.value ?? 'dhcp'
  const config = pick(layers, 'config').found?.value
  const isFixed = address !== 'dhcp'
  return {
    role,
    cluster: role === 'none' ? undefined : pick(layers, 'cluster').found?.value,
    address,
    prefixLength: isFixed ? pick(layers, 'prefix-length').found?.value : undefined,
    gateway: isFixed ? pick(layers, 'gateway').found?.value : undefined,
    nameservers: pick(layers, 'nameservers').found?.value ?? [],
    interface: pick(layers, 'interface').found?.value,
    labels: Object.fromEntries(stack(layers, 'labels').flatMap(({ value }) => [...value])),
    system: pick(layers, 'system').found?.value ?? 'x86_64-linux',
    nixpkgs: pick(layers, 'nixpkgs').found?.value ?? 'nixpkgs',
    attribute: (config === undefined ? undefined : flakeAttribute(config)) ?? name,
    ownConfig: config !== undefined,
    users: new Map(
      stack(layers, 'users').flatMap(({ value }) =>
        [...value].map(([user, { values }]) => [user, { keys: values.keys?.value ?? [] }] as const),
      ),
    ),
    extra: stack(layers, 'extra').reduce<FreeTable>(
      (under, { value }) => mergeFree(under, value),
      mergeFree({}, {}),
    ),
    external: pick(layers, 'os').found !== undefined,
    safety: resolveSafety(sections, layers),
    rollout: resolveHostRollout(layers),
  }
}
