import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { waitUntil } from '../../support/wait-until.ts'
import { CLUSTER, type ClusterFleet } from './cluster-fleet.ts'
import type { Host } from './rendered-system.ts'

const FOLDER = 'gates'
const TABLE = `\n[gates.smoke]\njob = "${FOLDER}/smoke.yaml"\n`
const HEAD = `[clusters.${CLUSTER}]\n`
const NAMED = `${HEAD}gates = ["smoke"]\n`

/** Publishes a gate of the cluster: the Job `smoke`, which runs this in a shell. */
export async function publishJobGate(made: ClusterFleet, script: string): Promise<void> {
  await mkdir(join(made.directory, FOLDER), { recursive: true })
  await writeFile(join(made.directory, FOLDER, 'smoke.yaml'), jobOf(script))
  if (!(await readFile(made.fleetFile, 'utf8')).includes(TABLE))
    await made.editFleetFile(text => `${text.replace(HEAD, NAMED)}${TABLE}`)
  await made.publish()
}

/** Publishes the fleet without it again. */
export async function publishNoJobGate(made: ClusterFleet): Promise<void> {
  await made.editFleetFile(text => text.replace(NAMED, HEAD).replace(TABLE, ''))
  await rm(join(made.directory, FOLDER), { recursive: true })
  await made.publish()
}

/** Waits until a host waits at the gate for this; the id of the rollout that is held. */
export async function untilHeldByJob(made: ClusterFleet, host: Host, reason: string): Promise<string> {
  let last = 'no rollout'
  const look = async () => {
    const { rollouts } = await made.lab.fleet.rollouts.listRollouts({ open: true, limit: 1 })
    const [id] = rollouts.map(rollout => rollout.id)
    if (id === undefined) return undefined
    const { rollout } = await made.lab.fleet.rollouts.getRollout({ id })
    const waits = rollout?.hosts.find(one => one.host === host)?.waits ?? []
    last = waits.map(each => `${each.gate}: ${each.reason}`).join('; ')
    return waits.some(each => each.gate === 'jobs' && each.reason.includes(reason)) ? id : undefined
  }
  return await waitUntil(`${host} held by a Job`, look, { timeoutMs: 3 * 60_000, everyMs: 500 }).catch(
    async (error: Error) => {
      throw new Error(`${error.message}; last seen: ${last}\n${await made.lastWords()}`)
    },
  )
}

/** Waits until nothing of a gate's Jobs is in the cluster, their pods among it. */
export async function untilNoGateJobs(made: ClusterFleet, server: string): Promise<void> {
  await waitUntil(
    'no Job of a gate',
    async () => {
      const left = await made.kubectl(server, 'get', 'jobs,pods', '-A', '-l', 'muster/gate', '-o', 'name')
      if (left.trim() !== '') throw new Error(`there are ${left.trim().replaceAll('\n', ', ')}`)
      return true as const
    },
    { timeoutMs: 2 * 60_000, everyMs: 1_000 },
  )
}

const jobOf = (script: string): string => `apiVersion: batch/v1
kind: Job
metadata:
  name: smoke
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: smoke
          image: docker.io/lab/web:1
          imagePullPolicy: Never
          command: ["sh", "-c", ${JSON.stringify(script)}]
`
