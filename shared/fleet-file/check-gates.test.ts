import { describe, expect, it } from 'vitest'
import { clusterEntries } from './fleet-targets.ts'
import { formatProblems } from './problem.ts'
import { type FleetFileOptions, readFleetFile } from './read-fleet-file.ts'

// Line numbers count from [fleet], which is line 1; what a test writes begins in line 4.
const head = `[fleet]
name = "home"
id = "5f1c0a7be2d94c3386a1f0d2b7c4e895"
`

function check(text: string, options?: FleetFileOptions): string {
  return formatProblems(readFleetFile(head + text, 'fleet.toml', options).problems)
}

const web = '[gates.web]\nunits = ["nginx.service"]\n'
const usesWeb = '[hosts.olaf]\ngates = ["web"]\n'

describe('a gate', () => {
  it('of each kind is taken without a warning', () => {
    const text = `[gates.units]
units = ["nginx.service", "getty@tty1.service", "dev-disk-by\\\\x2duuid-1.device"]
[gates.http]
http = "https://web.home:8443/health?deep=1"
status = 204
contains = "ok"
deadline = "1m30s"
[gates.tcp]
tcp = "[fd00::1]:6443"
[gates.disk]
disk = "/var/lib"
free = "500MiB"
[gates.reach]
reach = ["10.0.100.1", "fd00::1", "router.home"]
[gates.script]
script = "checks/web.sh"
arguments = ["--port", "", "8080"]
[defaults]
gates = ["units", "http", "tcp", "disk", "reach", "script"]
[hosts.olaf]
`
    expect(check(text)).toBe('')
  })

  it('is a Job where it is asked of a cluster, and goes into what the manifest says of that', () => {
    const text = `[clusters.home]
distribution = "k3s"
gates = ["smoke"]
[gates.smoke]
job = "gates/smoke.yaml"
deadline = "90s"
[hosts.olaf]
role = "server"
cluster = "home"
`
    const result = readFleetFile(head + text, 'fleet.toml')
    expect(formatProblems(result.problems)).toBe('')
    const [entry] = result.ok ? clusterEntries(result.fleet) : []
    expect(entry?.gates).toMatchObject([
      { name: 'smoke', path: 'gates/smoke.yaml', deadline: { seconds: 90n } },
    ])
    const wrong = (change: (text: string) => string, options?: FleetFileOptions) =>
      check(change(text), options)
    expect(wrong(all => all.replace('"90s"', '"5m"'))).toContain(
      'gates.smoke.deadline: is too long for a Job: a drained host waits for it; write at most 4m',
    )
    expect(wrong(all => all.replace('gates = ["smoke"]\n', ''))).toContain(
      'asks nobody: write gates = ["smoke"] in a cluster',
    )
    expect(wrong(all => `${all}gates = ["smoke"]\n`)).toContain(
      '"smoke" asks something else: a Job is asked of a whole cluster; name it in [clusters.NAME]',
    )
    expect(wrong(all => all.replace(/job = .*\ndeadline/, 'units = ["a.service"]\ndeadline'))).toContain(
      '"smoke" asks something else: a cluster is asked by a gate with job',
    )
    expect(wrong(all => all.replace('smoke.yaml', 'smoke.sh'))).toContain('such as gates/smoke.yaml')
    const checkJob = () => 'gates/smoke.yaml is not there'
    expect(wrong(all => all, { checkJob })).toContain(
      'gates.smoke.job: "gates/smoke.yaml" cannot be run: gates/smoke.yaml is not there',
    )
  })

  it.each([
    [
      'asks nothing',
      '',
      '4:8: error: gates.web: asks nothing: write one of units, http, tcp, disk, reach, script, job',
    ],
    [
      'asks two things',
      'units = ["a.service"]\ntcp = "10.0.0.1:80"',
      '6:1: error: gates.web.tcp: a gate asks one thing, and units stands in "web" already',
    ],
    [
      'has a wrong kind and no other',
      'tcp = "10.0.0.1"',
      '5:7: error: gates.web.tcp: "10.0.0.1" is no host:port: write host:port',
    ],
    [
      'expects a status of no URL',
      'tcp = "a:1"\nstatus = 200',
      '6:1: error: gates.web.status: has no effect without http',
    ],
    [
      'has arguments for no script',
      'tcp = "a:1"\narguments = []',
      '6:1: error: gates.web.arguments: has no effect without script',
    ],
    [
      'asks for space and not how much',
      'disk = "/"',
      '5:1: error: gates.web.free: is missing: write free = "2 GiB"',
    ],
    [
      'wants no space at all',
      'disk = "/"\nfree = "0 GiB"',
      '6:8: error: gates.web.free: "0 GiB" is no size: it must be from 1 B to 1024 TiB',
    ],
    [
      'wants space in no unit',
      'disk = "/"\nfree = "2 GB"',
      '6:8: error: gates.web.free: "2 GB" is no size: write a whole number and its unit',
    ],
    [
      'wants space as a number',
      'disk = "/"\nfree = 7',
      '6:8: error: gates.web.free: a number stands where size belongs',
    ],
    [
      'asks for a relative folder',
      'disk = "var"\nfree = "1 B"',
      '5:8: error: gates.web.disk: "var" is no folder: write the absolute path',
    ],
    ['asks for no unit', 'units = []', '5:9: error: gates.web.units: write from 1 to 64 items, not 0'],
    [
      'asks for a unit without suffix',
      'units = ["nginx"]',
      '5:10: error: gates.web.units.0: "nginx" is no unit: write the name of a unit with its suffix',
    ],
    [
      'asks for a template',
      'units = ["a@.service"]',
      '5:10: error: gates.web.units.0: "a@.service" is no unit: a template is never active',
    ],
    [
      'asks with an option',
      'units = ["--now.service"]',
      '5:10: error: gates.web.units.0: "--now.service" is no unit',
    ],
    [
      'asks another scheme',
      'http = "ftp://a"',
      '5:8: error: gates.web.http: "ftp://a" is no URL to ask: write a URL such as',
    ],
    [
      'asks no host',
      'http = "http://"',
      '5:8: error: gates.web.http: "http://" is no URL to ask: write a URL such as',
    ],
    [
      'logs in',
      'http = "http://ada:x@a/"',
      '5:8: error: gates.web.http: "http://ada:x@a/" is no URL to ask: who logs in',
    ],
    [
      'expects no status',
      'http = "http://a"\nstatus = 20',
      '6:10: error: gates.web.status: 20 is out of range',
    ],
    [
      'expects nothing in the body',
      'http = "http://a"\ncontains = ""',
      '6:12: error: gates.web.contains: "" is no text to look for',
    ],
    ['asks no port', 'tcp = "a:0"', '5:7: error: gates.web.tcp: "a:0" is no host:port'],
    ['reaches for an option', 'reach = ["-f"]', '5:10: error: gates.web.reach.0: "-f" is no address or name'],
    [
      'reaches for a network',
      'reach = ["10.0.0.0/8"]',
      '5:10: error: gates.web.reach.0: "10.0.0.0/8" is no address or name',
    ],
    [
      'runs something outside',
      'script = "../x"',
      '5:10: error: gates.web.script: "../x" is no script: write the path of a file in the fleet directory',
    ],
    [
      'runs something of the machine',
      'script = "/bin/true"',
      '5:10: error: gates.web.script: "/bin/true" is no script',
    ],
    [
      'runs something hidden behind a dot',
      'script = "a/./b"',
      '5:10: error: gates.web.script: "a/./b" is no script',
    ],
    [
      'waits too short',
      'tcp = "a:1"\ndeadline = "0s"',
      '6:12: error: gates.web.deadline: "0s" is no duration from 1s to 10m: write one from 1s to 10m',
    ],
    [
      'waits too long',
      'tcp = "a:1"\ndeadline = "11m"',
      '6:12: error: gates.web.deadline: "11m" is no duration',
    ],
    [
      'waits for a number',
      'tcp = "a:1"\ndeadline = 10',
      '6:12: error: gates.web.deadline: a number stands where duration from 1s to 10m belongs: write text such as "30s"',
    ],
    [
      'has a key of a host',
      'tcp = "a:1"\nsoak = "1s"',
      '6:1: error: gates.web.soak: does not belong here but in [defaults] or [groups.NAME] or [hosts.NAME]',
    ],
  ])('that %s is refused with its place and the cure', (_, table, expected) => {
    const printed = check(`[gates.web]\n${table}\n${usesWeb}`)
    expect(printed).toContain(`fleet.toml:${expected}`)
    expect(printed.trimEnd().split('\n')).toHaveLength(1)
  })

  it('that nobody names is a warning, and the file is used', () => {
    const result = readFleetFile(`${head}${web}[hosts.olaf]\n`, 'fleet.toml')
    expect(result.ok).toBe(true)
    expect(formatProblems(result.problems)).toBe(
      'fleet.toml:4:8: warning: gates.web: asks nobody: write gates = ["web"] in [defaults], a group or a host\n',
    )
  })

  it('is asked for its script, where the directory is at hand', () => {
    const asked: string[] = []
    const printed = check(`[gates.web]\nscript = "checks/web.sh"\n${usesWeb}`, {
      checkScript: path => {
        asked.push(path)
        return 'checks is not there'
      },
    })
    expect(asked).toEqual(['checks/web.sh'])
    expect(printed).toBe(
      'fleet.toml:5:10: error: gates.web.script: "checks/web.sh" cannot be run: checks is not there\n',
    )
  })
})

