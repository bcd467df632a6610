import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { programVersion } from './program-version.ts'
import { createScriptedSystem } from './testing/scripted-system.ts'

const QUESTION = { args: ['--version'], pattern: /v(\d+\.\d+\.\d+)/ }
let root: string
let says: string

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'muster-version-'))
  says = 'Kubernetes v1.34.3'
})
afterEach(async () => await rm(root, { recursive: true, force: true }))

function machine() {
  const system = createScriptedSystem(root, [[/kubelet --version$/, () => says]])
  return { system, ask: async () => await programVersion({ system, folders: ['/opt'] }, 'kubelet', QUESTION) }
}

async function install(text: string): Promise<void> {
  const folder = join(root, 'opt')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'kubelet.new'), text)
  // As a profile's link is moved: at no moment is there no program.
  await rename(join(folder, 'kubelet.new'), join(folder, 'kubelet'))
}

it('asks the same file once, and another one in its place anew', async () => {
  await install('first')
  const { system, ask } = machine()
  expect([await ask(), await ask(), await ask()]).toEqual(['1.34.3', '1.34.3', '1.34.3'])
  expect(system.ran).toHaveLength(1)
  says = 'Kubernetes v1.35.4'
  // As long as the first was, and made at the same moment as far as a store tells.
  await install('other')
  expect([await ask(), await ask()]).toEqual(['1.35.4', '1.35.4'])
  expect(system.ran).toHaveLength(2)
})

it('remembers no failure, and nothing of another machine', async () => {
  await install('first')
  const { system, ask } = machine()
  says = 'no version'
  expect(await ask()).toBeUndefined()
  says = 'Kubernetes v1.34.3'
  expect(await ask()).toBe('1.34.3')
  expect(system.ran).toHaveLength(2)
  const other = machine()
  await other.ask()
  expect(other.system.ran).toHaveLength(1)
})

it('asks a program of PATH each time', async () => {
  const { system, ask } = machine()
  expect([await ask(), await ask()]).toEqual(['1.34.3', '1.34.3'])
  expect(system.ran).toHaveLength(2)
})
