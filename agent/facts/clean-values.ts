// What firmware, drives and tools say, made into values or into nothing. Placeholders that makers forgot to fill in are
// nothing: two machines must never seem to be one because both say "Default string".

const MAX_TEXT = 256

const PLACEHOLDERS = new Set([
  'base board serial number',
  'board serial number',
  'chassis manufacture',
  'chassis serial number',
  'default',
  'default string',
  'empty',
  'invalid',
  'n/a',
  'na',
  'no asset information',
  'no asset tag',
  'no enclosure',
  'none',
  'not applicable',
  'not available',
  'not provided',
  'not present',
  'not settable',
  'not specified',
  'null',
  'o.e.m.',
  'oem',
  'sernum0',
  'serial',
  'serial number',
  'system manufacturer',
  'system product name',
  'system serial number',
  'system uuid',
  'tba',
  'tbd',
  'type2 - board serial number',
  'undefined',
  'uninitialized',
  'unknown',
  'unspecified',
])
const PLACEHOLDER_UUIDS = new Set([
  '00020003-0004-0005-0006-000700080009',
  '03000200-0400-0500-0006-000700080009',
  '12345678-1234-5678-90ab-cddeefaabbcc',
  '12345678-1234-1234-1234-123456789abc',
  '01234567-89ab-cdef-0123-456789abcdef',
  '4c4c4544-0000-2010-8020-80c04f202020',
  'fefefefe-fefe-fefe-fefe-fefefefefefe',
])

/** Text on one line, without control characters and surrounding spaces, bounded in bytes; undefined when empty. */
export function cleanText(text: string, maxBytes = MAX_TEXT): string | undefined {
  const line = wellFormed(text)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this looks for
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ')
    .replace(/ {2,}/g, ' ')
    .trim()
  if (Buffer.byteLength(line) <= maxBytes) return line === '' ? undefined : line
  // A character cut in two decodes to a replacement character at the end, which is longer than what it replaces.
  return Buffer.from(line)
    .toString('utf8', 0, maxBytes)
    .replace(/\ufffd+$/, '')
    .trim()
}

/** Halves of characters become replacement characters, as everything that encodes text would make them. */
function wellFormed(text: string): string {
  return Buffer.from(text).toString('utf8')
}

/** Whether a maker's text stands for nothing. */
export function isPlaceholder(text: string): boolean {
  const plain = text.trim().toLowerCase()
  return (
    PLACEHOLDERS.has(plain) ||
    plain.includes('to be filled') ||
    plain.includes('filled by o.e.m') ||
    /^(.)\1*$/.test(plain.replace(/[\s-]/g, '') || '-') || // "0", "00000000", "xxxx", "---"
    isCount(plain)
  )
}

/** "0123456789", "123456789ABCDEF": somebody's finger on the keyboard, not a number. */
function isCount(plain: string): boolean {
  const digits = '0123456789abcdef'
  return plain.length >= 6 && (`${digits}${digits}`.includes(plain) || '01234567890123456789'.includes(plain))
}

/** Lower-case UUID, or undefined when it is none or one that many machines share. */
export function cleanUuid(text: string): string | undefined {
  const uuid = text.trim().toLowerCase()
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid)) return undefined
  return PLACEHOLDER_UUIDS.has(uuid) || /^(.)\1*$/.test(uuid.replaceAll('-', '')) ? undefined : uuid
}

/** Lower-case MAC of six bytes, or undefined when it is none, or all zeros or ones. */
export function cleanMac(text: string): string | undefined {
  const mac = text.trim().toLowerCase()
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac)) return undefined
  return mac === '00:00:00:00:00:00' || mac === 'ff:ff:ff:ff:ff:ff' ? undefined : mac
}

/** A drive's world wide name, or undefined when it is all zeros. */
export function cleanWwn(text: string): string | undefined {
  const wwn = cleanText(text)
  return wwn === undefined || /^(0x|eui\.|naa\.|nvme\.|uuid\.)?[0-]*$/.test(wwn) ? undefined : wwn
}

/** A whole number from 0 to 2^53, or undefined; takes what JSON or a file in /sys says. */
export function cleanCount(value: unknown): bigint | undefined {
  const number = typeof value === 'string' && /^\d{1,16}$/.test(value.trim()) ? Number(value) : value
  return typeof number === 'number' && Number.isSafeInteger(number) && number >= 0
    ? BigInt(number)
    : undefined
}
