import { waitUntil } from '../../support/wait-until.ts'
import type { ClusterFleet } from './cluster-fleet.ts'
import { HOSTS } from './rendered-system.ts'

/** Where the tokens of kubelets are, whichever distribution mints them. */
const TOKENS = ['-n', 'kube-system', 'get', 'secrets', '--field-selector=type=bootstrap.kubernetes.io/token']
const SEEN = '/root/seen-tokens'

/** The names of the tokens that are out. */
export async function listTokens(made: ClusterFleet, server: string): Promise<readonly string[]> {
  const names = await made.kubectl(server, ...TOKENS, '-o', 'name')
  return names.split('\n').filter(name => name !== '')
}

/** Waits until no token is out any more: each is deleted as soon as its join is known to be over. */
export async function untilNoTokens(made: ClusterFleet, server: string): Promise<void> {
  await waitUntil(
    `no token left on ${server}`,
    async () => {
      const left = await listTokens(made, server)
      if (left.length > 0) throw new Error(`there are ${left.join(', ')}`)
      return true as const
    },
    { timeoutMs: 120_000, everyMs: 1_000 },
  ).catch(async (error: Error) => {
    throw new Error(`${error.message}\n${await describeTokens(made, server)}\n${await made.lastWords()}`)
  })
}

/** What the tokens that are out say of themselves: for which join each was minted, and until when it is good. */
async function describeTokens(made: ClusterFleet, server: string): Promise<string> {
  const { items } = JSON.parse(await made.kubectl(server, ...TOKENS, '-o', 'json'))
  // Parsed text of the API; all of it is only shown.
  return (items as readonly { metadata: { name: string }; data: Readonly<Record<string, string>> }[])
    .map(({ metadata, data }) => {
      const said = ['description', 'expiration'].map(key =>
        Buffer.from(data[key] ?? '', 'base64').toString('utf8'),
      )
      return [metadata.name, ...said].join(', ')
    })
    .join('\n')
}

/** Writes down on a server the secret of every token that is minted from now on, until the machine ends or `read` is called. */
export async function watchTokens(made: ClusterFleet, server: string) {
  const machine = made.machine(server)
  const command = made.kubectlWords(
    ...TOKENS,
    '-o',
    String.raw`jsonpath='{range .items[*]}{.data.token-secret}{"\n"}{end}'`,
  )
  const script = `while :; do ${command.join(' ')} >>${SEEN} 2>/dev/null; sleep 0.2; done`
  await machine.ok(['systemd-run', '--quiet', '--unit=watch-tokens', 'sh', '-c', script])
  return {
    read: async (): Promise<readonly string[]> => {
      await machine.ok(['systemctl', 'stop', 'watch-tokens'])
      const lines = (await machine.readFile(SEEN)).split('\n').filter(line => line !== '')
      await machine.ok(['rm', SEEN])
      return [...new Set(lines)].map(line => Buffer.from(line, 'base64').toString('utf8'))
    },
  }
}

/** A bound on what is looked through; a journal of a lab machine has a few megabytes. */
const SEARCH_MS = 120_000
/** The patterns come by standard input: an argument would be found in /proc. */
const SEARCH = `
cat >/run/patterns
trap 'rm -f /run/patterns' EXIT
journalctl --no-pager -o export | grep -a -F -q -f /run/patterns && echo journal
grep -a -s -l -F -f /run/patterns /proc/[0-9]*/cmdline /proc/[0-9]*/environ
grep -a -s -r -l -F -f /run/patterns /run/muster-cluster /run/muster-agent /var/lib/muster-agent /etc /nix/store
true`

/** Where a secret's text is found: in journals, arguments, environments, files of the agents, Nix stores. */
export async function findSecrets(
  made: ClusterFleet,
  secrets: readonly string[],
): Promise<readonly string[]> {
  const found: string[] = []
  for (const host of HOSTS) {
    const machine = made.machine(host)
    if (!machine.running) continue
    const said = await machine.ok(['sh', '-c', SEARCH], {
      input: `${secrets.join('\n')}\n`,
      timeoutMs: SEARCH_MS,
    })
    found.push(...said.split('\n').flatMap(line => (line === '' ? [] : `${host}: ${line}`)))
  }
  return found
}
