import { once } from 'node:events'
import { createServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import { choosePort, freePort } from './ports.ts'

const HOST = '127.0.0.1'

async function takenPort() {
  const server = createServer().listen(0, HOST)
  await once(server, 'listening')
  const bound = server.address()
  if (typeof bound !== 'object' || bound === null) throw new Error('no port')
  return { port: bound.port, [Symbol.dispose]: () => void server.close() }
}

describe('choosePort', () => {
  it('takes the usual port where it is free, without a word', async () => {
    const usual = await freePort(HOST)
    expect(await choosePort(HOST, { option: '--p', given: undefined, usual }, [])).toEqual({
      port: usual,
      note: undefined,
    })
  })

  it('takes another one where the usual is taken, and says so', async () => {
    using taken = await takenPort()
    const chosen = await choosePort(HOST, { option: '--p', given: undefined, usual: taken.port }, [])
    expect(chosen.port).not.toBe(taken.port)
    expect(chosen.note).toBe(
      `Port ${taken.port} is taken by another program, so ${chosen.port} is used instead (--p N chooses one).`,
    )
  })

  it('never takes another one than a person asked for, and names the cure', async () => {
    using taken = await takenPort()
    await expect(choosePort(HOST, { option: '--p', given: taken.port, usual: 1 }, [])).rejects.toThrow(
      new RegExp(`^--p ${taken.port}: is taken by another program; choose another one, such as --p \\d+$`),
    )
  })

  it('gives no port out twice', async () => {
    const port = await freePort(HOST)
    const second = await choosePort(HOST, { option: '--p', given: undefined, usual: port }, [port])
    expect(second.port).not.toBe(port)
  })

  it('names an address that this machine does not have', async () => {
    const wanted = { option: '--p', given: undefined, usual: 17443 }
    await expect(choosePort('192.0.2.77', wanted, [])).rejects.toThrow('--listen 192.0.2.77: is no address')
  })
})
