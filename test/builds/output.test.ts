import { afterAll, describe, expect, it } from 'vitest'
import { inWords } from '../../agent/operation/testing/node-under-test.ts'
import { hasNix } from '../nix/nix-library.ts'
import { freshFlake, nixMachine, removeAll, sourceTarget } from './nix-machine.ts'

afterAll(removeAll)

/** A flake whose builds run these words of the shell first. */
const saying = (words: string) =>
  freshFlake({ 'toplevel/build.sh': text => text.replace('tick=0\n', () => `${words}\ntick=0\n`) })

describe.skipIf(!hasNix)(`build output ${hasNix ? '' : 'skipped: the command nix is missing'}`, () => {
  it('T32: arrives with its last lines, cut at whole letters, however long its lines are', async () => {
    const machine = await nixMachine()
    await using node = machine.node
    const long =
      "head -c 1048576 /dev/zero | tr '\\0' x; echo; yes äöü | head -n 200000 | tr -d '\\n'; echo; printf 'no line end'; exit 3"
    const outcome = await node.apply(await node.publish(saying(long), { targets: [sourceTarget('bolt')] }))
    expect(inWords(outcome)).toBe('build failed')
    for (const line of node.output) expect(Buffer.byteLength(line)).toBeLessThanOrEqual(4096)
    const text = node.output.join('\n')
    expect(text).toMatch(/x{100} \[cut: \d+ bytes more\]/)
    expect(text).toMatch(/äöü[äöü]* \[cut: \d+ bytes more\]/)
    expect(text).not.toContain('\uFFFD')
    expect(text).toContain('> no line end')
  })

  it('T33: is bounded, and keeps its head, its tail and every error between them', async () => {
    const machine = await nixMachine()
    await using node = machine.node
    const many = 'seq 1 30000; echo "error: the one that matters"; seq 30001 60000; exit 3'
    const outcome = await node.apply(await node.publish(saying(many), { targets: [sourceTarget('bolt')] }))
    expect(inWords(outcome)).toBe('build failed')
    const output = node.output
    expect(output.length).toBeGreaterThan(15_000)
    expect(output.length).toBeLessThan(17_500)
    for (const wanted of [/> 1$/, /error: the one that matters/, /> 59990$/, /> 60000$/]) {
      expect([wanted, output.some(line => wanted.test(line))]).toEqual([wanted, true])
    }
    expect(output.some(line => /> 40000$/.test(line))).toBe(false)
  })
})
