import { rmSync } from 'node:fs'
import { createConnection, createServer, type Server } from 'node:net'
import { createInterface } from 'node:readline'

/** A command to the process that holds the lab. */
export interface Order {
  readonly verb: 'list' | 'cut' | 'heal' | 'power-cut' | 'boot' | 'reboot' | 'enter' | 'down'
  readonly machine?: string
}

export type Answer =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly reason: string }

const ANSWER_MS = 120_000
const MOST_BYTES = 1_000_000

/** Answers orders, one line of JSON each way and one order a connection. */
export function serveOrders(socket: string, answer: (order: Order) => Promise<unknown>): Promise<Server> {
  rmSync(socket, { force: true })
  const server = createServer(connection => {
    connection.on('error', () => {}) // whoever asked went away
    createInterface({ input: connection }).once('line', line => {
      const reply = (text: Answer) => connection.end(`${JSON.stringify(text)}\n`)
      Promise.resolve()
        .then(() => answer(parseOrder(line)))
        .then(value => reply({ ok: true, value: value ?? null }))
        .catch((error: Error) => reply({ ok: false, reason: error.message }))
    })
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(socket, () => resolve(server))
  })
}

function parseOrder(line: string): Order {
  const order: Order = JSON.parse(line)
  return order
}

/** Sends an order; what came back. Throws the reason of a refusal, or that no lab is up. */
export function sendOrder(socket: string, order: Order): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(socket)
    let said = ''
    connection.setTimeout(ANSWER_MS, () => connection.destroy(new Error('the lab does not answer')))
    connection.on('error', error => {
      const away = 'code' in error && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED')
      reject(away ? new Error('no lab is up: npm run lab -- up 3') : error)
    })
    connection.on('data', chunk => {
      said += chunk.toString()
      if (said.length > MOST_BYTES) connection.destroy(new Error('the answer is too long'))
    })
    connection.on('end', () => {
      try {
        const answer: Answer = JSON.parse(said)
        if (answer.ok) resolve(answer.value)
        else reject(new Error(answer.reason))
      } catch (error) {
        reject(new Error('the lab ended before it answered', { cause: error }))
      }
    })
    connection.write(`${JSON.stringify(order)}\n`)
  })
}
