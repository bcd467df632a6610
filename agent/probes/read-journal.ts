import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import {
  type JournalAnswer,
  JournalAnswerSchema,
  type JournalLine,
  JournalLineSchema,
  type JournalProbe,
} from '../../shared/gen/muster/v1/probe_pb.ts'
import { msFromDuration } from '../../shared/time.ts'
import { isUnitName } from '../../shared/unit-name.ts'
import { describeEnding, type System, succeeded } from '../system/system.ts'

const DEFAULT_LINES = 50
const MAX_LINES = 500
const MAX_LINE_CHARS = 4 * 1024
/** Characters of all lines together: an answer takes at most 256 KiB, and JSON writes some characters as six. */
const MAX_CHARS = 192 * 1024
const MAX_OUTPUT_BYTES = 8 * 1024 * 1024

/** The newest lines of one unit's log. Throws a sentence where they cannot be told. */
export async function readJournal(
  system: System,
  { unit, lines, since }: Pick<JournalProbe, 'unit' | 'lines' | 'since'>,
  nowMs: number,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<JournalAnswer> {
  if (!isUnitName(unit)) throw new Error('journal: unit must be the name of one unit with its suffix')
  const count = Math.min(lines || DEFAULT_LINES, MAX_LINES)
  const from = since ? [`--since=@${Math.floor((nowMs - msFromDuration(since)) / 1_000)}`] : []
  const result = await system.run(
    'journalctl',
    [
      ...['--no-pager', '--quiet', '--all', '--output=json'],
      '--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER',
      ...[`--unit=${unit}`, `--lines=${count}`, ...from],
    ],
    { deadlineMs, signal, maxOutputBytes: MAX_OUTPUT_BYTES },
  )
  if (!succeeded(result.ending)) throw new Error(describeEnding('journalctl', result.ending))
  const all = result.stdout.split('\n').flatMap(parseLine)
  const kept = newestWithin(all)
  return create(JournalAnswerSchema, {
    lines: [...kept],
    truncated: result.truncated || kept.length < all.length,
  })
}

/** As many of the newest as fit. */
function newestWithin(lines: readonly JournalLine[]): readonly JournalLine[] {
  let room = MAX_CHARS
  let from = lines.length
  while (from > 0) {
    const line = lines[from - 1]
    room -= JSON.stringify(line?.text ?? '').length + (line?.identifier.length ?? 0) + 80
    if (room < 0) break
    from--
  }
  return lines.slice(from)
}

/** An entry of `journalctl --output=json`; what the bound cut off in the middle is none. */
function parseLine(line: string): JournalLine[] {
  if (!line.startsWith('{')) return []
  let fields: ReadonlyMap<string, unknown>
  try {
    fields = new Map<string, unknown>(Object.entries(JSON.parse(line)))
  } catch {
    return []
  }
  const at = Number(fields.get('__REALTIME_TIMESTAMP'))
  const priority = Number(fields.get('PRIORITY') ?? Number.NaN)
  const identifier = fields.get('SYSLOG_IDENTIFIER')
  return [
    create(JournalLineSchema, {
      ...(Number.isFinite(at) && { at: timestampFromMs(Math.floor(at / 1_000)) }),
      ...(Number.isInteger(priority) && priority >= 0 && priority <= 7 && { priority }),
      identifier: typeof identifier === 'string' ? identifier.slice(0, 256) : '',
      text: cut(textOf(fields.get('MESSAGE'))),
    }),
  ]
}

/** What is no text comes as its bytes; a field that a message has twice as a list of texts. */
function textOf(message: unknown): string {
  if (typeof message === 'string') return message
  if (!Array.isArray(message)) return ''
  if (message.every(part => typeof part === 'string')) return message.join('\n')
  return Buffer.from(message.filter(byte => typeof byte === 'number')).toString('utf8')
}

function cut(text: string): string {
  if (text.length <= MAX_LINE_CHARS) return text
  const note = ` [${text.length} characters, cut]`
  return text.slice(0, MAX_LINE_CHARS - note.length) + note
}
