import { basename } from 'node:path'
import { type ClusterLab, prepareClusterLab } from '../../lab/clusters/machines.ts'
import { WEB_ANSWER, webDeployment } from '../../lab/clusters/objects.ts'
import { type Lab, startLab } from '../../lab/lab.ts'
import type { LabMachine } from '../../lab/machine.ts'
import type { Finished } from '../../support/program.ts'
import { waitUntil } from '../../support/wait-until.ts'

/** Time in which something of a cluster comes on a busy machine. */
export const COMES = { timeoutMs: 180_000, everyMs: 500 } as const

/** Lab machines in which a packaged Kubernetes is installed by hand, by what its documents say. */
export class HandMade implements AsyncDisposable {
  readonly lab: Lab
  readonly #program: string
  /** Its unit has the program's own name. */
  readonly #unit: string

  constructor(lab: Lab, program: string) {
    this.lab = lab
    this.#program = program
    this.#unit = basename(program)
  }

  machine(name: string): LabMachine {
    const found = this.lab.machines.find(machine => machine.name === name)
    if (!found) throw new Error(`no machine ${name}`)
    return found
  }

  /** Runs a command of the packaged program. */
  async run(name: string, ...words: readonly string[]): Promise<Finished> {
    return await this.machine(name).exec([this.#program, ...words], { timeoutMs: 90_000 })
  }

  async ok(name: string, ...words: readonly string[]): Promise<string> {
    return await this.machine(name).ok([this.#program, ...words], { timeoutMs: 90_000 })
  }

  async untilServing(name: string): Promise<void> {
    const look = async () => (await this.ok(name, 'kubectl', 'get', '--raw', '/readyz')) || undefined
    await waitUntil(`an API server on ${name}`, look, COMES).catch(this.#tell(name))
  }

  /**
   * Waits until a node is Ready, of this version, on a sign of life after `since`. Of that the lease tells: kubelet writes
   * the times of conditions that do not change only every five minutes.
   */
  async untilReady(from: string, node: string, version: string, since = new Date(0)): Promise<void> {
    const look = async () => {
      const { status } = JSON.parse(await this.ok(from, 'kubectl', 'get', 'node', node, '-o', 'json')) as {
        status: NodeStatus
      }
      const lease = ['lease', node, '-n', 'kube-node-lease', '-o', 'jsonpath={.spec.renewTime}']
      const renewed = new Date(await this.ok(from, 'kubectl', 'get', ...lease))
      const ready = status.conditions.some(one => one.type === 'Ready' && one.status === 'True')
      return ready && status.nodeInfo.kubeletVersion.startsWith(`v${version}`) && renewed >= since
        ? true
        : undefined
    }
    await waitUntil(`node ${node} Ready`, look, COMES).catch(this.#tell(node))
  }

  /** Lets a pod run, and asks it from another machine. */
  async askPod(from: string, asker: string): Promise<string> {
    const applied = await this.machine(from).exec([this.#program, 'kubectl', 'apply', '-f', '-'], {
      input: JSON.stringify(webDeployment('web')),
    })
    if (applied.code !== 0) throw new Error(applied.stderr)
    await this.ok(from, 'kubectl', 'rollout', 'status', 'deployment/web', '--timeout=60s')
    const path = 'jsonpath={.items[0].status.podIP}'
    const address = await this.ok(from, 'kubectl', 'get', 'pods', '-l', 'app=web', '-o', path)
    return await this.machine(asker).ok(['curl', '--silent', '--max-time', '5', `http://${address}:8080/`])
  }

  #tell(name: string) {
    return async (error: Error): Promise<never> => {
      const said = await this.machine(name).journal(this.#unit, '--lines=60')
      throw new Error(`${error.message}\njournal of ${name}:\n${said.slice(-6_000)}`)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]()
  }
}

interface NodeStatus {
  readonly conditions: readonly { readonly type: string; readonly status: string }[]
  readonly nodeInfo: { readonly kubeletVersion: string }
}

export { WEB_ANSWER }

/** Boots machines that can run Kubernetes. `prepare` puts onto them what they need before anything is started. */
export async function startHandMade(
  program: string,
  names: readonly string[],
  prepare: (machine: LabMachine) => Promise<void>,
): Promise<HandMade> {
  const lab = await startLab()
  try {
    const clusterLab: ClusterLab = await prepareClusterLab(lab)
    for (const [index, name] of names.entries()) {
      await prepare(await lab.startMachine(name, clusterLab.machine(index, names)))
    }
    return new HandMade(lab, program)
  } catch (error) {
    await lab[Symbol.asyncDispose]()
    throw error
  }
}
