import { type DestinationStream, type Logger, pino } from 'pino'

export type { Logger } from 'pino'

/**
 * Structured logging to standard output (journald takes it from there). Fields that could carry a secret are removed
 * wherever they stand at the top or one level down.
 */
export function createLogger(
  level: string,
  destination: DestinationStream = pino.destination({ dest: 1, sync: true }),
): Logger {
  const secret = ['secret', 'token', 'tokenSecret', 'privateKey', 'privateKeyPem', 'password']
  return pino(
    {
      base: null,
      level,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      redact: { paths: [...secret, ...secret.map(name => `*.${name}`)], censor: '[removed]' },
    },
    destination,
  )
}
