/** What the exit codes of `muster` mean. docs/exit-codes.md holds the same table; a test compares them. */
export const exitCodes = {
  ok: { code: 0, meaning: 'Done; with `apply`, every node succeeded.' },
  error: {
    code: 1,
    meaning: 'Something is wrong that no other code names, such as errors in `fleet.toml`.',
  },
  usage: { code: 2, meaning: 'The command was not written as its help says; nothing was done.' },
  notFound: { code: 3, meaning: 'What was named does not exist, or nothing matches the selector.' },
  refused: {
    code: 4,
    meaning:
      'Refused: not allowed, not in a state for it, or (with `apply`) the nodes would not; nothing changed.',
  },
  unavailable: { code: 5, meaning: 'The coordinator could not be reached, or the time was over.' },
  failed: { code: 6, meaning: 'The operation failed on every node that was asked.' },
  partial: { code: 7, meaning: 'Some nodes succeeded or answered, others did not.' },
  conflict: {
    code: 8,
    meaning: 'Somebody else was faster, or it is there already: look at what there is, then try again.',
  },
  degraded: {
    code: 9,
    meaning: 'Every node got there, but some with failed units that its target tolerates.',
  },
  rebootRequired: { code: 10, meaning: 'Every node got there, but some must reboot before it counts.' },
  unknown: { code: 11, meaning: 'What happened is not known for any of the nodes; look at each.' },
  interrupted: { code: 130, meaning: 'Stopped by a signal (Ctrl-C). What was ordered goes on.' },
} as const

export type ExitName = keyof typeof exitCodes

/** A failure that is told to people as it is: what is wrong, where, and what to do about it. */
export class CliError extends Error {
  override readonly name = 'CliError'
  readonly exit: ExitName

  constructor(exit: ExitName, message: string, options?: ErrorOptions) {
    super(message, options)
    this.exit = exit
  }
}
