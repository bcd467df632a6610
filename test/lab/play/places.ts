import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Where the one lab that a person plays with keeps what its commands need. */
const FOLDER = join(tmpdir(), `muster-play-${process.getuid?.() ?? 0}`)

export const places = {
  folder: FOLDER,
  /** Commands to the process that holds the lab. */
  socket: join(FOLDER, 'lab.sock'),
  log: join(FOLDER, 'log'),
  /** The fleet directory, for the operator to edit. */
  fleet: join(FOLDER, 'fleet'),
  /** The operator's keys and configuration. */
  operator: join(FOLDER, 'operator'),
} as const
