/**
 * What firmware of real boards says of their watchdog: ACPI's "watchdog action table" (WDAT), here for the timer of Intel's
 * ICH9 chipset ("TCO"), which qemu's machine q35 emulates. Linux drives it by `wdat_wdt`. The registers are as Intel's data
 * sheet of the ICH9 has them, below the address at which OVMF puts power management.
 */
const TCO = 0x600 + 0x60
const RELOAD = TCO
const STATUS_2 = TCO + 0x06
const CONTROL = TCO + 0x08
const TIMER = TCO + 0x12
/** "General control and status" of the root complex, in memory, where OVMF puts that. */
const GENERAL_CONTROL = 0xfed1_c000 + 0x3410
const NO_REBOOT = 0x20
const HALT = 0x800
const COUNTS = 0x3ff
/** A tick is 0.6 s, and the timer has to run out twice before the machine is reset. */
const PERIOD_MS = 1_200

const READ = 0
const READ_COUNT = 1
const WRITE = 2
const WRITE_COUNT = 3
const KEEP_OTHER_BITS = 0x80
const SYSTEM_MEMORY = 0
const SYSTEM_IO = 1
const SIXTEEN_BITS = 2
const THIRTY_TWO_BITS = 3

/** Action, instruction, register, value, mask. */
const ENTRIES: readonly (readonly [number, number, number, number, number])[] = [
  /* feed */ [1, WRITE, RELOAD, 1, COUNTS],
  /* get and set the time */ [5, READ_COUNT, TIMER, 0, COUNTS],
  [6, WRITE_COUNT | KEEP_OTHER_BITS, TIMER, 0, COUNTS],
  /* is it running, run */ [8, READ, CONTROL, 0, HALT],
  [9, WRITE | KEEP_OTHER_BITS, CONTROL, 0, HALT],
  /* is it stopped, stop */ [10, READ, CONTROL, HALT, HALT],
  [11, WRITE | KEEP_OTHER_BITS, CONTROL, HALT, HALT],
  /* reset the machine when the time is over: a board comes up with that switched off */
  [17, WRITE | KEEP_OTHER_BITS, GENERAL_CONTROL, 0, NO_REBOOT],
  /* was it the watchdog, forget that */ [32, READ, STATUS_2, 2, 2],
  [33, WRITE, STATUS_2, 2, 2],
]
const HEADER_BYTES = 36
const OWN_BYTES = 32
const ENTRY_BYTES = 24

export function watchdogTable(): Buffer {
  const table = Buffer.alloc(HEADER_BYTES + OWN_BYTES + ENTRIES.length * ENTRY_BYTES)
  table.write('WDAT', 0, 'latin1')
  table.writeUInt32LE(table.length, 4)
  table.writeUInt8(1, 8)
  table.write('MUSTERLABWDOG   ', 10, 'latin1')
  table.writeUInt32LE(1, 24)
  table.write('LAB ', 28, 'latin1')
  table.writeUInt32LE(1, 32)
  table.writeUInt32LE(OWN_BYTES, 36)
  // It is no device of the PCI bus.
  table.writeUInt16LE(0xff, 40)
  table.fill(0xff, 42, 45)
  table.writeUInt32LE(PERIOD_MS, 48)
  table.writeUInt32LE(COUNTS, 52)
  table.writeUInt32LE(2, 56)
  const enabled = 1
  table.writeUInt8(enabled, 60)
  table.writeUInt32LE(ENTRIES.length, 64)
  for (const [index, [action, instruction, register, value, mask]] of ENTRIES.entries()) {
    const at = HEADER_BYTES + OWN_BYTES + index * ENTRY_BYTES
    table.writeUInt8(action, at)
    table.writeUInt8(instruction, at + 1)
    const inMemory = register === GENERAL_CONTROL
    table.writeUInt8(inMemory ? SYSTEM_MEMORY : SYSTEM_IO, at + 4)
    table.writeUInt8(inMemory ? 32 : 16, at + 5)
    table.writeUInt8(inMemory ? THIRTY_TWO_BITS : SIXTEEN_BITS, at + 7)
    table.writeBigUInt64LE(BigInt(register), at + 8)
    table.writeUInt32LE(value, at + 16)
    table.writeUInt32LE(mask, at + 20)
  }
  const sum = table.reduce((total, byte) => (total + byte) & 0xff, 0)
  table.writeUInt8((256 - sum) & 0xff, 9)
  return table
}
