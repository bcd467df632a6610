import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { untilAborted } from '../../shared/lifecycle.ts'
import { LocalCoordinator } from '../start/local-coordinator.ts'
import type { DemoOptions } from '../start/options.ts'
import { freePort } from '../start/ports.ts'
import { stopSignal } from '../start/stop-signal.ts'
import { quoted } from '../start/texts.ts'
import { findBuilder } from './builder.ts'
import type { DemoContext } from './context.ts'
import { defenceSteps } from './defence-steps.ts'
import { enrolSteps } from './enrol-steps.ts'
import { writeStandInFlake } from './fleet-files.ts'
import { revisionSteps } from './revision-steps.ts'
import { Walk } from './walk.ts'

const HOST = '127.0.0.1'
/** The longest path below the demo's folder that a socket has. */
const SOCKET_ROOM = 107 - '/a/n100-4/agent.sock'.length

/** The walk through everything, in a folder and on ports of its own. Gives the exit code. */
export async function runDemo(top: string, options: DemoOptions): Promise<number> {
  const signal = stopSignal()
  const folder = await makeFolder()
  let walked: Walked | undefined
  try {
    walked = await demo(top, folder, options, signal)
  } finally {
    // What went wrong is to be looked at.
    const keep = options.keep || (walked?.seen !== walked?.steps && !signal.aborted)
    if (keep) console.log(`\nThe demo's folder stays: ${folder}`)
    else await rm(folder, { recursive: true, force: true, maxRetries: 3 })
  }
  console.log(`\ndemo: ${walked.seen} of ${walked.steps} steps`)
  return walked.seen === walked.steps ? 0 : 1
}

interface Walked {
  readonly steps: number
  /** Steps that were seen to work. */
  readonly seen: number
}

async function makeFolder(): Promise<string> {
  const usual = tmpdir()
  const base = Buffer.byteLength(usual) + '/muster-demo-XXXXXX'.length > SOCKET_ROOM ? '/tmp' : usual
  return await mkdtemp(join(base, 'muster-demo-'))
}

async function demo(
  top: string,
  folder: string,
  { exit }: DemoOptions,
  signal: AbortSignal,
): Promise<Walked> {
  const installed = join(folder, 'installed')
  await writeStandInFlake(top, installed, 0)
  const builder = await findBuilder(top, installed, signal)
  const enrolmentPort = await freePort(HOST)
  const fleetPort = await freePort(HOST, [enrolmentPort])
  const socket = join(folder, 'coordinator.sock')
  const operator = join(folder, 'operator')
  await mkdir(operator, { mode: 0o700 })
  await using coordinator = new LocalCoordinator({
    top,
    folder: join(folder, 'coordinator'),
    socket,
    log: join(folder, 'coordinator.log'),
    listen: HOST,
    advertised: HOST,
    enrolmentPort,
    fleetPort,
    more: { heartbeatSeconds: 1 },
  })
  // What the person has set for a fleet of their own does not count here.
  const env = {
    MUSTER_SOCKET: socket,
    MUSTER_CONFIG_HOME: operator,
    MUSTER_PROFILE: '',
    COLUMNS: '110',
    NO_COLOR: '1',
  }
  const colour = process.stdout.isTTY === true && !process.env.NO_COLOR
  const walk = new Walk({
    muster: join(top, 'dist/muster.mjs'),
    env,
    folder,
    signal,
    colour,
    write: text => void process.stdout.write(text),
  })
  const context: DemoContext = {
    walk,
    coordinator,
    builder,
    folder,
    state: join(folder, 'coordinator/state'),
    fleet: join(folder, 'fleet'),
    top,
    address: `${HOST}:${enrolmentPort}`,
    signal,
    agents: new Map(),
    installed,
  }
  try {
    process.stdout.write(
      `Muster's demo, in ${folder} (DEMO below), on the ports ${enrolmentPort} and ${fleetPort}.\n` +
        'This machine is only looked at: nothing is ever activated on it.\n',
    )
    const steps = [...enrolSteps(context), ...revisionSteps(context), ...defenceSteps(context)]
    const seen = await walk.run(steps)
    if (!exit && seen === steps.length && !signal.aborted) {
      process.stdout.write(stayingText(top, env, folder))
      await untilAborted(signal)
    }
    return { steps: steps.length, seen }
  } finally {
    await Promise.all([...context.agents.values()].map(agent => agent.stop()))
  }
}

function stayingText(top: string, env: Readonly<Record<string, string>>, folder: string): string {
  return `
All steps were seen to work, and all of it stays up. In another terminal:

  cd ${quoted(top)}
  export MUSTER_SOCKET=${quoted(env.MUSTER_SOCKET ?? '')} MUSTER_CONFIG_HOME=${quoted(env.MUSTER_CONFIG_HOME ?? '')}
  npx muster status
  npx muster diff 1 2
  npx muster drift
  npx muster retry bolt && npx muster apply bolt    # it fails there again, and goes back

The fleet directory is ${folder}/fleet. Stop with Ctrl-C; the demo's folder goes with it.
`
}
