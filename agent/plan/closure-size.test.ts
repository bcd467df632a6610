import { describe, expect, test } from 'vitest'
import { parseDryRun } from './closure-size.ts'

const MIB = 1024 ** 2

describe('what Nix says it would fetch', () => {
  test.each<[string, string, number, number]>([
    ['nothing', '', 0, 0],
    [
      'one path, as Nix 2.8 says it',
      'this path will be fetched (0.00 MiB download, 0.29 MiB unpacked):\n  /nix/store/x\n',
      Math.ceil(0.3 * MIB),
      1,
    ],
    [
      'many paths',
      'warning: x\nthese 812 paths will be fetched (1200.50 MiB download, 4000.00 MiB unpacked):\n  /nix/store/x\n',
      Math.ceil(4000.01 * MIB),
      812,
    ],
    [
      'in other units, as newer ones say it',
      'these 3 paths will be fetched (2.5 KiB download, 1.4 GiB unpacked):\n',
      Math.ceil(1.5 * 1024 * MIB),
      3,
    ],
  ])('%s', (_, text, bytes, paths) => {
    expect(parseDryRun(text)).toEqual({ kind: 'need', bytes, paths })
  })

  test.each([
    ["don't know how to build these paths:\n  /nix/store/x\n", "don't know how"],
    [
      "this path will be fetched (0.00 MiB download, 0.29 MiB unpacked):\n  /y\ndon't know how to build these paths (may be caused by read-only store access):\n",
      "don't know how",
    ],
    ['these 2 derivations will be built:\n  /nix/store/x.drv\n', 'will be built'],
    ['5 paths will be fetched, about a lot\n', 'unknown words'],
    ['this path will be fetched (1 parsec download, 2 parsec unpacked):\n', 'unknown size'],
  ])('is unknown for %j', (text, why) => {
    expect(parseDryRun(text)).toEqual({ kind: 'unknown', why: expect.stringContaining(why) })
  })
})
