import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSqlite, type SqliteDatabase } from '../../../coordinator/store/sqlite.ts'
import { hashEvent } from '../../../shared/audit/event-chain.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { makeToken, untilActive } from '../../support/shown.ts'
import { waitUntil } from '../../support/wait-until.ts'

let fleet: Fleet

beforeAll(async () => {
  fleet = await startFleet({ auditSeconds: 0.2 })
  for (const name of ['olaf', 'nils']) {
    const agent = await fleet.addAgent(name, { token: await makeToken(fleet) })
    await untilActive(fleet, agent)
  }
})
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

/** What root on the coordinator can do to the record. */
async function tamper(change: (store: SqliteDatabase) => void): Promise<void> {
  await fleet.coordinator?.kill('SIGTERM')
  const store = openSqlite(join(fleet.coordinatorState, 'store.sqlite'))
  change(store)
  store.close()
  await fleet.startCoordinator()
  await waitUntil('both machines online', async () => {
    const { machines } = await fleet.api.listMachines({})
    return machines.every(({ online }) => online) ? true : undefined
  })
}

interface Row {
  id: number
  at: number
  class: string
  machine: string
  host: string
  reason: string
  actor: string
}

/** Hashes the whole record anew, as somebody would who knows how. */
function hashAnew(store: SqliteDatabase): void {
  let previous = ''
  for (const row of store.prepare<[], Row>('select * from events order by id').all()) {
    const { id, at, class: kind, machine, host, reason, actor } = row
    const hash = hashEvent({ id, at, class: kind, machine, host, reason, actor, previous })
    store.prepare('update events set previous = ?, hash = ? where id = ?').run(previous, hash, id)
    previous = hash
  }
}

const verify = () => fleet.muster('audit', 'verify', '-o', 'json')

describe('the record of events', () => {
  it('is whole, and every machine agrees with it by its own signature', async () => {
    // Both were shown the record as far as it went when nothing happened any more.
    const report = await waitUntil('both machines agree', async () => {
      const { code, stdout } = await verify()
      const found = JSON.parse(stdout)
      return code === 0 && found.agree.length === 2 ? found : undefined
    })
    expect(report).toMatchObject({ oldest: 1, silent: [], tellNothing: [], problems: [] })
    expect(report.events).toBe(report.newest)
    expect(await fleet.ok('audit', 'verify')).toMatch(/Record +whole/)
  })

  it('shows that an event was changed', async () => {
    await tamper(store => store.prepare("update events set actor = 'nobody' where id = 2").run())
    const { code, stdout, stderr } = await verify()
    expect(code).toBe(1)
    expect(JSON.parse(stdout).problems[0]).toContain('event 2 was changed')
    expect(stderr).toContain('not what it was')
  })

  it('that was hashed anew after the change is contradicted by every machine', async () => {
    // Another change at each try: what machines were shown in one they hold in the next.
    await tamper(store => {
      store.prepare('update events set actor = ? where id = 2').run(`nobody ${Date.now()}`)
      hashAnew(store)
    })
    const { code, stdout } = await verify()
    expect(code).toBe(1)
    const { problems, agree } = JSON.parse(stdout)
    expect(agree).toEqual([])
    expect(problems.filter((text: string) => text.includes('was rewritten'))).toHaveLength(2)
    // The coordinator sees it by itself, too, as far as it is the program that it was: in what machines say when they connect.
    const { events, problems: shown } = await waitUntil('the coordinator tells of it', async () => {
      const { events } = await fleet.api.listEvents({ limit: 1000 })
      const found = events.filter(event => event.class === 'store-older')
      return found.length >= 1
        ? { events: found, problems: (await fleet.api.getFleet({})).problems }
        : undefined
    })
    expect(events[0]?.reason).toMatch(/was shown another event \d+ of the record of events/)
    expect(shown.join('\n')).toContain('look, then `muster rollout accept`')
  })

  it('a machine that does not answer is named, and the rest is judged', async () => {
    await fleet.agents[1]?.kill()
    const { code, stdout } = await waitUntil('one is silent', async () => {
      const result = await verify()
      return JSON.parse(result.stdout).silent.length === 1 ? result : undefined
    })
    expect(code).toBe(1) // the record is still what it was made in the test before
    expect(JSON.parse(stdout).silent[0].reason).toMatch(/online|session/)
  })
})
