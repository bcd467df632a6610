import { readArmRecord } from '../../safety/arm-record.ts'
import { listArmFolders } from '../../safety/operation-folder.ts'
import { settleAtBoot } from '../../safety/rearm-at-boot.ts'
import type { NodeUnderTest } from './node-under-test.ts'

/** What the static unit does at a boot, over the machine under test. */
export async function rearmUnder({ stateDir, system, units }: NodeUnderTest): Promise<void> {
  for (const folder of await listArmFolders(stateDir)) {
    const reading = await readArmRecord(folder)
    if (reading.kind !== 'armed') continue
    await settleAtBoot({ system, units }, folder, reading.record, stateDir, () => {})
  }
}
