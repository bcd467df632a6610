import { describe, expect, it } from 'vitest'
import { desiredRevision, type NamedBy } from './desired-revision.ts'

const apply = (revision: number, change: Partial<NamedBy> = {}): NamedBy => ({
  rollout: `to-${revision}`,
  action: 'apply',
  revision,
  reverts: '',
  state: 'succeeded',
  endedAs: 'done',
  ...change,
})
const goBack = (reverts: string, change: Partial<NamedBy> = {}): NamedBy =>
  apply(0, { rollout: `back ${reverts}`, action: 'rollback', reverts, ...change })

describe('what a host should be', () => {
  it.each<[what: string, pin: number | undefined, named: readonly NamedBy[], revision: number, by: string]>([
    ['its pin, whatever was rolled out', 5, [apply(7)], 5, 'pin'],
    [
      'what the last rollout that named it says, though the fleet is further',
      undefined,
      [apply(7), apply(6)],
      7,
      'rollout',
    ],
    ['the fleet’s current revision where none named it', undefined, [], 9, 'fleet'],
    [
      'what a rollout says that left it behind and succeeded',
      undefined,
      [apply(7, { endedAs: 'left' }), apply(6)],
      7,
      'rollout',
    ],
    [
      'what a rollout says that is under way',
      undefined,
      [apply(7, { state: 'running', endedAs: '' }), apply(6)],
      7,
      'rollout',
    ],
    [
      'not what a rollout said that was aborted before its turn',
      undefined,
      [apply(7, { state: 'aborted', endedAs: 'left' }), apply(6)],
      6,
      'rollout',
    ],
    [
      'not what failed on it',
      undefined,
      [apply(7, { state: 'failed', endedAs: 'failed' }), apply(6)],
      6,
      'rollout',
    ],
    [
      'what a rollout that failed elsewhere brought it',
      undefined,
      [apply(7, { state: 'failed' }), apply(6)],
      7,
      'rollout',
    ],
    ['what was before what was taken back', undefined, [goBack('to-7'), apply(7), apply(6)], 6, 'rollout'],
    ['what was before a rollback by itself', undefined, [goBack(''), apply(7), apply(6)], 6, 'rollout'],
    [
      'not what ran before where that was called off before its turn',
      undefined,
      [goBack('to-7', { state: 'aborted', endedAs: 'left' }), apply(7), apply(6)],
      7,
      'rollout',
    ],
    [
      'not what ran before where the way back left it behind',
      undefined,
      [goBack('to-7', { endedAs: 'left' }), apply(7), apply(6)],
      7,
      'rollout',
    ],
    [
      'what ran before while the way back is under way',
      undefined,
      [goBack('to-7', { state: 'running', endedAs: '' }), apply(7), apply(6)],
      6,
      'rollout',
    ],
    [
      'what came after what was taken back',
      undefined,
      [apply(8), goBack('to-7'), apply(7), apply(6)],
      8,
      'rollout',
    ],
    [
      'what ran before any rollout, where its first was taken back',
      undefined,
      [goBack('to-7'), apply(7)],
      0,
      'rollout',
    ],
  ])('is %s', (_what, pin, named, revision, by) => {
    expect(desiredRevision(pin, named, 9)).toMatchObject({ revision, by })
  })

  it('is nothing where nothing was published', () => {
    expect(desiredRevision(undefined, [], 0)).toBeUndefined()
  })
})
