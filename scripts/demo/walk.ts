import { styleText } from 'node:util'
import { quoted } from '../start/texts.ts'
import { DemoError } from './demo-error.ts'
import { type Ran, runCommand } from './run-command.ts'

export interface WalkOptions {
  readonly muster: string
  readonly env: Readonly<Record<string, string>>
  /** The demo's folder; shown as DEMO. */
  readonly folder: string
  readonly signal: AbortSignal
  readonly colour: boolean
  readonly write: (text: string) => void
}

export interface Step {
  readonly title: string
  readonly run: () => Promise<void>
}

const MOST_LINES = 40

/** Tells the demo: titles, commands with what they print, and what was checked. Whatever is not as claimed throws. */
export class Walk {
  readonly #options: WalkOptions
  /** First characters of the ids of machines that are made up. */
  readonly #madeUp = new Set<string>()

  constructor(options: WalkOptions) {
    this.#options = options
  }

  /** From here on each line that shows this machine says that it is simulated. */
  markSimulated(id: string): void {
    this.#madeUp.add(id.slice(0, 12))
  }

  title(text: string): void {
    this.#line(`\n${this.#style('bold', text)}`)
  }

  say(text: string): void {
    this.#line(text.replace(/^/gm, '  '))
  }

  /** Runs the operator's command as a person would type it, shows what it prints, and insists on its exit code. */
  async muster(
    args: readonly string[],
    { exit = 0, show = (text: string) => text }: MusterOptions = {},
  ): Promise<Ran> {
    const { muster, env, folder, signal } = this.#options
    this.#line(`  ${this.#style('cyan', `$ muster ${args.map(quoted).join(' ')}`)}`)
    const ran = await runCommand(process.execPath, [muster, ...args], { env, cwd: folder, signal })
    const lines = show(ran.both).trimEnd().split('\n')
    const shown =
      lines.length > MOST_LINES
        ? [...lines.slice(0, MOST_LINES), `… ${lines.length - MOST_LINES} more lines`]
        : lines
    for (const line of shown) if (ran.both !== '') this.#line(`    ${this.#readable(line)}`)
    const good = typeof exit === 'number' ? [exit] : exit
    if (ran.code === null || !good.includes(ran.code)) {
      throw new DemoError(`muster ${args[0]}: ended with ${ran.code}, not with ${good.join(' or ')}`)
    }
    return ran
  }

  /** States something that was looked at. */
  check(holds: boolean, claim: string, seen = ''): void {
    if (!holds) throw new DemoError(`not so: ${claim}${seen === '' ? '' : `; seen: ${seen}`}`)
    this.#line(`  ${this.#style('green', 'ok')}  ${claim}`)
  }

  /** Runs the steps in order, and tells how many were seen to work: the first that was not is the last. */
  async run(steps: readonly Step[]): Promise<number> {
    for (const [index, { title, run }] of steps.entries()) {
      this.title(`[${index + 1}/${steps.length}] ${title}`)
      try {
        await run()
      } catch (error) {
        if (this.#options.signal.aborted) return index
        const what =
          error instanceof DemoError
            ? error.message
            : error instanceof Error
              ? (error.stack ?? '')
              : String(error)
        this.#line(`  ${this.#style('red', 'FAILED')}  ${what}`)
        return index
      }
    }
    return steps.length
  }

  /** Short enough to be read, and never silent about what is simulated. */
  #readable(line: string): string {
    const short = line
      .replaceAll(`${this.#options.folder}/`, 'DEMO/')
      .replaceAll(/\/store\/([0-9a-z]{4})[0-9a-z]{28}-/g, '/store/$1…-')
    const says = /simulat|stand-?in/i.test(short)
    const shows = [...this.#madeUp].some(id => short.includes(id))
    return shows && !says ? `${short}  (simulated)` : short
  }

  #line(text: string): void {
    this.#options.write(`${text}\n`)
  }

  #style(style: 'bold' | 'cyan' | 'green' | 'red', text: string): string {
    return this.#options.colour ? styleText(style, text) : text
  }
}

interface MusterOptions {
  /** Codes that it may end with. */
  readonly exit?: number | readonly number[]
  readonly show?: (text: string) => string
}

/** What `muster apply` prints, without the lines that tell how far each one is. */
export function outcomesOnly(text: string): string {
  const lines = text.split('\n')
  return lines.slice(lines.findIndex(line => line.startsWith('OPERATION'))).join('\n')
}
