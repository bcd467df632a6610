import type { MessageInitShape } from '@bufbuild/protobuf'
import type { SystemFactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { cleanText, cleanUuid, isPlaceholder } from './clean-values.ts'
import type { Source } from './source.ts'

const DMI = '/sys/class/dmi/id'
const TREE = '/sys/firmware/devicetree/base'

/** What the board's maker says of it, from SMBIOS or, without one, from the device tree; and the system's names. */
export async function collectSystem(source: Source): Promise<MessageInitShape<typeof SystemFactsSchema>> {
  const hasDmi = await source.has(DMI)
  const board = hasDmi ? await fromDmi(source) : await fromDeviceTree(source)
  const machineId = (await source.text('/etc/machine-id'))?.trim()
  if (machineId !== undefined && !/^[0-9a-f]{32}$/.test(machineId)) {
    source.warn('/etc/machine-id: no machine id in it')
  }
  return {
    ...board,
    virtualisation: await detectVirtualisation(source),
    machineId: machineId !== undefined && /^[0-9a-f]{32}$/.test(machineId) ? machineId : undefined,
    hostname: cleanText((await source.text('/proc/sys/kernel/hostname')) ?? ''),
  }
}

async function fromDmi(source: Source): Promise<MessageInitShape<typeof SystemFactsSchema>> {
  const read = async (name: string) => makerText(source, `${DMI}/${name}`)
  const uuidText = await source.text(`${DMI}/product_uuid`)
  const uuid = uuidText === undefined ? undefined : cleanUuid(uuidText)
  if (uuidText !== undefined && uuid === undefined) {
    source.warn(`${DMI}/product_uuid: placeholder or no UUID: ${cleanText(uuidText, 64) ?? 'empty'}`)
  }
  return {
    vendor: await read('sys_vendor'),
    product: await read('product_name'),
    serial: await read('product_serial'),
    uuid,
    boardVendor: await read('board_vendor'),
    boardProduct: await read('board_name'),
    boardSerial: await read('board_serial'),
    chassisSerial: await read('chassis_serial'),
  }
}

/** The device tree's strings end with a zero byte; `compatible` is a list of "maker,board", the exact one first. */
async function fromDeviceTree(source: Source): Promise<MessageInitShape<typeof SystemFactsSchema>> {
  const compatible = (await source.text(`${TREE}/compatible`))?.split('\0')[0]
  return {
    vendor: compatible?.includes(',') ? cleanText(compatible.split(',')[0] ?? '') : undefined,
    product: await makerText(source, `${TREE}/model`),
    serial: await makerText(source, `${TREE}/serial-number`),
  }
}

/** A maker's text without placeholders, which are named in a warning. */
export async function makerText(source: Source, path: string): Promise<string | undefined> {
  const text = await source.text(path)
  const value = text === undefined ? undefined : cleanText(text.replace(/\0+$/, ''))
  if (value === undefined || !isPlaceholder(value)) return value
  source.warn(`${path}: placeholder: ${value}`)
  return undefined
}

/** "none" comes with exit code 1, everything else with 0. */
async function detectVirtualisation(source: Source): Promise<string | undefined> {
  const printed = await source.output('systemd-detect-virt', [], {
    accept: ending => ending.kind === 'exited' && ending.exitCode <= 1,
  })
  const value = printed?.trim()
  if (value === undefined || /^[a-z0-9-]{1,32}$/.test(value)) return value
  source.warn('systemd-detect-virt: prints no name of a virtualisation')
  return undefined
}
