import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PlanMode } from '../../shared/gen/muster/v1/plan_pb.ts'
import { PlannedHostSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { runMuster } from '../testing/run-muster.ts'
import { type SmallCoordinator, startSmallCoordinator } from '../testing/small-coordinator.ts'

const UNITS = ['nginx.service', 'sshd.service', 'a.service', 'b.service', 'c.service']

let coordinator: SmallCoordinator
beforeEach(async () => {
  coordinator = await startSmallCoordinator()
  coordinator.rollouts.planned.push(
    create(PlannedHostSchema, {
      host: 'olaf',
      cluster: 'home',
      wave: 1,
      steps: ['prefetch', 'drain', 'apply'],
      drained: true,
      version: '1.34.3',
      nextVersion: '1.35.4',
      change: {
        operationId: 'op-1',
        at: timestampFromMs(Date.now() - 7_200_000),
        mode: PlanMode.TRIAL_BOOT,
        rebootReasons: [
          { kind: 'kernel', before: '6.1', after: '6.6', required: true },
          { kind: 'systemd', before: '256', after: '257' },
        ],
        stops: ['old.service'],
        restarts: UNITS,
        starts: ['new.service'],
        moreUnits: 2,
      },
    }),
    create(PlannedHostSchema, {
      host: 'anna',
      wave: 0,
      steps: ['prefetch', 'drain', 'apply'],
      waits: ['lock: locked: a guest'],
      noPlan: 'nobody has planned this revision there',
    }),
  )
})
afterEach(async () => {
  await coordinator[Symbol.asyncDispose]()
})

const dryRun = (...words: string[]) =>
  runMuster(['rollout', 'start', 'newest', '--dry-run', ...words], {
    settings: { socket: coordinator.socket },
  })

describe('rollout start --dry-run', () => {
  it('shows beside each host what its plan says, and who has none', async () => {
    const { code, out, err } = await dryRun()
    expect(code).toBe(0)
    const [titles, olaf, anna] = out.split('\n')
    expect(titles).toMatch(/^WAVE +HOST +STEPS +DRAINED +PLAN +REBOOT +UNITS +KUBERNETES +WAITS NOW$/)
    expect(olaf).toMatch(
      /^1 +olaf +prefetch → drain → apply +yes +trial boot +kernel!, systemd +stops old\.service; restarts nginx\.service sshd\.service a\.service \+2; starts new\.service; 2 more +1\.34\.3 → 1\.35\.4 +-$/,
    )
    expect(anna).toMatch(
      /^- +anna +prefetch → drain → apply +by its plan +none: nobody has planned this revision there +- +- +- +lock: locked: a guest$/,
    )
    expect(err).toContain('1 host has no plan: `muster plan anna` makes it, and moves nothing')
  })

  it('names more units, and when and by what it was planned, with -o wide', async () => {
    const { out } = await dryRun('-o', 'wide')
    expect(out).toMatch(
      /restarts nginx\.service sshd\.service a\.service b\.service c\.service; .* 2h +op-1 /,
    )
  })

  it('is the whole answer with -o json', async () => {
    coordinator.rollouts.notThoughtThrough = 7
    const answer = JSON.parse((await dryRun('-o', 'json')).out)
    expect(answer).toMatchObject({
      notThoughtThrough: 7,
      order: [
        {
          host: 'olaf',
          drained: true,
          version: '1.34.3',
          nextVersion: '1.35.4',
          noPlan: '',
          change: { mode: 'trial-boot', stops: ['old.service'], restarts: UNITS, moreUnits: 2 },
        },
        { host: 'anna', drained: null, change: null, noPlan: 'nobody has planned this revision there' },
      ],
    })
  })

  it('says so where the order is not whole', async () => {
    coordinator.rollouts.notThoughtThrough = 7
    expect((await dryRun()).err).toContain('the order is not whole: the turn of 7 hosts is too far away')
  })
})
