import { describe, expect, it } from 'vitest'
import { changedKubernetesFiles } from './kubernetes-files.ts'
import { PlanMachine } from './testing/plan-machine.ts'
import { readToplevel } from './toplevel.ts'

const FILE = '/etc/k0s/k0s.yaml'
const facts = (files: readonly string[] | undefined) =>
  JSON.stringify({
    cluster: 'home',
    distribution: 'k0s',
    role: 'server',
    life: 'apart',
    apiPort: 6443,
    servers: {},
    certificateNames: [],
    units: ['k0s.service'],
    programs: [],
    files,
  })

/** Which files differ between a system and another one. */
async function changed(
  one: Readonly<Record<string, string>>,
  other: Readonly<Record<string, string>>,
  names: { one?: readonly string[]; other?: readonly string[] } = { one: [FILE], other: [FILE] },
): Promise<readonly string[]> {
  await using machine = await PlanMachine.make()
  const below = (top: string, files: Readonly<Record<string, string>>) =>
    Object.fromEntries(Object.entries(files).map(([path, text]) => [`${top}${path}`, text]))
  await machine.files({
    '/store/a.yaml': 'a',
    '/store/same.yaml': 'a',
    '/store/b.yaml': 'b',
    '/store/folder/x.yaml': 'x',
    '/store/large': 'x'.repeat(300_000),
    '/one/etc/muster/cluster.json': facts(names.one),
    '/other/etc/muster/cluster.json': facts(names.other),
    ...below('/one', one),
    ...below('/other', other),
  })
  const [before, after] = [
    await readToplevel(machine.system, '/one'),
    await readToplevel(machine.system, '/other'),
  ]
  return await changedKubernetesFiles(machine.system, before, after)
}

describe('the files that Kubernetes reads at its start', () => {
  it.each([
    ['both systems have the same of the store', '-> /store/a.yaml', '-> /store/a.yaml', false],
    ['they hold the same', '-> /store/a.yaml', '-> /store/same.yaml', false],
    ['neither has one', undefined, undefined, false],
    ['it holds something else', '-> /store/a.yaml', '-> /store/b.yaml', true],
    ['it comes', undefined, '-> /store/a.yaml', true],
    ['it goes', '-> /store/a.yaml', undefined, true],
    ['it is the same folder', '-> /store/folder', '-> /store/folder', false],
    ['it is another folder', '-> /store/folder', '-> /store', true],
    ['it is too long to be compared', '-> /store/large', 'x'.repeat(300_000), true],
  ])('when %s', async (_, before, after, differs) => {
    const file = (text: string | undefined): Record<string, string> =>
      text === undefined ? {} : { [FILE]: text }
    expect(await changed(file(before), file(after))).toEqual(differs ? [FILE] : [])
  })

  it('are those that either system names', async () => {
    const [a, b] = [{ [FILE]: '-> /store/a.yaml' }, { [FILE]: '-> /store/b.yaml' }]
    expect(await changed(a, b, { one: [FILE], other: [] })).toEqual([FILE])
    expect(await changed(a, b, { one: [], other: [FILE] })).toEqual([FILE])
    expect(await changed(a, b, { one: [], other: [] })).toEqual([])
  })

  it('are not said to be others by a system of an earlier version, which names none', async () => {
    const a = { [FILE]: '-> /store/a.yaml' }
    expect(await changed(a, a, { other: [FILE] })).toEqual([])
    expect(await changed(a, { [FILE]: '-> /store/b.yaml' }, { other: [FILE] })).toEqual([FILE])
  })
})
