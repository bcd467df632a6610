import { describe, expect, it } from 'vitest'
import { failed } from '../result.ts'
import { nodeObject } from '../testing/made-up-objects.ts'
import { createScriptedSystem, type Script } from '../testing/scripted-system.ts'
import { cordonNode, uncordonNode } from './cordon.ts'
import { drainNode } from './drain.ts'
import { createKubectl, type Kubectl, statusIn } from './kubectl.ts'
import { CORDON_MARK } from './node-reading.ts'

const POLICY = { deleteEmptyDir: true, deleteUnmanaged: false }
const WAIT = { deadlineMs: 150, everyMs: 10 }
/** Of what is to succeed, on a busy machine, too. */
const PATIENT = { ...WAIT, deadlineMs: 20_000 }
const pod = (name: string) => ({
  metadata: {
    namespace: 'app',
    name,
    uid: `uid-${name}`,
    ownerReferences: [{ kind: 'ReplicaSet', controller: true }],
  },
  status: { phase: 'Running' },
})
const cordoned = JSON.stringify(nodeObject('n4', { spec: { unschedulable: true } }))
const BUDGET = {
  exitCode: 1,
  stderr:
    "Error from server (TooManyRequests): Cannot evict pod as it would violate the pod's disruption budget.\n",
}

/** One server, whose controllers nobody elects. */
const ALONE: Script[number] = [
  /leases\/kube-controller-manager/,
  { exitCode: 1, stderr: 'Error from server (NotFound): leases "kube-controller-manager" not found\n' },
]

function made(script: Script): {
  readonly kubectl: Kubectl
  readonly lines: () => readonly string[]
  readonly inputs: () => readonly string[]
} {
  const system = createScriptedSystem('/nonexistent', [...script, ALONE])
  const kubectl = createKubectl({
    programs: { system, folders: [] },
    program: 'k3s',
    before: ['kubectl'],
    kubeconfig: '/etc/rancher/k3s/k3s.yaml',
  })
  return {
    kubectl,
    lines: () => system.ran.map(({ line }) => line),
    inputs: () => system.ran.map(({ input }) => input),
  }
}

/** Pods of the node, as they are at each count. */
function counts(...lists: readonly (readonly object[])[]): Script[number] {
  let next = 0
  return [
    /\/api\/v1\/pods\?fieldSelector/,
    () => JSON.stringify({ items: lists[Math.min(next++, lists.length - 1)] }),
  ]
}

