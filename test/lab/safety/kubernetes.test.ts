import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { authorityIdIn } from '../../../agent/drivers/node/certificates.ts'
import { AUTHORITY_PEM } from '../../../agent/drivers/testing/driver-fixture.ts'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { type LabFleet, startLabFleet } from '../lab-fleet.ts'
import type { LabMachine } from '../machine.ts'
import type { SystemOptions } from '../systems.ts'
import { SET_UP_MS, whyNoLab } from '../why-not.ts'
import { allAt, atRest, inWords, journalOf, killAgent, untilPhase } from './safe-fleet.ts'

/**
 * A change of the system that brings another Kubernetes, under a real systemd. k3s, and what gives its unit its files at a boot,
 * are scripts here that say what they are; the units' conditions and settings are those of the NixOS modules.
 */
const why = whyNoLab()
const STATE = '/var/lib/muster-agent/cluster'
const STARTS = '/var/lib/starts'
const DATA = '/var/lib/rancher/k3s/agent'
let fleet: LabFleet
let olaf: LabMachine

const asModule = ['X-RestartIfChanged=false', 'X-StopIfChanged=false']
const text = (...lines: readonly string[]) => `${lines.join('\n')}\n`

/** A worker's system; its Kubernetes writes down each of its starts. */
function worker(version: string, readyAfterS = 0): SystemOptions {
  const says = `echo "stand-in: k3s ${version}" >>${STARTS}; sleep ${readyAfterS}; systemd-notify --ready; exec sleep infinity`
  return {
    etc: {
      'muster/cluster.json': JSON.stringify({
        cluster: 'home',
        distribution: 'k3s',
        role: 'worker',
        version,
        life: 'with-system',
        apiPort: 6443,
        servers: {},
        certificateNames: [],
        units: ['k3s.service'],
        programs: [],
      }),
    },
    units: {
      'k3s.service': text(
        ...['[Unit]', 'ConditionPathExists=/run/muster-cluster/ready', `ConditionPathExists=!${STATE}/hold`],
        ...['[Service]', 'Type=notify', 'NotifyAccess=all', `ExecStart=/bin/sh -c '${says}'`],
        ...['Restart=always', 'RestartSec=1', ...asModule],
      ),
      'muster-cluster-secrets.service': text(
        ...[
          '[Unit]',
          `ConditionPathExists=${STATE}/ours`,
          '[Service]',
          'Type=oneshot',
          'RemainAfterExit=true',
        ],
        ...['RuntimeDirectory=muster-cluster', 'RuntimeDirectoryPreserve=true', ...asModule],
        ...['ExecStart=/bin/touch /run/muster-cluster/ready', '[Install]', 'WantedBy=multi-user.target'],
      ),
      'muster-kubernetes.service': text(
        ...[
          '[Unit]',
          'After=muster-cluster-secrets.service',
          '[Service]',
          'Type=oneshot',
          'RemainAfterExit=true',
        ],
        ...['ExecStart=/usr/bin/systemctl start --no-block k3s.service', ...asModule],
        ...['[Install]', 'WantedBy=multi-user.target'],
      ),
    },
  }
}

const started = async () => {
  const said = await readFile(join(olaf.root, STARTS), 'utf8').catch(() => '')
  return said
    .trim()
    .split('\n')
    .map(line => line.replace('stand-in: k3s ', ''))
}
const k3s = async () => (await olaf.exec(['systemctl', 'is-active', 'k3s'])).stdout.trim()
const held = async () => (await olaf.exec(['cat', `${STATE}/hold`])).stdout.trim()
const until = (what: string, holds: () => Promise<boolean>) =>
  waitUntil(what, async () => ((await holds()) ? true : undefined), { timeoutMs: 60_000 })
const soak = (seconds: number, ...more: readonly string[]) => ({
  toml: text('[defaults]', `soak = "${seconds}s"`, 'confirm-within = "60s"', ...more),
})

