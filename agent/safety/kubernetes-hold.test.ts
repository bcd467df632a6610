import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CLUSTER_FACTS } from '../drivers/cluster-facts.ts'
import { ScriptedSystem } from '../operation/testing/scripted-system.ts'
import { endHold, holderOf, holdForChange, letKubernetesGo } from './kubernetes-hold.ts'

const FACTS = {
  cluster: 'home',
  distribution: 'k3s',
  role: 'server',
  life: 'with-system',
  apiPort: 6443,
  servers: {},
  certificateNames: [],
  units: ['a.service', 'k3s.service'],
  programs: [],
  version: '1.34.3',
}
let stateDir: string
let system: ScriptedSystem
const hold = () => join(stateDir, 'cluster/hold')
const go = (operation: string) => letKubernetesGo(system, stateDir, operation, () => {})

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'hold-'))
  system = new ScriptedSystem()
  system.files.set(CLUSTER_FACTS, JSON.stringify(FACTS))
  system.scripts.set('systemctl', () => ({}))
})
afterEach(() => rm(stateDir, { recursive: true }))

describe('Kubernetes that a change keeps down', () => {
  it('is let go by that change alone, and its units are started', async () => {
    expect(await holdForChange(stateDir, 'op-1')).toBe('ours')
    expect(await holderOf(stateDir)).toBe('op-1')
    await go('op-2')
    await endHold(stateDir, 'op-2')
    expect([existsSync(hold()), system.commands]).toEqual([true, []])
    await go('op-1')
    expect([existsSync(hold()), system.commands]).toEqual([
      false,
      ['systemctl reset-failed a.service k3s.service', 'systemctl start --no-block a.service k3s.service'],
    ])
    await go('op-1')
    expect(system.commands).toHaveLength(2)
  })

  it('is started by whoever comes after a cut in between', async () => {
    await holdForChange(stateDir, 'op-1')
    system.scripts.set('systemctl', () => {
      throw new Error('cut')
    })
    await expect(go('op-1')).rejects.toThrow('cut')
    expect(existsSync(hold())).toBe(false)
    system.scripts.set('systemctl', () => ({}))
    await go('op-1')
    expect(system.commands.at(-1)).toContain('start --no-block')
    expect(existsSync(join(stateDir, 'cluster/let-go'))).toBe(false)
  })

  it('is taken over from a change that left it behind, and from nobody else', async () => {
    await holdForChange(stateDir, 'op-1')
    expect(await holdForChange(stateDir, 'op-2')).toBe('ours')
    expect(await holderOf(stateDir)).toBe('op-2')
    await mkdir(join(stateDir, 'cluster'), { recursive: true })
    await writeFile(hold(), '')
    expect(await holdForChange(stateDir, 'op-3')).toBe('others')
    await go('op-3')
    await endHold(stateDir, 'op-3')
    expect(await readFile(hold(), 'utf8')).toBe('')
  })
})