describe('what hosts, groups and defaults say of safety', () => {
  it.each([
    [
      'names an unknown gate',
      `${web}[defaults]\ngates = ["wbe", "web"]\n`,
      '7:9: error: defaults.gates.0: no gate "wbe" is defined; did you mean "web"?',
    ],
    [
      'names a gate far from any other',
      `[hosts.olaf]\ngates = ["database"]\n`,
      '5:9: error: hosts.olaf.gates.0: no gate "database" is defined; write [gates.database] to define it',
    ],
    [
      'names a gate twice',
      `${web}[hosts.olaf]\ngates = ["web", "web"]\n`,
      '7:9: error: hosts.olaf.gates.1: "web" stands twice in this list',
    ],
    [
      'soaks too long',
      '[hosts.olaf]\nsoak = "61m"\n',
      '5:8: error: hosts.olaf.soak: "61m" is no duration from 0s to 1h',
    ],
    [
      'soaks for no time that can be read',
      '[hosts.olaf]\nsoak = "soon"\n',
      '5:8: error: hosts.olaf.soak: "soon" is no duration from 0s to 1h: write it such as "30s"',
    ],
    [
      'confirms too soon',
      '[hosts.olaf]\nsoak = "0s"\nconfirm-within = "4s"\n',
      '6:18: error: hosts.olaf.confirm-within: "4s" is no duration from 5s to 6h',
    ],
    [
      'confirms before it has soaked',
      '[hosts.olaf]\nsoak = "1m"\nconfirm-within = "64s"\n',
      '6:18: error: hosts.olaf.confirm-within: confirm-within (64 s) must exceed soak (60 s) by 5 s',
    ],
    [
      'soaks longer than the confirm time that holds',
      '[hosts.olaf]\nsoak = "5m"\n',
      '5:8: error: hosts.olaf.soak: confirm-within (300 s) must exceed soak (300 s) by 5 s',
    ],
    [
      'confirms by nobody',
      '[hosts.olaf]\nconfirm = "operator"\n',
      '5:11: error: hosts.olaf.confirm: "operator" is not known here, write one of "coordinator", "local"',
    ],
    [
      'reboots at will',
      '[hosts.olaf]\nreboot = "always"\n',
      '5:10: error: hosts.olaf.reboot: "always" is not known here',
    ],
    [
      'tries in vain',
      '[hosts.olaf]\ntrial = true\n',
      '5:9: error: hosts.olaf.trial: true or false stands where text belongs',
    ],
    [
      'tolerates no unit',
      '[hosts.olaf]\ntolerated-units = ["backup"]\n',
      '5:20: error: hosts.olaf.tolerated-units.0: "backup" is no unit',
    ],
    [
      'tolerates what a gate asks for',
      `${web}[hosts.olaf]\ngates = ["web"]\ntolerated-units = ["nginx.service"]\n`,
      '8:19: error: hosts.olaf.tolerated-units: "nginx.service" may fail, and gate "web" asks for it',
    ],
    [
      'asks a machine with another system',
      '[hosts.olaf]\nos = "external"\nreboot = "required"\n',
      '6:10: warning: hosts.olaf.reboot: has no effect with os = "external"',
    ],
  ])('is reported where it %s', (_, text, expected) => {
    const printed = check(text)
    expect(printed).toContain(`fleet.toml:${expected}`)
    expect(printed.trimEnd().split('\n')).toHaveLength(1)
  })

  it('is judged with what the layers below say, and said once however many hosts it concerns', () => {
    const printed = check(
      '[defaults]\nsoak = "10m"\n[hosts.a]\n[hosts.b]\n[hosts.c]\nconfirm-within = "11m"\n',
    )
    expect(printed).toBe(
      'fleet.toml:5:8: error: defaults.soak: confirm-within (300 s) must exceed soak (600 s) by 5 s; write a longer confirm-within or a shorter soak\n',
    )
  })

  it('may not be more than a machine is sent', () => {
    const words = Array.from({ length: 32 }, () => JSON.stringify('x'.repeat(1_000))).join(', ')
    const names = ['a', 'b']
    const gates = names.map(name => `[gates.${name}]\nscript = "x"\narguments = [${words}]\n`).join('')
    expect(check(`${gates}[hosts.olaf]\ngates = ["a"]\n[hosts.otto]\ngates = ["b"]\n`)).toBe('')
    expect(check(`${gates}[hosts.olaf]\ngates = ["a", "b"]\n`)).toMatch(
      /^fleet.toml:10:8: error: hosts.olaf.gates: its gates and tolerated units take \d+ bytes together, at most 32768 are allowed/,
    )
    const many = Array.from({ length: 65 }, (_, index) => `g${index}`)
    const small = many.map(name => `[gates.${name}]\ntcp = "a:1"\n`).join('')
    expect(check(`${small}[hosts.olaf]\ngates = ${JSON.stringify(many)}\n`)).toContain(
      'hosts.olaf.gates: write from 0 to 64 items, not 65',
    )
  })
})
