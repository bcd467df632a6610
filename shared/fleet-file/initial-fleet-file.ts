import { nameProblem } from './text-types.ts'

/** The text of a first fleet.toml. It passes the check as it is, and shows what else can be written. */
export function initialFleetFile({ name, id }: { readonly name: string; readonly id: string }): string {
  const wrong = nameProblem(name)
  if (wrong !== undefined) throw new Error(`a fleet cannot be named so: ${wrong}`)
  if (!/^[0-9a-f]{32}$/.test(id)) throw new Error('a fleet id is 32 lower-case hex digits')
  return `# The fleet: what exists and what each machine shall be. "muster check" reads it and says what is wrong.
# All keys: docs/reference/fleet-file.md

[fleet]
name = "${name}"
id = "${id}" # random; never change it, machines obey this fleet only
# store = "https://cache.example"      # where "muster publish --build" copies closures
# public-keys = ["cache.example-1:…"]  # whose signature machines accept on them

# What holds for every host that says nothing else: host over group over defaults.
[defaults]
address = "dhcp"
# prefix-length = 24
# gateway = "10.0.100.1"
# nameservers = ["10.0.100.1"]
# gates = ["web"]

# What must hold after a change; a machine on which it does not goes back by itself.
# [gates.web]
# http = "http://127.0.0.1/" # or units, tcp, disk with free, reach, script

# A host is a name for what shall exist. Bind it to its machine by one or more of
# disk = { serial = "…" }, serial, uuid, mac or machine; "muster pending" shows them.
# [hosts.olaf]
# address = "10.0.100.2"
# interface = "enp0s20f0"
# disk = { serial = "S4EVNX0M123456" }
# labels = { rack = "a" }
# users = { ada = { keys = ["ssh-ed25519 … ada"] } }
# extra = { anything = "reaches the host's Nix modules" }

# An existing configuration of flake.nix, taken as it is.
# [hosts.nas]
# config = "nixosConfigurations.nas"

# A Kubernetes cluster; then give hosts role = "server" or "worker" and cluster = "main".
# [clusters.main]
# distribution = "k3s" # k3s | k0s | kubernetes | components

# Machines that nobody lists one by one: whoever matches the rule becomes a host.
# [groups.edge]
# admit = "facts.system.product == 'N100'"
# name = "edge-{serial}"
`
}
