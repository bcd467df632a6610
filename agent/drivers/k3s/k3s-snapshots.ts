import type { ClusterActs } from '../driver.ts'
import { type Distributed, ownAddress, startWithFiles, untilUp } from '../driver-base.ts'
import type { WaitOptions } from '../kubernetes/wait-options.ts'
import type { ClusterFiles } from '../node/cluster-files.ts'
import { type OpenSnapshot, restoreCluster } from '../restore-cluster.ts'
import { DONE, failed, type Result } from '../result.ts'
import { runProgram } from '../run-program.ts'
import { listSnapshots, makeSnapshot } from '../snapshots.ts'
import { K3S_DATASTORES, RESET_FLAG, SERVER_TOKEN } from './k3s-places.ts'
import { tokensOfDatastore, whyNoSnapshot } from './server-token.ts'
import { isSameToken } from './token-pair.ts'

const SNAPSHOT_MS = 5 * 60_000

/** k3s' token is the key of what a snapshot holds, so the token of its time lies beside it. */
export function k3sSnapshots(
  of: Distributed,
  isMember: () => Promise<boolean>,
  /** Does what is left to do on a machine that has become the first server. */
  settle: (signal?: AbortSignal) => Promise<Result<void>>,
): Pick<ClusterActs, 'snapshot' | 'listSnapshots' | 'restore'> {
  const { deps, programs } = of
  const { system, files } = deps
  return {
    snapshot: async (name, options) =>
      await makeSnapshot(of, name, async folder => {
        const refused = await whyNoSnapshot(of, options.signal)
        if (refused) return refused
        const tokens = await tokensOfDatastore(of, options.signal)
        if (tokens.kind === 'failed') return tokens
        const { token, agentToken } = tokens.value
        // It is the running server that makes it, wherever that listens.
        const args = [
          ...['etcd-snapshot', 'save', `--name=${name}`, `--etcd-snapshot-dir=${folder}`],
          `--etcd-server=https://127.0.0.1:${deps.facts.apiPort}`,
        ]
        const saved = await runProgram(programs, 'k3s', {
          args,
          deadlineMs: options.deadlineMs,
          signal: options.signal,
        })
        if (saved.kind === 'failed') return saved
        const after = await tokensOfDatastore(of, options.signal)
        if (after.kind === 'failed') return after
        // Nobody knows which of both it holds.
        if (!isSameToken(after.value.token, token))
          return failed('precondition', 'the token of servers was made anew meanwhile: take another snapshot')
        await files.write(`${folder}/token`, token)
        await files.write(`${folder}/agent-token`, agentToken ?? '')
        return DONE
      }),
    listSnapshots: async () => await listSnapshots(system, files),
    restore: async (restoring, options) =>
      await restoreCluster(of, restoring, options, {
        // What workers know is in no datastore.
        needed: ['token', 'agent-token'],
        place: async snapshot => await placeDatastore(of, snapshot, restoring.operation, options),
        undo: async operation => await undoReset(files, operation),
        start: async fresh => {
          const started = await startWithFiles(of, options.signal)
          if (started.kind === 'failed') return started
          // The Node of a machine before has a password that this one does not know; as soon as that can be, it is taken away.
          const passOver = fresh ? ['name-taken' as const] : []
          const up = await untilUp(of, 'the restored server', options, isMember, passOver)
          return up.kind === 'failed' || !fresh ? up : await settle(options.signal)
        },
      }),
  }
}

async function placeDatastore(
  { deps, programs }: Distributed,
  { name, folder, path }: OpenSnapshot,
  operation: string,
  options: WaitOptions,
): Promise<Result<void>> {
  const { files, nodeName, facts } = deps
  const beside = async (file: string) =>
    (await files.read(`${folder}/${file}`))?.toString('utf8').trim() ?? ''
  const token = await beside('token')
  if (token === '')
    return failed('unreadable', `snapshot ${name}: without the token of its time it cannot be read`)
  // k3s looks for its own file, whatever file it is told of: on a machine that has none it would refuse ("please pass --token").
  if ((await files.read(SERVER_TOKEN)) === undefined) await files.write(SERVER_TOKEN, `${token}\n`)
  // Left by a reset that was cut off before the start that takes it away: k3s would refuse another one.
  await files.remove(RESET_FLAG)
  if (!(await files.readMark('set-aside'))?.startsWith(`${operation} `))
    await files.mark('set-aside', `${operation} ${(await oldDatastores(files)).join(' ')}`)
  // What the unit reads stays as it was until the snapshot is in place, so that it can be started with that again.
  const tokenFile = `${files.runDir}/restore-token`
  await files.makeFolder(files.runDir)
  await files.write(tokenFile, token)
  const address = await ownAddress(deps)
  const args = [
    ...['server', '--cluster-reset', `--cluster-reset-restore-path=${path}`],
    ...[`--token-file=${tokenFile}`, `--node-name=${nodeName}`],
    ...(address === undefined ? [] : [`--node-ip=${address}`]),
    // It listens while it does so.
    ...(facts.apiPort === 6443 ? [] : [`--https-listen-port=${facts.apiPort}`]),
  ]
  const deadlineMs = Math.max(options.deadlineMs, SNAPSHOT_MS)
  let reset: Result<unknown>
  try {
    reset = await runProgram(programs, 'k3s', { args, deadlineMs, signal: options.signal })
  } finally {
    await files.remove(tokenFile)
  }
  if (reset.kind === 'failed') return reset
  await files.put('token', token)
  // That of agents only where none is kept: what was made anew since then stays so.
  if ((await files.get('agent-token')) === undefined)
    await files.put('agent-token', await beside('agent-token'))
  // What was being made anew was so in another datastore.
  await files.drop('next-token')
  // There is nobody to join any more.
  await files.put('start.env', 'K3S_CLUSTER_INIT=true\n')
  return DONE
}

/** Where k3s moved datastores when others took their place, by the second in which it did. */
async function oldDatastores(files: ClusterFiles): Promise<readonly string[]> {
  const secondsOf = (name: string) => Number(name.slice(OLD_DATASTORE.length))
  return (await files.list(K3S_DATASTORES))
    .filter(name => /^etcd-old-\d+$/.test(name))
    .sort((a, b) => secondsOf(a) - secondsOf(b))
}

const OLD_DATASTORE = 'etcd-old-'

/** What lay there before the first of the resets of this operation, which k3s keeps. */
async function undoReset(files: ClusterFiles, operation: string): Promise<void> {
  const [by, ...before] = (await files.readMark('set-aside'))?.split(' ') ?? []
  if (by !== operation) return
  const [own] = (await oldDatastores(files)).filter(name => !before.includes(name))
  if (own !== undefined) {
    await files.remove(`${K3S_DATASTORES}/etcd`)
    await files.move(`${K3S_DATASTORES}/${own}`, `${K3S_DATASTORES}/etcd`)
  }
  await files.remove(RESET_FLAG)
}
