import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type ChangedBy, type DriftInput, judgeDrift } from './judge-drift.ts'

/** A machine whose profile, boots and switches are kept as NixOS keeps them. */
class Model {
  readonly generations: { number: number; storePath: string }[] = []
  profile = 0
  current = ''
  booted = ''
  reached: DriftInput['reached']
  /** As they were after our newest change. */
  told: { number: number; storePath: string }[] = []
  bootedSince = false
  readonly reachedBefore = new Set<string>()
  #built = 0

  constructor() {
    this.#profileOf(`/nix/store/${this.#next()}`)
    this.reboot()
  }

  #next(): string {
    this.#built += 1
    return `system-${this.#built}`
  }

  #profileOf(storePath: string): void {
    const number = (this.generations.at(-1)?.number ?? 0) + 1
    this.generations.push({ number, storePath })
    this.profile = number
  }

  get profilePath(): string {
    return this.generations.find(({ number }) => number === this.profile)?.storePath ?? ''
  }

  reboot(): void {
    this.bootedSince = true
    this.booted = this.profilePath
    this.current = this.profilePath
  }

  apply(): void {
    const path = `/nix/store/${this.#next()}`
    this.#profileOf(path)
    this.current = path
    if (this.reached) this.reachedBefore.add(this.reached.storePath)
    this.told = [...this.generations]
    this.bootedSince = false
    this.reached = { operation: `op-${this.#built}`, action: 'apply', revision: this.#built, storePath: path }
  }

  rebuildSwitch(): void {
    this.#profileOf(`/nix/store/${this.#next()}`)
    this.current = this.profilePath
  }

  rebuildBoot(): void {
    this.#profileOf(`/nix/store/${this.#next()}`)
  }

  test(): void {
    this.current = `/nix/store/${this.#next()}`
  }

  /** A `test` of the very system that was booted. */
  testBooted(): void {
    this.current = this.booted
  }

  /** nixos-rebuild switch --rollback. */
  rollback(): boolean {
    const older = this.generations.filter(({ number }) => number < this.profile).at(-1)
    if (!older) return false
    this.profile = older.number
    this.current = older.storePath
    return true
  }

  /** Another entry was picked in the boot menu. */
  pick(): void {
    this.bootedSince = true
    const [oldest] = this.generations
    this.booted = oldest?.storePath ?? ''
    this.current = this.booted
  }

  input(change: Partial<DriftInput> = {}): DriftInput {
    return {
      booted: this.booted,
      current: this.current,
      profile: this.profilePath,
      profileGeneration: this.profile,
      generations: this.told,
      desired: this.reached && {
        ...FLEET,
        revision: this.reached.revision,
        storePath: this.reached.storePath,
      },
      reached: this.reached,
      reachedBefore: this.reachedBefore,
      bootedSince: this.bootedSince,
      moving: false,
      factsAwaited: undefined,
      rebootReasons: [],
      newest: this.reached?.revision ?? 0,
      quarantined: [],
      ...change,
    }
  }
}

const noise = fc.array(
  fc.constantFrom('apply', 'rebuildSwitch', 'rebuildBoot', 'test', 'rollback', 'reboot', 'pick'),
  {
    maxLength: 12,
  },
)
const by: readonly [keyof Model, ChangedBy][] = [
  ['rebuildSwitch', 'rebuild-by-hand'],
  ['rebuildBoot', 'rebuild-by-hand'],
  ['rollback', 'rollback-by-hand'],
  ['test', 'test-by-hand'],
  ['testBooted', 'test-by-hand'],
  ['pick', 'reboot'],
]

const FLEET = { by: 'fleet', back: false } as const

