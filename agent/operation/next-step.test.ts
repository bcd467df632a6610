import { create, type MessageInitShape } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { OutcomeClass, OutcomeSchema, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { outcomeName } from '../../shared/operation-names.ts'
import { foldJournal } from './fold.ts'
import type { KubernetesMove, NewRecord } from './journal-record.ts'
import { MAX_ROUNDS, nextStep, type Observed } from './next-step.ts'
import { type Act, EngineModel, NEW, OLD, type Scenario, SWITCH_ENDS } from './testing/engine-model.ts'

type Entry = NewRecord extends infer R ? (R extends NewRecord ? Omit<R, 'operation'> : never) : never
type Action = MessageInitShape<typeof OrderSchema>['action']

const armed = (mode: 'switch' | 'trial' = 'switch', round = 1, kubernetes?: KubernetesMove): Entry => ({
  kind: 'armed',
  round,
  mode,
  bootId: 'boot-1',
  target: NEW,
  failedBefore: [],
  kubernetes,
})
const started = (phase: Phase): Entry => ({ kind: 'started', phase })
const activated: Entry = { kind: 'activated', instance: 'A', degraded: [] }
const restart: Entry = { kind: 'restart', instance: 'A' }
const proved: Entry = { kind: 'proved', degraded: [] }
const confirmed: Entry = { kind: 'confirmed', by: 'coordinator' }
const move = { server: true, from: '1.34.3', to: '1.35.4' }
const upgrade: Entry = { kind: 'upgrade', kubernetes: move }
const wellAgain: Entry = { kind: 'kubernetes-ended', failure: undefined }
const broken: Entry = { kind: 'kubernetes-ended', failure: 'x' }
/** A change with which Kubernetes changes. */
const settled: readonly Entry[] = [
  armed('switch', 1, move),
  started(Phase.ACTIVATE),
  activated,
  restart,
  proved,
  confirmed,
]
const begun = [armed(), started(Phase.ACTIVATE)]
const running = [...begun, activated, restart]

const seen = (change: Partial<Observed> = {}): Observed => ({
  now: { bootId: 'boot-1', uptimeMs: 1_000 },
  instance: 'B',
  current: NEW,
  booted: OLD,
  verdict: { kind: 'none' },
  returnEnd: undefined,
  recordProblem: undefined,
  newerRecord: undefined,
  deadline: { bootId: 'boot-1', uptimeMs: 60_000, of: 'proof' },
  ...change,
})
const over = seen({ now: { bootId: 'boot-1', uptimeMs: 60_000 } })
const rebooted = (booted: string | undefined) =>
  seen({ now: { bootId: 'boot-2', uptimeMs: 9 }, booted, current: booted })
const taken = (claim: object, end?: Observed['returnEnd']) =>
  seen({ verdict: { kind: 'returned', claim: claim as never }, returnEnd: end })
const back = { kind: 'returned', reason: `runs ${OLD} again` } as const
const failedBack = { kind: 'failed', reason: 'x', exitCode: 1 } as const

function step(entries: readonly Entry[], look: Observed, action: Action = { case: undefined }): string {
  const records = [
    { kind: 'accepted' as const, order: create(OrderSchema, { operationId: 'op', action }) },
    ...entries,
  ]
  const numbered = records.map((record, index) => ({
    ...record,
    operation: 'op',
    sequence: index + 1,
    at: new Date(0),
  }))
  const next = nextStep(foldJournal(numbered).get('op')!, look)
  if (next.kind === 'claim-return') return `claim by ${next.claim.by}`
  if (next.kind !== 'conclude') return next.kind
  const { class: kind, firstCause, quarantine, hold } = next.conclusion
  return [
    outcomeName(kind),
    ...(firstCause === undefined ? [] : [`after ${outcomeName(firstCause)}`]),
    ...(quarantine ? ['quarantined'] : []),
    ...(hold ? ['held'] : []),
  ].join(', ')
}

describe('the next step', () => {
  it.each<[string, readonly Entry[], Observed, string]>([
    ['begins', [], seen(), 'prepare'],
    ['begins anew after a cut', [started(Phase.VERIFY), started(Phase.BUILD)], seen(), 'prepare'],
    ['activates what is armed', [armed()], seen(), 'activate'],
    ['looks after a switch that was begun', begun, seen(), 'watch-switch'],
    [
      'starts the agent anew once it is judged good',
      [...begun, activated],
      seen({ instance: 'A' }),
      'restart-agent',
    ],
    ['also when another process has come by itself', [...begun, activated], seen(), 'restart-agent'],
    [
      'T23: lets the process that activated confirm nothing',
      running,
      seen({ instance: 'A' }),
      'restart-agent',
    ],
    ['proves', running, seen(), 'prove'],
    ['asks', [...running, proved], seen(), 'confirm'],
    ['promotes', [...running, proved, confirmed], seen(), 'promote'],
    ...(['prove', 'confirm', 'promote'] as const).map(
      (next, count): [string, readonly Entry[], Observed, string] => [
        `does not ${next} what another switch has taken the place of`,
        [...running, ...[proved, confirmed].slice(0, count)],
        seen({ current: '/nix/store/by-hand' }),
        'claim by agent',
      ],
    ),
    ['goes on where what runs cannot be read', running, seen({ current: undefined }), 'prove'],
    [
      'N12: takes back what is over, whatever was said',
      [...running, proved, confirmed],
      over,
      'claim by deadline',
    ],
    ['N12: also while it is watched', begun, over, 'claim by deadline'],
    ['T23: goes on with the new system after a boot', [...running, proved], rebooted(NEW), 'confirm'],
    ['takes back when the old one came up', running, rebooted(OLD), 'claim by agent'],
    ['takes back when nobody knows what came up', running, rebooted(undefined), 'claim by agent'],
    ['boots for its trial', [armed('trial')], seen(), 'reboot'],
    [
      'asks for that boot again until it comes',
      [armed('trial'), { kind: 'reboot', bootId: 'boot-1' }],
      seen(),
      'reboot',
    ],
    [
      'T52: proves what was tried, in another boot',
      [armed('trial'), { kind: 'reboot', bootId: 'boot-1' }],
      rebooted(NEW),
      'prove',
    ],
    [
      'takes back a trial that did not boot',
      [armed('trial'), { kind: 'reboot', bootId: 'boot-1' }],
      rebooted(OLD),
      'claim by agent',
    ],
    ['takes back a boot before it was set', [armed('trial')], rebooted(OLD), 'claim by agent'],
    ['waits for the way back', begun, taken({ by: 'deadline' }), 'await-return'],
    [
      'waits for its boot',
      begun,
      taken({ by: 'deadline' }, { kind: 'booting', bootId: 'boot-1', reason: '' }),
      'await-return',
    ],
    [
      'says nothing of what was heard of nothing',
      begun,
      taken({ by: 'deadline' }, back),
      'rolled back, after unknown',
    ],
    [
      'blames what did not let the agent back',
      running,
      taken({ by: 'deadline' }, back),
      'rolled back, after activation failed, quarantined',
    ],
    [
      'blames what did not become healthy in time',
      [...running, started(Phase.PROVE)],
      taken({ by: 'deadline' }, back),
      'rolled back, after activation failed, quarantined',
    ],
    [
      'does not blame it for a silent coordinator',
      [...running, started(Phase.PROVE), proved],
      taken({ by: 'deadline' }, back),
      'unconfirmed, after unconfirmed',
    ],
    [
      'nor for a boot entry that took too long',
      [...running, proved, confirmed],
      taken({ by: 'deadline' }, back),
      'rolled back, after activation failed',
    ],
    [
      'nor for one that could not be written',
      [...running, proved, confirmed],
      taken({ by: 'agent', class: OutcomeClass.ACTIVATION_FAILED, reason: 'x' }, back),
      'rolled back, after activation failed',
    ],
    [
      'nor for a trial that was never booted',
      [armed('trial')],
      taken({ by: 'agent', class: OutcomeClass.ACTIVATION_FAILED, reason: 'x' }, back),
      'rolled back, after activation failed',
    ],
    [
      'T26: keeps the first cause',
      begun,
      taken({ by: 'agent', class: OutcomeClass.ACTIVATION_FAILED, reason: 'x' }, back),
      'rolled back, after activation failed, quarantined',
    ],
    [
      'T26: keeps it also where the way back failed',
      begun,
      taken({ by: 'agent', class: OutcomeClass.UNKNOWN, reason: 'x' }, failedBack),
      'rollback failed, after unknown',
    ],
    [
      'tries again what a boot broke off before it was touched',
      [armed()],
      taken({ by: 'boot' }, back),
      'prepare',
    ],
    [
      'not for ever',
      [armed('switch', MAX_ROUNDS)],
      taken({ by: 'boot' }, back),
      'rolled back, after unknown',
    ],
    ['not what was touched', begun, taken({ by: 'boot' }, back), 'rolled back, after unknown'],
    [
      'nor a trial that fell over',
      [armed('trial'), { kind: 'reboot', bootId: 'boot-1' }],
      taken({ by: 'boot' }, back),
      'rolled back, after activation failed, quarantined',
    ],
    [
      'but not one that had proved itself, and was cut while it was made the default',
      [armed('trial'), { kind: 'reboot', bootId: 'boot-1' }, proved, confirmed],
      taken({ by: 'boot' }, back),
      'rolled back, after unknown',
    ],
    ['ends', [...running, proved, confirmed], seen({ verdict: { kind: 'confirmed' } }), 'succeeded'],
    ['starts a new Kubernetes only once all is settled', settled, seen(), 'promote'],
    ['starts it then', settled, seen({ verdict: { kind: 'confirmed' } }), 'kubernetes'],
    [
      'looks after it in another boot, too',
      [...settled, { kind: 'kubernetes-started' }],
      { ...rebooted(NEW), verdict: { kind: 'confirmed' } },
      'kubernetes',
    ],
    ['ends when it is well', [...settled, wellAgain], seen({ verdict: { kind: 'confirmed' } }), 'succeeded'],
    [
      'takes nothing back for a Kubernetes that fails, and holds the node',
      [...settled, broken],
      seen({ verdict: { kind: 'confirmed' } }),
      'activation failed, held',
    ],
    [
      'ends degraded',
      [...begun, { ...activated, degraded: ['x'] }],
      seen({ verdict: { kind: 'confirmed' } }),
      'degraded',
    ],
    [
      'ends untouched, by its cause',
      begun,
      seen({
        verdict: { kind: 'untouched', class: OutcomeClass.BUSY, refusal: '', reason: '', exitCode: 11 },
      }),
      'busy',
    ],
    [
      'ends untouched, and blames what failed',
      begun,
      seen({
        verdict: {
          kind: 'untouched',
          class: OutcomeClass.ACTIVATION_FAILED,
          refusal: '',
          reason: '',
          exitCode: 1,
        },
      }),
      'activation failed, quarantined',
    ],
    [
      'goes back where nobody can read what was decided',
      running,
      seen({ verdict: { kind: 'unreadable', reason: 'x' } }),
      'await-return',
    ],
    [
      'and says so',
      running,
      seen({ verdict: { kind: 'unreadable', reason: 'x' }, returnEnd: back }),
      'rolled back, after unknown',
    ],
    ['ends where nothing is known of what was armed', running, seen({ recordProblem: 'gone' }), 'unknown'],
    [
      'goes back at once where only a newer agent can read what was armed',
      running,
      seen({ newerRecord: 'v: 2' }),
      'claim by agent',
    ],
    [
      'and waits for the end of that',
      running,
      seen({ newerRecord: 'v: 2', verdict: { kind: 'returned', claim: { by: 'deadline' } } }),
      'await-return',
    ],
    [
      'but not what was confirmed',
      running,
      seen({ recordProblem: 'gone', verdict: { kind: 'confirmed' } }),
      'succeeded',
    ],
    [
      'T26: does nothing after an outcome',
      [{ kind: 'outcome', outcome: create(OutcomeSchema) }],
      seen(),
      'finished',
    ],
  ])('%s', (_, entries, look, expected) => {
    expect(step(entries, look)).toBe(expected)
  })

  it.each<[Action, readonly Entry[], Observed, string]>([
    [{ case: 'upgrade', value: {} }, [], seen(), 'prepare'],
    [{ case: 'upgrade', value: {} }, [upgrade], seen(), 'kubernetes'],
    [{ case: 'upgrade', value: {} }, [upgrade, { kind: 'kubernetes-started' }], rebooted(OLD), 'kubernetes'],
    [{ case: 'upgrade', value: {} }, [upgrade, wellAgain], seen(), 'succeeded'],
    [{ case: 'upgrade', value: {} }, [upgrade, broken, wellAgain], seen(), 'activation failed, held'],
    [{ case: 'hold', value: {} }, [], seen(), 'act'],
    [{ case: 'resume', value: {} }, [], seen(), 'act'],
    [{ case: 'retry', value: {} }, [], seen(), 'act'],
    [{ case: 'rollback', value: { operationId: 'op-0' } }, [], seen(), 'prepare'],
    [{ case: 'reboot', value: {} }, [], seen(), 'reboot'],
    [{ case: 'reboot', value: {} }, [{ kind: 'reboot', bootId: 'boot-1' }], seen(), 'reboot'],
    [{ case: 'reboot', value: {} }, [{ kind: 'reboot', bootId: 'boot-0' }], seen(), 'succeeded'],
  ])('of %o', (action, entries, look, expected) => {
    expect(step(entries, look, action)).toBe(expected)
  })
})

describe('a machine to which anything happens', () => {
  const scenario: fc.Arbitrary<Scenario> = fc.record({
    mode: fc.constantFrom('switch', 'switch', 'trial'),
    switchEnds: fc.oneof({ weight: 3, arbitrary: fc.constant(0 as const) }, fc.constantFrom(...SWITCH_ENDS)),
    inTheMiddle: fc.boolean(),
    gates: fc.constantFrom('healthy', 'healthy', 'unhealthy', 'unavailable'),
    coordinator: fc.constantFrom('answers', 'answers', 'at the last moment', 'silent', 'late'),
    trialBoots: fc.boolean(),
    bootEntryFails: fc.oneof({ weight: 4, arbitrary: fc.constant(false) }, fc.constant(true)),
    kubernetes: fc.constantFrom('stays', 'changes', 'changes and fails'),
  })
  const fate = fc.array(
    fc.oneof(
      { weight: 60, arbitrary: fc.constant('agent' as const) },
      { weight: 20, arbitrary: fc.constant('dead man' as const) },
      { weight: 6, arbitrary: fc.constant('time' as const) },
      { weight: 3, arbitrary: fc.constant('kill' as const) },
      { weight: 2, arbitrary: fc.constant('cut' as const) },
      { weight: 2, arbitrary: fc.constant('crash' as const) },
      { weight: 1, arbitrary: fc.constant('hand' as const) },
    ),
    { maxLength: 250 },
  )
  const CALM = 20_000
  const good: readonly OutcomeClass[] = [OutcomeClass.SUCCEEDED, OutcomeClass.DEGRADED]

  function live(given: Scenario, acts: readonly Act[]): EngineModel {
    const model = new EngineModel(given)
    for (const who of acts) model.act(who)
    for (let count = 0; count < CALM && !model.outcome; count++)
      model.act(count % 2 === 0 ? 'agent' : 'dead man')
    return model
  }

  it('comes to an end that is true: N12, T23, T26, T28, T30, N4, N36', () => {
    const ends = new Map<string, number>()
    fc.assert(
      fc.property(scenario, fate, (given, acts) => {
        const model = live(given, acts)
        const { outcome } = model
        const name = outcome ? outcomeName(outcome.class) : 'none'
        ends.set(name, (ends.get(name) ?? 0) + 1)
        expect(model.faults).toEqual([])
        expect(outcome).toBeDefined()
        if (!outcome) return
        const confirmed = model.verdict.kind === 'confirmed'
        // A Kubernetes that fails in what was confirmed is told, and nothing goes back for it.
        const fails = given.kubernetes === 'changes and fails'
        expect(good.includes(outcome.class)).toBe(confirmed && !fails)
        expect([model.current, model.profile]).toEqual(confirmed ? [NEW, NEW] : [OLD, OLD])
        expect(model.held).toBeUndefined()
        if (given.kubernetes !== 'stays') expect(model.kubernetes).toBe(confirmed ? NEW : OLD)
        if (confirmed) {
          expect(given.gates).toBe('healthy')
          expect(given.coordinator).toMatch(/answers|last moment/)
        }
        expect(model.rounds).toBeLessThanOrEqual(MAX_ROUNDS)
        expect(model.began).toBeLessThanOrEqual(1)
        const kinds = model.records.map(({ kind }) => kind)
        expect(kinds.filter(kind => kind === 'outcome')).toHaveLength(1)
      }),
      { numRuns: 2_500 },
    )
    // It was no property of nothing.
    for (const name of [
      'succeeded',
      'rolled back',
      'unconfirmed',
      'activation failed',
      'busy',
      'reboot required',
    ]) {
      expect(ends.get(name) ?? 0, name).toBeGreaterThan(5)
    }
  })

  it('left alone comes to the one right end', () => {
    const calm: Scenario = {
      mode: 'switch',
      switchEnds: 0,
      inTheMiddle: true,
      gates: 'healthy',
      coordinator: 'answers',
      trialBoots: true,
      bootEntryFails: false,
      kubernetes: 'changes',
    }
    const end = (change: Partial<Scenario>) => {
      const { outcome } = live({ ...calm, ...change }, [])
      return outcome && outcomeName(outcome.class)
    }
    expect(end({})).toBe('succeeded')
    expect(end({ mode: 'trial' })).toBe('succeeded')
    expect(end({ kubernetes: 'stays' })).toBe('succeeded')
    expect(end({ kubernetes: 'changes and fails' })).toBe('activation failed')
    expect(live(calm, []).restarts).toBe(1)
    expect(end({ mode: 'trial', trialBoots: false })).toBe('rolled back')
    expect(end({ coordinator: 'silent' })).toBe('unconfirmed')
    expect(end({ coordinator: 'late' })).toBe('unconfirmed')
    expect(end({ gates: 'unhealthy' })).toBe('rolled back')
    expect(end({ gates: 'unavailable' })).toBe('rolled back')
    expect(end({ bootEntryFails: true })).toBe('rolled back')
    expect(end({ switchEnds: 'hangs' })).toBe('rolled back')
    expect(end({ switchEnds: 11, inTheMiddle: false })).toBe('busy')
    expect(end({ switchEnds: 100, inTheMiddle: false })).toBe('reboot required')
    expect(end({ switchEnds: 1, inTheMiddle: false })).toBe('activation failed')
  })
})
