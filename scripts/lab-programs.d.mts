interface NeededProgram {
  readonly program: string
  /** Debian's package that holds it. */
  readonly package: string
  readonly why: string
}

/** Programs of the host that lab machines are made with. */
export const LAB_PROGRAMS: readonly NeededProgram[]
/** What virtual machines need beside them. */
export const VIRTUAL_MACHINE_PROGRAMS: readonly NeededProgram[]
