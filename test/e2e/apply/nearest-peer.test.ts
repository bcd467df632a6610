// What was seen live with the nearest peer, here with the real coordinator, real agents and real Nix. Where the peer's centre was
// wrong by itself, ours is made wrong by root on its machine: its store is changed while it is down.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fromJson } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSqlite, type SqliteDatabase } from '../../../coordinator/store/sqlite.ts'
import { AgentService } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { OutcomeClass, OutcomeSchema } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { pause } from '../../../shared/lifecycle.ts'
import { closureDigest } from '../../../shared/revision/closure-digest.ts'
import { createClient } from '../../../shared/rpc/client.ts'
import { createClientCredentials } from '../../../shared/x509/client-credentials.ts'
import { hasNix, nixEnvironment } from '../../nix/nix-library.ts'
import { events, until, untilActive } from '../../support/shown.ts'
import { ApplyingFleet, allAt, inWords, type NixNode } from './applying-fleet.ts'

/** Several changes of a machine and restarts of a coordinator, on a machine that is busy otherwise. */
const LONG_MS = 240_000

let applying: ApplyingFleet
beforeAll(async () => {
  if (!hasNix) return
  // A session outlives some seconds of silence here, so that what is under way when they end still arrives.
  applying = await ApplyingFleet.start({ heartbeatSeconds: 5 })
  await applying.publish()
})
afterAll(async () => await applying?.[Symbol.asyncDispose]())

/** What root on the coordinator can do to what it keeps. */
async function tamper<T>(change: (store: SqliteDatabase) => T): Promise<T> {
  const { fleet } = applying
  await fleet.coordinator?.kill('SIGTERM')
  const store = openSqlite(join(fleet.coordinatorState, 'store.sqlite'))
  try {
    return change(store)
  } finally {
    store.close()
    await fleet.startCoordinator()
  }
}

const nix = (...args: readonly string[]) =>
  execFileSync('nix', args, { env: nixEnvironment, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] }).trim()
const nixStore = (...args: readonly string[]) =>
  execFileSync('nix-store', args, { env: nixEnvironment, encoding: 'utf8' }).trim()

/** A cache in a folder, whose key every published closure is signed with. */
function makeCache() {
  const folder = join(applying.fleet.dir, 'cache')
  const keyFile = join(applying.fleet.dir, 'cache-key')
  const secret = nix('key', 'generate-secret', '--key-name', 'here-1')
  writeFileSync(keyFile, secret, { mode: 0o600 })
  const publicKey = execFileSync('nix', ['key', 'convert-secret-to-public'], {
    input: secret,
    env: nixEnvironment,
    encoding: 'utf8',
  }).trim()
  return {
    folder,
    publicKey,
    /** Builds a system, signs it, puts it into the cache, and forgets it here. */
    put() {
      const target = `path:${applying.flake()}#nixosConfigurations.bolt.config.system.build.toplevel`
      const storePath = /"out":"([^"]+)"/.exec(nix('build', '--no-link', '--json', target))?.[1] ?? ''
      nix('store', 'sign', '--key-file', keyFile, '--recursive', storePath)
      nix('copy', '--to', `file://${folder}`, storePath)
      const paths = nixStore('--query', '--requisites', storePath).split('\n')
      const digest = closureDigest(
        paths.map(path => ({ path, narHash: nixStore('--query', '--hash', path) })),
      )
      nixStore('--delete', storePath)
      if (digest === undefined) throw new Error('no digest')
      return { storePath, closureDigest: digest, closureBytes: 0n }
    },
  }
}

/** The node's own journal lines of an operation. */
const linesOf = async (node: NixNode, id: string) => (await node.journal()).filter(line => line.op === id)

/** How an operation ended by the node's own journal, whether or not anybody was told. */
async function endOnNode(node: NixNode, id: string) {
  const line = await until(`the end of ${id} in the journal`, async () =>
    (await linesOf(node, id)).find(({ kind }) => kind === 'outcome'),
  )
  return fromJson(OutcomeSchema, JSON.parse(JSON.stringify(line.outcome)))
}

