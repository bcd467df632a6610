import type { ClusterActs } from '../driver.ts'
import { type Distributed, startWithFiles, untilUp } from '../driver-base.ts'
import { stopUnits } from '../node/services.ts'
import { DONE, failed } from '../result.ts'
import { runProgram } from '../run-program.ts'
import { findSnapshot, listSnapshots, makeSnapshot, snapshotsIn } from '../snapshots.ts'
import { FOUNDING, K0S_DATA, settleFounder } from './k0s-unit.ts'

/** k0s' archive holds the datastore, the authorities and the configuration. */
export function k0sSnapshots(
  of: Distributed,
  isUp: () => Promise<boolean>,
): Pick<ClusterActs, 'snapshot' | 'listSnapshots' | 'restore'> {
  const { deps, programs } = of
  const { system, files, facts } = deps
  return {
    snapshot: async (name, options) =>
      await makeSnapshot(system, files, name, async folder => {
        const args = ['backup', `--save-path=${folder}`]
        const saved = await runProgram(programs, 'k0s', {
          args,
          deadlineMs: options.deadlineMs,
          signal: options.signal,
        })
        return saved.kind === 'failed' ? saved : DONE
      }),
    listSnapshots: async () => await listSnapshots(system, files),
    restore: async (name, options) => {
      const snapshot = await findSnapshot(system, files, name)
      if (!snapshot) return failed('not-found', `no snapshot ${name} in ${snapshotsIn(files)}`)
      const stopped = await stopUnits(system, facts.units, options.signal)
      if (stopped.kind === 'failed') return stopped
      // It refuses to write over what is there; what was there is kept until the next restore.
      for (const folder of ['etcd', 'pki']) {
        await files.remove(`${K0S_DATA}/${folder}.before-restore`)
        await files.move(`${K0S_DATA}/${folder}`, `${K0S_DATA}/${folder}.before-restore`)
      }
      const args = ['restore', `--config-out=${files.runDir}/restored-k0s.yaml`, snapshot.path]
      const run = { args, deadlineMs: options.deadlineMs, signal: options.signal, cwd: files.runDir }
      const restored = await runProgram(programs, 'k0s', run)
      if (restored.kind === 'failed') return restored
      await files.put('start.env', FOUNDING)
      const started = await startWithFiles(of, options.signal)
      if (started.kind === 'failed') return started
      const up = await untilUp(of, 'the restored controller', options, isUp)
      return up.kind === 'failed' ? up : await settleFounder(deps)
    },
  }
}