beforeAll(async () => {
  if (why !== undefined) return
  fleet = await startLabFleet({ machines: ['olaf'], systems: { olaf: worker('1.33.1') } })
  olaf = fleet.machine('olaf')
  // What a join leaves of a worker.
  await olaf.ok(['mkdir', '-p', DATA, STATE])
  await olaf.writeFile(`${DATA}/client-kubelet.crt`, '')
  await olaf.writeFile(`${DATA}/server-ca.crt`, AUTHORITY_PEM)
  await olaf.writeFile(`${STATE}/ours`, authorityIdIn(Buffer.from(AUTHORITY_PEM)) ?? '')
  // One after the other, as at a boot: a condition that does not hold yet is no failure, and is not tried again.
  await olaf.ok(['systemctl', 'start', 'muster-cluster-secrets'])
  await olaf.ok(['systemctl', 'start', 'k3s'])
}, SET_UP_MS)
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

describe.skipIf(why !== undefined)(`a system that brings another Kubernetes ${why ?? ''}`, () => {
  it('leaves the old one running, starts none until it is confirmed, and then restarts it once', async () => {
    expect([await k3s(), await started()]).toEqual(['active', ['1.33.1']])
    await fleet.publish({ olaf: worker('1.34.1') }, soak(4))
    const id = await fleet.apply('olaf')
    await untilPhase(olaf, id, Phase.PROVE)
    expect([await k3s(), await held(), await started()]).toEqual(['active', `change ${id}`, ['1.33.1']])
    // Whatever starts it now, it is the new one: so nothing does.
    await olaf.ok(['systemctl', 'kill', '--signal=KILL', 'k3s'])
    await until('k3s stays down', async () => (await k3s()) === 'inactive')
    expect(inWords(await fleet.waitOutcome(id))).toBe('succeeded')
    expect([await k3s(), await held(), await started()]).toEqual(['active', '', ['1.33.1', '1.34.1']])
    await atRest(fleet, 'olaf')
  })

  it('that loses its power before it is confirmed never starts it: the old one runs again', async () => {
    const before = await started()
    const { current } = await olaf.state()
    await fleet.publish({ olaf: worker('1.35.1') }, soak(20))
    const id = await fleet.apply('olaf')
    await untilPhase(olaf, id, Phase.PROVE)
    await olaf.powerCut()
    await olaf.boot()
    expect(inWords(await fleet.waitOutcome(id))).toMatch(/^rolled back/)
    await atRest(fleet, 'olaf')
    await until('the old k3s runs', async () => (await k3s()) === 'active')
    expect(await olaf.state()).toMatchObject(allAt(current))
    expect([await held(), new Set(await started())]).toEqual(['', new Set(before)])
  })

  it('keeps it down over the boot into that system, and goes on with its start after a power cut', async () => {
    const before = await started()
    const booting = { ...worker('1.35.2', 5), initInterface: 'another' }
    await fleet.publish({ olaf: booting }, soak(5, 'reboot = "required"', 'trial = "none"'))
    const id = await fleet.apply('olaf')
    await untilPhase(olaf, id, Phase.PROVE)
    expect([(await olaf.state()).current, await k3s(), await held(), await started()]).toEqual([
      await fleet.systemOf('olaf'),
      'inactive',
      `change ${id}`,
      before,
    ])
    await untilPhase(olaf, id, Phase.KUBERNETES)
    await until('the new k3s starts', async () => (await started()).includes('1.35.2'))
    await olaf.powerCut()
    await olaf.boot()
    expect(inWords(await fleet.waitOutcome(id))).toBe('succeeded')
    await atRest(fleet, 'olaf')
    expect([await k3s(), await held()]).toEqual(['active', ''])
    expect(await olaf.state()).toMatchObject(allAt(await fleet.systemOf('olaf')))
    expect(new Set((await started()).slice(before.length))).toEqual(new Set(['1.35.2']))
  })

  it('whose agent is killed while it starts restarts it no second time', async () => {
    const before = await started()
    await fleet.publish({ olaf: { ...worker('1.35.3', 5), initInterface: 'another' } }, soak(1))
    const id = await fleet.apply('olaf')
    await untilPhase(olaf, id, Phase.KUBERNETES)
    await until('the new k3s starts', async () => (await started()).includes('1.35.3'))
    await until('that is written down', async () =>
      (await journalOf(olaf)).some(({ op, kind }) => op === id && kind === 'kubernetes-started'),
    )
    await killAgent(olaf)
    expect(inWords(await fleet.waitOutcome(id))).toBe('succeeded')
    expect([await k3s(), (await started()).slice(before.length)]).toEqual(['active', ['1.35.3']])
  })
})
