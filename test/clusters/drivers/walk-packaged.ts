import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Joined, ListedToken, Minted, Snapshot } from '../../../agent/drivers/driver.ts'
import type { SeenMember } from '../../../agent/drivers/etcd/member.ts'
import type { NodeEvidence } from '../../../agent/drivers/kubernetes/read-evidence.ts'
import { webDeployment } from '../../lab/clusters/objects.ts'
import { isReal, whyNoClusters } from '../../lab/clusters/programs.ts'
import { SET_UP_MS } from '../../lab/why-not.ts'
import { type DriverLab, type Host, startDriverLab } from './driver-lab.ts'

const VERSION = '1.34.3'
const WAIT = { deadlineMs: 300_000 }
const SNAPSHOTS = '/var/lib/muster-agent/cluster/snapshots'
const POLICY = { deleteEmptyDir: true, deleteUnmanaged: false }

/** The whole life of a cluster of k3s or k0s by its driver: two servers, one worker. */
export function walkPackaged(distribution: 'k3s' | 'k0s'): void {
  const why = whyNoClusters()
  let made: DriverLab
  let authority = ''

  beforeAll(async () => {
    if (why === undefined) made = await startDriverLab(distribution, ['n1', 'n2', 'n4'], VERSION)
  }, SET_UP_MS)
  afterAll(async () => await made?.[Symbol.asyncDispose](), 120_000)

  async function mint(node: Host, role: 'server' | 'worker', operation: string, by: Host = 'n1') {
    const request = { operation, node, role, address: made.address(node), lifetimeMs: 600_000 }
    return await made.done<Omit<Minted, 'secret'> & { readonly secret: string }>(by, 'mint', request)
  }
  async function join(
    node: Host,
    role: 'server' | 'worker',
    operation: string,
    by: Host = 'n1',
  ): Promise<void> {
    const { secret, tokenId } = await mint(node, role, operation, by)
    expect(await made.done<Joined>(node, 'join', operation, secret, WAIT)).toEqual({ authority })
    await made.done(by, 'deleteToken', tokenId)
    expect(await made.done<readonly ListedToken[]>(by, 'listTokens')).toEqual([])
  }
  const voters = async (from: Host) =>
    (await made.done<readonly SeenMember[]>(from, 'members'))
      .filter(({ learner, healthy }) => !learner && healthy)
      .map(({ name }) => name.slice(0, 2))
      .toSorted()

  describe.skipIf(why !== undefined)(
    `the driver of ${distribution} ${isReal(distribution) ? '' : '(stand-in)'} ${why ?? ''}`,
    () => {
      it('finds nothing missing on a machine that was made for it', async () => {
        expect(await made.drive('n1', 'checkPreconditions')).toEqual([])
      })

      it('founds a first server once', async () => {
        ;({ authority } = await made.done<Joined>('n1', 'found', 'op-found', WAIT))
        await made.done('n1', 'proveServer', VERSION, WAIT)
        expect(await made.answer('n1', 'found', 'op-again', WAIT)).toMatchObject({ class: 'data-present' })
        expect(await made.drive('n1', 'readState')).toMatchObject({
          data: { kind: 'cluster', distribution, server: true, authority },
          installedVersion: VERSION,
          runningVersion: VERSION,
        })
      })

      it('lists a token with its end and whom it is for, and deletes it', async () => {
        const { tokenId } = await mint('n4', 'worker', 'op-list')
        const listed = await made.done<readonly ListedToken[]>('n1', 'listTokens')
        expect(listed).toMatchObject([{ id: tokenId, description: 'muster op-list for n4' }])
        const left = (listed[0]?.expiresMs ?? 0) - Date.now()
        expect(left).toBeGreaterThan(500_000)
        expect(left).toBeLessThanOrEqual(600_000)
        await made.done('n1', 'deleteToken', tokenId)
        expect(await made.done('n1', 'listTokens')).toEqual([])
      })

      it('refuses a token that was deleted', async () => {
        const { secret, tokenId } = await mint('n4', 'worker', 'op-late')
        await made.done('n1', 'deleteToken', tokenId)
        const late = await made.answer('n4', 'join', 'op-late', secret, { deadlineMs: 30_000 })
        expect(late).toMatchObject({ kind: 'failed' })
        expect(JSON.stringify(late)).not.toContain(secret.slice(80, 120))
        await made.done('n4', 'wipe')
      })

      it('joins a worker, whose token is spent on both sides afterwards', async () => {
        await join('n4', 'worker', 'op-n4')
        await made.done('n1', 'proveNode', { node: 'n4', version: VERSION }, WAIT)
        const before = await made.done<NodeEvidence>('n1', 'readEvidence', 'n4')
        await made.done('n4', 'restart')
        await made.done('n1', 'proveNode', { node: 'n4', version: VERSION, before }, WAIT)
      })

      it('joins a second server, which votes', async () => {
        await join('n2', 'server', 'op-n2')
        await made.done('n2', 'proveServer', VERSION, WAIT)
        expect(await voters('n2')).toEqual(['n1', 'n2'])
        expect(await made.done('n1', 'whyNotStop')).toContain('voters would answer without it')
      })

      it('drains a worker, and lifts its own cordon', async () => {
        await made.apply('n1', webDeployment('web'))
        await made.kubectl('n1', 'rollout', 'status', 'deployment/web', '--timeout=120s')
        expect(await made.done('n1', 'cordon', 'n4', 'op-drain')).toEqual({ by: 'op-drain' })
        expect(await made.done('n1', 'drain', 'n4', POLICY, WAIT)).toMatchObject({
          evicted: expect.any(Number),
        })
        const where = await made.kubectl('n1', 'get', 'pods', '-o', 'jsonpath={.items[*].spec.nodeName}')
        expect(where).not.toContain('n4')
        await made.done('n1', 'uncordon', 'n4', 'op-drain')
      })

      it('makes a server’s certificates anew', async () => {
        await made.done('n2', 'rotateCertificates', WAIT)
        await made.done('n2', 'proveServer', VERSION, WAIT)
      })

      it('keeps a snapshot, lets a server leave and takes it back under its old name', async () => {
        await made.kubectl('n1', 'create', 'configmap', 'before')
        const snapshot = await made.done<Snapshot>('n1', 'snapshot', 'first', WAIT)
        expect(snapshot.bytes).toBeGreaterThan(10_000)
        await made.kubectl('n1', 'create', 'configmap', 'after')
        await made.done('n1', 'removeNode', 'n2', WAIT)
        expect(await voters('n1')).toEqual(['n1'])
        await made.done('n2', 'wipe')
        await join('n2', 'server', 'op-n2-again')
        expect(await voters('n1')).toEqual(['n1', 'n2'])
      })

      it('takes a worker back that was wiped', async () => {
        await made.done('n4', 'wipe')
        await made.done('n1', 'removeNode', 'n4', WAIT)
        await join('n4', 'worker', 'op-n4-again')
        await made.done('n1', 'proveNode', { node: 'n4', version: VERSION }, WAIT)
      })

      it('goes back to the snapshot as the only server', async () => {
        await made.done('n2', 'hold', true)
        const restoring = { operation: 'op-restore', name: 'first' }
        expect(await made.done<Joined>('n1', 'restore', restoring, WAIT)).toEqual({ authority })
        expect(await voters('n1')).toEqual(['n1'])
        const names = await made.kubectl('n1', 'get', 'configmaps', '-o', 'name')
        expect(names).toContain('configmap/before')
        expect(names).not.toContain('configmap/after')
      })

      it('is brought back by the snapshot on a server that was installed anew, and its worker comes back by itself', async () => {
        await made.done('n1', 'wipe')
        expect(await made.drive('n1', 'readState')).toMatchObject({ data: { kind: 'none' } })
        const restoring = { operation: 'op-anew', name: 'first', authority }
        expect(await made.done<Joined>('n1', 'restore', restoring, WAIT)).toEqual({ authority })
        expect(await voters('n1')).toEqual(['n1'])
        await made.done('n1', 'proveServer', VERSION, WAIT)
        const names = await made.kubectl('n1', 'get', 'configmaps', '-o', 'name')
        expect(names).toContain('configmap/before')
        await made.done('n1', 'proveNode', { node: 'n4', version: VERSION }, WAIT)
        await made.done('n2', 'hold', false)
        await made.done('n2', 'wipe')
        await join('n2', 'server', 'op-n2-anew')
        expect(await voters('n1')).toEqual(['n1', 'n2'])
      })

      it('is brought back on another machine than its snapshot was made on, which the lost one joins', async () => {
        const folder = await made.machine('n1').ok(['sh', '-c', `tar -C ${SNAPSHOTS} -c first | base64 -w0`])
        for (const host of ['n1', 'n2'] as const) await made.done(host, 'wipe')
        const take = `mkdir -p -m 700 ${SNAPSHOTS} && base64 -d | tar -C ${SNAPSHOTS} -xp`
        await made.machine('n2').ok(['sh', '-c', take], { input: folder })
        const restoring = { operation: 'op-elsewhere', name: 'first', authority }
        expect(await made.done<Joined>('n2', 'restore', restoring, WAIT)).toEqual({ authority })
        expect(await voters('n2')).toEqual(['n2'])
        await join('n1', 'server', 'op-n1-elsewhere', 'n2')
        expect(await voters('n1')).toEqual(['n1', 'n2'])
        await made.done('n1', 'proveServer', VERSION, WAIT)
      })
    },
  )
}
