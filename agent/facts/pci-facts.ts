import type { MessageInitShape } from '@bufbuild/protobuf'
import type { PciFactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { cleanText } from './clean-values.ts'
import type { Source } from './source.ts'

type Pci = MessageInitShape<typeof PciFactsSchema>

const MAX_PCI = 512
const DEVICES = '/sys/bus/pci/devices'

/** The PCI devices as the kernel numbers them; their names from `lspci`, which brings the list of names. */
export async function collectPci(source: Source): Promise<Pci[]> {
  const slots = (await source.names(DEVICES)).filter(name =>
    /^[0-9a-f]{4,8}(:[0-9a-f]{2}){2}\.[0-7]$/.test(name),
  )
  if (slots.length === 0) return []
  if (slots.length > MAX_PCI) source.warn(`${DEVICES}: only ${MAX_PCI} of ${slots.length} devices are told`)
  const printed = await source.output('lspci', ['-D', '-mm'])
  const names = parseLspci(printed ?? '')
  const devices: Pci[] = []
  for (const slot of slots.slice(0, MAX_PCI)) {
    const hex = async (name: string, digits: number) => {
      const text = (await source.text(`${DEVICES}/${slot}/${name}`))?.trim().toLowerCase() ?? ''
      return new RegExp(`^0x[0-9a-f]{${digits}}$`).test(text) ? text.slice(2) : undefined
    }
    const vendorId = await hex('vendor', 4)
    const deviceId = await hex('device', 4)
    const pciClass = (await hex('class', 6))?.slice(0, 4)
    if (vendorId === undefined || deviceId === undefined || pciClass === undefined) {
      source.warn(`${DEVICES}/${slot}: tells no vendor, device or class`)
      continue
    }
    devices.push({
      slot,
      vendorId,
      deviceId,
      class: pciClass,
      driver: await source.linkName(`${DEVICES}/${slot}/driver`),
      description: names.get(slot),
      gpu: pciClass.startsWith('03') || pciClass.startsWith('12'),
    })
  }
  return devices
}

/** The lines of `lspci -D -mm`: slot, then class, vendor and device in quotes. */
function parseLspci(text: string): ReadonlyMap<string, string> {
  const names = new Map<string, string>()
  for (const line of text.split('\n')) {
    const slot = /^\S+/.exec(line)?.[0]
    const [, vendor, device] = Array.from(line.matchAll(/"((?:[^"\\]|\\.)*)"/g), match =>
      (match[1] ?? '').replace(/\\(.)/g, '$1'),
    )
    const name =
      vendor === undefined || device === undefined ? undefined : cleanText(`${vendor} ${device}`, 128)
    if (slot !== undefined && name !== undefined) names.set(slot, name)
  }
  return names
}