describe('drift', () => {
  it.each(by)('after our change, %s is told as %s, whatever was done before', (verb, expected) => {
    fc.assert(
      fc.property(noise, fc.boolean(), (before, thenReboot) => {
        const machine = new Model()
        for (const act of before) machine[act as 'apply']()
        machine.apply()
        expect(judgeDrift(machine.input()).state).toBe('in-sync')
        machine[verb as 'apply']()
        const stays = expected !== 'test-by-hand' && expected !== 'reboot'
        if (thenReboot && stays) machine.reboot()
        const found = judgeDrift(machine.input())
        expect(found).toMatchObject({ state: 'drifted', changedBy: expected })
        expect(found.remedy).not.toBe('')
        // A reboot undoes what never became the default.
        if (!stays) {
          machine.reboot()
          expect(judgeDrift(machine.input()).state).toBe('in-sync')
        }
        machine.apply()
        expect(judgeDrift(machine.input())).toMatchObject({ state: 'in-sync', remedy: '' })
      }),
    )
  })

  it('is told of every machine, and never as in sync where anything differs', () => {
    fc.assert(
      fc.property(noise, acts => {
        const machine = new Model()
        for (const act of acts) machine[act as 'apply']()
        const found = judgeDrift(machine.input())
        const same = machine.current === machine.reached?.storePath && machine.profilePath === machine.current
        expect(found.state === 'in-sync').toBe(machine.reached !== undefined && same)
        expect(found.reason).not.toBe('')
      }),
    )
  })

  it('tells behind, reboot pending, moving, unmanaged and unknown apart', () => {
    const machine = new Model()
    expect(judgeDrift(machine.input()).state).toBe('unmanaged')
    expect(
      judgeDrift(machine.input({ desired: { ...FLEET, revision: 3, storePath: undefined } })),
    ).toMatchObject({
      state: 'behind',
      changedBy: 'nobody',
    })
    machine.apply()
    const revision = (machine.reached?.revision ?? 0) + 1
    expect(judgeDrift(machine.input({ desired: { ...FLEET, revision, storePath: undefined } })).state).toBe(
      'behind',
    )
    expect(
      judgeDrift(machine.input({ desired: { ...FLEET, revision, storePath: '/nix/store/new' } })).state,
    ).toBe('behind')
    // A revision that was signed anew names the same system: nothing is to be done.
    expect(
      judgeDrift(machine.input({ desired: { ...FLEET, revision, storePath: machine.current } })).state,
    ).toBe('in-sync')
    // A pin, or the last rollout, may want an older one.
    const older = { by: 'pin', back: false, revision: revision - 2, storePath: undefined } as const
    expect(judgeDrift(machine.input({ desired: older }))).toMatchObject({
      state: 'behind',
      reason: expect.stringContaining(`revision ${revision - 2} is wanted, to which it is pinned`),
    })
    expect(judgeDrift(machine.input({ desired: { ...older, by: 'fleet' } })).state).toBe('in-sync')
    expect(judgeDrift(machine.input({ rebootReasons: ['kernel'] }))).toMatchObject({
      state: 'reboot-pending',
      remedy: 'muster reboot HOST',
    })
    expect(judgeDrift(machine.input({ moving: true })).state).toBe('moving')
    expect(judgeDrift(machine.input({ factsAwaited: 'op-9' }))).toMatchObject({
      state: 'moving',
      reason: expect.stringContaining('op-9'),
    })
    expect(judgeDrift(machine.input({ current: undefined })).state).toBe('unknown')
  })

  it('the remedy leads to what is wanted: by its number where it is not the newest, past a quarantine, or back', () => {
    const machine = new Model()
    machine.apply()
    const remedy = (change: Partial<DriftInput>) => judgeDrift(machine.input(change))
    const older = { by: 'rollout', back: false, revision: 1, storePath: '/nix/store/old' } as const
    const newer = { ...older, by: 'fleet', revision: 9 } as const
    expect(remedy({ desired: older, newest: 9 }).remedy).toBe('muster apply HOST --revision 1')
    expect(remedy({ desired: newer, newest: 9 }).remedy).toBe('muster apply HOST')
    const quarantined = [{ revision: 9, storePath: '/nix/store/bad' }]
    expect(remedy({ desired: newer, newest: 9, quarantined })).toMatchObject({
      reason: expect.stringMatching(/revision 9 is wanted, but it failed there and is not tried again$/),
      remedy: 'muster retry HOST && muster apply HOST',
    })
    expect(remedy({ desired: older, newest: 9, quarantined }).remedy).toBe('muster apply HOST --revision 1')
    const renewed = { ...newer, revision: 10, storePath: '/nix/store/bad' }
    expect(remedy({ desired: renewed, newest: 10, quarantined }).remedy).toBe(
      'muster retry HOST && muster apply HOST',
    )
    expect(remedy({ reached: undefined, desired: newer, newest: 9, quarantined })).toMatchObject({
      reason: 'revision 9 was never applied, but it failed there and is not tried again',
      remedy: 'muster retry HOST && muster apply HOST',
    })
    const back = { ...older, back: true, revision: 0, storePath: undefined }
    expect(remedy({ desired: back }).remedy).toBe('muster rollback HOST')
    const reached = { operation: 'op-7', action: 'rollback', revision: 0, storePath: '/nix/store/other' }
    expect(remedy({ desired: back, reached })).toMatchObject({
      state: 'drifted',
      remedy: 'muster rollback HOST --to op-7',
    })
  })

  it('a rollback that we ordered is not what the newest revision wants', () => {
    const machine = new Model()
    machine.apply()
    const first = machine.reached
    machine.apply()
    const wanted = machine.input().desired
    machine.rollback()
    const reached = first && { ...first, action: 'rollback' }
    expect(judgeDrift(machine.input({ reached, desired: wanted }))).toMatchObject({
      state: 'behind',
      changedBy: 'operation',
    })
  })
})
