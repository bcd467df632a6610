import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { authorityIdIn } from '../../../agent/drivers/node/certificates.ts'
import { AUTHORITY_PEM } from '../../../agent/drivers/testing/driver-fixture.ts'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { type LabFleet, startLabFleet } from '../lab-fleet.ts'
import type { LabMachine } from '../machine.ts'
import type { SystemOptions } from '../systems.ts'
import { SET_UP_MS, whyNoLab } from '../why-not.ts'
import { atRest, inWords, untilPhase } from './safe-fleet.ts'

/** Kubernetes that lives apart, moved alone: real Nix builds and sets its profile, a real systemd restarts a script that stands for k3s. */
const why = whyNoLab()
const STATE = '/var/lib/muster-agent/cluster'
const PROFILE = '/nix/var/nix/profiles/muster-kubernetes'
const STARTS = '/var/lib/starts'
const DATA = '/var/lib/rancher/k3s/agent'
let fleet: LabFleet
let olaf: LabMachine

const text = (...lines: readonly string[]) => `${lines.join('\n')}\n`

/** A worker's system; which Kubernetes it runs is its profile's word alone. */
const system = (version: string): SystemOptions => ({
  kubernetes: `/opt/k3s-${version}`,
  etc: {
    'muster/cluster.json': JSON.stringify({
      cluster: 'home',
      distribution: 'k3s',
      role: 'worker',
      version: '1.34.1',
      life: 'apart',
      apiPort: 6443,
      servers: {},
      certificateNames: [],
      units: ['k3s.service'],
      programs: [`${PROFILE}/bin`],
    }),
  },
  units: {
    'k3s.service': text(
      ...['[Unit]', 'ConditionPathExists=/run/muster-cluster/ready', `ConditionPathExists=!${STATE}/hold`],
      ...['[Service]', 'Type=notify', 'NotifyAccess=all', `ExecStart=${PROFILE}/bin/k3s agent`],
      ...['X-RestartIfChanged=false', 'X-StopIfChanged=false'],
    ),
  },
})

const toml = (version: string) => ({
  toml: text(
    ...['[clusters.home]', 'distribution = "k3s"', `version = "${version}"`, 'life = "apart"', ''],
    ...['[hosts.n1]', 'role = "server"', 'cluster = "home"'],
  ),
  hostLines: { olaf: 'role = "worker"\ncluster = "home"' },
})

const publish = async (version: string) => await fleet.publish({ olaf: system(version) }, toml(version))

/** Orders it and gives the operation, which is granted once the package is there. */
async function upgrade(fetchOnly = false): Promise<string> {
  const { api } = fleet.fleet
  const word = fetchOnly ? 'fetch' : 'upgrade'
  const idsOf = async () =>
    (await api.listOperations({ ref: 'olaf' })).operations.flatMap(({ operationId, action }) =>
      action === word ? [operationId] : [],
    )
  const before = new Set(await idsOf())
  await api.giveOrders({
    refs: ['olaf'],
    requestId: randomId(),
    action: { case: 'upgrade', value: { fetchOnly } },
  })
  return await waitUntil('the order is granted', async () => (await idsOf()).find(id => !before.has(id)))
}

/** What a join leaves of a worker. */
async function joined(): Promise<void> {
  await olaf.ok(['mkdir', '-p', DATA, '/run/muster-cluster', STATE])
  await olaf.writeFile(`${DATA}/client-kubelet.crt`, '')
  await olaf.writeFile(`${DATA}/server-ca.crt`, AUTHORITY_PEM)
  await olaf.writeFile(`${STATE}/ours`, authorityIdIn(Buffer.from(AUTHORITY_PEM)) ?? '')
  await olaf.ok(['touch', '/run/muster-cluster/ready'])
  await olaf.ok(['systemctl', 'start', 'k3s'])
  expect(await started()).toEqual(['1.34.1'])
}

async function program(version: string, said = version): Promise<void> {
  await olaf.ok(['mkdir', '-p', `/opt/k3s-${version}`])
  const lines = [
    ...['#!/bin/sh', `test "$1" = --version && exec echo "k3s version v${said}+k3s1 (stand-in)"`],
    // It has no API server to ask.
    'test "$1" = agent || exit 1',
    ...[`echo ${version} >>${STARTS}`, 'systemd-notify --ready', 'exec sleep infinity'],
  ]
  await olaf.writeFile(`/opt/k3s-${version}/k3s`, text(...lines), '755')
}

const started = async () =>
  (await readFile(join(olaf.root, STARTS), 'utf8').catch(() => '')).split('\n').filter(line => line !== '')
const profile = async () => (await olaf.exec(['readlink', '-f', PROFILE])).stdout.trim()

beforeAll(async () => {
  if (why !== undefined) return
  fleet = await startLabFleet({
    machines: ['olaf'],
    systems: { olaf: system('1.34.1') },
    agentConfig: { allow: ['apply', 'upgrade'] },
    coordinatorConfig: { clusterAskSeconds: 60 },
  })
  olaf = fleet.machine('olaf')
  await program('1.34.1')
  await program('1.35.1')
  await program('1.35.2', '1.35.1')
  await fleet.untilOnline('olaf')
}, SET_UP_MS)
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

describe.skipIf(why !== undefined)(`Kubernetes that lives apart ${why ?? ''}`, () => {
  it('is put in its place before the machine joins, and nothing starts it', async () => {
    await publish('1.34.1')
    const outcome = await fleet.waitOutcome(await upgrade())
    expect([inWords(outcome), outcome.reason]).toEqual([
      'succeeded',
      expect.stringContaining('Kubernetes runs from'),
    ])
    expect(await profile()).toContain('muster-kubernetes-k3s-1.34.1')
    expect(await started()).toEqual([])
  })

  it('moves by an order of its own, over a power cut, and the system stays', async () => {
    const before = await olaf.state()
    await publish('1.35.1')
    const fetched = await fleet.waitOutcome(await upgrade(true))
    expect([inWords(fetched), await started()]).toEqual(['succeeded', []])
    expect(await profile()).toContain('k3s-1.34.1')

    // No server is in this fleet: the coordinator would wait for one, once it is told that olaf is a member.
    await joined()
    const id = await upgrade()
    await untilPhase(olaf, id, Phase.PLAN)
    await olaf.powerCut()
    await olaf.boot()
    await olaf.ok(['mkdir', '-p', '/run/muster-cluster'])
    await olaf.ok(['touch', '/run/muster-cluster/ready'])
    expect(inWords(await fleet.waitOutcome(id))).toBe('succeeded')
    expect(new Set((await started()).slice(1))).toEqual(new Set(['1.35.1']))
    expect(await profile()).toContain('k3s-1.35.1')
    expect((await olaf.exec(['systemctl', 'is-active', 'k3s'])).stdout.trim()).toBe('active')
    const { current, bootDefault } = await olaf.state()
    expect({ current, bootDefault }).toEqual({ current: before.current, bootDefault: before.bootDefault })
    const generations = await olaf.ok(['nix-env', '-p', PROFILE, '--list-generations'])
    expect(generations.trim().split('\n')).toHaveLength(2)
    await atRest(fleet, 'olaf')
  })

  it('is not moved to a package that is not what the revision names', async () => {
    const before = await started()
    await publish('1.35.2')
    const outcome = await fleet.waitOutcome(await upgrade(true))
    expect([inWords(outcome), outcome.reason]).toEqual([
      'build failed',
      expect.stringContaining('holds Kubernetes 1.35.1, the revision names 1.35.2'),
    ])
    expect([await started(), await profile()]).toEqual([before, expect.stringContaining('k3s-1.35.1')])
  })
})
