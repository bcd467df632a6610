import { readFile, stat } from 'node:fs/promises'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { isDigest } from '../../shared/ids.ts'
import { ConfigError } from '../config-fields.ts'

/** An enrolment token: `id.secret.ca.trust`. */
export interface EnrolmentToken {
  readonly id: string
  readonly secret: string
  readonly caPin: string
  /** Absent when the fleet had no trust set yet. */
  readonly trustPin: string | undefined
}

const MAX_BYTES = 4096

/** Reads a token. The messages never hold any of its text. */
export function parseToken(source: string, text: string): EnrolmentToken {
  const fail = (problem: string): never => {
    throw new ConfigError(
      `${source}: ${problem}; a token is id.secret.ca.trust, as \`muster token create\` printed it`,
    )
  }
  const parts = text.trim().split('.')
  if (parts.length !== 4) return fail(`has ${parts.length} parts between dots instead of 4`)
  const [id = '', secret = '', caPin = '', trustPin = ''] = parts
  const word = /^[A-Za-z0-9_-]{1,128}$/
  if (!word.test(id)) return fail('its id is not made of letters and digits')
  if (!word.test(secret)) return fail('its secret is not made of letters and digits')
  if (!isDigest(caPin)) return fail('its third part, the CA pin, is not 64 lower-case hex characters')
  if (trustPin !== '' && !isDigest(trustPin)) {
    return fail('its fourth part, the trust pin, is not 64 lower-case hex characters')
  }
  return { id, secret, caPin, trustPin: trustPin === '' ? undefined : trustPin }
}

/** The token of a file, or undefined when the file is gone or empty: it may be deleted once the machine is enrolled. */
export async function loadToken(path: string): Promise<EnrolmentToken | undefined> {
  try {
    const { mode, size } = await stat(path)
    if ((mode & 0o077) !== 0) {
      throw new ConfigError(
        `${path}: holds a secret and is open to others than its owner; make it \`chmod 600\``,
      )
    }
    if (size > MAX_BYTES) throw new ConfigError(`${path}: ${size} bytes are too many for a token`)
    const text = await readFile(path, 'utf8')
    // systemd hands over an empty credential where the operator's file is gone.
    return text.trim() === '' ? undefined : parseToken(path, text)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    if (error instanceof ConfigError) throw error
    throw new ConfigError(`${path}: cannot be read: ${reasonOf(error)}`, { cause: error })
  }
}

export interface Pins {
  readonly caPin: string
  readonly trustPin: string | undefined
}

/**
 * The pins that count: those of the configuration, else the token's, else those this machine was first given. Where
 * configuration and token both speak for a machine without a certificate they must agree, since one of them is then for
 * another fleet. The token of one that has enrolled is as old as that day, and pins change: it contradicts nobody any more.
 */
export function choosePins(
  configured: { readonly caPin: string | undefined; readonly trustPin: string | undefined },
  token: EnrolmentToken | undefined,
  remembered: { readonly caPin: string | undefined; readonly trustPin: string | undefined },
  hasCertificate: boolean,
): Pins {
  for (const name of ['caPin', 'trustPin'] as const) {
    const [given, tokens] = [configured[name], token?.[name]]
    if (!hasCertificate && given !== undefined && tokens !== undefined && given !== tokens) {
      throw new ConfigError(
        `${name}: is ${given}, but the token is for ${tokens}; one of them belongs to another fleet`,
      )
    }
  }
  const caPin = configured.caPin ?? token?.caPin ?? remembered.caPin
  if (caPin === undefined) {
    throw new ConfigError(
      'caPin: missing; give it, or a token that carries it: without it the agent cannot tell its coordinator from any other',
    )
  }
  return { caPin, trustPin: configured.trustPin ?? token?.trustPin ?? remembered.trustPin }
}
