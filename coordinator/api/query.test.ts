import { create, type MessageInitShape, toBinary, toJsonString } from '@bufbuild/protobuf'
import { durationFromMs } from '@bufbuild/protobuf/wkt'
import { status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { NodeStatusSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { type QueryColumnsSchema, QueryRequestSchema } from '../../shared/gen/muster/v1/question_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { RpcError, unavailable } from '../../shared/rpc/rpc-error.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { FactsCache } from '../queries/facts-cache.ts'
import { addMachine, type SampleFleet, START, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { insertFacts } from '../store/facts.ts'
import { type QueryDeps, query } from './query.ts'

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

const idOf = (number: number) => sha256Hex(`machine ${number}`)
const factsOf = (number: number) =>
  create(FactsSchema, {
    system: { vendor: 'Acme', product: number % 2 ? 'N100' : 'R720', serial: `S${number}` },
    cpu: { cores: BigInt(number) },
    disks: [{ name: 'sda', size: 2_000_000_000_000n, serial: `D${number}` }],
  })

async function addMachines(count: number, change: Parameters<typeof addMachine>[2] = {}): Promise<void> {
  await fleet.store.transact(async tx => {
    for (let number = 0; number < count; number++) {
      const facts = toBinary(FactsSchema, factsOf(number))
      await insertFacts(tx, { machine: idOf(number), digest: sha256Hex(facts), at: 1, facts })
      await addMachine({ ...fleet.store, db: tx }, idOf(number), {
        facts_digest: sha256Hex(facts),
        labels: JSON.stringify({ rack: number % 3 === 0 ? 'a' : 'b' }),
        ...change,
      })
    }
  })
}

const OFFLINE: QueryDeps['sessions'] = {
  online: () => false,
  lastMessage: () => undefined,
  probe: () => Promise.reject(unavailable('not online')),
}

async function depsOf(sessions: QueryDeps['sessions'] = OFFLINE): Promise<QueryDeps> {
  const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
  const conditions = { stuckAfterMs: 600_000, certificateWarnMs: 86_400_000 }
  return { ...fleet, directory, sessions, conditions, factsCache: new FactsCache() }
}

async function ask(deps: QueryDeps, request: MessageInitShape<typeof QueryRequestSchema>) {
  const rows: { machine?: string; host?: string; values?: string[] }[] = []
  const signal = new AbortController().signal
  let columns: MessageInitShape<typeof QueryColumnsSchema> = {}
  for await (const { item } of query(deps)(create(QueryRequestSchema, request), { kind: 'local' }, signal)) {
    if (item?.case === 'columns') columns = item.value
    if (item?.case === 'row') rows.push(item.value)
    if (item?.case === 'rows') rows.push(...(item.value.rows ?? []))
    if (item?.case === 'end') return { rows, end: item.value, columns }
  }
  throw new Error('the answer has no end')
}

describe('questions to the store', () => {
  it('finds machines by facts, labels and status and tells the values asked for', async () => {
    await addMachines(20)
    const { rows, end } = await ask(await depsOf(), {
      expression: "facts.cpu.cores >= 16 && facts.system.product == 'N100' && labels.rack == 'b'",
      select: ['facts.cpu.cores', 'facts.disks', 'host', 'status.online', 'status.appliedRevision'],
    })
    const values = rows.map(row => row.values ?? []).toSorted(([a = ''], [b = '']) => Number(a) - Number(b))
    expect(values.map(([cores, , ...others]) => [cores, ...others])).toEqual([
      ['17', '""', 'false', '0'],
      ['19', '""', 'false', '0'],
    ])
    expect(JSON.parse(values[0]?.[1] ?? '')).toMatchObject([{ name: 'sda', size: 2_000_000_000_000 }])
    expect(end).toMatchObject({ asked: 20, answered: 20, matched: 2, silent: [], errors: [] })
  })

  it('names the machines a selector cannot be evaluated for, and counts them neither in nor out', async () => {
    await addMachines(3)
    await addMachine(fleet.store, 'f'.repeat(64))
    const deps = await depsOf()
    const { rows, end } = await ask(deps, { expression: 'facts.cpu.cores >= 1', select: ['labels.nothing'] })
    expect(rows.map(({ values }) => values)).toEqual([['null'], ['null']])
    expect(end.errors).toHaveLength(3)
    expect(end.errors).toContainEqual({ machine: 'f'.repeat(64), reason: expect.stringMatching(/facts/) })
    for (const bad of [
      { expression: 'facts.(' },
      { select: ['nosuch.thing'] },
      { select: Array.from({ length: 33 }, () => 'true') },
      { live: true, deadline: durationFromMs(10) },
    ]) {
      await expect(ask(deps, bad)).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
    }
  })

  it('sees new facts at once and keeps the cache within its bound', async () => {
    await addMachines(50)
    const deps = { ...(await depsOf()), factsCache: new FactsCache(1000) }
    expect((await ask(deps, { expression: 'facts.cpu.cores == 7' })).end.matched).toBe(1)
    expect(deps.factsCache.bytes).toBeLessThanOrEqual(1000)
    const facts = toBinary(FactsSchema, factsOf(1007))
    await fleet.store.transact(async tx => {
      await insertFacts(tx, { machine: idOf(7), digest: sha256Hex(facts), at: START.getTime(), facts })
      await tx
        .updateTable('machines')
        .set({ facts_digest: sha256Hex(facts) })
        .where('id', '=', idOf(7))
        .execute()
    })
    const again = { ...(await depsOf()), factsCache: deps.factsCache }
    expect((await ask(again, { expression: 'facts.cpu.cores == 7' })).end.matched).toBe(0)
    expect((await ask(again, { expression: 'facts.cpu.cores == 1007' })).end.matched).toBe(1)
  })

  it('tells many rows in one message, in their order, and never more than a message may hold', async () => {
    await addMachines(1_100)
    const deps = await depsOf()
    const packs = async (select: string[]) => {
      const found: { machine?: string; values?: string[] }[][] = []
      const request = create(QueryRequestSchema, { select })
      for await (const { item } of query(deps)(request, { kind: 'local' }, new AbortController().signal)) {
        expect(item?.case).not.toBe('row')
        if (item?.case === 'rows') found.push(item.value.rows ?? [])
      }
      return found
    }
    const small = await packs(['facts.cpu.cores'])
    expect(small.map(rows => rows.length)).toEqual([500, 500, 100])
    const machines = small.flat().map(({ machine }) => machine)
    expect(machines).toEqual(machines.toSorted())
    expect(new Set(machines).size).toBe(1_100)
    // Ten of these are more than a message holds.
    const text = `"${'x'.repeat(60)}"`
    const wide = await packs(
      Array.from({ length: 32 }, () => `[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15].map(i, ${text})`),
    )
    expect(wide.flat().map(({ machine }) => machine)).toEqual(machines)
    for (const rows of wide) {
      const chars = rows.flatMap(({ values }) => values ?? []).reduce((sum, { length }) => sum + length, 0)
      expect(chars).toBeLessThanOrEqual(256 * 1024)
    }
  })

  it('sorts by any expression, what is not known last, and shows no more than was asked for', async () => {
    await addMachines(6)
    await addMachine(fleet.store, 'f'.repeat(64))
    const deps = await depsOf()
    const cores = async (request: MessageInitShape<typeof QueryRequestSchema>) =>
      (await ask(deps, { select: ['facts.cpu.cores'], ...request })).rows.map(({ values }) => values?.[0])
    expect(await cores({ sort: ['facts.cpu.cores'] })).toEqual(['0', '1', '2', '3', '4', '5', 'null'])
    expect(await cores({ sort: ['-facts.cpu.cores'] })).toEqual(['5', '4', '3', '2', '1', '0', 'null'])
    expect(await cores({ sort: ['facts.cpu.cores % 2', '- facts.cpu.cores'], limit: 4 })).toEqual([
      ...['4', '2', '0', '5'],
    ])
    // Ten after two, not before it as texts would be.
    expect(await cores({ sort: ['facts.cpu.cores * 5'], limit: 3 })).toEqual(['0', '1', '2'])
    const { rows, end } = await ask(deps, { select: ['facts.cpu.cores'], limit: 2 })
    expect(rows).toHaveLength(2)
    expect(end).toMatchObject({ asked: 7, matched: 7, unmatched: 0, failed: 0 })
  })

  it('counts and adds up by groups, leaves out what is not known, and says of whom', async () => {
    await addMachines(9)
    await addMachine(fleet.store, 'f'.repeat(64), { labels: '{"rack":"a"}' })
    const deps = await depsOf()
    const select = ['count()', 'count(facts.cpu.cores)', 'sum(facts.cpu.cores)', 'max(facts.system.serial)']
    const { rows, end, columns } = await ask(deps, {
      select: [...select, 'labels.rack'],
      groupBy: ['labels.rack'],
      sort: ['-count()'],
    })
    expect(columns).toEqual({ groups: true, names: ['labels.rack', ...select] })
    expect(rows.map(({ machine, host, values }) => [machine, host, ...(values ?? [])])).toEqual([
      ['', '', '"b"', '6', '6', '27', '"S8"'],
      ['', '', '"a"', '4', '3', '9', '"S6"'],
    ])
    expect(end).toMatchObject({ asked: 10, matched: 10 })
    expect(end.errors).toHaveLength(3)
    expect(end.errors).toContainEqual({
      machine: 'f'.repeat(64),
      reason: expect.stringMatching(/^facts\.cpu\.cores: facts/),
    })
    // All are one group, also where nothing matches: nothing known is null, and nothing counted is none.
    const none = await ask(deps, { expression: 'false', select: ['count()', 'sum(facts.cpu.cores)'] })
    expect(none.rows.map(({ values }) => values)).toEqual([['0', 'null']])
    expect(none.end).toMatchObject({ asked: 10, matched: 0, unmatched: 10, failed: 0 })
  })

  it('puts machines of which the group is not known in a group of their own', async () => {
    await addMachines(3)
    await addMachine(fleet.store, 'f'.repeat(64))
    const { rows, end } = await ask(await depsOf(), {
      groupBy: ['facts.system.product'],
      select: ['count()'],
    })
    expect(rows.map(({ values }) => values)).toEqual([
      ['"N100"', '1'],
      ['"R720"', '2'],
      ['null', '1'],
    ])
    expect(end.errors).toEqual([
      { machine: 'f'.repeat(64), reason: expect.stringMatching(/^facts\.system\.product: /) },
    ])
  })

  it('names the machine whose value is of another kind than those of the others', async () => {
    await addMachines(3)
    const { rows, end } = await ask(await depsOf(), {
      select: ['sum(facts.cpu.cores > 1 ? dyn("many") : dyn(facts.cpu.cores))'],
    })
    expect(rows[0]?.values).toEqual(['1'])
    expect(end.errors).toEqual([
      { machine: idOf(2), reason: expect.stringMatching(/^sum\(.*\): is a text, only numbers add up$/) },
    ])
  })

  it('says which field is wrong, and how it would be right', async () => {
    const deps = await depsOf()
    const wrong: [MessageInitShape<typeof QueryRequestSchema>, RegExp][] = [
      [
        { select: ['sum(facts.cpu.cores) + max(facts.cpu.cores)'] },
        /^select\[0\]: an aggregate stands alone/,
      ],
      [{ select: ['sum(facts.cpu.cores) / 2'] }, /^select\[0\]: an aggregate stands alone/],
      [{ select: ['sum(max(facts.cpu.cores))'] }, /^select\[0\]: an aggregate stands alone/],
      [{ select: ['host == "" ? count() : 0'] }, /^select\[0\]: an aggregate stands alone/],
      [{ select: ['sum()'] }, /^select\[0\]: sum\(\) wants an expression/],
      [{ select: ['min(facts.()'] }, /^select\[0\]: .*\n {2}min\(facts\.\(\)\n {2} +\^$/],
      [
        { select: ['count(),max(facts.cpu.cores)'] },
        /^select\[0\]: column 8: found , .*; each column is an expression of its own\n {2}count\(\),max\(facts\.cpu\.cores\)\n {9}\^$/,
      ],
      [
        { select: ['host,machine'] },
        /^select\[0\]: column 5: .*; each column is an expression of its own\n {2}host,machine\n {6}\^$/,
      ],
      [{ groupBy: ['count()'] }, /^group_by\[0\]: is an aggregate/],
      [{ select: ['count()', 'host'] }, /^select\[1\]: host may differ within a group: group by it/],
      [{ select: ['count()'], sort: ['host'] }, /^sort\[0\]: host is no column of the groups: count\(\)$/],
      [{ sort: ['count()'] }, /^sort\[0\]: count\(\) is an aggregate: select it as well/],
      [{ sort: [' - '] }, /^sort\[0\]: is empty/],
      [{ sort: Array.from({ length: 9 }, () => 'host') }, /^sort: 9 expressions, at most 8/],
      [{ expression: 'live.ports.size() > 0' }, /^live: is what nodes answer at once/],
      [{ expression: 'live.ports.size() > 0', live: true }, /^live: nothing is asked: name probes/],
      [{ probes: [{ probe: { case: 'ports', value: {} } }] }, /^probes: are asked of the nodes/],
    ]
    for (const [request, reason] of wrong) {
      await expect(ask(deps, request)).rejects.toMatchObject({
        code: status.INVALID_ARGUMENT,
        message: expect.stringMatching(reason),
      })
    }
  })

  it('tells what nodes hold on to and when certificates end, and nothing that they never said', async () => {
    const told = create(NodeStatusSchema, { failedUnits: ['nginx.service'], unitsRead: true })
    const unread = create(NodeStatusSchema, { failedUnits: [], unitsRead: false })
    const bytes = (status: typeof told) => Buffer.from(toBinary(NodeStatusSchema, status))
    const hourMs = 3_600_000
    const ends = (hours: number) => ({ certificate_not_after: START.getTime() + hours * hourMs })
    await addMachine(fleet.store, idOf(1), { node_status: bytes(told), ...ends(3) })
    await addMachine(fleet.store, idOf(2), { node_status: bytes(unread), ...ends(30) })
    await addMachine(fleet.store, idOf(3), { certificate_not_after: null })
    const deps = await depsOf()
    const failed = await ask(deps, { expression: 'node.failedUnits.exists(u, u.startsWith("nginx"))' })
    expect(failed.rows.map(({ machine }) => machine)).toEqual([idOf(1)])
    expect(failed.end).toMatchObject({ asked: 3, matched: 1, unmatched: 0, failed: 2 })
    expect(failed.end.errors?.map(({ machine }) => machine).toSorted()).toEqual([idOf(2), idOf(3)].toSorted())
    const ending = await ask(deps, { expression: 'status.certificateEnds < now + duration("24h")' })
    expect(ending.rows.map(({ machine }) => machine)).toEqual([idOf(1)])
    expect(ending.end).toMatchObject({ matched: 1, unmatched: 1, failed: 1 })
    // Nobody wired any clusters here: that is not the same as no machine being in one.
    expect((await ask(deps, { expression: 'cluster.name == ""' })).end).toMatchObject({
      matched: 0,
      failed: 3,
    })
  })

  it('leaves the event loop room while it is answered for 5,000 machines', async () => {
    await addMachines(5000)
    const deps = await depsOf()
    // Dear enough to take several slices of time on any machine.
    const clauses = Array.from({ length: 30 }, (_, index) => `facts.disks.exists(d, d.size > ${index})`)
    let turns = 0
    let over = false
    const turn = () => {
      turns++
      if (!over) setImmediate(turn)
    }
    const asked = ask(deps, { expression: clauses.join(' && ') })
    setImmediate(turn)
    expect((await asked).end.matched).toBe(5000)
    over = true
    expect(turns).toBeGreaterThan(3)
  })
})

describe('questions asked live', () => {
  it('fleet#8259: ends by the deadline with what came, and names every silent machine', async () => {
    await addMachines(100)
    const dead = new Set([3, 30, 60].map(idOf))
    const absent = new Set([4, 44].map(idOf))
    const deps = await depsOf({
      ...OFFLINE,
      online: machine => !absent.has(machine),
      probe: async (machine, _kind, deadlineMs, signal) => {
        const number = Array.from({ length: 100 }, (_, at) => at).find(at => idOf(at) === machine) ?? 0
        if (number === 50) throw new RpcError(status.FAILED_PRECONDITION, 'lsblk is missing')
        if (number === 51) return '{"cpu": 7}'
        if (!dead.has(machine)) return toJsonString(FactsSchema, factsOf(number))
        return await new Promise<string>((_, reject) => {
          const late = () => reject(new RpcError(status.DEADLINE_EXCEEDED, 'no answer'))
          const timer = setTimeout(late, deadlineMs)
          signal?.addEventListener('abort', () => clearTimeout(timer), { once: true })
        })
      },
    })
    const started = performance.now()
    const { rows, end } = await ask(deps, {
      live: true,
      deadline: durationFromMs(1000),
      select: ['facts.cpu.cores'],
    })
    expect(performance.now() - started).toBeLessThan(3000)
    expect(end).toMatchObject({ asked: 100, answered: 95, matched: 93 })
    expect(end.silent).toEqual([...dead, ...absent].toSorted())
    expect(end.errors?.map(({ machine }) => machine).toSorted()).toEqual([idOf(50), idOf(51)].toSorted())
    expect(rows).toHaveLength(93)
  })

  it('hands on each answer when it comes, before the slowest one', async () => {
    await addMachines(2)
    let release = () => {}
    const held = new Promise<void>(resolve => {
      release = resolve
    })
    const deps = await depsOf({
      ...OFFLINE,
      online: () => true,
      probe: async machine => {
        if (machine === idOf(1)) await held
        return toJsonString(FactsSchema, factsOf(0))
      },
    })
    const request = create(QueryRequestSchema, { live: true })
    const answers = query(deps)(request, { kind: 'local' }, new AbortController().signal)
    expect((await answers.next()).value?.item?.case).toBe('columns')
    const first = await answers.next()
    expect(first.value?.item).toMatchObject({ case: 'row', value: { machine: idOf(0) } })
    release()
    expect((await answers.next()).value?.item).toMatchObject({ value: { machine: idOf(1) } })
    expect((await answers.next()).value?.item?.case).toBe('end')
  })

  it('asks what was named and no facts, and keeps a refusal apart from silence and from a no', async () => {
    await addMachines(4)
    const asked: string[] = []
    const units = (active: string) => JSON.stringify({ units: [{ name: 'k3s.service', active }] })
    const deps = await depsOf({
      ...OFFLINE,
      online: () => true,
      probe: async (machine, kind, _deadlineMs, _signal, parameters = '') => {
        asked.push(`${kind} ${parameters}`)
        if (machine === idOf(3)) throw unavailable('the session ended')
        if (kind === 'journal') {
          if (machine === idOf(2)) throw new RpcError(status.FAILED_PRECONDITION, 'allow has no "logs"')
          return JSON.stringify({ lines: [{ text: 'hello', at: '2026-01-02T03:04:05Z' }], truncated: true })
        }
        return units(machine === idOf(0) ? 'active' : 'failed')
      },
    })
    const { rows, end } = await ask(deps, {
      live: true,
      expression: 'live.units.exists(u, u.active == "failed")',
      select: ['live.journal.map(l, l.text)', 'live.truncated', 'live.journal[0].at'],
      probes: [
        { probe: { case: 'units', value: { patterns: ['k3s*'] } } },
        { probe: { case: 'journal', value: { unit: 'k3s.service', lines: 3 } } },
      ],
    })
    expect(new Set(asked)).toEqual(
      new Set(['units {"patterns":["k3s*"]}', 'journal {"unit":"k3s.service","lines":3}']),
    )
    const values = new Map(rows.map(row => [row.machine, row.values]))
    expect(values.get(idOf(1))).toEqual(['["hello"]', '["journal"]', '"2026-01-02T03:04:05.000Z"'])
    expect(values.get(idOf(2))).toEqual(['null', '[]', 'null'])
    expect(end).toMatchObject({ asked: 4, answered: 3, matched: 2, unmatched: 1, failed: 0 })
    expect(end.silent).toEqual([idOf(3)])
    expect(end.errors).toContainEqual({ machine: idOf(2), reason: 'journal: allow has no "logs"' })
    expect(end.errors).toContainEqual({
      machine: idOf(1),
      reason: 'journal: there is more than is told; ask for less',
    })
    // Who refuses all it is asked is neither in nor out.
    const refused = await ask(deps, {
      live: true,
      probes: [{ probe: { case: 'journal', value: { unit: 'k3s.service' } } }],
    })
    expect(refused.end).toMatchObject({ asked: 4, answered: 3, matched: 2, failed: 1 })
  })

  it('keeps what a node answered beside a question that it did not answer in time, and names that', async () => {
    await addMachines(3)
    const deps = await depsOf({
      ...OFFLINE,
      online: () => true,
      probe: async (machine, kind) => {
        if (machine === idOf(2) || (machine === idOf(1) && kind === 'journal')) {
          throw new RpcError(status.DEADLINE_EXCEEDED, 'no answer within 10000 ms')
        }
        if (kind === 'journal') return JSON.stringify({ lines: [{ text: 'hello' }] })
        return JSON.stringify({ units: [{ name: 'k3s.service', active: 'failed' }] })
      },
    })
    const probes: MessageInitShape<typeof QueryRequestSchema>['probes'] = [
      { probe: { case: 'units', value: { patterns: [] } } },
      { probe: { case: 'journal', value: { unit: 'k3s.service' } } },
    ]
    const select = ['live.units[0].name', 'live.journal[0].text']
    const { rows, end } = await ask(deps, {
      live: true,
      expression: 'live.units.exists(u, u.active == "failed")',
      select,
      probes,
    })
    expect(new Map(rows.map(row => [row.machine, row.values]))).toEqual(
      new Map([
        [idOf(0), ['"k3s.service"', '"hello"']],
        [idOf(1), ['"k3s.service"', 'null']],
      ]),
    )
    expect(end).toMatchObject({ asked: 3, answered: 2, matched: 2, failed: 0, silent: [idOf(2)] })
    const late = { machine: idOf(1), reason: 'journal: no answer within 10000 ms' }
    expect(end.errors).toContainEqual(late)
    // Whom the expression asks for what did not come is neither in nor out.
    const unknown = await ask(deps, {
      live: true,
      expression: 'live.journal.exists(l, l.text == "hello")',
      probes,
    })
    expect(unknown.end).toMatchObject({ asked: 3, answered: 2, matched: 1, unmatched: 0, failed: 1 })
  })

  it('takes no question that is no plain name, no path or too long for a node', async () => {
    const deps = await depsOf()
    const journal = (unit: string, lines = 0) => ({ case: 'journal' as const, value: { unit, lines } })
    for (const probe of [
      journal('k3s*'),
      journal('--vacuum-size=1'),
      journal('k3s'),
      journal('a b.service'),
      journal('k3s.service', 501),
      { case: 'disks' as const, value: { paths: ['etc'] } },
      { case: 'units' as const, value: { patterns: [''] } },
      { case: 'units' as const, value: { patterns: Array.from({ length: 32 }, () => 'x'.repeat(256)) } },
      { case: undefined },
    ]) {
      await expect(ask(deps, { live: true, probes: [{ probe }] })).rejects.toMatchObject({
        code: status.INVALID_ARGUMENT,
        message: expect.stringMatching(/^probes/),
      })
    }
    const ports = { probe: { case: 'ports' as const, value: {} } }
    await expect(ask(deps, { live: true, probes: [ports, ports] })).rejects.toThrow(/ports is asked twice/)
  })

  it('loses nobody, whatever nodes do: every count adds up', async () => {
    const behaviour = fc.constantFrom('answers', 'matches', 'refuses', 'lies', 'silent', 'away')
    await addMachines(12)
    await fc.assert(
      fc.asyncProperty(fc.array(behaviour, { minLength: 12, maxLength: 12 }), async behaviours => {
        const does = new Map(behaviours.map((what, number) => [idOf(number), what]))
        const deps = await depsOf({
          ...OFFLINE,
          online: machine => does.get(machine) !== 'away',
          probe: async machine => {
            const what = does.get(machine)
            if (what === 'silent') throw new RpcError(status.DEADLINE_EXCEEDED, 'no answer')
            if (what === 'refuses') throw new RpcError(status.FAILED_PRECONDITION, 'no')
            if (what === 'lies') return '{"cpu": 7}'
            return toJsonString(FactsSchema, factsOf(what === 'matches' ? 99 : 1))
          },
        })
        const { rows, end } = await ask(deps, { live: true, expression: 'facts.cpu.cores == 99' })
        const counted = (what: string) => behaviours.filter(one => one === what).length
        expect(end).toMatchObject({
          asked: 12,
          answered: 12 - counted('silent') - counted('away'),
          matched: counted('matches'),
          unmatched: counted('answers'),
          failed: counted('refuses') + counted('lies'),
        })
        expect(rows).toHaveLength(counted('matches'))
        expect(end.silent).toEqual(
          [...does].flatMap(([id, what]) => (what === 'silent' || what === 'away' ? [id] : [])).toSorted(),
        )
      }),
      { numRuns: 50 },
    )
  })
})
