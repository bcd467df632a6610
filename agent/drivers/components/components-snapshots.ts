import { succeeded } from '../../system/system.ts'
import type { ClusterActs, Restoring } from '../driver.ts'
import { type Distributed, ownAddress, startWithFiles, untilUp } from '../driver-base.ts'
import type { WaitOptions } from '../kubernetes/wait-options.ts'
import { type OpenSnapshot, restoreCluster } from '../restore-cluster.ts'
import { DONE, failed, failedEnding, type Result } from '../result.ts'
import { runProgram } from '../run-program.ts'
import { type Aside, putBack, setAside } from '../set-aside.ts'
import { listSnapshots, makeSnapshot } from '../snapshots.ts'
import { peerUrl, startEnvironment } from './initial-cluster.ts'
import { AUTHORITY_FILES, KUBERNETES_DIR, PKI } from './pki.ts'

const LEAST_MS = 2 * 60_000

/** How a machine becomes the first server of a cluster, whatever its datastore holds. */
export interface FirstServer {
  /** Makes certificates and kubeconfigs that are missing; answers its address. */
  make(signal?: AbortSignal): Promise<Result<string>>
  /** Starts the units and waits for them, and lets its own kubelet join. */
  start(what: string, operation: string, options: WaitOptions): Promise<Result<void>>
}

/** etcd's own snapshot, whose checksum restoring checks; the authorities that the cluster is nothing without lie beside it. */
export function componentsSnapshots(
  of: Distributed,
  isReady: () => Promise<boolean>,
  first: FirstServer,
): Pick<ClusterActs, 'snapshot' | 'listSnapshots' | 'restore'> {
  const { deps, programs } = of
  const { system, files } = deps
  return {
    snapshot: async (name, options) =>
      await makeSnapshot(of, name, async folder => {
        const pair = ['--cacert', `${PKI}/etcd/ca.crt`, '--cert', `${PKI}/apiserver-etcd-client.crt`]
        const args = [
          ...['snapshot', 'save', `${folder}/etcd.db`, '--endpoints', 'https://127.0.0.1:2379'],
          ...[...pair, '--key', `${PKI}/apiserver-etcd-client.key`],
        ]
        const saved = await runProgram(programs, 'etcdctl', {
          args,
          deadlineMs: options.deadlineMs,
          signal: options.signal,
        })
        if (saved.kind === 'failed') return saved
        for (const file of AUTHORITY_FILES) {
          const text = await files.read(`${PKI}/${file}`)
          if (!text)
            return failed('precondition', `no ${PKI}/${file}: this machine is no server of the cluster`)
          await files.write(`${folder}/pki/${file}`, text.toString('utf8'))
        }
        return DONE
      }),
    listSnapshots: async () => await listSnapshots(system, files),
    restore: async (restoring, options) =>
      await restoreCluster(of, restoring, options, {
        needed: AUTHORITY_FILES.map(file => `pki/${file}`),
        place: async (snapshot, fresh) => {
          const taken = fresh ? await takeAuthorities(of, snapshot, first, options) : DONE
          return taken.kind === 'failed' ? taken : await placeDatastore(of, snapshot, restoring, options)
        },
        undo: async operation => await putBack(files, operation, dataOf(of)),
        start: async fresh => {
          if (fresh) return await first.start('the restored server', restoring.operation, options)
          const started = await startWithFiles(of, options.signal)
          return started.kind === 'failed'
            ? started
            : await untilUp(of, 'the restored server', options, isReady)
        },
      }),
  }
}

/** The authorities of the cluster, and by them what a first server has of its own: nothing that lay here before is trusted. */
async function takeAuthorities(
  { deps: { files } }: Distributed,
  { folder }: OpenSnapshot,
  first: FirstServer,
  { signal }: WaitOptions,
): Promise<Result<void>> {
  await files.remove(PKI)
  for (const name of await files.list(KUBERNETES_DIR))
    if (name.endsWith('.conf')) await files.remove(`${KUBERNETES_DIR}/${name}`)
  for (const file of AUTHORITY_FILES) {
    const text = (await files.read(`${folder}/pki/${file}`))?.toString('utf8') ?? ''
    await files.write(`${PKI}/${file}`, text, file.endsWith('.key') ? 0o600 : 0o644)
  }
  const made = await first.make(signal)
  return made.kind === 'failed' ? made : DONE
}

function dataOf({ deps }: Distributed): readonly Aside[] {
  const data = deps.facts.etcdDataDir
  return [[`${data}/member`, `${data}/before-restore`]]
}

async function placeDatastore(
  of: Distributed,
  snapshot: OpenSnapshot,
  { operation }: Restoring,
  options: WaitOptions,
): Promise<Result<void>> {
  const { deps, programs } = of
  const { system, files, facts, nodeName } = deps
  const data = facts.etcdDataDir
  const address = await ownAddress(deps)
  if (address === undefined) return failed('precondition', 'the address of this node is not known yet')
  const own = `${nodeName}=${peerUrl(address)}`
  // Beside the data, and put in its place when it is whole; what was there is kept until the next restore.
  const fresh = `${data}/restored`
  await files.remove(fresh)
  const args = [
    ...['snapshot', 'restore', snapshot.path, `--data-dir=${fresh}`, `--name=${nodeName}`],
    ...[`--initial-cluster=${own}`, `--initial-advertise-peer-urls=${peerUrl(address)}`],
    // The numbers of cluster and member are made of it: with those of an earlier restore, servers that joined after that one would
    // be let in with what they have, and as the majority overwrite this.
    `--initial-cluster-token=muster-${facts.cluster}-${operation}`,
    // Watchers must not take the past for the present: revisions go on where they were.
    ...['--bump-revision=1000000000', '--mark-compacted'],
  ]
  const deadlineMs = Math.max(options.deadlineMs, LEAST_MS)
  const restored = await runProgram(programs, 'etcdutl', { args, deadlineMs, signal: options.signal })
  if (restored.kind === 'failed') return restored
  await setAside(files, operation, dataOf(of))
  await files.move(`${fresh}/member`, `${data}/member`)
  await files.remove(fresh)
  if (facts.distribution === 'kubernetes') {
    const args = ['-R', 'etcd:etcd', `${data}/member`]
    const given = await system.run('chown', args, { deadlineMs: LEAST_MS, signal: options.signal })
    if (!succeeded(given.ending)) return failedEnding('chown of the datastore', given.ending, given.stderr)
  }
  await files.put('start.env', startEnvironment(own, 'existing'))
  return DONE
}
