// The process of the emulated agents. It drives the coordinator and the floors with the same code.
import { createSecureContext } from 'node:tls'
import {
  EmulatedAgent,
  type EnrolmentDoor,
  heartbeatFrame,
  isHeartbeatAck,
  REVISION,
} from './emulated-agent.ts'
import { keyPool } from './key-pool.ts'
import { answerCommands } from './worker.ts'

/** How often the agents beat while nothing else is asked of them; the coordinator expects one each 10 s. */
const BEAT_MS = 8_000

/** Which agents, and how many of them at once. */
interface Range {
  readonly from: number
  readonly count: number
  readonly parallel: number
}

/**
 * Every machine twice, the twins in the second half: so the same machines can be connected to two servers at once, and
 * what is measured in turns need not connect anew each time.
 */
const agents: EmulatedAgent[] = []
let beatsPaused = false

async function prepare(input: { readonly keys: string; readonly count: number }): Promise<void> {
  const keys = await keyPool(input.keys, input.count)
  for (let twin = 0; twin < 2; twin++) {
    for (const [index, key] of keys.entries()) agents.push(new EmulatedAgent(index, key))
  }
}

function certify(input: { readonly caPem: string; readonly chains: readonly string[] }): void {
  for (const [index, agent] of agents.entries()) {
    agent.certify(input.chains[index % input.chains.length] ?? '', input.caPem)
  }
}

async function each({ from, count, parallel }: Range, work: (agent: EmulatedAgent) => Promise<unknown>) {
  const waiting = agents.slice(from, from + count)
  if (waiting.length !== count) throw new RangeError(`there are only ${agents.length} agents`)
  const lane = async () => {
    for (let agent = waiting.pop(); agent; agent = waiting.pop()) await work(agent)
  }
  const began = performance.now()
  await Promise.all(Array.from({ length: parallel }, lane))
  return { seconds: (performance.now() - began) / 1000 }
}

const connectOnce = (input: Range & { readonly port: number }) =>
  each(input, agent => agent.connectOnce(input.port))

async function enrol(input: Range & { readonly door: EnrolmentDoor }) {
  const context = createSecureContext({ ca: input.door.caPem, minVersion: 'TLSv1.3' })
  const chains: string[] = []
  const { seconds } = await each(input, async agent => chains.push(await agent.enrol(input.door, context)))
  if (chains.length !== input.count) throw new Error('not every agent has its certificate')
  return { seconds }
}

const open = (input: Range & { readonly port: number }) => each(input, agent => agent.open(input.port))

function close({ from, count }: Pick<Range, 'from' | 'count'>): void {
  for (const agent of agents.slice(from, from + count)) agent.close()
}

function countConnected({ from, count }: Pick<Range, 'from' | 'count'>): number {
  return agents.slice(from, from + count).filter(agent => agent.connected).length
}

/** Every agent sends the next beat when the last is answered. Gives the answers a second. */
async function beat(input: Pick<Range, 'from' | 'count'> & { readonly ms: number }) {
  const beating = agents.slice(input.from, input.from + input.count)
  const message = heartbeatFrame()
  let acknowledged = 0
  let running = true
  for (const agent of beating) {
    agent.onMessage = tag => {
      if (!running || !isHeartbeatAck(tag)) return
      acknowledged++
      agent.send(message)
    }
  }
  beatsPaused = true
  const began = performance.now()
  for (const agent of beating) agent.send(message)
  await new Promise(resolve => setTimeout(resolve, input.ms))
  running = false
  beatsPaused = false
  const perSecond = (acknowledged * 1000) / (performance.now() - began)
  for (const agent of beating) agent.onMessage = () => {}
  if (countConnected(input) !== input.count) throw new Error('sessions ended while they were beating')
  return { perSecond }
}

/** Resolves once each agent has a revision notice of this length; says when that was, by the machine's one clock. */
function awaitRevision(input: Pick<Range, 'from' | 'count'> & { readonly length: number }) {
  return new Promise<{ at: bigint }>((resolve, reject) => {
    let missing = input.count
    const timer = setTimeout(() => reject(new Error(`${missing} agents heard of no revision`)), 60_000)
    for (const agent of agents.slice(input.from, input.from + input.count)) {
      agent.onMessage = (tag, length) => {
        if (tag !== REVISION || length !== input.length) return
        agent.onMessage = () => {}
        missing--
        if (missing > 0) return
        clearTimeout(timer)
        resolve({ at: process.hrtime.bigint() })
      }
    }
  })
}

const commands = {
  prepare,
  certify,
  connectOnce,
  enrol,
  open,
  close,
  countConnected,
  beat,
  awaitRevision,
}
export type ClientCommands = typeof commands

answerCommands(commands)

setInterval(() => {
  if (beatsPaused) return
  const message = heartbeatFrame()
  for (const agent of agents) if (agent.connected) agent.send(message)
}, BEAT_MS).unref()
