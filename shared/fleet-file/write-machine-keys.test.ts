import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatProblems } from './problem.ts'
import { readFleetFile } from './read-fleet-file.ts'
import { writeMachineKeys } from './write-machine-keys.ts'

const HEAD = '[fleet]\nname = "home"\nid = "5f1c0a7be2d94c3386a1f0d2b7c4e895"\n'
const key = (letter: string) => letter.repeat(64)
const A = key('a')

function fleetOf(text: string) {
  const read = readFleetFile(text, 'fleet.toml')
  if (!read.ok) throw new Error(`${formatProblems(read.problems)}\n${text}`)
  return read.fleet
}

function written(text: string, machines: Readonly<Record<string, string>>): string {
  const result = writeMachineKeys(text, new Map(Object.entries(machines)))
  if (result.kind === 'refused') throw new Error(result.reason)
  const lines = result.text.split('\n')
  for (const { line, machine } of result.keys) expect(lines[line - 1]).toContain(`machine = "${machine}"`)
  return result.text
}

describe('the key of a machine', () => {
  it.each([
    [
      'behind what a section says, with its comments where they were',
      '# one\n[hosts.olaf] # the first\n  address = "dhcp" # fixed later\n# not of olaf\n\n[hosts.nas]\n',
      `# one\n[hosts.olaf] # the first\n  address = "dhcp" # fixed later\n  machine = "${A}"\n# not of olaf\n\n[hosts.nas]\n`,
    ],
    ['into a section that says nothing', '[hosts.olaf] # x', `[hosts.olaf] # x\nmachine = "${A}"`],
    [
      'before the sections below the host',
      '[hosts.olaf]\n[hosts.olaf.labels]\nrack = "a"\n',
      `[hosts.olaf]\nmachine = "${A}"\n[hosts.olaf.labels]\nrack = "a"\n`,
    ],
    [
      'with a section of its own where only those below are written',
      '[hosts.olaf.labels]\nrack = "a"\n',
      `[hosts.olaf]\nmachine = "${A}"\n\n[hosts.olaf.labels]\nrack = "a"\n`,
    ],
    [
      'into an inline table',
      '[hosts]\nolaf = { address = "dhcp" } # x\n',
      `[hosts]\nolaf = { address = "dhcp", machine = "${A}" } # x\n`,
    ],
    ['into an empty one', '[hosts]\nolaf = {}\n', `[hosts]\nolaf = { machine = "${A}" }\n`],
    [
      'beside dotted keys',
      '[hosts]\n"olaf".address = "dhcp"\n"olaf".labels.rack = "a"\nnas = {}\n',
      `[hosts]\n"olaf".address = "dhcp"\n"olaf".labels.rack = "a"\n"olaf".machine = "${A}"\nnas = {}\n`,
    ],
    [
      'behind a list over several lines',
      '[hosts.olaf]\nnameservers = [\n  "10.0.0.1",\n]\n',
      `[hosts.olaf]\nnameservers = [\n  "10.0.0.1",\n]\nmachine = "${A}"\n`,
    ],
    [
      'with the line ends of the file',
      '[hosts.olaf]\r\naddress = "dhcp"\r\n',
      `[hosts.olaf]\r\naddress = "dhcp"\r\nmachine = "${A}"\r\n`,
    ],
  ])('goes %s', (_, text, expected) => {
    const fleet = `${HEAD}${text}`
    const result = written(fleet, { olaf: A })
    expect(result).toBe(HEAD + expected)
    expect(fleetOf(result).hosts.find(({ name }) => name === 'olaf')?.binding.machine).toBe(A)
  })

  it('goes into dotted keys at the top, and inside one inline table of all hosts', () => {
    const dotted = `hosts.olaf.address = "dhcp"\n${HEAD}`
    expect(written(dotted, { olaf: A })).toBe(
      `hosts.olaf.address = "dhcp"\nhosts.olaf.machine = "${A}"\n${HEAD}`,
    )
    const inline = `hosts = { olaf.address = "dhcp", nas = {} }\n${HEAD}`
    expect(written(inline, { olaf: A, nas: key('b') })).toBe(
      `hosts = { olaf.address = "dhcp", olaf.machine = "${A}", nas = { machine = "${key('b')}" } }\n${HEAD}`,
    )
  })

  it('is not written over another one, nor for a host that is not there', () => {
    const text = `${HEAD}[hosts.olaf]\nmachine = "${key('b')}"\n`
    expect(writeMachineKeys(text, new Map([['olaf', A]]))).toMatchObject({ kind: 'refused' })
    expect(writeMachineKeys(text, new Map([['nas', A]]))).toMatchObject({
      reason: 'hosts.nas: is not in the file',
    })
  })

  it('changes nothing else, whatever the file looks like', () => {
    const host = fc.constantFrom('section', 'empty', 'inline', 'bare', 'dotted', 'below')
    const comment = fc.constantFrom('', '  # é … "x" = {', '# [hosts.olaf]')
    fc.assert(
      fc.property(
        fc.array(fc.tuple(host, comment, fc.boolean()), { minLength: 1, maxLength: 8 }),
        fc.boolean(),
        (hosts, crlf) => {
          const named = hosts.map(([form, note, bound], index) => ({ form, note, bound, name: `h${index}` }))
          const top = named.filter(({ form }) => ['inline', 'bare', 'dotted'].includes(form))
          const lines = [
            ...HEAD.trimEnd().split('\n'),
            '',
            ...(top.length > 0 ? ['[hosts]'] : []),
            ...top.flatMap(({ form, note, name }) =>
              form === 'inline'
                ? [`${name} = { address = "dhcp" } ${note}`]
                : form === 'bare'
                  ? [`  ${name} = {} ${note}`]
                  : [`${name}.address = "dhcp" ${note}`, note, `${name}.labels.rack = "a"`],
            ),
            ...named.flatMap(({ form, note, name }) =>
              form === 'section'
                ? [note, `[hosts.${name}]${note}`, `  labels = { rack = "a" }${note}`, note, '']
                : form === 'empty'
                  ? [`[hosts."${name}"] ${note}`]
                  : form === 'below'
                    ? [note, `[hosts.${name}.labels]`, 'rack = "a"']
                    : [],
            ),
          ]
          const text = lines.join(crlf ? '\r\n' : '\n')
          const machines = named.flatMap(({ name, bound }, index) =>
            bound ? [[name, key(String(index))] as const] : [],
          )
          const result = written(text, Object.fromEntries(machines))
          const before = fleetOf(text)
          const expected = before.hosts.map(each => ({
            ...each,
            binding: { ...each.binding, machine: machines.find(([name]) => name === each.name)?.[1] },
          }))
          const after = fleetOf(result)
          const sorted = (list: readonly { name: string }[]) =>
            list.toSorted((a, b) => (a.name < b.name ? -1 : 1))
          expect(sorted(after.hosts)).toEqual(sorted(expected))
          // What was there is still there, in its order.
          let at = 0
          for (const part of text) {
            at = result.indexOf(part, at) + 1
            expect(at).toBeGreaterThan(0)
          }
        },
      ),
    )
  })
})
