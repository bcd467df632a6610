import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { waitUntil } from '../../support/wait-until.ts'
import { CLUSTER, type ClusterFleet } from './cluster-fleet.ts'
import type { Host } from './rendered-system.ts'

/** A namespace of its own, which Muster makes and never removes. */
const SPACE = 'brought'
const BY_HAND = 'by-hand'

/**
 * Manifests of the fleet directory come to the cluster by publishing alone; what is taken out of them is pruned, what somebody else made and
 * the namespace stay; and that none are left is believed only where somebody says so.
 */
export async function expectManifestsBrought(made: ClusterFleet, server: Host): Promise<void> {
  await publishMaps(made, ['a', 'b'])
  await untilMaps(made, server, ['a', 'b'])
  await made.kubectl(server, '-n', SPACE, 'create', 'configmap', BY_HAND)
  await publishMaps(made, ['b'])
  await untilMaps(made, server, ['b', BY_HAND])

  await rm(folderOf(made), { recursive: true })
  await made.publish()
  const refused = await made.muster('cluster', 'manifests', CLUSTER)
  expect(refused.code).not.toBe(0)
  expect(`${refused.stdout}${refused.stderr}`).toContain('--allow-empty')
  await untilMaps(made, server, ['b', BY_HAND])
  await made.ok('cluster', 'manifests', CLUSTER, '--allow-empty')
  await untilMaps(made, server, [BY_HAND])
  await made.kubectl(server, 'delete', 'namespace', SPACE)
}

const folderOf = ({ directory }: ClusterFleet) => join(directory, 'manifests', CLUSTER)

/** Publishes the namespace and these ConfigMaps, and none beside. */
async function publishMaps(made: ClusterFleet, names: readonly string[]): Promise<void> {
  const folder = folderOf(made)
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  // Before its namespace by name: the order of files is none in which they could be applied.
  for (const name of names) await writeFile(join(folder, `${name}.yaml`), mapOf(name))
  await writeFile(
    join(folder, 'space.yaml'),
    `apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ${SPACE}\n`,
  )
  await made.publish()
}

const mapOf = (name: string) =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n  namespace: ${SPACE}\ndata:\n  of: ${name}\n`

async function untilMaps(made: ClusterFleet, server: Host, names: readonly string[]): Promise<void> {
  const wanted = names.map(name => `configmap/${name}`).toSorted()
  await waitUntil(
    `ConfigMaps ${names.join(', ')}`,
    async () => {
      const { stdout, stderr } = await made.tryKubectl(server, '-n', SPACE, 'get', 'configmaps', '-o', 'name')
      const seen = stdout.split('\n').filter(line => line !== '' && line !== 'configmap/kube-root-ca.crt')
      if (seen.toSorted().join() === wanted.join()) return true as const
      throw new Error(`there are ${seen.join(', ')} ${stderr}`)
    },
    { timeoutMs: 2 * 60_000, everyMs: 500 },
  ).catch(async (error: Error) => {
    throw new Error(`${error.message}\n${await made.lastWords()}`)
  })
}
