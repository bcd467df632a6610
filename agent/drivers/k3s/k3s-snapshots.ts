import type { ClusterActs } from '../driver.ts'
import { type Distributed, ownAddress, startWithFiles, untilUp } from '../driver-base.ts'
import { stopUnits } from '../node/services.ts'
import { DONE, failed } from '../result.ts'
import { runProgram } from '../run-program.ts'
import { findSnapshot, listSnapshots, makeSnapshot, snapshotsIn } from '../snapshots.ts'
import { SERVER_TOKEN } from './k3s-places.ts'

const SNAPSHOT_MS = 5 * 60_000

/** k3s' token is the key of what a snapshot holds, so the token of its time lies beside it. */
export function k3sSnapshots(
  of: Distributed,
  isMember: () => Promise<boolean>,
): Pick<ClusterActs, 'snapshot' | 'listSnapshots' | 'restore'> {
  const { deps, programs } = of
  const { system, files, facts, nodeName } = deps
  return {
    snapshot: async (name, options) =>
      await makeSnapshot(system, files, name, async folder => {
        const token = (await files.read(SERVER_TOKEN))?.toString('utf8')
        if (token === undefined)
          return failed('precondition', `no ${SERVER_TOKEN}: this machine is no server`)
        const args = ['etcd-snapshot', 'save', `--name=${name}`, `--etcd-snapshot-dir=${folder}`]
        const saved = await runProgram(programs, 'k3s', {
          args,
          deadlineMs: options.deadlineMs,
          signal: options.signal,
        })
        if (saved.kind === 'failed') return saved
        await files.write(`${folder}/token`, token)
        await files.write(`${folder}/agent-token`, (await files.get('agent-token')) ?? '')
        return DONE
      }),
    listSnapshots: async () => await listSnapshots(system, files),
    restore: async (name, options) => {
      const snapshot = await findSnapshot(system, files, name)
      if (!snapshot) return failed('not-found', `no snapshot ${name} in ${snapshotsIn(files)}`)
      const token = (await files.read(`${snapshotsIn(files)}/${name}/token`))?.toString('utf8').trim()
      if (token === undefined || token === '')
        return failed('unreadable', `snapshot ${name}: without the token of its time it cannot be read`)
      const stopped = await stopUnits(system, facts.units, options.signal)
      if (stopped.kind === 'failed') return stopped
      await files.put('token', token)
      // Refused while a server to join is configured.
      await files.put('start.env', 'K3S_CLUSTER_INIT=true\n')
      const address = await ownAddress(deps)
      const args = [
        ...['server', '--cluster-reset', `--cluster-reset-restore-path=${snapshot.path}`],
        ...[`--token-file=${files.runDir}/token`, `--node-name=${nodeName}`],
        ...(address === undefined ? [] : [`--node-ip=${address}`]),
      ]
      const deadlineMs = Math.max(options.deadlineMs, SNAPSHOT_MS)
      const reset = await runProgram(programs, 'k3s', { args, deadlineMs, signal: options.signal })
      if (reset.kind === 'failed') return reset
      const started = await startWithFiles(of, options.signal)
      return started.kind === 'failed' ? started : await untilUp(of, 'the restored server', options, isMember)
    },
  }
}
