import { succeeded } from '../../system/system.ts'
import type { ClusterActs } from '../driver.ts'
import { type Distributed, ownAddress, startWithFiles, untilUp } from '../driver-base.ts'
import { stopUnits } from '../node/services.ts'
import { DONE, failed, failedEnding } from '../result.ts'
import { runProgram } from '../run-program.ts'
import { findSnapshot, listSnapshots, makeSnapshot, snapshotsIn } from '../snapshots.ts'
import { peerUrl, startEnvironment } from './initial-cluster.ts'
import { AUTHORITY_FILES, PKI } from './pki.ts'

const LEAST_MS = 2 * 60_000

/** etcd's own snapshot, whose checksum restoring checks; the authorities that the cluster is nothing without lie beside it. */
export function componentsSnapshots(
  of: Distributed,
  isReady: () => Promise<boolean>,
): Pick<ClusterActs, 'snapshot' | 'listSnapshots' | 'restore'> {
  const { deps, programs } = of
  const { system, files, facts, nodeName } = deps
  const data = facts.etcdDataDir
  return {
    snapshot: async (name, options) =>
      await makeSnapshot(system, files, name, async folder => {
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
    restore: async (name, options) => {
      const snapshot = await findSnapshot(system, files, name)
      if (!snapshot) return failed('not-found', `no snapshot ${name} in ${snapshotsIn(files)}`)
      const address = await ownAddress(deps)
      if (address === undefined) return failed('precondition', 'the address of this node is not known yet')
      const stopped = await stopUnits(system, facts.units, options.signal)
      if (stopped.kind === 'failed') return stopped
      const own = `${nodeName}=${peerUrl(address)}`
      // Beside the data, and put in its place when it is whole; what was there is kept until the next restore.
      const fresh = `${data}/restored`
      await files.remove(fresh)
      const args = [
        ...['snapshot', 'restore', snapshot.path, `--data-dir=${fresh}`, `--name=${nodeName}`],
        ...[`--initial-cluster=${own}`, `--initial-advertise-peer-urls=${peerUrl(address)}`],
        `--initial-cluster-token=muster-${facts.cluster}`,
        // Watchers must not take the past for the present: revisions go on where they were.
        ...['--bump-revision=1000000000', '--mark-compacted'],
      ]
      const deadlineMs = Math.max(options.deadlineMs, LEAST_MS)
      const restored = await runProgram(programs, 'etcdutl', { args, deadlineMs, signal: options.signal })
      if (restored.kind === 'failed') return restored
      await files.remove(`${data}/before-restore`)
      await files.move(`${data}/member`, `${data}/before-restore`)
      await files.move(`${fresh}/member`, `${data}/member`)
      await files.remove(fresh)
      if (facts.distribution === 'kubernetes') {
        const args = ['-R', 'etcd:etcd', `${data}/member`]
        const given = await system.run('chown', args, { deadlineMs: LEAST_MS, signal: options.signal })
        if (!succeeded(given.ending))
          return failedEnding('chown of the datastore', given.ending, given.stderr)
      }
      await files.put('start.env', startEnvironment(own, 'existing'))
      const started = await startWithFiles(of, options.signal)
      return started.kind === 'failed' ? started : await untilUp(of, 'the restored server', options, isReady)
    },
  }
}
