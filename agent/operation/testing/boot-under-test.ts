import { readArmRecord } from '../../safety/arm-record.ts'
import { listArmFolders } from '../../safety/operation-folder.ts'
import { returnNewer, settleAtBoot } from '../../safety/rearm-at-boot.ts'
import type { NodeUnderTest } from './node-under-test.ts'

/** What the static unit does at a boot, over the machine under test. */
export async function rearmUnder({ stateDir, system, units }: NodeUnderTest): Promise<void> {
  for (const folder of await listArmFolders(stateDir)) {
    const reading = await readArmRecord(folder)
    const doors = { system, units }
    if (reading.kind === 'armed') await settleAtBoot(doors, folder, reading.record, stateDir, () => {})
    if (reading.kind === 'newer') await returnNewer(doors, folder, reading.core, stateDir, () => {})
  }
}