describe('a drain', () => {
  it('T37: counts again after it asked, and is done only when nothing is left', async () => {
    const { kubectl, lines, inputs } = made([
      [/nodes\/n4/, cordoned],
      counts(
        [pod('a'), pod('b')],
        [{ ...pod('a'), metadata: { ...pod('a').metadata, deletionTimestamp: 'x' } }],
        [],
      ),
      [/eviction/, '{}'],
    ])
    expect(await drainNode(kubectl, 'n4', POLICY, PATIENT)).toEqual({ kind: 'done', value: { evicted: 2 } })
    expect(lines().filter(line => line.includes('/eviction'))).toEqual([
      'k3s kubectl create --raw /api/v1/namespaces/app/pods/a/eviction -f - --request-timeout=20s',
      'k3s kubectl create --raw /api/v1/namespaces/app/pods/b/eviction -f - --request-timeout=20s',
    ])
    expect(inputs().find(input => input.includes('Eviction'))).toContain('"preconditions":{"uid":"uid-a"}')
  })

  it('T37, T38: is not done for a node being cordoned, nor for its time being over', async () => {
    const { kubectl } = made([[/nodes\/n4/, cordoned], counts([pod('a')]), [/eviction/, BUDGET]])
    const end = await drainNode(kubectl, 'n4', POLICY, WAIT)
    expect(end).toMatchObject({
      kind: 'failed',
      class: 'blocked',
      reason: expect.stringMatching(
        /pod app\/a: Cannot evict pod as it would violate the pod's disruption budget/,
      ),
    })
  })

  it('tells of a pod that stays what the API server said, whatever way it was asked', async () => {
    const { kubectl } = made([[/nodes\/n4/, cordoned], counts([pod('a')])])
    const said = 'Cannot evict pod as it would violate the budget.'
    const failure = failed('command', `POST /x: error from server (TooManyRequests): ${said}`)
    const create = async () => ({ ...failure, status: 'TooManyRequests', said })
    expect(await drainNode({ ...kubectl, create }, 'n4', POLICY, WAIT)).toMatchObject({
      reason: expect.stringContaining(`pod app/a: ${said}`),
    })
  })

  it('asks nobody to leave while no controller would tell services of it', async () => {
    const lease = (renewTime: string) => JSON.stringify({ spec: { holderIdentity: 'n1_x', renewTime } })
    const dead = made([
      [/leases\/kube-controller-manager/, lease('2026-11-29T12:00:00Z')],
      [/nodes\/n4/, cordoned],
      counts([pod('a')]),
      [/eviction/, '{}'],
    ])
    expect(await drainNode(dead.kubectl, 'n4', POLICY, WAIT)).toMatchObject({
      class: 'not-ready',
      reason: expect.stringContaining('n1_x holds its lease and does not renew it'),
    })
    expect(dead.lines().join()).not.toContain('/eviction')
    let second = 0
    const alive = made([
      [/leases\/kube-controller-manager/, () => lease(`2026-11-29T12:00:0${second++}Z`)],
      [/nodes\/n4/, cordoned],
      counts([pod('a'), pod('b')], [pod('b')], []),
      [/eviction/, '{}'],
    ])
    expect(await drainNode(alive.kubectl, 'n4', POLICY, PATIENT)).toMatchObject({ kind: 'done' })
    expect(second).toBe(2)
    // Where nobody has to leave, there is nothing to be told of.
    const empty = made([[/leases\/kube-controller-manager/, ''], [/nodes\/n4/, cordoned], counts([])])
    expect(await drainNode(empty.kubectl, 'n4', POLICY, PATIENT)).toMatchObject({ kind: 'done' })
  })

  it('does not begin on a node that is open', async () => {
    const { kubectl, lines } = made([[/nodes\/n4/, JSON.stringify(nodeObject('n4'))]])
    expect(await drainNode(kubectl, 'n4', POLICY, WAIT)).toMatchObject({ class: 'precondition' })
    expect(lines()).toHaveLength(1)
  })

  it('ends at once when only what the policy keeps is left', async () => {
    const bare = { ...pod('a'), metadata: { ...pod('a').metadata, ownerReferences: [] } }
    const { kubectl } = made([[/nodes\/n4/, cordoned], counts([bare])])
    const end = await drainNode(kubectl, 'n4', POLICY, { deadlineMs: 60_000 })
    expect(end).toMatchObject({ class: 'blocked', reason: expect.stringContaining('nothing makes it anew') })
  })

  it('takes no list that it cannot read for an empty one', async () => {
    for (const answer of [
      '',
      '{}',
      '{"items":[{}]}',
      { exitCode: 1, stderr: 'Unable to connect' },
    ] as const) {
      const { kubectl } = made([
        [/nodes\/n4/, cordoned],
        [/pods/, answer],
      ])
      expect((await drainNode(kubectl, 'n4', POLICY, WAIT)).kind).toBe('failed')
    }
  })

  it('counts every page of a list', async () => {
    const { kubectl, lines } = made([
      [/nodes\/n4/, cordoned],
      [/continue=next/, '{"items":[]}'],
      [/pods\?/, JSON.stringify({ metadata: { continue: 'next' }, items: [] })],
    ])
    expect((await drainNode(kubectl, 'n4', POLICY, PATIENT)).kind).toBe('done')
    expect(lines().at(-1)).toContain('limit=100&continue=next')
  })
})

describe('cordoning', () => {
  it('marks what it sets, as the node was read, and tries again when somebody was faster', async () => {
    let tries = 0
    const { kubectl, lines } = made([
      [/get --raw \/api\/v1\/nodes\/n4/, JSON.stringify(nodeObject('n4'))],
      [
        /patch node n4/,
        () => (tries++ === 0 ? { exitCode: 1, stderr: 'Error from server (Conflict): x' } : '{}'),
      ],
    ])
    expect(await cordonNode(kubectl, 'n4', 'op1')).toEqual({ kind: 'done', value: { by: 'op1' } })
    expect(lines()).toHaveLength(4)
    expect(lines()[1]).toContain(
      `--patch={"metadata":{"annotations":{"${CORDON_MARK}":"op1"},"resourceVersion":"100"},"spec":{"unschedulable":true}}`,
    )
  })

  it('lifts and unmarks only its own', async () => {
    const ours = nodeObject('n4', {
      metadata: { annotations: { [CORDON_MARK]: 'op1' } },
      spec: { unschedulable: true },
    })
    const { kubectl, lines } = made([
      [/get/, JSON.stringify(ours)],
      [/patch/, '{}'],
    ])
    expect(await uncordonNode(kubectl, 'n4', 'op2')).toMatchObject({ class: 'not-ours' })
    expect(lines()).toHaveLength(1)
    expect(await uncordonNode(kubectl, 'n4', 'op1')).toMatchObject({ kind: 'done' })
    expect(lines().at(-1)).toContain('"unschedulable":null')
  })

  it('says when there is no such node', async () => {
    const { kubectl } = made([
      [/get/, { exitCode: 1, stderr: 'Error from server (NotFound): nodes "n4" not found' }],
    ])
    expect(await cordonNode(kubectl, 'n4', 'op1')).toMatchObject({ class: 'not-found' })
  })
})

it('the API server’s word for a failure is read from its own line alone', () => {
  expect(statusIn('Warning: x\nError from server (NotFound): nodes "n9" not found\n')).toBe('NotFound')
  expect(statusIn('error: something (NotFound)')).toBeUndefined()
})
