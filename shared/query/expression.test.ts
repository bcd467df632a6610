import { celEnv, isCelError, parse, plan } from '@bufbuild/cel'
import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FactsSchema } from '../gen/muster/v1/facts_pb.ts'
import { celToJson } from './cel-to-json.ts'
import {
  compileExpression,
  compileSelector,
  evaluate,
  type QueryVariables,
  STORED_VARIABLES,
  select,
} from './expression.ts'
import { factsToCel } from './message-to-cel.ts'

const facts = factsToCel(
  create(FactsSchema, {
    system: { product: 'N100', serial: 'A1' },
    cpu: { threads: 6n },
    disks: [{ name: 'sda', size: 2_000_000_000_000n }, { name: 'sdb' }],
    os: { bootedAt: timestampFromDate(new Date('2026-01-02T03:04:05Z')) },
  }),
)
const labels = new Map([['zone', 'a']])

function ask(text: string, variables: QueryVariables = { facts, labels }) {
  const compilation = compileExpression(text)
  return compilation.kind === 'refused' ? compilation : select(compilation.expression, variables)
}
function jsonOf(text: string) {
  const compilation = compileExpression(text)
  if (compilation.kind === 'refused') return compilation
  const evaluation = evaluate(compilation.expression, { facts, labels })
  return evaluation.kind === 'value' ? celToJson(evaluation.value) : evaluation
}

describe('selectors', () => {
  test.each([
    ["facts.system.product == 'N100'", 'match'],
    ['facts.disks.exists(d, has(d.size) && d.size > 1000000000000)', 'match'],
    ['facts.cpu.threads % 2 == 0', 'match'],
    ['facts.cpu.threads >= 8', 'no-match'],
    ["has(labels.zone) && labels.zone == 'b'", 'no-match'],
    ['facts.interfaces.size() == 0', 'match'],
    ["facts.os.bootedAt < timestamp('2027-01-01T00:00:00Z')", 'match'],
    ['has(facts.memory)', 'no-match'],
    ['!facts.simulated', 'match'],
    ["facts.system.serial.matches('^(A+)+$')", 'no-match'],
  ])('%s: %s', (text, kind) => {
    expect(ask(text)).toEqual({ kind })
  })

  test('a missing key is an error that names it, never a no', () => {
    expect(ask("facts.system.vendor == 'Dell'")).toMatchObject({
      kind: 'error',
      reason: expect.stringContaining('vendor'),
    })
    expect(ask("labels.rack == 'a'")).toMatchObject({
      kind: 'error',
      reason: expect.stringContaining('rack'),
    })
    expect(ask('facts.disks.all(d, d.size > 5)')).toMatchObject({ kind: 'error' })
    expect(ask('has(status.group)')).toMatchObject({ kind: 'error' })
    expect(ask("labels['__proto__'] == ''")).toMatchObject({ kind: 'error' })
    expect(ask('has(labels.constructor)')).toEqual({ kind: 'no-match' })
  })

  test('what is no boolean is an error', () => {
    expect(ask('facts.cpu.threads')).toMatchObject({
      kind: 'error',
      reason: expect.stringContaining('boolean'),
    })
  })
})

/** The engine names the last part of a path alone. */
const lastOf = (reason: string) => reason.replace(/^(field not found: ).*\./, '$1')

