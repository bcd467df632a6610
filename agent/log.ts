/** How the agent says what happens. The shape of pino, in a fraction of its memory: data first, then a constant text. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  /** A log whose lines all carry these fields. */
  child(fields: object): Log
}

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

// What could carry a secret never reaches a line, whoever logs it.
const SECRET = new Set(['secret', 'token', 'tokenSecret', 'privateKey', 'privateKeyPem', 'password'])
const MAX_TEXT_CHARS = 8192

/** Writes one JSON object a line; journald takes it from standard output. */
export function createLog(
  level: LogLevel,
  write: (line: string) => void = line => process.stdout.write(line),
  clock: () => Date = () => new Date(),
  base: object = {},
): Log {
  const at = (wanted: LogLevel) => (fields: object, message: string) => {
    if (LOG_LEVELS.indexOf(wanted) < LOG_LEVELS.indexOf(level)) return
    const head = { time: clock().toISOString(), level: wanted, msg: message }
    write(`${JSON.stringify({ ...head, ...base, ...fields }, plain)}\n`)
  }
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: fields => createLog(level, write, clock, { ...base, ...fields }),
  }
}

/** Makes of a value what JSON can carry. */
function plain(key: string, value: unknown): unknown {
  if (SECRET.has(key)) return '[removed]'
  if (typeof value === 'bigint') return value.toString()
  if (typeof value === 'string' && value.length > MAX_TEXT_CHARS) return `${value.slice(0, MAX_TEXT_CHARS)}…`
  if (value instanceof Error) {
    const { name, message, stack, cause } = value
    return { type: name, message, stack, ...(cause === undefined ? {} : { cause }) }
  }
  return value
}