/** Asks the coordinator to confirm with the node's own key and certificate, as whoever holds them can. */
async function askToConfirm(node: NixNode, operationId: string, storePath: string, instance = 'another') {
  const { fleet } = applying
  const credentials = createClientCredentials({
    caPem: [(await fleet.api.getFleet({})).authorityPem],
    identity: {
      chainPem: readFileSync(join(node.agent.stateDir, 'certificate.pem'), 'utf8'),
      privateKeyPem: readFileSync(join(node.agent.stateDir, 'key.pem'), 'utf8'),
    },
  })
  using client = createClient(AgentService, `127.0.0.1:${fleet.fleetPort}`, credentials)
  return await client.confirmOperation({ operationId, instance, bootId: 'any', storePath })
}

const why = hasNix ? '' : ' skipped: the command nix is missing'
describe.skipIf(!hasNix)(`what was seen live with the nearest peer${why}`, () => {
  it(
    'wrong closure: a good manifest beside an answer that names another closure installs nothing',
    async () => {
      const node = await applying.addNode('bolt')
      const cache = makeCache()
      // Both are good systems, and the node would trust the cache's signature on either: the manifest names one.
      const [meant, other] = [cache.put(), cache.put()]
      const directory = applying.flake()
      const toml = join(directory, 'fleet.toml')
      const nixKeys = `store = "file://${cache.folder}"\npublic-keys = ["${cache.publicKey}"]\n`
      writeFileSync(toml, readFileSync(toml, 'utf8').replace('\n[defaults]', `${nixKeys}\n[defaults]`))
      const hosts = [...readFileSync(toml, 'utf8').matchAll(/^\[hosts\.(\w+)\]$/gm)].map(
        ([, host = '']) => host,
      )
      const storePathsOf = (closure: typeof meant) => new Map(hosts.map(host => [host, closure]))
      const revision = await applying.publish({
        directory,
        mode: { mode: 'closure', storePaths: storePathsOf(meant) },
      })
      const wrong = await applying.operator.make({
        directory,
        mode: { mode: 'closure', storePaths: storePathsOf(other) },
      })
      const targetOf = ({ targets }: typeof revision) => {
        const found = targets.find(({ target }) => target.host === 'bolt')
        if (!found) throw new Error('no target')
        return found
      }
      const swap = (bytes: Uint8Array) =>
        tamper(store => {
          const { digest } = targetOf(revision)
          return store.prepare('update targets set target = ? where digest = ?').run(bytes, digest).changes
        })

      expect(await swap(targetOf(wrong).bytes)).toBe(1)
      await untilActive(applying.fleet, node.agent)
      const before = node.state()
      const refused = await applying.apply('bolt')
      expect(inWords(refused)).toBe('refused target-mismatch')
      expect(node.state()).toEqual(before)
      expect([existsSync(other.storePath), existsSync(meant.storePath)]).toEqual([false, false])

      // The very same order is done as soon as the answer is what was signed.
      expect(await swap(targetOf(revision).bytes)).toBe(1)
      await untilActive(applying.fleet, node.agent)
      const outcome = await applying.apply('bolt')
      expect(inWords(outcome)).toBe('succeeded')
      expect(node.state()).toEqual(allAt(meant.storePath))
      expect(existsSync(other.storePath)).toBe(false)
    },
    LONG_MS,
  )

  it(
    'relative rollback: an order to go back leads to one generation, however often the centre repeats it',
    async () => {
      const node = await applying.addNode('olaf')
      const generations: string[] = []
      let newest = ''
      for (let count = 1; count <= 4; count++) {
        await applying.publish()
        const [id = ''] = await applying.order(['olaf'])
        const outcome = await applying.outcome(id)
        expect(inWords(outcome)).toBe('succeeded')
        generations.push(outcome.storePath)
        newest = id
      }
      expect(new Set(generations).size).toBe(4)
      const third = generations[2] ?? ''
      const action = { case: 'rollback', value: { operationId: newest, before: true } } as const
      const [back = ''] = await applying.give(['olaf'], action)
      expect(inWords(await applying.outcome(back))).toBe('succeeded')
      expect(node.state()).toEqual(allAt(third))

      // The centre forgets that it was done, and sends the very order again; and again.
      for (let count = 0; count < 2; count++) {
        await tamper(store => {
          store
            .prepare(
              'update operations set outcome = null, outcome_class = 0, ended = null, signed_outcome = null, phase = 0, delivered = null where id = ?',
            )
            .run(back)
        })
        await until('the order again', () =>
          applying.fleet.coordinator
            ?.log()
            .find(({ msg, operations }) => msg === 'orders delivered' && String(operations).includes(back)),
        )
        expect(inWords(await applying.outcome(back))).toBe('succeeded')
        expect(node.state()).toEqual(allAt(third))
      }
      // Its operators order it again under other names.
      for (let count = 0; count < 2; count++) {
        const outcome = await applying.done('olaf', action)
        expect(inWords(outcome)).toBe('succeeded')
        expect(outcome.reason).toMatch(/^already runs /)
        expect(node.state()).toEqual(allAt(third))
      }
      // A store that was restored to the middle of it sends no order, and is told the end all the same.
      await tamper(store => {
        store
          .prepare(
            'update operations set outcome = null, outcome_class = 0, ended = null, signed_outcome = null, phase = 8 where id = ?',
          )
          .run(back)
      })
      expect(inWords(await applying.outcome(back))).toBe('succeeded')
      expect(node.state()).toEqual(allAt(third))
      const armed = (await node.journal()).filter(({ kind }) => kind === 'armed').map(({ op }) => op)
      expect(armed.filter(op => op === back)).toHaveLength(1)
      expect(armed).toHaveLength(5)
    },
    LONG_MS,
  )

  it(
    'late confirm: a word that comes long after the deadline counts nowhere',
    async () => {
      const lines = 'disk = { serial = "DISK-slow" }\nsoak = "1s"\nconfirm-within = "6s"'
      const node = await applying.addNode('slow')
      await applying.publish({ directory: applying.flake(undefined, { slow: lines }) })
      const before = node.state()
      const sessions = () => node.agent.logs().filter(({ msg }) => msg === 'session opened').length
      const opened = sessions()
      const [id = ''] = await applying.order(['slow'])
      await until('the new system', async () =>
        (await linesOf(node, id)).find(({ kind }) => kind === 'activated'),
      )
      await until('the session of another agent process', () => (sessions() > opened ? true : undefined))
      const tried = node.state().current
      applying.fleet.coordinator?.child.kill('SIGSTOP')
      try {
        expect(inWords(await endOnNode(node, id))).toBe('unconfirmed')
        expect(node.state()).toEqual(before)
        await pause(10_000)
      } finally {
        applying.fleet.coordinator?.child.kill('SIGCONT')
      }
      // What was asked in time is answered now; and it is asked once more, by the node's own key.
      const late = await askToConfirm(node, id, tried)
      expect(late).toMatchObject({ confirmed: false })
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('unconfirmed')
      expect(await askToConfirm(node, id, tried)).toMatchObject({
        confirmed: false,
        reason: expect.stringContaining('has ended'),
      })
      expect(node.state()).toEqual(before)
      expect((await linesOf(node, id)).some(({ kind }) => kind === 'confirmed')).toBe(false)
      expect((await linesOf(node, id)).filter(({ kind }) => kind === 'outcome')).toHaveLength(1)
      expect(inWords((await applying.operation(id))?.outcome ?? outcome)).toBe('unconfirmed')
    },
    LONG_MS,
  )

  it(
    'early confirm: a switch that still runs is confirmed by nobody, though the new system is current',
    async () => {
      const node = await applying.addNode('lateexit4')
      await applying.publish()
      const before = node.state()
      const [id = ''] = await applying.order(['lateexit4'])
      await until('the new system', () => (node.state().current === before.current ? undefined : true))
      const tried = node.state().current
      // Seven seconds from the end: the agent is connected, and nothing has failed yet.
      for (let count = 0; count < 4; count++) {
        expect(await askToConfirm(node, id, tried)).toMatchObject({ confirmed: false })
        expect((await linesOf(node, id)).map(({ kind }) => kind)).not.toContain('outcome')
        expect((await applying.operation(id))?.outcome).toBeUndefined()
        await pause(1_000)
      }
      expect(node.state().current).toBe(tried)
      const outcome = await applying.outcome(id)
      expect(inWords(outcome)).toBe('rolled back')
      expect(outcome.firstCause).toBe(OutcomeClass.ACTIVATION_FAILED)
      expect(outcome.reason).toContain('4')
      expect(node.state()).toEqual(before)
      const kinds = (await linesOf(node, id)).map(({ kind }) => kind)
      expect(kinds).not.toContain('activated')
      expect(kinds).not.toContain('confirmed')
      expect((await applying.operation(id))?.confirmed).toBeUndefined()
      const told = await events(applying.fleet, 'lateexit4')
      expect(told.filter(event => event.class === 'confirmed' && event.reason.includes(id))).toEqual([])
    },
    LONG_MS,
  )
})