describe('what is put into an expression to bound and to speed it up', () => {
  const host = 'olaf'
  test.each([
    'facts.system.product + facts.system.serial',
    'has(facts.system.product) && !has(facts.system.vendor)',
    'facts.system.vendor',
    'labels.nothing',
    'facts.system.product',
    'facts.simulated',
    'facts.cpu.threads',
    'facts.system',
    'facts.os.bootedAt',
    'labels.zone',
    'labels.rack',
    'facts.disks.exists(d, d.name == "sdb") && facts.system.product == "N100"',
    'facts.disks.exists(d, d.wwn == "x") || facts.system.product == "N100"',
    'facts.disks.filter(d, has(d.size)).map(d, d.name)',
    'facts.disks.map(d, d.size)',
    'facts.disks.exists_one(facts, facts.name == "sdb")',
    'facts.disks.map(labels, labels.name) == ["sda", "sdb"] && labels.zone == "a"',
    'facts.disks.all(d, facts.disks.exists(e, e.name == d.name && d.name != host))',
    'facts["system"].serial == "A1" && facts.system["serial"] == "A1"',
    'facts.system.serial.startsWith("A") && "x".size() == 1',
    '{"a": {"b": facts.cpu.threads}}.a.b + [1, 2][1]',
    '(facts.cpu.threads > 4 ? facts.system : labels).product',
    'type(facts.os.bootedAt) == google.protobuf.Timestamp',
    'facts.disks.exists(google, google.name == "sda")',
    'google.protobuf.Timestamp',
    'dyn(facts).system.product',
  ])('changes no answer: %s', text => {
    const bare = plan(celEnv(), parse(text))({ facts, labels, host })
    const compilation = compileExpression(text)
    if (compilation.kind === 'refused') throw new Error(compilation.reason)
    const evaluation = evaluate(compilation.expression, { facts, labels, host })
    expect(evaluation.kind === 'value' ? celToJson(evaluation.value) : lastOf(evaluation.reason)).toEqual(
      isCelError(bare) ? bare.message : celToJson(bare),
    )
  })
})

describe('bounds', () => {
  const long = `facts.disks.exists(d, d.name == "${'x'.repeat(4096)}")`
  test.each([
    ['', 'empty'],
    ['1 +', 'column'],
    [long, 'longer than'],
    [`${'('.repeat(33)}true${')'.repeat(33)}`, 'brackets'],
    [`1${'+1'.repeat(1000)} > 0`, 'nested deeper'],
    ['fact.system.product == ""', 'fact: no such variable'],
    ['foo(', 'column 4: found ( but'],
    ['true &&\n )', 'column'],
    ['facts.a.all(x, facts.a.all(y, facts.a.all(z, true)))', 'loops are nested'],
    [Array.from({ length: 33 }, () => '[].all(x,true)').join('&&'), 'more than 32 loops'],
  ])('%# refused: %.30s', (text, reason) => {
    expect(compileExpression(text)).toMatchObject({
      kind: 'refused',
      reason: expect.stringContaining(reason),
    })
  })

  test.each([
    ['facts.memory.total >', '  facts.memory.total >', 20],
    ['facts.memory.totl > 1', '  facts.memory.totl > 1', 14],
    ['true ||\n fact.os == ""', '   fact.os == ""', 2],
    ['facts.memory.total == "x"', '  facts.memory.total == "x"', 20],
    ['facts.disks.exists(d, d.sze > 1)', '  facts.disks.exists(d, d.sze > 1)', 25],
  ])('shows the place: %s', (text, line, column) => {
    const place = `${line}\n  ${' '.repeat(column - 1)}^`
    expect(compileExpression(text)).toMatchObject({ kind: 'refused', place })
  })

  test('what is wrong with the whole has no place', () => {
    expect(compileExpression('')).not.toHaveProperty('place')
    expect(compileExpression(long)).not.toHaveProperty('place')
  })

  test('brackets within texts do not count', () => {
    expect(ask(`"${'('.repeat(60)}" != '${"\\'[".repeat(60)}'`)).toEqual({ kind: 'match' })
  })

  test('an expression that loops too much is an error soon, even behind an or', () => {
    const range = Array.from({ length: 30 }, () => 'facts.pci').join('+')
    const many = { pci: Array.from({ length: 512 }, () => ({})) }
    const start = performance.now()
    for (const text of [
      `(${range}+${range}+${range}).all(x, (${range}+${range}+${range}).all(y, x == y || true))`,
      `true || (${range}+${range}+${range}).all(x, (${range}+${range}+${range}).all(y, true))`,
      `(${range}).all(x, (${range}).all(y, [1,2,3].size() > 0)) || true`,
    ]) {
      const answer = ask(text, { facts: many })
      expect(answer.kind === 'match' || answer.kind === 'error').toBe(true)
    }
    expect(
      ask(`(${range}+${range}).all(x, (${range}+${range}).all(y, true))`, { facts: many }),
    ).toMatchObject({
      kind: 'error',
      reason: expect.stringContaining('too costly'),
    })
    // Not for ever, that is: a machine may be busy.
    expect(performance.now() - start).toBeLessThan(60_000)
  })

  test('a value that a small loop blows up is an error, not a full memory', () => {
    const compilation = compileExpression('facts.pci.map(a, facts.pci.map(b, facts.pci))')
    if (compilation.kind === 'refused') throw new Error(compilation.reason)
    const many = { pci: Array.from({ length: 120 }, () => ({})) }
    // Which bound it meets first, that of its size or that of its time, is the machine's affair.
    expect(evaluate(compilation.expression, { facts: many })).toEqual({
      kind: 'error',
      reason: expect.stringMatching(/^the value of the expression is too large$|too costly/),
    })
  })

  test('the cost is counted afresh for each evaluation', () => {
    const compilation = compileExpression('facts.disks.all(a, facts.disks.all(b, true))')
    if (compilation.kind === 'refused') throw new Error(compilation.reason)
    const many = { disks: Array.from({ length: 200 }, () => ({})) }
    for (let i = 0; i < 5; i++) {
      expect(select(compilation.expression, { facts: many })).toEqual({ kind: 'match' })
    }
  })

  test('no text makes the compiler throw or loop', () => {
    const token = fc.constantFrom(
      'facts',
      '.',
      'disks',
      '(',
      ')',
      '[',
      ']',
      '{',
      '}',
      '"',
      "'",
      '1',
      '!',
      '-',
      '+',
      '?',
      ':',
      'all',
      ',',
      'x',
      '==',
      'matches',
      'true',
      ' ',
      '@meter',
      'has',
      '\\',
    )
    fc.assert(
      fc.property(
        fc.oneof(
          fc.array(token).map(parts => parts.join('')),
          fc.string({ unit: 'binary' }),
        ),
        text => {
          const compilation = compileExpression(text)
          if (compilation.kind === 'compiled') evaluate(compilation.expression, { facts })
        },
      ),
    )
  })
})

