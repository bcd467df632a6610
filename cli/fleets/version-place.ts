import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readToml, type TomlNode } from '../../shared/fleet-file/toml-document.ts'
import { FLEET_FILE } from './read-fleet-directory.ts'

/** Where in a fleet file a cluster's version stands, or would: FILE:LINE; the section's name where there is no such file. */
export async function versionPlace(dir: string, fleetId: string, cluster: string): Promise<string> {
  const path = join(dir, FLEET_FILE)
  const section = `[clusters.${cluster}] in ${FLEET_FILE}`
  const text = await readFile(path, 'utf8').catch(() => undefined) // whoever asks from elsewhere is told the section
  const line = text === undefined ? undefined : versionLine(text, fleetId, cluster)
  return line === undefined ? section : `${path}:${line} ([clusters.${cluster}])`
}

/** The line, from 1; undefined: the file is of another fleet, or does not name the cluster. */
export function versionLine(text: string, fleetId: string, cluster: string): number | undefined {
  const root = readToml(text, () => {})
  const id = entry(entry(root, 'fleet')?.value, 'id')?.value
  if (id?.kind !== 'text' || id.value !== fleetId) return undefined
  const section = entry(entry(root, 'clusters')?.value, cluster)
  return (entry(section?.value, 'version') ?? section)?.keyAt.line
}

function entry(node: TomlNode | undefined, key: string) {
  return node?.kind === 'table' ? node.entries.get(key) : undefined
}
