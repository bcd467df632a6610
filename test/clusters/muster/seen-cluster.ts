import { waitUntil } from '../../support/wait-until.ts'
import type { ClusterFleet } from './cluster-fleet.ts'

export interface SeenNode {
  readonly name: string
  readonly uid: string
  readonly ready: boolean
  readonly unschedulable: boolean
  /** Without what a distribution puts behind it: "1.34.3". */
  readonly version: string
  readonly bootId: string
}

/** The Nodes as a server's API shows them, in order of their names. */
export async function readNodes(made: ClusterFleet, server: string): Promise<readonly SeenNode[]> {
  const { items } = JSON.parse(await made.kubectl(server, 'get', 'nodes', '-o', 'json'))
  // Parsed text of the API; what a test compares shows what is not as expected.
  return (items as readonly ApiNode[])
    .map(({ metadata, spec, status }) => ({
      name: metadata.name,
      uid: metadata.uid,
      ready: status.conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True'),
      unschedulable: spec.unschedulable === true,
      version: /^v(\d+\.\d+\.\d+)/.exec(status.nodeInfo.kubeletVersion)?.[1] ?? '',
      bootId: status.nodeInfo.bootID,
    }))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
}

interface ApiNode {
  readonly metadata: { readonly name: string; readonly uid: string }
  readonly spec: { readonly unschedulable?: boolean }
  readonly status: {
    readonly conditions: readonly { readonly type: string; readonly status: string }[]
    readonly nodeInfo: { readonly kubeletVersion: string; readonly bootID: string }
  }
}

const describe = (nodes: readonly SeenNode[]) =>
  nodes.map(({ name, ready, version }) => `${name} ${ready ? 'Ready' : 'not Ready'} ${version}`).join(', ')

/** Waits until exactly these Nodes are there, every one Ready and as wanted. */
export async function untilReady(
  made: ClusterFleet,
  server: string,
  names: readonly string[],
  accept: (node: SeenNode) => boolean = () => true,
  timeoutMs = 5 * 60_000,
): Promise<readonly SeenNode[]> {
  let last: readonly SeenNode[] = []
  const look = async () => {
    last = await readNodes(made, server)
    const all = last.map(({ name }) => name).join() === names.toSorted().join()
    return all && last.every(node => node.ready && accept(node)) ? last : undefined
  }
  return await waitUntil(`Ready: ${names.join(', ')}`, look, { timeoutMs, everyMs: 1_000 }).catch(
    async (error: Error) => {
      throw new Error(`${error.message}; last seen: ${describe(last)}\n${await made.lastWords()}`)
    },
  )
}

/** Waits until a pod of the deployment answers on its own address, asked by a server; the answer. */
export async function untilAnswers(made: ClusterFleet, server: string, app: string): Promise<string> {
  return await waitUntil(
    `answer of ${app}`,
    async () => {
      const jsonpath = 'jsonpath={.items[?(@.status.phase=="Running")].status.podIP}'
      const ips = (await made.kubectl(server, 'get', 'pods', '-l', `app=${app}`, '-o', jsonpath)).split(' ')
      const address = ips.find(ip => ip !== '')
      if (address === undefined) throw new Error('no pod runs')
      const said = await made.machine(server).exec(['curl', '-s', '-m', '3', `http://${address}:8080/`])
      return said.code === 0 ? said.stdout : undefined
    },
    { timeoutMs: 5 * 60_000, everyMs: 1_000 },
  )
}
