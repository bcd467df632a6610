import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createScriptedSystem, type Script } from '../testing/scripted-system.ts'
import { mountsBelow, unmountBelow } from './unmount-below.ts'

const PODS = '/var/lib/kubelet/pods'
const line = (path: string) => `36 35 0:52 / ${path} rw,relatime shared:1 - tmpfs tmpfs rw`

let root = ''
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'muster-mounts-'))
  await mkdir(`${root}/proc/self`, { recursive: true })
})
afterEach(async () => await rm(root, { recursive: true }))

describe('mounts', () => {
  it('below a folder are listed last first, whatever is in their names; what is mounted at it or beside it is not', () => {
    const text = [
      line('/var/lib/kubelet'),
      line(PODS),
      line(`${PODS}/a/volumes/kubernetes.io~secret/s`),
      line(`${PODS}/a/volumes/with\\040space`),
      line('/var/lib/kubelet/pods-of-another/x'),
      '',
    ].join('\n')
    expect(mountsBelow(text, [PODS])).toEqual([
      `${PODS}/a/volumes/with space`,
      `${PODS}/a/volumes/kubernetes.io~secret/s`,
    ])
  })

  /** A kernel that unmounts what umount is told to, unless it is in use. */
  async function machine(paths: string[], busy: (args: string) => boolean = () => false) {
    const write = async () => await writeFile(`${root}/proc/self/mountinfo`, paths.map(line).join('\n'))
    await write()
    const script: Script = [
      [
        /^umount/,
        ({ line: said }) => {
          const path = said.split(' ').at(-1) ?? ''
          if (busy(said)) return { exitCode: 32, stderr: `umount: ${path}: target is busy.` }
          paths.splice(paths.lastIndexOf(path), 1)
          return ''
        },
      ],
    ]
    const system = createScriptedSystem(root, script)
    // Read anew each time, as the kernel writes it.
    return {
      ...system,
      readFile: async (path: string, most: number) => {
        await write()
        return await system.readFile(path, most)
      },
    }
  }

  it('are unmounted, also those whose server is gone and that do not let go', async () => {
    const system = await machine(
      [`${PODS}/a/nfs`, `${PODS}/a/secret`],
      said => said === `umount ${PODS}/a/nfs`,
    )
    expect(await unmountBelow(system, [PODS])).toMatchObject({ kind: 'done' })
    expect(system.ran.map(ran => ran.line)).toEqual([
      `umount ${PODS}/a/secret`,
      `umount ${PODS}/a/nfs`,
      `umount --lazy ${PODS}/a/nfs`,
    ])
  })

  it('that stay are a failure that names one, so that nobody empties a volume', async () => {
    const system = await machine([`${PODS}/a/nfs`], () => true)
    expect(await unmountBelow(system, [PODS])).toMatchObject({
      class: 'command',
      reason: expect.stringMatching(/a\/nfs is still mounted: umount: .*target is busy/),
    })
  })

  it('that nobody can list are not none', async () => {
    expect(await unmountBelow(createScriptedSystem(root, []), [PODS])).toMatchObject({ class: 'unreadable' })
  })
})
