export const HELP = `muster-coordinator: enrols machines, keeps what they are, gives them signed revisions

  muster-coordinator [options]            run until SIGTERM or SIGINT, which let calls end and stop
  muster-coordinator --version, --help

Options:
  --config FILE      a configuration file (JSON; default: none, everything has its default)
  --state-dir DIR    everything the coordinator keeps; wins over the file (default: /var/lib/muster-coordinator)

The settings of the file stand in docs/reference/coordinator.md.
`

export const OPTIONS = {
  config: { type: 'string' },
  'state-dir': { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const
