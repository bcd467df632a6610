import { describeEnding, type System, succeeded } from '../system/system.ts'

const SHORT_MS = 60_000
const VENDOR = '4a67b082-0a4c-41cf-b6c7-440b29bb8c4f'
/** EFI variable in which systemd-boot says what it can do, for the vendor id of its own. */
const FEATURES = `/sys/firmware/efi/efivars/LoaderFeatures-${VENDOR}`
/** EFI variable with the entry that is booted once; the boot loader deletes it before it starts anything. */
const CHOICE = `/sys/firmware/efi/efivars/LoaderEntryOneShot-${VENDOR}`
const ENTRY_ONE_SHOT = 1n << 3n

/** Whether the boot loader that booted this machine can boot an entry once; undefined: nobody can tell. */
export async function hasOneShotBoot(system: System): Promise<boolean | undefined> {
  const reading = await system.readFile(FEATURES, 64)
  if (reading.kind === 'missing') return false
  // Four bytes of attributes stand before the value.
  if (reading.kind !== 'file' || reading.bytes.length < 12) return undefined
  return (reading.bytes.readBigUInt64LE(4) & ENTRY_ONE_SHOT) !== 0n
}

/** Chooses the entry for the next boot, and that alone. Says what went wrong. */
export async function chooseOnce(system: System, entry: string): Promise<string | undefined> {
  return await setOneShot(system, entry)
}

/** Takes back a choice that no boot has used up. Says what went wrong: the next boot would be that entry's. */
export async function clearChoice(system: System): Promise<string | undefined> {
  // Where the loader's other variable is readable, a missing one is none. A machine that was booted another way has none to ask.
  const left = await system.exists(CHOICE)
  if (left.kind === 'missing' && (await hasOneShotBoot(system)) === true) return undefined
  const problem = await setOneShot(system, '')
  return (
    problem &&
    `the entry that was chosen for one boot is still chosen, and the next boot starts it: ${problem}; \`bootctl set-oneshot ''\` takes it back`
  )
}

async function setOneShot(system: System, entry: string): Promise<string | undefined> {
  const run = await system.run('bootctl', ['set-oneshot', entry], { deadlineMs: SHORT_MS })
  if (succeeded(run.ending)) return undefined
  const said = (run.stderr.trim().split('\n').at(-1) ?? '').slice(0, 300)
  return `${describeEnding(`bootctl set-oneshot ${entry || "''"}`, run.ending)}: ${said}`
}
