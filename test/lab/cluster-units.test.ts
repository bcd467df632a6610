import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { waitUntil } from '../support/wait-until.ts'
import { type Lab, startLab } from './lab.ts'
import type { LabMachine } from './machine.ts'
import { SET_UP_MS, whyNoLab } from './why-not.ts'

/**
 * The units that the NixOS modules render for the lab's clusters, under a real systemd. Agent and k3s are scripts here that
 * say what they are; that Kubernetes runs from such units is another test's.
 */
const why = whyNoLab()
const FIXTURES = join(import.meta.dirname, '../fixtures/clusters')
const PROFILE = '/nix/var/nix/profiles/muster-kubernetes'
const SEALED = '/var/lib/has-secrets'
const STATE = '/var/lib/muster-agent/cluster'
const DATASTORE = '/var/lib/rancher/k3s/server/db/etcd/member'
const STARTS = '/var/lib/starts'
let lab: Lab
let machine: LabMachine

/** Every file of a host's fixture: absolute path on a machine to its text. */
function filesOf(distribution: string, host: string): ReadonlyMap<string, string> {
  const top = join(FIXTURES, distribution, host)
  const entries = readdirSync(top, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
  return new Map(
    entries.map(entry => {
      const path = join(entry.parentPath ?? entry.path, entry.name)
      return [path.slice(top.length), readFileSync(path, 'utf8')]
    }),
  )
}

async function writeProgram(path: string, text: string): Promise<void> {
  await machine.ok(['mkdir', '-p', join(path, '..')])
  await machine.writeFile(path, `#!/bin/sh\n${text}`, '755')
}

const state = async (unit: string) => (await machine.exec(['systemctl', 'is-active', unit])).stdout.trim()
const starts = async () => (await machine.exec(['cat', STARTS])).stdout
const until = (what: string, holds: () => Promise<boolean>) =>
  waitUntil(what, async () => ((await holds()) ? true : undefined), { timeoutMs: 60_000 })
/** A boot, and the end of what it starts by itself. */
async function reboot(): Promise<void> {
  await machine.reboot()
  await until('the start at the boot', async () => (await state('muster-kubernetes')) === 'active')
}

beforeAll(async () => {
  if (why !== undefined) return
  lab = await startLab()
  machine = await lab.startMachine('n1')
  for (const [path, text] of filesOf('k3s', 'n1')) {
    await machine.ok(['mkdir', '-p', join(path, '..')])
    await machine.writeFile(path, text)
  }
  await writeProgram(
    '/usr/local/bin/muster-agent',
    `echo "stand-in: muster-agent $1" >&2
test -e ${SEALED} || exit 0
cd /run/muster-cluster && echo K3S_CLUSTER_INIT=true >start.env && touch token agent-token && touch ready
`,
  )
  await writeProgram(
    `${PROFILE}/bin/k3s`,
    `echo "stand-in: k3s $* with K3S_CLUSTER_INIT=$K3S_CLUSTER_INIT" >>${STARTS}
systemd-notify --ready
exec sleep 1000
`,
  )
  await machine.ok(['systemctl', 'daemon-reload'])
  await machine.ok(['systemctl', 'enable', '--quiet', 'muster-cluster-secrets', 'muster-kubernetes'])
}, SET_UP_MS)
afterAll(async () => await lab?.[Symbol.asyncDispose]())

describe.skipIf(why !== undefined)(`the units of Kubernetes under systemd ${why ?? ''}`, () => {
  it.each(['k3s', 'k0s', 'kubernetes', 'components'])(
    'of %s are understood by systemd to the last line, on servers and workers',
    async distribution => {
      for (const host of ['n1', 'n4']) {
        const folder = `/var/lib/verify/${distribution}-${host}`
        await machine.ok(['mkdir', '-p', folder])
        const units = [...filesOf(distribution, host)].filter(([path]) => path.includes('/systemd/system/'))
        for (const [path, text] of units) {
          // Only whether it is there is asked of a program.
          const present = text.replaceAll(/^(Exec\w+=\+?)\S+/gm, '$1/bin/true')
          await machine.writeFile(join(folder, path.slice(path.lastIndexOf('/') + 1)), present)
        }
        const names = units.map(([path]) => join(folder, path.slice(path.lastIndexOf('/') + 1)))
        const { stderr } = await machine.exec(['systemd-analyze', 'verify', ...names])
        expect(stderr.split('\n').filter(line => line.includes(folder))).toEqual([])
      }
    },
  )

  it('stay down on a machine that is in no cluster, and nothing fails', async () => {
    await reboot()
    expect(await state('k3s')).toBe('inactive')
    expect(await state('muster-cluster-secrets')).toBe('active')
    expect(await machine.exec(['systemctl', 'start', 'k3s'])).toMatchObject({ code: 0 })
    expect(await state('k3s')).toBe('inactive')
    expect((await machine.failedUnits()).filter(unit => /muster|k3s/.test(unit))).toEqual([])
  })

  it('start at a boot without a network, with what the agent kept', async () => {
    await machine.ok(['touch', SEALED])
    await machine.cutNetwork()
    await reboot()
    await until('k3s runs', async () => (await state('k3s')) === 'active')
    await machine.healNetwork()
    expect(await starts()).toMatch(
      /^stand-in: k3s server --token-file \/run\/muster-cluster\/token .* with K3S_CLUSTER_INIT=true\n$/,
    )
  })

  it('are not started by what starts all that targets want, as a switch does', async () => {
    await machine.ok(['systemctl', 'stop', 'k3s'])
    for (const target of ['multi-user.target', 'sysinit.target', 'timers.target', 'default.target']) {
      await machine.ok(['systemctl', 'start', target])
    }
    expect(await state('k3s')).toBe('inactive')
  })

  it('stay down while they are held, over a boot too, and come back when that ends', async () => {
    await machine.ok(['sh', '-c', `mkdir -p ${STATE} && touch ${STATE}/hold`])
    await reboot()
    await machine.exec(['systemctl', 'start', 'k3s'])
    expect(await state('k3s')).toBe('inactive')
    await machine.ok(['rm', `${STATE}/hold`])
    await machine.ok(['systemctl', 'start', 'k3s'])
    expect(await state('k3s')).toBe('active')
  })

  it('do not found a cluster with a member that lost its datastore, and say so', async () => {
    await machine.ok([
      'sh',
      '-c',
      `touch ${STATE}/member; mkdir -p ${DATASTORE}/snap; touch ${DATASTORE}/snap/db`,
    ])
    await reboot()
    await until('k3s runs', async () => (await state('k3s')) === 'active')
    await machine.ok(['rm', '-r', DATASTORE])
    const before = await starts()
    await reboot()
    await until('the guard spoke', async () =>
      (await machine.journal('k3s')).includes('is gone: it would found a new cluster'),
    )
    expect(await state('k3s')).not.toBe('active')
    expect(await starts()).toBe(before)
  })
})
