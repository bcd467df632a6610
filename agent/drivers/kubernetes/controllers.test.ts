import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createScriptedSystem, type Script } from '../testing/scripted-system.ts'
import { doLead, type Leadership, untilControllersLead } from './controllers.ts'
import { createKubectl } from './kubectl.ts'

const WAIT = { deadlineMs: 60, everyMs: 5 }

function made(...answers: readonly Script[number][1][]) {
  let asked = 0
  const next = (input: Parameters<Extract<Script[number][1], (...args: never) => unknown>>[0]) => {
    const answer = answers[Math.min(asked++, answers.length - 1)] ?? ''
    return typeof answer === 'function' ? answer(input) : answer
  }
  const system = createScriptedSystem('/nonexistent', [[/leases\/kube-controller-manager/, next]])
  const kubectl = createKubectl({
    programs: { system, folders: [] },
    program: 'kubectl',
    before: [],
    kubeconfig: '/etc/kubernetes/admin.conf',
  })
  return { kubectl, asked: () => asked }
}

const lease = (holder: string, renewed: string) =>
  JSON.stringify({ spec: { holderIdentity: holder, renewTime: renewed } })
const gone = {
  exitCode: 1,
  stderr: 'Error from server (NotFound): leases "kube-controller-manager" not found\n',
}

describe('controllers', () => {
  it('lead once their lease was renewed since it was first read', async () => {
    const { kubectl, asked } = made(
      lease('n1_a', '2026-11-29T12:00:00.000001Z'),
      lease('n1_a', '2026-11-29T12:00:00.000001Z'),
      lease('n1_a', '2026-11-29T12:00:00.000002Z'),
    )
    expect(await untilControllersLead(kubectl, { ...WAIT, deadlineMs: 5_000 })).toMatchObject({
      kind: 'done',
    })
    expect(asked()).toBe(3)
  })

  it('lead once another server took the lease, whatever its clock says', async () => {
    const { kubectl } = made(lease('n1_a', '2026-11-29T12:00:00Z'), lease('n2_b', '2026-11-29T11:00:00Z'))
    expect(await untilControllersLead(kubectl, { ...WAIT, deadlineMs: 5_000 })).toMatchObject({
      kind: 'done',
    })
  })

  it('do not lead for their lease being there: its holder may have been stopped', async () => {
    const { kubectl, asked } = made(lease('n1_a', '2026-11-29T12:00:00Z'))
    expect(await untilControllersLead(kubectl, WAIT)).toMatchObject({
      class: 'not-ready',
      reason: expect.stringMatching(
        /no kube-controller-manager leads .* n1_a holds its lease and does not renew it/,
      ),
    })
    expect(asked()).toBeGreaterThan(2)
  })

  it('do not lead while nobody holds the lease, nor while the API does not answer', async () => {
    const given = made(lease('', '2026-11-29T12:00:00Z'), lease('', '2026-11-29T12:00:05Z'))
    expect(await untilControllersLead(given.kubectl, WAIT)).toMatchObject({
      reason: expect.stringContaining('nobody holds its lease'),
    })
    const silent = made({ exitCode: 1, stderr: 'Unable to connect to the server\n' })
    expect(await untilControllersLead(silent.kubectl, WAIT)).toMatchObject({
      class: 'not-ready',
      reason: expect.stringContaining('Unable to connect'),
    })
  })

  it('are not waited for where nobody is elected', async () => {
    const { kubectl, asked } = made(gone)
    expect(await untilControllersLead(kubectl, WAIT)).toMatchObject({ kind: 'done' })
    expect(asked()).toBe(1)
  })

  it('count by no clock: only a change of what one lease says does', () => {
    const said = fc.record({
      holder: fc.constantFrom('', 'a', 'b'),
      renewed: fc.constantFrom('', '1', '2', '3'),
    })
    fc.assert(
      fc.property(fc.option(said, { nil: undefined }), said, (first: Leadership | undefined, seen) => {
        const changed = first?.holder !== seen.holder || first.renewed !== seen.renewed
        expect(doLead(first, seen)).toBe(first !== undefined && seen.holder !== '' && changed)
      }),
    )
  })
})
