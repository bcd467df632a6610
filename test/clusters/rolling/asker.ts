import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'yaml'
import { WEB_ANSWER } from '../../lab/clusters/objects.ts'
import { bundleProgram } from '../../support/bundle-program.ts'
import { Program } from '../../support/program.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { CLUSTER, type ClusterFleet } from '../muster/cluster-fleet.ts'
import { SERVERS } from '../muster/rendered-system.ts'
import type { AskConfig, Seen } from './seen.ts'
import { APP } from './workload.ts'

/** Asks the workload from the lab's network until it is ended. */
export class Asker implements AsyncDisposable {
  readonly #program: Program

  constructor(program: Program) {
    this.#program = program
  }

  /** Ends it; what it has seen. */
  async end(): Promise<Seen> {
    const { stdout, stderr } = await this.#program.kill('SIGTERM')
    const said = stdout.split('\n').find(line => line.startsWith('{'))
    if (said === undefined) throw new Error(`who asks the pods said nothing:\n${stderr}`)
    return JSON.parse(said)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program.kill()
  }
}

/** What an operator's kubeconfig opens the API with. */
export async function askConfig(made: ClusterFleet): Promise<AskConfig> {
  const file = join(made.lab.lab.dir, 'asker-kubeconfig')
  await made.ok('cluster', 'kubeconfig', CLUSTER, '--out', file)
  const { clusters, users } = parse(await readFile(file, 'utf8'))
  const plain = (base64: string) => Buffer.from(base64, 'base64').toString('utf8')
  return {
    servers: SERVERS.map(host => made.machine(host).address),
    authority: plain(clusters[0].cluster['certificate-authority-data']),
    certificate: plain(users[0].user['client-certificate-data']),
    key: plain(users[0].user['client-key-data']),
    service: APP,
    answer: WEB_ANSWER,
  }
}

/** Begins to ask; returns once the first request was sent. */
export async function startAsker(made: ClusterFleet, config: AskConfig): Promise<Asker> {
  const { lab } = made.lab
  const outfile = join(lab.dir, 'ask.mjs')
  await bundleProgram(join(import.meta.dirname, 'ask-main.ts'), outfile)
  const [command = '', ...args] = [...lab.inside, process.execPath, outfile]
  const program = new Program(command, args, { input: JSON.stringify(config) })
  await waitUntil(
    'pods that are asked',
    async () => {
      if (!program.running) throw new Error(program.stderr)
      return program.stdout.includes('asking') || undefined
    },
    { timeoutMs: 60_000 },
  )
  return new Asker(program)
}
