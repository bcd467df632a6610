// The commands that order something or show what was ordered, against a real gRPC server.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { NodeStatusSchema } from '../shared/gen/muster/v1/agent_pb.ts'
import { OutcomeClass } from '../shared/gen/muster/v1/operation_pb.ts'
import { PlanMode } from '../shared/gen/muster/v1/plan_pb.ts'
import { exitCodes } from './exit-codes.ts'
import { HAZARDOUS } from './testing/hazardous.ts'
import { type Ran, type RunOptions, runMuster } from './testing/run-muster.ts'
import { type SmallCoordinator, sampleMachine, startSmallCoordinator } from './testing/small-coordinator.ts'

let coordinator: SmallCoordinator
let home: string

const muster = (words: readonly string[], options: RunOptions = {}): Promise<Ran> =>
  runMuster(words, { ...options, settings: { socket: coordinator.socket, configHome: home } })
const run = (...words: string[]) => muster(words)
const orders = () => coordinator.calls.filter(({ method }) => method === 'giveOrders')

beforeEach(async () => {
  coordinator = await startSmallCoordinator()
  home = await mkdtemp(join(tmpdir(), 'muster-home-'))
  coordinator.machines.push(sampleMachine({ id: 'cd'.repeat(32), host: 'anna' }))
  coordinator.plans.set('olaf', {
    mode: PlanMode.TRIAL_BOOT,
    from: '/nix/store/old',
    to: '/nix/store/new',
    rebootReasons: [
      { kind: 'kernel', before: '6.1', after: '6.6' },
      { kind: 'inhibitor', key: 'dbus', required: true },
    ],
    stops: ['old.service'],
    restarts: ['sshd.service', 'nginx.service'],
    closureBytes: 3_221_225_472n,
    freeBytes: 10_737_418_240n,
    agentChanges: true,
    warnings: ['it will be away for a while'],
  })
})
afterEach(async () => {
  await coordinator[Symbol.asyncDispose]()
  await rm(home, { recursive: true, force: true })
})

describe('plan', () => {
  it('shows what a revision would change on one host, in full', async () => {
    const { code, out } = await run('plan', 'olaf', '--revision', '4')
    expect(code).toBe(0)
    expect(orders()).toMatchObject([
      { request: { refs: ['olaf'], action: { case: 'apply', value: { revision: 4n, planOnly: true } } } },
    ])
    for (const text of [
      'trial boot',
      'kernel: 6.1 → 6.6; takes effect at the next boot',
      'inhibitor dbus: - → -; cannot be reached without',
      'sshd.service nginx.service',
      '3.0 GiB, 10.0 GiB free',
      'it will be away for a while',
    ]) {
      expect(out).toContain(text)
    }
  })

  it('begins with a table where there are several, and is data for programs', async () => {
    const { out } = await run('plan', '--where', 'true')
    const [titles, ...lines] = out.split('\n')
    expect(titles).toMatch(/^HOST +MODE +REBOOT +STOPS +RESTARTS +SIZE +LOOK AT$/)
    expect(lines[0]).toMatch(/^olaf +trial boot +kernel, inhibitor dbus! +1 +2 +3\.0 GiB +it will be/)
    expect(lines[1]).toMatch(/^anna +switch/)
    expect((await run('plan', 'olaf', '-o', 'wide')).out).toContain('/nix/store/new')
    const json: unknown = JSON.parse((await run('plan', 'olaf', '-o', 'json')).out)
    expect(json).toMatchObject([
      { host: 'olaf', plan: { mode: 'trial-boot', restarts: ['sshd.service', 'nginx.service'] } },
    ])
  })

  it('ends by what became of the plans; one that only a reboot would reach is an answer', async () => {
    coordinator.outcomes.set('olaf', OutcomeClass.REBOOT_REQUIRED)
    expect((await run('plan', 'olaf')).code).toBe(0)
    coordinator.outcomes.set('anna', OutcomeClass.BUILD_FAILED)
    expect((await run('plan', 'anna')).code).toBe(exitCodes.failed.code)
    expect((await run('plan', 'olaf', 'anna')).code).toBe(exitCodes.partial.code)
    expect((await run('plan')).code).toBe(exitCodes.usage.code)
  })
})

