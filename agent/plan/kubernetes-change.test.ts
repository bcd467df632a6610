import { describe, expect, it } from 'vitest'
import { type ClusterFacts, parseClusterFacts } from '../drivers/cluster-facts.ts'
import { type KubernetesPart, kubernetesChange, versionOf } from './kubernetes-change.ts'
import { PlanMachine } from './testing/plan-machine.ts'
import { readToplevel } from './toplevel.ts'

const facts = (change: object = {}): ClusterFacts => {
  const parsed = parseClusterFacts(
    JSON.stringify({
      cluster: 'home',
      distribution: 'k3s',
      role: 'server',
      version: '1.34.3',
      life: 'with-system',
      apiPort: 6443,
      servers: { n1: null },
      units: ['k3s.service'],
      programs: [],
      certificateNames: ['n1'],
      ...change,
    }),
  )
  if (parsed.kind !== 'facts') throw new Error(JSON.stringify(parsed))
  return parsed.facts
}
const side = (change: object | undefined, unit = 'ExecStart=/k3s', other = '') => ({
  kubernetes: (change ? { kind: 'facts', facts: facts(change) } : { kind: 'none' }) as KubernetesPart,
  units: {
    kind: 'folder' as const,
    folder: {
      units: new Map([
        ['k3s.service', { kind: 'file' as const, text: `[Service]\n${unit}\n` }],
        ['muster-cluster-secrets.service', { kind: 'file' as const, text: `[Service]\n${other}\n` }],
      ]),
      dropIns: new Map(),
      wants: new Map(),
      requires: new Map(),
    },
  },
})

describe('the Kubernetes of a new system', () => {
  it.each([
    ['nothing differs', side({}), side({}), undefined],
    [
      'only who else is there, or a name of a certificate, differs',
      side({}),
      side({ servers: { n1: null, n2: null }, certificateNames: [] }),
      undefined,
    ],
    ['only the agent’s own unit differs', side({}), side({}, undefined, 'ExecStart=/agent-2'), undefined],
    [
      'only what it is described as differs',
      side({}),
      side({}, 'ExecStart=/k3s\n[Unit]\nDescription=x'),
      undefined,
    ],
    [
      'the version of what lives apart differs',
      side({ life: 'apart' }),
      side({ life: 'apart', version: '1.35.4' }),
      undefined,
    ],
    ['the new system has none', side({}), side(undefined), undefined],
    [
      'its unit differs',
      side({}),
      side({ version: '1.35.4' }, 'ExecStart=/k3s-2'),
      { server: true, apart: false, from: '1.34.3', to: '1.35.4', becomes: undefined },
    ],
    [
      'its address differs',
      side({}),
      side({ nodeAddress: '10.0.0.2' }),
      { server: true, apart: false, from: '1.34.3', to: '1.34.3', becomes: undefined },
    ],
    [
      'there was none before',
      side(undefined),
      side({ role: 'worker' }),
      { server: false, apart: false, from: undefined, to: '1.34.3', becomes: undefined },
    ],
    [
      'pods may run on a server',
      side({}),
      side({ role: 'server+worker' }),
      { server: true, apart: false, from: '1.34.3', to: '1.34.3', becomes: undefined },
    ],
    [
      'a server becomes a worker',
      side({}),
      side({ role: 'worker' }),
      { server: false, apart: false, from: '1.34.3', to: '1.34.3', becomes: 'role: server, then worker' },
    ],
    [
      'the distribution is another',
      side({}),
      side({ distribution: 'k0s' }),
      { server: true, apart: false, from: '1.34.3', to: '1.34.3', becomes: 'distribution: k3s, then k0s' },
    ],
  ])('when %s', (_, current, target, expected) => {
    expect(kubernetesChange(current, target, [])).toEqual(expected && { ...expected, files: [] })
  })

  it('has changed where the systems cannot be compared', () => {
    const unknown = { ...side({}), units: { kind: 'unknown' as const, why: 'x' } }
    expect(kubernetesChange(unknown, side({}), [])).toBeDefined()
    expect(kubernetesChange(undefined, side({}), [])).toBeDefined()
  })

  it('has changed where one of its files has, whose name stands in the units', () => {
    const files = ['/etc/k0s/k0s.yaml']
    expect(kubernetesChange(side({}), side({}), files)).toEqual({
      server: true,
      apart: false,
      from: '1.34.3',
      to: '1.34.3',
      becomes: undefined,
      files,
    })
    expect(kubernetesChange(side({}), side(undefined), files)).toBeUndefined()
  })

  it('says its version, or the names of its packages do', () => {
    const store = `/nix/store/${'a'.repeat(32)}`
    const of = (folder: string) =>
      versionOf(facts({ version: null, programs: ['/usr/bin', `${store}-${folder}/bin`] }))
    expect(versionOf(facts())).toBe('1.34.3')
    expect(of('k3s-1.34.3+k3s1')).toBe('1.34.3')
    expect(of('kubernetes-1.35.4')).toBe('1.35.4')
    expect(of('tools-9.9.9')).toBeUndefined()
    expect(versionOf(facts({ life: 'apart' }))).toBeUndefined()
  })

  it('is read from the toplevel, and what cannot be read is unknown', async () => {
    await using machine = await PlanMachine.make()
    await machine.files({ '/t/etc/muster/cluster.json': JSON.stringify({ cluster: 'home' }) })
    const read = async (path: string) => (await readToplevel(machine.system, path)).kubernetes
    expect(await read('/t')).toMatchObject({ kind: 'unknown', why: expect.stringContaining('distribution') })
    expect(await read('/elsewhere')).toEqual({ kind: 'none' })
  })
})
