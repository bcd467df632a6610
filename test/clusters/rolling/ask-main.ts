// Asks the pods of a service without a pause, as a load balancer does that knows which are ready, and watches API servers and nodes.
// A program of its own, since it runs in the lab's network; ended by SIGTERM it prints what it has seen.
import { Agent as PlainAgent, request as plainRequest } from 'node:http'
import { Agent, request } from 'node:https'
import { text } from 'node:stream/consumers'
import { pause } from '../../../shared/lifecycle.ts'
import { type AskConfig, Gap, type LostRequest, type NodeChange, type Seen } from './seen.ts'

const ASK_EVERY_MS = 50
const ASK_WITHIN_MS = 2_000
const LOOK_EVERY_MS = 200
const LOOK_WITHIN_MS = 1_500
const MOST_KEPT = 50

interface Answer {
  readonly status: number
  readonly body: string
}

async function main(): Promise<void> {
  const config: AskConfig = JSON.parse(await text(process.stdin))
  const stop = new AbortController()
  process.once('SIGTERM', () => stop.abort())
  const api = new Api(config)
  const web = new Web(config, api)
  await Promise.all([
    ...config.servers.map(server => api.watchServer(server, stop.signal)),
    api.watchPods(config.service, stop.signal),
    api.watchNodes(stop.signal),
    web.ask(stop.signal),
  ])
  process.stdout.write(`${JSON.stringify(seenBy(api, web))}\n`)
}

/** The API as an administrator sees it, by whichever server answers. */
class Api {
  readonly #config: AskConfig
  readonly #agents: ReadonlyMap<string, Agent>
  readonly any = new Gap()
  readonly each: ReadonlyMap<string, Gap>
  readonly nodes: NodeChange[] = []
  /** Ready and not asked to leave, as was heard last: who hears nothing new goes on with that. */
  pods: readonly string[] = []
  /** The server that answered last. */
  #server: string

  constructor(config: AskConfig) {
    const { servers, authority: ca, certificate: cert, key } = config
    this.#config = config
    this.#agents = new Map(
      servers.map(server => [server, new Agent({ keepAlive: true, maxSockets: 4, ca, cert, key })]),
    )
    this.each = new Map(servers.map(server => [server, new Gap()]))
    this.#server = servers[0] ?? ''
  }

  async watchServer(server: string, signal: AbortSignal): Promise<void> {
    do {
      const answer = await this.#get(server, '/readyz').catch(() => undefined)
      if (answer?.status !== 200) continue
      const now = Date.now()
      this.any.success(now)
      this.each.get(server)?.success(now)
    } while (await pause(LOOK_EVERY_MS, signal))
  }

  async watchPods(service: string, signal: AbortSignal): Promise<void> {
    const selector = encodeURIComponent(`kubernetes.io/service-name=${service}`)
    const path = `/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=${selector}`
    do {
      const list = await this.#list<EndpointSlice>(path)
      if (list) this.pods = list.flatMap(readyAddresses)
    } while (await pause(LOOK_EVERY_MS, signal))
  }

  async watchNodes(signal: AbortSignal): Promise<void> {
    const last = new Map<string, string>()
    do {
      for (const item of (await this.#list<Node>('/api/v1/nodes')) ?? []) {
        const seen = nodeOf(item)
        const now = JSON.stringify(seen)
        if (last.get(seen.node) !== now) this.nodes.push({ atMs: Date.now(), ...seen })
        last.set(seen.node, now)
      }
    } while (await pause(LOOK_EVERY_MS, signal))
  }

  /** Items of a list; undefined: no server answered. `Item`: the parts that are read of what the path lists. */
  async #list<Item>(path: string): Promise<readonly Item[] | undefined> {
    const { servers } = this.#config
    for (const server of [this.#server, ...servers.filter(other => other !== this.#server)]) {
      const answer = await this.#get(server, path).catch(() => undefined)
      if (answer?.status !== 200) continue
      this.#server = server
      const list: { readonly items: readonly Item[] } = JSON.parse(answer.body)
      return list.items
    }
    return undefined
  }

  #get(server: string, path: string): Promise<Answer> {
    const agent = this.#agents.get(server)
    return answerOf(LOOK_WITHIN_MS, done => request({ host: server, port: 6443, path, agent }, done))
  }
}

