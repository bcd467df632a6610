import { type Generation, GenerationSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { millisOf } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import type { Format } from '../output/format.ts'
import { ago } from '../output/machine-listing.ts'
import { plainOf } from '../output/plain.ts'
import { type Listing, showList } from '../output/show-list.ts'

export const GENERATION_FIELDS = ['number', 'storePath', 'created', 'booted', 'current', 'profile'] as const

/** The generations of a host's system profile, as the node last told them. */
export async function listGenerations(
  cli: Cli,
  ref: string,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    const { machine } = await client.getMachine({ ref }, call)
    const status = machine?.nodeStatus
    if (!status) {
      throw new CliError(
        'notFound',
        `${ref}: has not said which generations it has; its agent does once it connects`,
      )
    }
    await showList(cli.io, status.generations, generationListing(cli.clock.now()), output)
  })
}

export function generationListing(now: Date): Listing<Generation> {
  return {
    fields: GENERATION_FIELDS,
    record: generation => plainOf(GenerationSchema, generation),
    empty: 'no generations',
    columns: [
      { title: 'GENERATION', text: ({ number }) => String(number) },
      { title: 'AGE', text: ({ created }) => ago(millisOf(created), now.getTime()) },
      {
        title: 'IS',
        text: ({ current, booted, profile }) =>
          [current ? 'runs' : '', booted ? 'booted' : '', profile ? 'default' : '']
            .filter(text => text !== '')
            .join(' '),
        style: ({ current }) => (current ? 'good' : 'plain'),
      },
      { title: 'SYSTEM', text: ({ storePath }) => storePath },
    ],
  }
}