test('values become JSON', () => {
  expect(jsonOf('facts.disks.map(d, d.name)')).toEqual(['sda', 'sdb'])
  expect(jsonOf('facts.system')).toEqual({ product: 'N100', serial: 'A1' })
  expect(jsonOf('facts.os.bootedAt')).toBe('2026-01-02T03:04:05.000Z')
  expect(jsonOf('9007199254740993')).toBe('9007199254740993')
  expect(jsonOf('facts.disks[0].size')).toBe(2_000_000_000_000)
})

describe('what is told of an expression that gives no answer', () => {
  test('is the whole path of what is missing, where it is one', () => {
    const variables = { facts, labels }
    expect(ask("facts.system.vendor == 'Dell'", variables)).toMatchObject({
      reason: 'field not found: facts.system.vendor',
    })
    expect(ask("facts.system.vendor == 'x' || facts.firmware.vendor == 'x'", variables)).toMatchObject({
      reason: expect.stringMatching(/^field not found: (vendor|facts\.firmware)$/),
    })
  })

  test('is the place of a function that there is not', () => {
    expect(ask('facts.simulated && host.startWith("a")')).toEqual({
      kind: 'refused',
      reason: 'startWith: no such function; did you mean startsWith?',
      place: '  facts.simulated && host.startWith("a")\n                          ^',
    })
  })

  test('is what there is, without what only nodes that are asked know', () => {
    const compiled = compileSelector('live.units.size() > 0', STORED_VARIABLES)
    expect(compiled).toMatchObject({
      kind: 'refused',
      reason:
        'live: is known in `muster query` with --probe alone; there are facts, machine, host, labels, status, node, cluster, now',
    })
    expect(compileSelector('live.units.size() > 0').kind).toBe('compiled')
  })
})
