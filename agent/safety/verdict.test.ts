import { spawn } from 'node:child_process'
import { mkdtemp, rm, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { type ArmFolder, armFolder, prepareArmFolder } from './operation-folder.ts'
import {
  beginPromotion,
  beginProof,
  claimConfirmed,
  claimOver,
  claimReturned,
  claimUntouched,
  prepareClaims,
  readVerdict,
  type Verdict,
} from './verdict.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'verdict-'))
})
afterAll(() => rm(dir, { recursive: true }))

let count = 0
async function fresh(): Promise<ArmFolder> {
  count += 1
  const stateDir = join(dir, String(count))
  const folder = armFolder(stateDir, 'op', 1)
  await prepareArmFolder(folder, stateDir)
  await prepareClaims(folder)
  return folder
}

const failure = { by: 'agent', class: OutcomeClass.ACTIVATION_FAILED, reason: 'gate web: down' } as const
const untouched = { class: OutcomeClass.BUSY, refusal: '', reason: 'locked', exitCode: 11 }
const CLAIMS: Readonly<Record<string, (folder: ArmFolder) => Promise<Verdict>>> = {
  confirmed: claimConfirmed,
  deadline: folder => claimReturned(folder, { by: 'deadline' }),
  boot: folder => claimReturned(folder, { by: 'boot' }),
  agent: folder => claimReturned(folder, failure),
  untouched: folder => claimUntouched(folder, untouched),
}

describe('a verdict', () => {
  it('is none until somebody claims one, and then what was claimed, with its words', async () => {
    const expected: Readonly<Record<string, Verdict>> = {
      confirmed: { kind: 'confirmed' },
      deadline: { kind: 'returned', claim: { by: 'deadline' } },
      boot: { kind: 'returned', claim: { by: 'boot' } },
      agent: { kind: 'returned', claim: failure },
      untouched: { kind: 'untouched', ...untouched },
    }
    for (const [name, claim] of Object.entries(CLAIMS)) {
      const folder = await fresh()
      expect(await readVerdict(folder)).toEqual({ kind: 'none' })
      expect(await claim(folder)).toEqual(expected[name])
      expect(await readVerdict(folder)).toEqual(expected[name])
    }
  })

  it('N12: is given once: whoever comes later is told what counts, in any order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(...Object.keys(CLAIMS)), { minLength: 2, maxLength: 6 }),
        async names => {
          const folder = await fresh()
          const [first, ...others] = names
          const counts = await CLAIMS[first!]!(folder)
          for (const name of others) expect(await CLAIMS[name]!(folder)).toEqual(counts)
          expect(await readVerdict(folder)).toEqual(counts)
        },
      ),
      { numRuns: 40 },
    )
  })

  it('of many claims at one moment is one, and all are told the same', async () => {
    for (let round = 0; round < 10; round++) {
      const folder = await fresh()
      // Words are the agent's alone, whose one process claims one thing at a time.
      const claims = [CLAIMS.confirmed!, CLAIMS.deadline!, CLAIMS.boot!, CLAIMS.confirmed!, CLAIMS.agent!]
      const told = await Promise.all(claims.map(claim => claim(folder)))
      expect(new Set(told.map(verdict => JSON.stringify(verdict))).size).toBe(1)
      expect(told[0]?.kind).not.toBe('none')
    }
  })

  it('of processes that race for it is one', async () => {
    const folder = await fresh()
    const stateDir = join(dir, String(count))
    const program = join(import.meta.dirname, 'fixtures/claim.ts')
    const at = Date.now() + 4_000
    const told = await Promise.all(
      ['confirmed', 'deadline', 'boot', 'agent'].map(async how => {
        const args = ['--import', 'tsx', program, stateDir, how, String(at)]
        const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
        return await text(child.stdout)
      }),
    )
    expect(new Set(told)).toEqual(new Set([JSON.stringify(await readVerdict(folder))]))
    expect(told[0]).toMatch(/confirmed|returned/)
  })

  it('that cannot be read is neither good nor none, and no claim replaces it', async () => {
    for (const text of ['', 'null', '{"kind":"good"}', '{"kind":"returned","claim":{"by":"nobody"}}', 'x']) {
      const folder = await fresh()
      await writeFile(join(folder.path, 'verdict'), text)
      expect(await readVerdict(folder)).toMatchObject({ kind: 'unreadable' })
      for (const claim of Object.values(CLAIMS)) {
        expect(await claim(folder)).toMatchObject({ kind: 'unreadable' })
      }
    }
  })

  it('cannot be claimed where nothing was prepared', async () => {
    const folder = armFolder(dir, 'never', 1)
    for (const claim of Object.values(CLAIMS)) await expect(claim(folder)).rejects.toThrow(/ENOENT|reserved/)
  })
})

describe('a promotion', () => {
  it('takes the claim of the deadline before it away, so that both never go on', async () => {
    const folder = await fresh()
    expect(await beginPromotion(folder)).toBe(true)
    expect(await claimOver(folder, 'proof')).toEqual({ kind: 'none' })
    expect(await claimConfirmed(folder)).toEqual({ kind: 'confirmed' })
  })

  it('N12: does not begin once the deadline was over', async () => {
    const folder = await fresh()
    expect(await claimOver(folder, 'proof')).toMatchObject({ kind: 'returned' })
    expect(await beginPromotion(folder)).toBe(false)
  })

  it('has a deadline of its own, which does not count before it', async () => {
    const folder = await fresh()
    expect(await claimOver(folder, 'promotion')).toEqual({ kind: 'none' })
    expect(await beginPromotion(folder)).toBe(true)
    expect(await beginPromotion(folder)).toBe(true)
    expect(await claimOver(folder, 'promotion')).toEqual({ kind: 'returned', claim: { by: 'deadline' } })
    expect(await claimConfirmed(folder)).toMatchObject({ kind: 'returned' })
  })

  it('that a boot broke off leaves a proof that can be over again', async () => {
    const folder = await fresh()
    await beginPromotion(folder)
    await beginProof(folder)
    await beginProof(folder)
    expect(await claimOver(folder, 'promotion')).toEqual({ kind: 'none' })
    expect(await claimOver(folder, 'proof')).toMatchObject({ kind: 'returned' })
  })

  it('and a deadline, at one moment, are one or the other', async () => {
    const seen = new Set<string>()
    for (let round = 0; round < 30; round++) {
      const folder = await fresh()
      const [over, begun] = await Promise.all([claimOver(folder, 'proof'), beginPromotion(folder)])
      expect(over.kind === 'returned').toBe(!begun)
      seen.add(over.kind)
    }
    expect([...seen].filter(kind => kind !== 'returned' && kind !== 'none')).toEqual([])
  })

  it('and a claim without a deadline still exclude each other', async () => {
    const folder = await fresh()
    await beginPromotion(folder)
    expect(await claimReturned(folder, { by: 'deadline' })).toMatchObject({ kind: 'returned' })
    const gone = await fresh()
    await unlink(join(gone.path, 'claim.deadline'))
    await expect(claimReturned(gone, { by: 'deadline' })).rejects.toThrow(/ENOENT/)
  })
})
