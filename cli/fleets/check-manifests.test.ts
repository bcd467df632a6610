import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { checkManifests } from './check-manifests.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'muster-manifests-'))
  await mkdir(join(dir, 'manifests/home/deeper'), { recursive: true })
  await mkdir(join(dir, 'linked'))
  await writeFile(join(dir, 'manifests/home/own.yaml'), 'kind: ConfigMap\n')
  await symlink('own.yaml', join(dir, 'manifests/home/again.yaml'))
  await symlink('../../../linked', join(dir, 'manifests/home/deeper/net'))
  await symlink('home', join(dir, 'manifests/far'))
  await symlink('/nowhere', join(dir, 'manifests/of-no-cluster'))
  await symlink('../manifests', join(dir, 'linked/manifests'))
})
afterAll(() => rm(dir, { recursive: true }))

const linksIn = async (folder: string, clusters: readonly string[]) =>
  (await checkManifests(folder, 'fleet.toml', clusters)).map(
    ({ severity, message }) => `${severity} ${message}`,
  )

it('names each link among the manifests of a cluster, and the folder itself where it is one', async () => {
  expect(await linksIn(dir, ['home', 'far', 'none'])).toEqual(
    ['home/again.yaml', 'home/deeper/net', 'far'].map(
      path => `error manifests/${path}: is a link; put the file itself into the fleet directory`,
    ),
  )
  expect(await linksIn(join(dir, 'linked'), ['home'])).toEqual([
    'error manifests: is a link; put the file itself into the fleet directory',
  ])
  expect(await linksIn(dir, [])).toEqual([])
})
