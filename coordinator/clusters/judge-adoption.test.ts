import { describe, expect, it } from 'vitest'
import { distributions } from '../../shared/kubernetes/distributions.ts'
import { type ClusterRecord, emptyRecord } from './cluster-record.ts'
import { decideCluster } from './decide-cluster.ts'
import { applyAdoption, judgeAdoption } from './judge-adoption.ts'
import { applyStep } from './steps.ts'
import { AUTHORITY, clusterData, type HostChange, NOW, sampleSnapshot } from './testing/sample-snapshot.ts'

const fresh = emptyRecord('home')
// Servers of a cluster that is not founded here are no live servers; their views are read all the same.
const judge = (changes: Readonly<Record<string, HostChange>> = {}, record: ClusterRecord = fresh) =>
  judgeAdoption(sampleSnapshot(changes, { ...record, founding: record.founding }), NOW)
const problems = (changes: Readonly<Record<string, HostChange>>, record?: ClusterRecord) => {
  const verdict = judge(changes, record)
  return verdict.kind === 'refused' ? verdict.problems.join('; ') : ''
}

describe('adopting a running cluster', () => {
  it('takes in what fits together, and afterwards nobody is told to do anything', () => {
    const verdict = judge()
    expect(verdict).toMatchObject({
      kind: 'adopt',
      adoption: {
        authority: AUTHORITY,
        firstServer: { host: 'a' },
        hosts: ['a', 'b', 'c', 'd', 'e'],
        versions: ['1.34.3'],
      },
      warnings: [],
    })
    if (verdict.kind !== 'adopt') return
    const record = applyAdoption(fresh, verdict.adoption, NOW - 20_000)
    expect(decideCluster(sampleSnapshot({}, record), NOW)).toEqual({ steps: [], waiting: [] })
    expect(record.founding).toMatchObject({ state: 'founded', adopted: true, authority: AUTHORITY })
  })

  it.each(distributions)('takes in data of %s as its agents tell of it', distribution => {
    const data = {
      ...clusterData(true),
      distribution: distribution === 'components' ? 'kubernetes' : distribution,
    }
    const worker = { ...data, server: false }
    const changes = { a: { data }, b: { data }, c: { data }, d: { data: worker }, e: { data: worker } }
    expect(judgeAdoption({ ...sampleSnapshot(changes, fresh), distribution }, NOW).kind).toBe('adopt')
  })

  it('is what everything waits for until then', () => {
    const before = decideCluster(sampleSnapshot({ e: { data: { kind: 'none' } } }, fresh), NOW)
    expect(before.steps).toEqual([])
    expect(before.waiting).toEqual([{ host: '', reason: { gate: 'adopt-first', host: 'a' } }])
  })

  it('names easyCerts where that is why, and what to do, and not what follows from it', () => {
    const data = { ...clusterData(true), distribution: 'easyCerts' }
    const worker = { ...data, server: false }
    const changes = { a: { data }, b: { data: worker, role: 'worker' }, c: { role: 'worker' } } as const
    const easy = {
      ...sampleSnapshot({ ...changes, d: { data: worker } }, fresh),
      distribution: 'kubernetes',
    } as const
    const hosts = easy.hosts.filter(({ host }) => ['a', 'b', 'd'].includes(host))
    const verdict = judgeAdoption({ ...easy, hosts }, NOW)
    expect(verdict).toEqual({
      kind: 'refused',
      problems: [expect.stringMatching(/^a, b, d: services\.kubernetes with easyCerts.*out of fleet\.toml/)],
    })
  })

  it('names everything that does not fit, at once', () => {
    const text = problems({
      b: { data: clusterData(true, 'b'.repeat(64)) },
      d: { data: clusterData(true) },
      e: { data: { kind: 'unreadable', reason: 'EIO' } },
    })
    expect(text).toContain('b has another authority')
    expect(text).toContain('d has data of a server')
    expect(text).toContain('EIO')
  })

  it('refuses a cluster of which a server has not joined the datastore', () => {
    expect(problems({ c: { member: undefined } })).toContain('c has data of a server and is no member')
  })

  it('refuses a cluster of which a member is no host of the fleet file', () => {
    expect(problems({ x: { role: 'worker', member: {} } })).toContain('member x')
    expect(problems({ c: { data: { kind: 'none' }, member: {} } })).toContain('member c')
  })

  it('refuses without a server that answers, without quorum, and another distribution', () => {
    const away = { connected: false }
    expect(problems({ a: away, b: away, c: away })).toContain('no server of it')
    const ill = { member: { healthy: false } }
    expect(problems({ b: ill, c: ill })).toContain('1 of 3 voters')
    const k0s = judgeAdoption({ ...sampleSnapshot({}, fresh), distribution: 'k0s' }, NOW)
    expect(k0s.kind === 'refused' && k0s.problems.join()).toContain('the fleet file says k0s')
    const data = { ...clusterData(true), distribution: 'k3s' }
    const byHand = judgeAdoption(
      { ...sampleSnapshot({ a: { data } }, fresh), distribution: 'components' },
      NOW,
    )
    expect(byHand.kind === 'refused' && byHand.problems.join()).toContain(
      'a runs k3s, the fleet file says components, which would look like kubernetes',
    )
    const none = { data: { kind: 'none' } } as const
    expect(problems({ a: none, b: none, c: none, d: none, e: none })).toContain(
      'no machine of the cluster has data',
    )
  })

  it('refuses what is known already or may be founded at this moment', () => {
    const verdict = judge()
    if (verdict.kind !== 'adopt') throw new Error('nothing to adopt')
    expect(problems({}, applyAdoption(fresh, verdict.adoption, NOW))).toContain('known already')
    const other = applyAdoption(fresh, { ...verdict.adoption, authority: 'b'.repeat(64) }, NOW)
    expect(problems({}, other)).toContain('another cluster of this name')
    const ordered = applyStep(fresh, { kind: 'found', machine: 'm-a', host: 'a', why: '' }, NOW)
    expect(problems({}, ordered)).toContain('was told to found it')
  })

  it('warns of what it does not know, and takes in the rest', () => {
    const verdict = judge({ e: { machine: undefined }, d: { agoMs: undefined } })
    expect(verdict).toMatchObject({ kind: 'adopt', adoption: { hosts: ['a', 'b', 'c'] } })
    expect(verdict.kind === 'adopt' && verdict.warnings).toHaveLength(2)
  })
})
