import { expect, it } from 'vitest'
import { madeUpRuntime, pod } from '../testing/made-up-runtime.ts'
import { takePodsAway } from './take-pods-away.ts'

const all = () => true
const ENDPOINT = 'unix:///run/x.sock'

it('ends each pod with the time that it asks for, half a minute at most, and removes it then', async () => {
  const runtime = madeUpRuntime(pod('a', 'web'), pod('b', 'db'))
  const isMeant = ({ id }: { readonly id: string }) => id === 'a'
  for (const [asked, given] of [
    [5, 5],
    [undefined, 30],
    [3_600, 30],
  ] as const) {
    runtime.graceSeconds = asked
    runtime.pods = [pod('a', 'web'), pod('b', 'db')]
    runtime.did.length = 0
    expect(await takePodsAway({ runtime: runtime.connect(ENDPOINT), isMeant })).toMatchObject({
      kind: 'done',
    })
    expect(runtime.did).toEqual([`list ${ENDPOINT}`, `stop of-a ${given}`, 'remove a', `list ${ENDPOINT}`])
    expect(runtime.pods.map(({ id }) => id)).toEqual(['b'])
  }
})

it('removes no pod whose container does not stop, and says so', async () => {
  const runtime = madeUpRuntime(pod('fails', 'web'))
  expect(await takePodsAway({ runtime: runtime.connect(ENDPOINT), isMeant: all })).toMatchObject({
    class: 'command',
    reason: 'it does not stop',
  })
  expect(runtime.did).not.toContain('remove fails')
})

it('names what is still there after it was taken away again and again', async () => {
  const runtime = madeUpRuntime(pod('a', 'web'))
  runtime.stuck.add('a')
  expect(await takePodsAway({ runtime: runtime.connect(ENDPOINT), isMeant: all })).toMatchObject({
    class: 'command',
    reason: expect.stringContaining('default/web'),
  })
})
