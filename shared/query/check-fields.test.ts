import { describe, expect, it } from 'vitest'
import { compileExpression, compileSelector } from './expression.ts'

const problemOf = (text: string) => {
  const compiled = compileSelector(text)
  return compiled.kind === 'refused' ? compiled.reason : undefined
}

describe('what no machine can answer', () => {
  it.each([
    ['facts.sytem.product == "N100"', 'facts.sytem: no such field; did you mean system?'],
    ['facts.system.nosuch == "x"', 'facts.system.nosuch: no such field; there are'],
    ['has(facts.sytem)', 'facts.sytem: no such field'],
    ['true || facts.os.kernl == "x"', 'facts.os.kernl: no such field; did you mean kernel?'],
    ['facts.disks.exists(d, d.siez > 1)', 'd.siez: no such field; did you mean size?'],
    [
      'facts.disks.filter(d, d.rotational).exists(d, facts.systm.serial == "x")',
      'facts.systm: no such field',
    ],
    ['facts.disks[0].serail == "x"', 'no such field; did you mean serial?'],
    ['facts.disks.size > 1', 'facts.disks: is a list and has no size'],
    ['facts.os.kernel.major == 6', 'facts.os.kernel: is a text and has no major'],
    ['facts.system.product == 1', 'facts.system.product is a text and 1 a number: compare like with like'],
    ['"5" < facts.disks[0].size', '"5" is a text and facts.disks[0].size a number'],
    ['size(facts.disks) == "2"', 'size(…) is a number and "2" a text'],
    ['facts.interfaces.all(i, i.physical == "yes")', 'i.physical is yes or no and "yes" a text'],
    ['host.startWith("a")', 'startWith: no such function; did you mean startsWith?'],
    ['facts.disks.exist(d, true)', 'exist: no such function; did you mean exists?'],
    ['facts.disks.exists(d)', 'exists: is written list.exists(x, …)'],
    ['startsWith(host, "a")', 'startsWith: is written x.startsWith(…)'],
    ['facts.cpu.cores.int() > 1', 'int: is written int(x)'],
    ['gibtsnicht(host)', 'gibtsnicht: no such function; there are all, bool, bytes, contains,'],
    ['avg(facts.memory.total) > 1', 'avg: no such function; of many machines there are count, sum, min, max'],
    ['count() > 1', 'count: count, sum, min, max are of many machines'],
    ['host == 1', 'host is a text and 1 a number'],
    ['machine.id > 4', 'machine.id is a text and 4 a number'],
    ['labels.rack == 1', 'labels.rack is a text and 1 a number'],
    ['status.onlin', 'status.onlin: no such field; did you mean online?'],
    ['cluster.nodeReady == "yes"', 'cluster.nodeReady is yes or no and "yes" a text'],
    ['host.size() == "x"', 'size(…) is a number'],
    ['node.nosuch == 1', 'node.nosuch: no such field'],
  ])('%s', (text, problem) => {
    expect(problemOf(text)).toContain(problem)
  })

  it.each([
    ['facts.system.product', 'gives a text and no yes or no; compare it with something'],
    ['size(facts.disks)', 'gives a number and no yes or no'],
    ['facts.system', 'gives a whole object and no yes or no'],
    ['host', 'gives a text and no yes or no'],
    ['now', 'gives a time and no yes or no'],
    ['status.conditions.map(c, c)', 'gives a list and no yes or no'],
    ['true ? host : machine.id', 'gives a text and no yes or no'],
  ])('%s selects nothing', (text, problem) => {
    expect(problemOf(text)).toContain(problem)
    expect(compileExpression(text)).toMatchObject({ kind: 'compiled' })
  })

  it.each([
    'facts.disks.exists(d, d.size > 1500000000000) && facts.system.product == "MM-100"',
    'facts.disks.map(d, d.serial).exists(s, s == "x")',
    'size(facts.disks) > 1 && size(facts.disks) < 2.5',
    'facts.interfaces.all(i, i.addresses.exists(a, a == "10.0.0.1/24"))',
    'facts.memory.total / 1073741824 >= 8',
    'labels.rack == "a" && machine.simulated && status.rebootReasons != []',
    'facts.system.serial in ["a", "b"] && !facts.interfaces[0].physical',
    'has(facts.firmware.tpmVersion) ? facts.firmware.tpmVersion == "2.0" : false',
    'live.units.exists(u, u.name == "x")',
    'now > now && host.startsWith("edge")',
  ])('%s may be answered', text => {
    expect(problemOf(text)).toBeUndefined()
  })
})
