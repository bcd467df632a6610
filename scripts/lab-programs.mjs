const why = 'lab machines (test/lab); tests in them are skipped without it'

/** Programs of the host that lab machines are made with, for ensurePrograms. */
export const LAB_PROGRAMS = [
  ['debootstrap', 'debootstrap'],
  ['systemd-nspawn', 'systemd-container'],
  ['ip', 'iproute2'],
  ['nsenter', 'util-linux'],
  ['python3', 'python3'],
  ['nix', 'nix-bin'],
].map(([program, name]) => ({ program, package: name, why }))
