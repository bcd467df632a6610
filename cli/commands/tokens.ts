import { escapeText } from '../../shared/escape.ts'
import { type Token, TokenSchema } from '../../shared/gen/muster/v1/token_pb.ts'
import { durationFromMs, millisOf } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { formatDuration, formatRemaining } from '../duration.ts'
import { makeNewFile } from '../fleets/private-file.ts'
import type { Format } from '../output/format.ts'
import { plainOf } from '../output/plain.ts'
import { type Listing, showList, showOne } from '../output/show-list.ts'
import { showResult } from '../output/show-result.ts'

export const TOKEN_FIELDS = [
  'id',
  'uses',
  'used',
  'expires',
  'created',
  'createdBy',
  'labels',
  'host',
  'revoked',
  'machines',
] as const

export interface CreateTokenOptions {
  readonly ttl: number
  readonly uses: number
  readonly label?: Readonly<Record<string, string>> | undefined
  readonly host?: string | undefined
  readonly out?: string | undefined
  readonly output?: Format | undefined
}

/** Makes a token. It is told once: on standard output alone, or into a new file that only its owner may read. */
export async function createToken(cli: Cli, options: CreateTokenOptions): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    const { out } = options
    let { token, info }: { token: string; info?: Token | undefined } = { token: '' }
    const make = async () => {
      ;({ token, info } = await client.createToken(
        {
          lifetime: durationFromMs(options.ttl),
          uses: options.uses,
          labels: { ...options.label },
          host: options.host ?? '',
        },
        call,
      ))
      return `${token}\n`
    }
    await (out === undefined ? make() : makeNewFile(out, 0o600, make))
    const about = info ? plainOf(TokenSchema, info) : {}
    await showOne(
      cli.io,
      out === undefined ? { ...about, token } : { ...about, file: out },
      options.output,
      () => (out === undefined ? `${token}\n` : ''),
    )
    const uses = options.uses === 1 ? 'one machine' : `${options.uses} machines`
    cli.io.err(
      `token ${escapeText(info?.id ?? '')}: lets ${uses} in for ${formatDuration(options.ttl)}` +
        `${out === undefined ? '; it is not shown again' : `; written to ${out}`}\n`,
    )
  })
}

function stateOf(token: Token, now: number): string {
  if (token.revoked) return 'revoked'
  if ((millisOf(token.expires) ?? 0) <= now) return 'expired'
  return token.used >= token.uses ? 'used up' : 'usable'
}

export function tokenListing(now: Date): Listing<Token> {
  const at = now.getTime()
  return {
    fields: TOKEN_FIELDS,
    record: token => plainOf(TokenSchema, token),
    empty: 'no tokens; `muster token create --ttl 1h --uses 1` makes one',
    columns: [
      { title: 'TOKEN', text: token => token.id },
      {
        title: 'STATE',
        text: token => stateOf(token, at),
        style: token => (stateOf(token, at) === 'usable' ? 'good' : 'dim'),
      },
      { title: 'USED', text: token => `${token.used}/${token.uses}` },
      {
        title: 'EXPIRES',
        text: token => {
          const left = (millisOf(token.expires) ?? 0) - at
          return left > 0 ? `in ${formatRemaining(left)}` : `${formatDuration(-left)} ago`
        },
      },
      { title: 'HOST', text: token => token.host },
      {
        title: 'LABELS',
        text: token =>
          Object.entries(token.labels)
            .map(([key, value]) => `${key}=${value}`)
            .sort()
            .join(','),
      },
      { title: 'BY', text: token => token.createdBy },
      { title: 'MACHINES', wide: true, text: token => token.machines.map(id => id.slice(0, 12)).join(' ') },
    ],
  }
}

export async function listTokens(
  cli: Cli,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    const { tokens } = await client.listTokens({}, call)
    await showList(cli.io, tokens, tokenListing(cli.clock.now()), output)
  })
}

export async function revokeToken(
  cli: Cli,
  id: string,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    await client.revokeToken({ id }, call)
    const text = () => `${escapeText(id)}: revoked; machines that it let in stay\n`
    await showResult(cli.io, 'token revoke', { id, revoked: true }, output, text)
  })
}