/** Of the API's object as much as is read. */
interface EndpointSlice {
  /** null where there are none. */
  readonly endpoints?:
    | readonly {
        readonly addresses: readonly string[]
        readonly conditions: { readonly ready?: boolean; readonly terminating?: boolean }
      }[]
    | null
}

/** The same of a Node. */
interface Node {
  readonly metadata: { readonly name: string }
  readonly spec: { readonly unschedulable?: boolean }
  readonly status: {
    readonly conditions: readonly { readonly type: string; readonly status: string }[]
    readonly nodeInfo: { readonly kubeletVersion: string }
  }
}

const readyAddresses = ({ endpoints }: EndpointSlice): readonly string[] =>
  (endpoints ?? []).flatMap(({ addresses, conditions }) =>
    conditions.ready && !conditions.terminating ? addresses : [],
  )

const nodeOf = ({ metadata, spec, status }: Node): Omit<NodeChange, 'atMs'> => ({
  node: metadata.name,
  ready: status.conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True'),
  schedulable: spec.unschedulable !== true,
  version: status.nodeInfo.kubeletVersion,
})

/** Requests to the pods, each on a connection of its own and none tried again. */
class Web {
  readonly #api: Api
  readonly #answer: string
  readonly #open = new Set<Promise<void>>()
  readonly asked = new Set<string>()
  count = 0
  lostCount = 0
  slowestMs = 0
  readonly lost: LostRequest[] = []

  constructor({ answer }: AskConfig, api: Api) {
    this.#api = api
    this.#answer = answer
  }

  async ask(signal: AbortSignal): Promise<void> {
    // From the first moment at which there is somebody to ask.
    while (this.#api.pods.length === 0) if (!(await pause(LOOK_EVERY_MS, signal))) return
    process.stdout.write('asking\n')
    do {
      const one = this.#askOne().finally(() => this.#open.delete(one))
      this.#open.add(one)
    } while (await pause(ASK_EVERY_MS, signal))
    await Promise.all(this.#open)
  }

  async #askOne(): Promise<void> {
    const atMs = Date.now()
    const { pods } = this.#api
    const address = pods[this.count % Math.max(1, pods.length)] ?? ''
    this.count += 1
    const why = address === '' ? 'no pod was ready' : await this.#problemOf(address)
    this.slowestMs = Math.max(this.slowestMs, Date.now() - atMs)
    if (why === undefined) return
    this.lostCount += 1
    if (this.lost.length < MOST_KEPT) this.lost.push({ atMs, address, why })
  }

  async #problemOf(address: string): Promise<string | undefined> {
    this.asked.add(address)
    const agent = new PlainAgent({ keepAlive: false })
    try {
      const { status, body } = await answerOf(ASK_WITHIN_MS, done =>
        plainRequest({ host: address, port: 8080, path: '/', agent }, done),
      )
      return status === 200 && body === this.#answer ? undefined : `answered ${status} ${body.slice(0, 80)}`
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  }
}

/** The answer to a request, or an error once its time is up. */
function answerOf(
  withinMs: number,
  send: (done: (response: import('node:http').IncomingMessage) => void) => import('node:http').ClientRequest,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = send(response => {
      text(response).then(body => {
        clearTimeout(timer)
        resolve({ status: response.statusCode ?? 0, body })
      }, reject)
    })
    const timer = setTimeout(() => sent.destroy(new Error(`no answer within ${withinMs} ms`)), withinMs)
    sent.on('error', error => {
      clearTimeout(timer)
      reject(error)
    })
    sent.end()
  })
}

function seenBy(api: Api, web: Web): Seen {
  const now = Date.now()
  return {
    asked: web.count,
    lostCount: web.lostCount,
    lost: web.lost,
    slowestMs: web.slowestMs,
    longestWithoutServerMs: api.any.end(now),
    longestWithoutMs: Object.fromEntries([...api.each].map(([server, gap]) => [server, gap.end(now)])),
    nodes: api.nodes,
    pods: [...web.asked],
  }
}

await main()
