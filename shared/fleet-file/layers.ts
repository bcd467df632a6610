import type { GroupTable, HostTable, Sections } from './read-sections.ts'
import type { defaultsKeys, groupKeys } from './schema.ts'
import type { Placed, TableOf } from './value-type.ts'

/** The keys that hosts, groups and defaults share; those that defaults lack are simply absent there. */
type SharedKeys = typeof defaultsKeys & Pick<typeof groupKeys, 'config' | 'os' | 'after'>
export type Layer = TableOf<SharedKeys>

/** The tables that decide about one host or group, the strongest first: host over group over defaults. */
export type Layers = readonly Layer[]

export function hostLayers({ groups, defaults }: Sections, host: HostTable): Layers {
  const groupName = host.table.values.group?.value
  const group = groupName === undefined ? undefined : groups.get(groupName)
  return [host.table, ...(group ? [group.table] : []), ...(defaults ? [defaults] : [])]
}

export function groupLayers({ defaults }: Sections, group: GroupTable): Layers {
  return [group.table, ...(defaults ? [defaults] : [])]
}

/**
 * The value that holds for a key. `certain` is false when a stronger table has this key with a value that was refused:
 * then what follows from it is not worth a second message.
 */
export function pick<N extends keyof Layer['values'] & string>(
  layers: Layers,
  name: N,
): { readonly found: Layer['values'][N] | undefined; readonly certain: boolean } {
  for (const layer of layers) {
    if (layer.broken.has(name)) return { found: undefined, certain: false }
    const found = layer.values[name]
    if (found !== undefined) return { found, certain: true }
  }
  return { found: undefined, certain: true }
}

/** All values of a key, the weakest first, for keys that are merged. */
export function stack<N extends 'labels' | 'users' | 'extra'>(
  layers: Layers,
  name: N,
): readonly NonNullable<Layer['values'][N]>[] {
  return layers.toReversed().flatMap(layer => layer.values[name] ?? [])
}

/** Whether a value stands in this very table and was not inherited. */
export function isOwn(layers: Layers, placed: Placed<unknown>): boolean {
  return placed.path.length > 1 && layers[0]?.path.join('\0') === placed.path.slice(0, -1).join('\0')
}
