import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { type ClusterFiles, createClusterFiles } from './node/cluster-files.ts'
import { type Aside, putBack, setAside } from './set-aside.ts'

const DATA: readonly Aside[] = [
  ['/data/etcd', '/data/etcd.before'],
  ['/data/pki', '/data/pki.before'],
]

let root: string
let files: ClusterFiles
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'muster-aside-'))
  files = createClusterFiles({ stateDir: '/state', runDir: '/run', root, seal: async (_, bytes) => bytes })
  for (const [folder] of DATA) await files.write(`${folder}/file`, 'of before')
})
afterEach(() => rm(root, { recursive: true }))

const read = (path: string) => readFile(join(root, path), 'utf8').catch(() => undefined)
const asides = () => Promise.all(DATA.map(([, aside]) => read(`${aside}/file`)))
const folders = () => Promise.all(DATA.map(([folder]) => read(`${folder}/file`)))

it('keeps what was there, and takes only what the same operation half made when that begins again', async () => {
  await setAside(files, 'a', DATA)
  expect([await asides(), await folders()]).toEqual([
    ['of before', 'of before'],
    [undefined, undefined],
  ])
  await files.write('/data/etcd/file', 'half made')
  await setAside(files, 'a', DATA)
  expect([await asides(), await folders()]).toEqual([
    ['of before', 'of before'],
    [undefined, undefined],
  ])
})

it('goes on where it was cut off between two folders', async () => {
  await files.mark('set-aside', 'a')
  await files.move('/data/etcd', '/data/etcd.before')
  await setAside(files, 'a', DATA)
  expect(await asides()).toEqual(['of before', 'of before'])
})

it('gives way to the next operation', async () => {
  await setAside(files, 'a', DATA)
  for (const [folder] of DATA) await files.write(`${folder}/file`, 'restored')
  await setAside(files, 'b', DATA)
  expect(await asides()).toEqual(['restored', 'restored'])
})

it('puts all back where nothing came in its place', async () => {
  await setAside(files, 'a', DATA)
  await files.write('/data/etcd/file', 'half made')
  await putBack(files, 'a', DATA)
  expect([await asides(), await folders()]).toEqual([
    [undefined, undefined],
    ['of before', 'of before'],
  ])
  await putBack(files, 'a', DATA)
  expect(await folders()).toEqual(['of before', 'of before'])
})

it('puts back nothing that another operation set aside, which is older than what is there', async () => {
  await setAside(files, 'a', DATA)
  for (const [folder] of DATA) await files.write(`${folder}/file`, 'restored')
  await putBack(files, 'b', DATA)
  expect([await asides(), await folders()]).toEqual([
    ['of before', 'of before'],
    ['restored', 'restored'],
  ])
})
