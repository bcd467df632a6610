// `npm run lab -- COMMAND`: a fleet of lab machines for a person to play with.
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { waitUntil } from '../../support/wait-until.ts'
import { identityOf, isRunning } from '../process-identity.ts'
import { tail } from '../run.ts'
import { whyNoLab } from '../why-not.ts'
import { type Order, sendOrder } from './control.ts'
import { places } from './places.ts'

const NAMES = ['olaf', 'nils', 'eva', 'ida', 'bo', 'maj', 'sven', 'tove', 'ulf', 'ylva']
const MOST = 20
const DOWN_MS = 180_000

const HELP = `npm run lab -- COMMAND

  up [N]               start N machines (3 unless said, at most ${MOST}), enrolled, with a first revision published
  list                 machines, what they run, and where the rest is
  shell NAME [CMD…]    a root shell in a machine, or one command
  cut NAME             pull its network cable;  heal NAME  plugs it again
  power-cut NAME       kill it at once;  boot NAME  starts it again;  reboot NAME
  muster ARGS…         the operator's command, with the keys of this fleet
  down                 end it all and remove it

The machines are containers with a real systemd, Nix and agent. Their NixOS is a stand-in, and says so.
`

interface Listed {
  /** Of the process that holds the lab. */
  readonly pid: number
  readonly socket: string
  readonly machines: readonly {
    readonly name: string
    readonly address: string
    readonly online: boolean
    readonly system: string
  }[]
}

async function up(count: number): Promise<number> {
  if (!Number.isInteger(count) || count < 1 || count > MOST)
    return complain(`up takes a number from 1 to ${MOST}`)
  const why = whyNoLab()
  if (why !== undefined) return complain(why)
  const isUp = await ask({ verb: 'list' }).then(
    () => true,
    () => false,
  )
  if (isUp) return complain('a lab is up already: npm run lab -- list, or down')
  await rm(places.folder, { recursive: true, force: true })
  await mkdir(places.folder, { mode: 0o700 })
  const names = Array.from({ length: count }, (_, index) => NAMES[index] ?? `node${index + 1}`)
  console.log(
    `starting ${count} machines; the first time this makes their root, which takes a minute or two …`,
  )
  const log = openSync(places.log, 'a')
  const holder = fork(join(import.meta.dirname, 'hold-lab.ts'), names, {
    detached: true,
    stdio: ['ignore', log, log, 'ipc'],
  })
  const ready = await Promise.race([
    once(holder, 'message').then(() => true),
    once(holder, 'exit').then(() => false),
  ])
  if (!ready) return complain(`the lab did not start:\n${tail(readFileSync(places.log, 'utf8'), 3_000)}`)
  holder.unref()
  if (holder.connected) holder.disconnect()
  return await list()
}

const ask = (order: Order) => sendOrder(places.socket, order)

async function listed(): Promise<Listed> {
  // Written by our own process from the type that is named here.
  return (await ask({ verb: 'list' })) as Listed
}

async function list(): Promise<number> {
  const { machines } = await listed()
  for (const { name, address, online, system } of machines)
    console.log(`${name.padEnd(8)} ${address.padEnd(12)} ${online ? 'online ' : 'offline'}  ${system}`)
  console.log(`
fleet directory  ${places.fleet} (hosts.json says what each host's system is; lab/toplevel.nix what can be said)
coordinator      10.91.0.1, ports 7443 and 7444, in the lab's own network; its log and the lab's: ${places.log}

  npm run lab -- muster status
  npm run lab -- muster publish ${places.fleet}
  npm run lab -- muster apply ${machines[0]?.name}
  npm run lab -- shell ${machines[0]?.name}        # then: journalctl -u muster-agent -f`)
  return 0
}

async function shell(name: string, command: readonly string[]): Promise<number> {
  const enter = await ask({ verb: 'enter', machine: name })
  if (!Array.isArray(enter)) return complain('the lab says nothing of how to enter')
  const [program = '', ...args] = [...enter.map(String), ...(command.length > 0 ? command : ['bash', '-l'])]
  return await runHere(program, args, {})
}

async function muster(args: readonly string[]): Promise<number> {
  const { socket } = await listed()
  const program = join(import.meta.dirname, '../../../bin/muster')
  return await runHere(program, args, { MUSTER_SOCKET: socket, MUSTER_CONFIG_HOME: places.operator })
}

async function runHere(
  program: string,
  args: readonly string[],
  env: Record<string, string>,
): Promise<number> {
  const child = spawn(program, args, { stdio: 'inherit', env: { ...process.env, ...env } })
  const [code] = await once(child, 'exit')
  return typeof code === 'number' ? code : 1
}

async function down(): Promise<number> {
  const holder = identityOf((await listed()).pid)
  await ask({ verb: 'down' })
  await waitUntil('end of the lab', async () => !(holder && isRunning(holder)) || undefined, {
    timeoutMs: DOWN_MS,
  })
  await rm(places.folder, { recursive: true, force: true })
  console.log('the lab is down')
  return 0
}

function complain(reason: string): number {
  console.error(`lab: ${reason}`)
  return 1
}

async function main([verb = 'help', ...args]: readonly string[]): Promise<number> {
  const [name = ''] = args
  switch (verb) {
    case 'up':
      return await up(name === '' ? 3 : Number(name))
    case 'list':
      return await list()
    case 'shell':
      return await shell(name, args.slice(1))
    case 'muster':
      return await muster(args)
    case 'down':
      return await down()
    case 'cut':
    case 'heal':
    case 'power-cut':
    case 'boot':
    case 'reboot':
      await ask({ verb, machine: name })
      console.log(`${name}: ${verb}: done`)
      return 0
    default:
      console.log(HELP)
      return verb === 'help' || verb === '--help' ? 0 : 64
  }
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  process.exitCode = complain(error instanceof Error ? error.message : String(error))
}
