import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { credentials, ServerCredentials, status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from '../shared/gen/grpc/health/v1/health_pb.ts'
import { createClient } from '../shared/rpc/client.ts'
import { RpcError } from '../shared/rpc/rpc-error.ts'
import { serve } from '../shared/rpc/serve.ts'
import { openListener } from './listener.ts'
import { openLocalListener } from './local-listener.ts'

let folder: string
let path: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ml-'))
  path = join(folder, 'run/c.sock')
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const open = () =>
  openLocalListener(path, server =>
    serve(server, Health, { check: async () => ({ status: Serving.SERVING }) }, { onBug: () => {} }),
  )

async function ask() {
  using client = createClient(Health, `unix:${path}`, credentials.createInsecure())
  return (await client.check({}, { deadlineMs: 5_000 })).status
}

describe('the socket of root', () => {
  it('is closed to others whatever the mask of the process is', async () => {
    const before = process.umask(0)
    try {
      await using _listener = await open()
      expect((await stat(path)).mode & 0o777).toBe(0o600)
      expect((await stat(join(folder, 'run'))).mode & 0o777).toBe(0o700)
      expect(await ask()).toBe(Serving.SERVING)
    } finally {
      process.umask(before)
    }
  })

  it('comes to its place with nothing beside it, goes with its listener, and leaves what is made meanwhile alone', async () => {
    const before = process.umask(0o022)
    try {
      const modes: number[] = []
      let isOpen = false
      const opening = open().finally(() => {
        isOpen = true
      })
      for (let n = 0; !isOpen; n += 1) {
        await mkdir(join(folder, `made-${n}`))
        modes.push((await stat(join(folder, `made-${n}`))).mode & 0o777)
      }
      const listener = await opening
      expect(modes.length).toBeGreaterThan(1)
      expect([...new Set(modes)]).toEqual([0o755])
      expect(process.umask()).toBe(0o022)
      expect(await readdir(join(folder, 'run'))).toEqual(['c.sock'])
      await listener[Symbol.asyncDispose]()
      expect(await readdir(join(folder, 'run'))).toEqual([])
    } finally {
      process.umask(before)
    }
  })

  it('two that are opened at once in one folder are both there', async () => {
    await using _first = await open()
    path = join(folder, 'run/d.sock')
    await using _second = await open()
    const opened = ['e', 'f', 'g'].map(name => {
      path = join(folder, `run/${name}.sock`)
      return open()
    })
    const listeners = await Promise.all(opened)
    expect((await readdir(join(folder, 'run'))).sort()).toEqual(
      ['c', 'd', 'e', 'f', 'g'].map(name => `${name}.sock`),
    )
    expect(await ask()).toBe(Serving.SERVING)
    await Promise.all(listeners.map(async listener => await listener[Symbol.asyncDispose]()))
  })

  it('is not opened in a folder that others may write, where they could put their own in its place', async () => {
    await mkdir(join(folder, 'run'))
    for (const mode of [0o777, 0o770, 0o1777, 0o702]) {
      await chmod(join(folder, 'run'), mode)
      await expect(open()).rejects.toThrow(`socket: ${join(folder, 'run')} may be written by others`)
    }
    await chmod(join(folder, 'run'), 0o755)
    await using _listener = await open()
  })

  it('takes the place of one that a killed coordinator left behind', async () => {
    await mkdir(join(folder, 'run'), { mode: 0o700 })
    await leaveSocket(path)
    expect((await stat(path)).isSocket()).toBe(true)
    await using _listener = await open()
    expect(await ask()).toBe(Serving.SERVING)
  })

  it('is refused while another coordinator answers on it, and that one goes on', async () => {
    await using _first = await open()
    await expect(open()).rejects.toThrow(`socket: another coordinator listens on ${path}`)
    expect(await ask()).toBe(Serving.SERVING)
  })

  it('never replaces what is no socket', async () => {
    await mkdir(join(folder, 'run'), { mode: 0o700 })
    await writeFile(path, 'precious')
    await expect(open()).rejects.toThrow(`socket: ${path} is there and is no socket`)
  })

  it('says so when its path is longer than Linux takes', async () => {
    path = join(folder, 'x'.repeat(120))
    await expect(open()).rejects.toThrow('longer than the 107 bytes')
  })
})

describe('a listener', () => {
  it('names the address it cannot have', async () => {
    const nothing = () => {}
    await using first = await openListener('127.0.0.1:0', ServerCredentials.createInsecure(), nothing)
    const address = `127.0.0.1:${first.port}`
    await expect(openListener(address, ServerCredentials.createInsecure(), nothing)).rejects.toThrow(
      `cannot listen on ${address}: `,
    )
  })

  it('lets a call that runs come to its end when it closes', async () => {
    let answer = () => {}
    let asked = () => {}
    const arrived = new Promise<void>(resolve => {
      asked = resolve
    })
    const listener = await openListener('127.0.0.1:0', ServerCredentials.createInsecure(), server =>
      serve(
        server,
        Health,
        {
          check: () =>
            new Promise(resolve => {
              asked()
              answer = () => resolve({ status: Serving.SERVING })
            }),
        },
        { onBug: () => {} },
      ),
    )
    using client = createClient(Health, `127.0.0.1:${listener.port}`, credentials.createInsecure())
    const call = client.check({}, { deadlineMs: 10_000 })
    await arrived
    const closing = listener[Symbol.asyncDispose]()
    answer()
    expect((await call).status).toBe(Serving.SERVING)
    await closing
  })

  it('cuts the connection of a call that does not come to its end, so that the process may', async () => {
    let asked = () => {}
    const arrived = new Promise<void>(resolve => {
      asked = resolve
    })
    const never = () => {
      asked()
      return new Promise<never>(() => {})
    }
    const listener = await openListener('127.0.0.1:0', ServerCredentials.createInsecure(), server =>
      serve(server, Health, { check: never }, { onBug: () => {} }),
    )
    using client = createClient(Health, `127.0.0.1:${listener.port}`, credentials.createInsecure())
    const call = client.check({}, { deadlineMs: 40_000 }).catch((error: unknown) => error)
    await arrived
    await listener[Symbol.asyncDispose]()
    const ended = await call
    expect(ended).toBeInstanceOf(RpcError)
    expect(ended).not.toMatchObject({ code: status.DEADLINE_EXCEEDED })
  })
})

/** A socket without a listener: bound by a server whose process would have been killed. */
async function leaveSocket(at: string): Promise<void> {
  const kept = `${at}.kept`
  const server = createServer().listen(kept)
  await once(server, 'listening')
  const { link } = await import('node:fs/promises')
  await link(kept, at) // Node removes the name it bound at close, this one stays
  server.close()
  await once(server, 'close')
}
