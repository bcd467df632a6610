import { textAt } from '../../../shared/read-value.ts'
import type { ClusterActs } from '../driver.ts'
import { type Distributed, hostOf, startWithFiles, untilUp } from '../driver-base.ts'
import { restoreCluster } from '../restore-cluster.ts'
import { DONE, failed, type Result } from '../result.ts'
import { runProgram } from '../run-program.ts'
import { type Aside, putBack, setAside } from '../set-aside.ts'
import { listSnapshots, makeSnapshot } from '../snapshots.ts'
import { readK0sStatus } from './k0s-status.ts'
import { FOUNDING, K0S_DATA, settleFounder } from './k0s-unit.ts'

const DATA = ['etcd', 'pki'].map(
  (folder): Aside => [`${K0S_DATA}/${folder}`, `${K0S_DATA}/${folder}.before-restore`],
)

/** k0s' archive holds the datastore, the authorities and the configuration. */
export function k0sSnapshots(
  of: Distributed,
  isUp: () => Promise<boolean>,
): Pick<ClusterActs, 'snapshot' | 'listSnapshots' | 'restore'> {
  const { deps, programs } = of
  const { system, files } = deps
  return {
    snapshot: async (name, options) =>
      await makeSnapshot(of, name, async folder => {
        const args = ['backup', `--save-path=${folder}`]
        const saved = await runProgram(programs, 'k0s', {
          args,
          deadlineMs: options.deadlineMs,
          signal: options.signal,
        })
        return saved.kind === 'failed' ? saved : DONE
      }),
    listSnapshots: async () => await listSnapshots(system, files),
    restore: async (restoring, options) =>
      await restoreCluster(of, restoring, options, {
        needed: [],
        place: async ({ path }) => {
          // It refuses to write over what is there.
          await setAside(files, restoring.operation, DATA)
          await files.makeFolder(files.runDir)
          const args = ['restore', `--config-out=${files.runDir}/restored-k0s.yaml`, path]
          const { deadlineMs, signal } = options
          const restored = await runProgram(programs, 'k0s', { args, deadlineMs, signal, cwd: files.runDir })
          if (restored.kind === 'failed') {
            // So that it can be ordered again.
            await putBack(files, restoring.operation, DATA)
            return restored
          }
          await files.put('start.env', FOUNDING)
          return DONE
        },
        undo: async operation => await putBack(files, operation, DATA),
        start: async () => {
          const started = await startWithFiles(of, options.signal)
          if (started.kind === 'failed') return started
          const up = await untilUp(of, 'the restored controller', options, isUp)
          if (up.kind === 'failed') return up
          const settled = await settlePeerUrl(of, options.signal)
          return settled.kind === 'failed' ? settled : await settleFounder(deps)
        },
      }),
  }
}

/**
 * `k0s restore` takes the address from the archive, which is that of the machine where the snapshot was made. A lone member does
 * without it; whoever joins looks for it there, finds nobody or itself, and the two have no majority.
 */
async function settlePeerUrl(of: Distributed, signal?: AbortSignal): Promise<Result<void>> {
  const status = await readK0sStatus(of, signal)
  if (status.kind === 'failed') return status
  const address = textAt(status.value.spec, 'storage', 'etcd', 'peerAddress')
  if (address === undefined) return failed('unreadable', 'k0s status: says no address of its datastore')
  const url = `https://${hostOf(address)}:2380`
  const etcd = of.etcd()
  const [own, members] = await Promise.all([etcd.status(signal), etcd.members(signal)])
  if (own.kind === 'failed') return own
  if (members.kind === 'failed') return members
  const member = members.value.find(({ id }) => id === own.value.memberId)
  if (!member) return failed('quorum', 'the datastore does not list this server as a member')
  if (member.peerUrls.includes(url)) return DONE
  return await etcd.movePeer(member.id, url, signal)
}
