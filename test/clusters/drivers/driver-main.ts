// Calls one act of the machine's driver, for tests: driver-main ACT, its arguments as JSON on standard input, its result on
// standard output. Everything but this file is the agent's.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sealFile } from '../../../agent/cluster-secrets/sealed-file.ts'
import { readClusterFacts } from '../../../agent/drivers/cluster-facts.ts'
import { openDriver } from '../../../agent/drivers/create-driver.ts'
import { connectRuntime } from '../../../agent/drivers/cri/runtime-client.ts'
import type { ClusterDriver } from '../../../agent/drivers/driver.ts'
import { connectEtcd } from '../../../agent/drivers/etcd/etcd-client.ts'
import { readJoinSecret, writeJoinSecret } from '../../../agent/drivers/join-secret.ts'
import { putToken } from '../../../agent/drivers/k3s/put-token.ts'
import { takesToken } from '../../../agent/drivers/k3s/takes-token.ts'
import { askApi } from '../../../agent/drivers/kubernetes/ask-api.ts'
import { createClusterFiles } from '../../../agent/drivers/node/cluster-files.ts'
import { createRealSystem } from '../../../agent/system/real-system.ts'
import { systemClock } from '../../../shared/clock.ts'
import { makePrivateDirectory, writeFileDurably } from '../../../shared/durable-file.ts'
import { generateMachineKey } from '../../../shared/x509/machine-key.ts'
import { type NodeProof, proveReady } from './prove-ready.ts'

const STATE = '/var/lib/muster-agent'

async function main(): Promise<void> {
  const [act = ''] = process.argv.slice(2)
  const system = createRealSystem({ root: '/', path: process.env.PATH ?? '' })
  await makePrivateDirectory(STATE)
  const publicKey = await ownKey()
  const files = createClusterFiles({
    stateDir: join(STATE, 'cluster'),
    runDir: '/run/muster-cluster',
    seal: async (name, bytes) => sealFile(publicKey, name, bytes),
  })
  const parts = {
    system,
    files,
    connectEtcd,
    connectRuntime,
    askApi,
    putToken,
    takesToken,
    clock: systemClock,
  }
  const reading = await openDriver(parts)
  if (reading.kind !== 'driver') throw new Error(JSON.stringify([reading, await readClusterFacts(system)]))
  const text = await readInput()
  const input: unknown[] = text === '' ? [] : JSON.parse(text)
  console.log(JSON.stringify(await call(reading.driver, act, input), showMaps))
}

/** The key that the agent would have. */
async function ownKey(): Promise<Buffer> {
  const path = join(STATE, 'test-key.der')
  try {
    return await readFile(path)
  } catch {
    const { publicKeyDer } = await generateMachineKey(2048)
    await writeFileDurably(path, publicKeyDer)
    return Buffer.from(publicKeyDer)
  }
}

// A cast: tests name an act and give it what its type asks for; a mistake shows as a failed test.
type Act = (...args: unknown[]) => Promise<unknown>

async function call(driver: ClusterDriver, act: string, input: readonly unknown[]): Promise<unknown> {
  if (act === 'mint') {
    const [request] = input as Parameters<ClusterDriver['cluster']['mint']>
    const minted = await driver.cluster.mint(request)
    if (minted.kind === 'failed') return minted
    return { ...minted, value: { ...minted.value, secret: writeJoinSecret(minted.value.secret) } }
  }
  if (act === 'join') {
    const [operation, text, options] = input as [string, string, { deadlineMs: number }]
    const secret = readJoinSecret(text)
    return secret
      ? await driver.join(operation, secret, options)
      : { kind: 'failed', reason: 'no join secret' }
  }
  if (act === 'proveNode') {
    const [proof, options] = input as [NodeProof, { deadlineMs: number }]
    return await proveReady(driver.cluster, proof, options.deadlineMs)
  }
  const acts: Record<string, unknown> = { ...driver.cluster, ...driver }
  const chosen = acts[act] as Act | undefined
  if (typeof chosen !== 'function') throw new Error(`no act ${act}`)
  return (await chosen(...input)) ?? null
}

const showMaps = (_: string, value: unknown): unknown =>
  value instanceof Map ? Object.fromEntries(value) : value

async function readInput(): Promise<string> {
  let text = ''
  for await (const chunk of process.stdin) text += String(chunk)
  return text
}

await main()
