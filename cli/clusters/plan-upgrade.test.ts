import { create } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ClusterHostSchema, ClusterRole } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { parseVersion, type Version } from '../../shared/kubernetes/version.ts'
import { sampleHost } from '../testing/small-clusters.ts'
import { chooseWay, planUpgrade, versionProblem } from './plan-upgrade.ts'

const version = (text: string): Version => parseVersion(text) ?? { major: 0, minor: 0, patch: 0 }
const TO = version('1.35.4')
const server = (host: string, at = '1.34.3') => sampleHost({ host, role: ClusterRole.SERVER, version: at })
const worker = (host: string, at = '1.34.3') => sampleHost({ host, role: ClusterRole.WORKER, version: at })
const turns = (plan: ReturnType<typeof planUpgrade>) => plan.lines.map(({ host, turn }) => `${host} ${turn}`)

describe('the order of an upgrade', () => {
  it('is servers one at a time, the first server last, then all workers', () => {
    const plan = planUpgrade(
      [worker('w1'), server('a'), server('b'), worker('w2'), server('c')],
      'a',
      TO,
      true,
      'k3s',
    )
    expect(plan.problems).toEqual([])
    expect(turns(plan)).toEqual(['b 1', 'c 2', 'a 3', 'w1 4', 'w2 4'])
  })

  it('leaves out who is there already, and gives who has not joined its Kubernetes where that lives apart', () => {
    const hosts = [
      server('a', '1.35.4'),
      worker('w'),
      sampleHost({ host: 'x', joined: false, version: '' }),
      sampleHost({ host: 'y', joined: false, version: '', machine: '' }),
    ]
    const plan = planUpgrade(hosts, 'a', TO, true, 'k3s')
    expect(turns(plan)).toEqual(['x 1', 'y 0', 'a 0', 'w 2'])
    expect(plan.lines.map(({ state }) => state)).toEqual(['new', 'away', 'there', 'moves'])
    expect(turns(planUpgrade(hosts, 'a', TO, false, 'k3s'))).toEqual(['x 0', 'y 0', 'a 0', 'w 1'])
  })

  it('is not begun over a minor, back a minor, or past a server of which nothing is known', () => {
    expect(planUpgrade([server('a', '1.33.1')], 'a', TO, true, 'k0s').problems).toEqual([
      expect.stringContaining('go to 1.34 before 1.35.4'),
    ])
    expect(planUpgrade([server('a', '1.36.0')], 'a', TO, true, 'k3s').problems).toEqual([
      expect.stringContaining('restore a snapshot'),
    ])
    expect(planUpgrade([server('a'), server('b', '')], 'a', TO, true, 'k3s').problems).toEqual([
      expect.stringContaining('b: what runs there is not known'),
    ])
    expect(planUpgrade([server('a'), worker('w', '1.31.0')], 'a', TO, true, 'k3s').problems).toEqual([
      expect.stringContaining('more than 3 minors behind'),
    ])
  })

  it('is not begun where the datastore must go another way first', () => {
    const to = version('1.34.3')
    expect(planUpgrade([server('a', '1.33.7')], 'a', to, true, 'k3s').problems).toEqual([
      expect.stringContaining('go to 1.33.8 or a later 1.33 before'),
    ])
    expect(planUpgrade([server('a', '1.33.8')], 'a', to, true, 'k3s').problems).toEqual([])
  })

  it('moves no two servers in one turn, and no worker before a server', () => {
    const host = fc.record({
      role: fc.constantFrom(ClusterRole.SERVER, ClusterRole.WORKER, ClusterRole.SERVER_AND_WORKER),
      joined: fc.boolean(),
      version: fc.constantFrom('', '1.34.3', '1.35.4', '1.35.0'),
    })
    fc.assert(
      fc.property(fc.array(host, { maxLength: 9 }), fc.nat(8), fc.boolean(), (given, first, apart) => {
        const hosts = given.map((each, index) => create(ClusterHostSchema, { ...each, host: `h${index}` }))
        const { lines } = planUpgrade(hosts, `h${first}`, TO, apart, 'k3s')
        expect(lines).toHaveLength(hosts.length)
        const servers = lines.filter(({ turn, server: is }) => turn > 0 && is).map(({ turn }) => turn)
        const workers = lines.filter(({ turn, server: is }) => turn > 0 && !is).map(({ turn }) => turn)
        expect(new Set(servers).size).toBe(servers.length)
        expect(Math.max(0, ...servers)).toBeLessThan(Math.min(Number.POSITIVE_INFINITY, ...workers))
        const last = lines.find(({ host: name, turn }) => name === `h${first}` && turn > 0)
        if (last?.server) expect(last.turn).toBe(Math.max(...servers))
      }),
    )
  })
})

describe('the way of an upgrade', () => {
  const target = (apart: boolean | undefined, cluster = 'home') => ({
    cluster,
    kubernetes: apart === undefined ? undefined : { apart },
  })

  it('moves Kubernetes alone where it lives apart, else the systems that hold it', () => {
    expect(chooseWay('home', [target(true), target(false, 'away')])).toEqual({
      kind: 'go',
      action: 'upgrade',
    })
    expect(chooseWay('home', [target(false), target(undefined)])).toEqual({ kind: 'go', action: 'apply' })
    expect(chooseWay('home', [target(true), target(false)])).toMatchObject({ kind: 'refused' })
    expect(chooseWay('home', [])).toMatchObject({ kind: 'refused' })
  })

  it('is not begun to another version than the revision says; the line to change is told', () => {
    const says = { revision: 7, version: '1.34.3', place: 'fleet.toml:12' }
    expect(versionProblem('home', version('1.34.3'), says)).toBeUndefined()
    expect(versionProblem('home', TO, says)).toBe(
      'cluster home: revision 7 says 1.34.3, not 1.35.4: write version = "1.35.4" at fleet.toml:12, `muster publish`, and ask again',
    )
    expect(versionProblem('home', TO, { ...says, version: undefined })).toContain('says no version')
  })
})
