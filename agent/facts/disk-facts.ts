import type { MessageInitShape } from '@bufbuild/protobuf'
import type { DiskFactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { cleanCount, cleanText, cleanWwn, isPlaceholder } from './clean-values.ts'
import { diskPaths } from './disk-paths.ts'
import { compare } from './memory-facts.ts'
import { booleanAt, isObject, type JsonObject, objectsIn, parseJson, stringAt } from './parse-json.ts'
import type { Source } from './source.ts'

type Disk = MessageInitShape<typeof DiskFactsSchema> & { name: string }

const MAX_DISKS = 256
const COLUMNS = 'NAME,TYPE,SIZE,ROTA,RM,TRAN,MODEL,SERIAL,WWN'
/** Devices that are made of other disks, of memory or of the network. They come and go with what runs. */
const NO_DISK = /^(zram|loop|ram|nbd|rbd|drbd|dm-|md|sr|fd|zd|bcache|mtdblock|mmcblk\d+(boot|rpmb|gp))/

/**
 * The machine's disks. `lsblk` tells most; what it leaves open (it needs udev's database) is read from /sys. Disks on
 * the network (iSCSI) are left out, because volumes of pods come and go as such.
 */
export async function collectDisks(source: Source): Promise<Disk[]> {
  const listed = await listWithLsblk(source)
  const rows =
    listed ?? (await source.names('/sys/block')).map((name): JsonObject => ({ name, type: 'disk' }))
  const paths = await diskPaths(source)
  const disks: Disk[] = []
  for (const row of rows) {
    const name = stringAt(row, 'name')
    if (name === undefined || !/^[a-z0-9]{1,32}$/.test(name) || NO_DISK.test(name)) continue
    if (stringAt(row, 'type') !== 'disk' || stringAt(row, 'tran') === 'iscsi') continue
    if (listed === undefined && !(await source.has(`/sys/block/${name}/device`))) continue
    disks.push({ ...(await describeDisk(source, name, row)), path: paths.get(name) })
  }
  if (disks.length > MAX_DISKS) source.warn(`lsblk: only ${MAX_DISKS} of ${disks.length} disks are told`)
  return disks.sort((a, b) => compare(a.name, b.name)).slice(0, MAX_DISKS)
}

async function listWithLsblk(source: Source): Promise<readonly JsonObject[] | undefined> {
  const printed = await source.output('lsblk', ['-J', '-b', '-d', '-o', COLUMNS], {
    // 32 is "none of the devices found", which a machine without disks says.
    accept: ending => ending.kind === 'exited' && (ending.exitCode === 0 || ending.exitCode === 32),
  })
  if (printed === undefined) return undefined
  if (printed.trim() === '') return []
  const json = parseJson(source, 'lsblk', printed)
  if (isObject(json) && Array.isArray(json.blockdevices)) return objectsIn(json.blockdevices)
  if (json !== undefined) source.warn('lsblk: lists no blockdevices')
  return undefined
}

async function describeDisk(source: Source, name: string, row: JsonObject): Promise<Disk> {
  const sys = `/sys/block/${name}`
  const transport = cleanText(stringAt(row, 'tran') ?? '', 16) ?? (await transportOf(source, name))
  const sectors = async () => cleanCount((await source.text(`${sys}/size`)) ?? '')
  const size = cleanCount(row.size) ?? multiply(await sectors(), 512n)
  const rotational = booleanAt(row, 'rota') ?? flag(await source.text(`${sys}/queue/rotational`))
  const serial =
    cleanText(stringAt(row, 'serial') ?? '', 128) ?? (await serialFromSys(source, sys)) ?? undefined
  if (serial !== undefined && isPlaceholder(serial)) source.warn(`${name}: placeholder serial: ${serial}`)
  return {
    name,
    serial: serial !== undefined && isPlaceholder(serial) ? undefined : serial,
    wwn:
      cleanWwn(stringAt(row, 'wwn') ?? '') ??
      cleanWwn((await source.text(`${sys}/wwid`, { expected: NOT_TOLD })) ?? '') ??
      cleanWwn((await source.text(`${sys}/device/wwid`, { expected: NOT_TOLD })) ?? ''),
    model:
      cleanText(stringAt(row, 'model') ?? '', 128) ??
      cleanText((await source.text(`${sys}/device/model`)) ?? '', 128) ??
      cleanText((transport === 'mmc' ? await source.text(`${sys}/device/name`) : undefined) ?? '', 128),
    size: size === 0n ? undefined : size, // an empty card reader has no disk of no bytes
    // A virtual disk is not known to turn, whatever its driver's default says.
    rotational: transport === 'virtio' || transport === 'xen' ? undefined : rotational,
    transport,
    removable: booleanAt(row, 'rm') ?? flag(await source.text(`${sys}/removable`)),
  }
}

/** What the kernel answers where a drive does not tell its name. */
const NOT_TOLD = ['EINVAL', 'ENXIO', 'EIO', 'ENODEV', 'EOPNOTSUPP']

/** Where kernels keep serials: NVMe and MMC, virtio, and the SCSI page 0x80 (four bytes, then text). */
async function serialFromSys(source: Source, sys: string): Promise<string | undefined> {
  for (const path of [`${sys}/device/serial`, `${sys}/serial`]) {
    const serial = cleanText((await source.text(path, { expected: NOT_TOLD })) ?? '', 128)
    if (serial !== undefined) return serial
  }
  const page = await source.system.readFile(`${sys}/device/vpd_pg80`, 1024)
  if (page.kind !== 'file' || page.bytes.length <= 4) return undefined
  return cleanText(page.bytes.subarray(4).toString('latin1'), 128)
}

async function transportOf(source: Source, name: string): Promise<string | undefined> {
  if (name.startsWith('nvme')) return 'nvme'
  if (name.startsWith('vd')) return 'virtio'
  if (name.startsWith('xvd')) return 'xen'
  if (name.startsWith('mmcblk')) return 'mmc'
  const device = await source.system.readLink(`/sys/block/${name}`)
  if (device.kind !== 'link') return undefined
  if (/\/usb\d+\//.test(device.target)) return 'usb'
  return /\/ata\d+\//.test(device.target) ? 'sata' : undefined
}

function flag(text: string | undefined): boolean | undefined {
  const value = text?.trim()
  return value === '1' ? true : value === '0' ? false : undefined
}

function multiply(value: bigint | undefined, by: bigint): bigint | undefined {
  return value === undefined ? undefined : value * by
}
