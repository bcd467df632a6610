import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execPath } from 'node:process'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ArmRecord } from '../../agent/safety/arm-record.ts'
import { writeArmRecord } from '../../agent/safety/arm-record.ts'
import { writeDeadline } from '../../agent/safety/deadline.ts'
import { armFolder, prepareArmFolder } from '../../agent/safety/operation-folder.ts'
import { prepareClaims } from '../../agent/safety/verdict.ts'
import { programFile } from '../support/program.ts'
import { waitUntil } from '../support/wait-until.ts'
import { type Lab, startLab } from './lab.ts'
import type { LabMachine } from './machine.ts'
import { PROGRAM, renderedUnit } from './rendered-units.ts'
import { SET_UP_MS, whyNoLab } from './why-not.ts'

/** The module's units with the real agent under a real systemd, on a machine whose trial system hangs while it boots. */
const why = whyNoLab()
const STATE = '/var/lib/muster-agent'
const OLD = `/nix/store/${'0'.repeat(32)}-old`
const NEW = `/nix/store/${'1'.repeat(32)}-new`
const LIMIT_MS = 8_000
let lab: Lab
let machine: LabMachine

const arm: ArmRecord = {
  operation: 'op',
  round: 1,
  mode: 'trial',
  target: NEW,
  previous: OLD,
  profile: OLD,
  generation: 1,
  bootId: 'boot-before',
  confirmMs: 600_000,
  switchMs: 60_000,
  program: [PROGRAM],
  toolPath: '/usr/bin:/bin:/opt/muster-lab',
  systemRoot: '/',
  units: 'systemd',
}

/** Stands for the boot loader: the entry that was chosen once, and the default ever after. The trial's system hangs. */
const LOADER = `#!/bin/sh
if [ -e /var/lib/chosen-once ]; then rm /var/lib/chosen-once; top=${NEW}; touch /run/hangs; else top=${OLD}; fi
sync
ln -sfn $top /run/booted-system
ln -sfn $top /run/current-system
`
const early = (text: string) => `[Unit]
DefaultDependencies=no
${text}
[Install]
WantedBy=sysinit.target
`

/** What is on disk when a machine boots for a trial. */
async function armTrial(): Promise<void> {
  const stateDir = await mkdtemp(join(tmpdir(), 'trial-limit-'))
  try {
    const folder = armFolder(stateDir, arm.operation, arm.round)
    await prepareArmFolder(folder, stateDir)
    await prepareClaims(folder)
    await writeArmRecord(folder, arm)
    await writeDeadline(folder, { bootId: arm.bootId, uptimeMs: 1, of: 'proof' })
    for (const name of await readdir(folder.path)) {
      const text = await readFile(join(folder.path, name), 'utf8')
      await machine.writeFile(`${STATE}/ops/op/1/${name}`, text, '600')
    }
  } finally {
    await rm(stateDir, { recursive: true, force: true })
  }
}

beforeAll(async () => {
  if (why !== undefined) return
  lab = await startLab()
  const program = programFile('agent')
  machine = await lab.startMachine('olaf', {
    binds: [`${dirname(program)}:/opt/agent`, `${execPath}:/opt/node`],
  })
  await machine.writeFile(PROGRAM, `#!/bin/sh\nexec /opt/node /opt/agent/agent.mjs "$@"\n`, '755')
  await machine.writeFile(
    '/etc/muster/agent.json',
    JSON.stringify({
      coordinator: 'c.home:7443',
      caPin: 'ab'.repeat(32),
      stateDir: STATE,
      deadlines: { bootMs: LIMIT_MS },
    }),
  )
  for (const name of ['muster-dead-man.service', 'muster-trial-limit.service']) {
    await machine.writeFile(`/etc/systemd/system/${name}`, renderedUnit(name))
  }
  await machine.writeFile('/opt/loader', LOADER, '755')
  await machine.writeFile(
    '/etc/systemd/system/lab-loader.service',
    early(
      'Before=lab-hangs.service muster-trial-limit.service\n[Service]\nType=oneshot\nExecStart=/opt/loader',
    ),
  )
  await machine.writeFile(
    '/etc/systemd/system/lab-hangs.service',
    early(
      'Before=sysinit.target\nConditionPathExists=/run/hangs\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/usr/bin/sleep infinity',
    ),
  )
  await machine.writeFile(`${OLD}/bin/switch-to-configuration`, '#!/bin/sh\nexit 0\n', '755')
  await machine.ok(['mkdir', '-p', NEW, '/nix/var/nix/profiles'])
  await machine.ok(['ln', '-s', 'system-1-link', '/nix/var/nix/profiles/system'])
  await machine.ok(['ln', '-s', OLD, '/nix/var/nix/profiles/system-1-link'])
  await machine.ok(['systemctl', 'daemon-reload'])
  await machine.ok([
    ...['systemctl', 'enable', '--quiet', 'lab-loader', 'lab-hangs'],
    ...['muster-dead-man', 'muster-trial-limit'],
  ])
}, SET_UP_MS)
afterAll(async () => await lab?.[Symbol.asyncDispose]())

const until = (what: string, holds: () => Promise<boolean>) =>
  waitUntil(what, async () => ((await holds()) ? true : undefined), { timeoutMs: 180_000 })
const active = async (unit: string) => (await machine.exec(['systemctl', 'is-active', unit])).stdout.trim()

describe.skipIf(why !== undefined)(`a boot that hangs before the dead man ${why ?? ''}`, () => {
  it('is left alone where nothing is tried', async () => {
    await machine.reboot()
    await until('the boot is done', async () => (await active('muster-dead-man')) === 'active')
    await until('the limit has looked', async () =>
      (await machine.ok(['systemctl', 'show', '-p', 'SubState', 'muster-trial-limit'])).includes('exited'),
    )
  }, 240_000)

  it('is ended where a system is tried, and the boot after it takes the trial back', async () => {
    await armTrial()
    await machine.ok(['touch', '/var/lib/chosen-once'])
    const { boots } = machine
    await machine.exec(['systemctl', 'reboot'])
    await until('the boot into the new system', async () => machine.boots > boots)
    await until('the boot after it', async () => machine.boots > boots + 1)
    await until('the dead man of the old system', async () => (await active('muster-dead-man')) === 'active')
    expect(await machine.ok(['readlink', '/run/booted-system'])).toBe(`${OLD}\n`)
    expect(await machine.readFile(`${STATE}/ops/op/1/verdict`)).toContain('"by":"boot"')
    await until('the way back', async () =>
      (await machine.readFile(`${STATE}/ops/op/1/return.end`)).includes('"kind":"returned"'),
    )
    expect(await machine.console()).toContain('this trial boot did not get as far as the dead man in time')
    // The dead man never ran in the boot that hung.
    expect(machine.boots).toBe(boots + 2)
  }, 480_000)
})