describe('apply --plan', () => {
  it('T59: orders exactly what was looked at, once somebody said yes', async () => {
    coordinator.newestNumber = 7
    const { code, err } = await muster(['apply', '--where', 'true', '--plan'], {
      answer: 'y',
      // Somebody publishes another one, and enrols a machine, while the plans are looked at.
      onErr: () => {
        if (coordinator.newestNumber === 8) return
        coordinator.newestNumber = 8
        coordinator.machines.push(sampleMachine({ id: 'ef'.repeat(32), host: 'late' }))
      },
    })
    expect(code).toBe(0)
    expect(err).toContain('Apply revision 7 on these 2 hosts? [y/N]')
    expect(orders()).toMatchObject([
      { request: { where: 'true', action: { value: { revision: 0n, planOnly: true } } } },
      {
        request: {
          refs: ['ab'.repeat(32), 'cd'.repeat(32)],
          where: '',
          // Nobody has named them: they go through as many gates as without --plan.
          selected: true,
          action: { value: { revision: 7n, planOnly: false } },
        },
      },
    ])
  })

  it('tells hosts that were named by hand from those that a selector found', async () => {
    await run('apply', 'olaf', '--plan', '--yes')
    expect(orders().map(({ request }) => request)).toMatchObject([
      { refs: ['olaf'], selected: false },
      { selected: false },
    ])
  })

  it('orders nothing after a no, without a terminal, or where a host could not plan', async () => {
    const no = await muster(['apply', 'olaf', '--plan'], { answer: '' })
    expect(no).toMatchObject({ code: exitCodes.refused.code, err: expect.stringContaining('not approved') })
    expect((await run('apply', 'olaf', '--plan')).code).toBe(exitCodes.usage.code)
    expect((await run('apply', 'olaf', '--yes')).code).toBe(exitCodes.usage.code)
    coordinator.outcomes.set('olaf', OutcomeClass.BUILD_FAILED)
    expect((await run('apply', 'olaf', '--plan', '--yes')).code).toBe(exitCodes.failed.code)
    const asked = orders().map(({ request }) =>
      JSON.stringify(request, (_, value) => (typeof value === 'bigint' ? String(value) : value)),
    )
    expect(asked.filter(text => !text.includes('"planOnly":true'))).toEqual([])
  })

  it('asks nothing with --yes', async () => {
    expect((await run('apply', 'olaf', '--plan', '--yes')).code).toBe(0)
    expect(orders()).toHaveLength(2)
  })
})

describe('other orders', () => {
  it.each([
    [['rollback', 'olaf'], { case: 'rollback', value: { operationId: '', before: false } }],
    [['rollback', 'olaf', '--to', 'op'], { case: 'rollback', value: { operationId: 'op', before: false } }],
    [
      ['rollback', 'olaf', '--before', 'op'],
      { case: 'rollback', value: { operationId: 'op', before: true } },
    ],
    [['reboot', 'olaf'], { case: 'reboot' }],
    [['hold', 'olaf', '--why', 'the disk'], { case: 'hold', value: { reason: 'the disk' } }],
    [['resume', 'olaf'], { case: 'resume' }],
    [['retry', 'olaf'], { case: 'retry' }],
  ])('%j is given as it is said, and waited for', async (words, action) => {
    const { code, out, err } = await run(...words)
    expect(code).toBe(0)
    expect(orders()).toMatchObject([{ request: { refs: ['olaf'], where: '', action } }])
    expect(out).toContain(words[0])
    expect(out).toContain('succeeded')
    expect(err).toContain(`olaf: ${words[0]}`)
    coordinator.outcomes.set('olaf', OutcomeClass.ROLLBACK_FAILED)
    expect((await run(...words)).code).toBe(exitCodes.failed.code)
    expect((await run(...words, '--no-wait')).code).toBe(0)
  })

  it('says what is missing before anything is asked', async () => {
    expect((await run('hold', 'olaf')).err).toContain('--why')
    expect((await run('hold', 'olaf', '--why', ' ')).code).toBe(exitCodes.usage.code)
    expect((await run('rollback', 'olaf', '--to', 'a', '--before', 'b')).code).toBe(exitCodes.usage.code)
    expect(orders()).toEqual([])
  })
})

describe('what a node holds on to', () => {
  const status = create(NodeStatusSchema, {
    held: { reason: 'the disk' },
    quarantined: [{ storePath: '/nix/store/bad', reason: 'sshd\u001b[2J failed', operationId: 'op' }],
    program: '/nix/store/agent',
    bootLoader: 'systemd-boot',
    oneShotBoot: true,
    generations: [
      {
        number: 8,
        storePath: '/nix/store/new',
        current: true,
        profile: true,
        created: timestampFromMs(Date.now() - 60_000),
      },
      { number: 7, storePath: '/nix/store/old', booted: true },
    ],
  })

  it('stands in `show`, and its generations in a listing of their own', async () => {
    coordinator.machines[0] = sampleMachine({ nodeStatus: status })
    const { out } = await run('show', 'olaf')
    for (const text of ['/nix/store/bad: sshd', 'systemd-boot, can boot a system once', '2, 8 runs']) {
      expect(out).toContain(text)
    }
    expect(out.replaceAll('\n', '')).not.toMatch(HAZARDOUS)
    const listed = await run('generations', 'olaf')
    expect(listed.out.split('\n').slice(1, 3)).toEqual([
      expect.stringMatching(/^8 +1m +runs default +\/nix\/store\/new$/),
      expect.stringMatching(/^7 +- +booted +\/nix\/store\/old$/),
    ])
    expect(JSON.parse((await run('generations', 'olaf', '-o', 'json')).out)).toMatchObject([
      { number: 8, current: true },
      { number: 7, booted: true },
    ])
    expect((await run('generations', 'anna')).code).toBe(exitCodes.notFound.code)
  })
})
