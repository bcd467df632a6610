import { generateKeyPairSync } from 'node:crypto'
import { create } from '@bufbuild/protobuf'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { GetEvidenceRequestSchema } from '../../shared/gen/muster/v1/evidence_pb.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { signOutcome } from '../../shared/outcome/signed-outcome.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { ChangeFeed } from '../operations/change-feed.ts'
import { recordReport } from '../operations/record-report.ts'
import {
  addMachine,
  type SampleFleet,
  sampleFleet,
  sampleRevision,
  streamOf,
  targetOf,
} from '../revisions/testing/sample-fleet.ts'
import { insertOperations } from '../store/operations.ts'
import { getEvidence } from './get-evidence.ts'
import { publishRevision } from './publish-revision.ts'

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const der = publicKey.export({ format: 'der', type: 'spki' })
const SIGNER = keyId(der)

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

async function items(refs: string[] = [], limit = 0) {
  const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
  const deps = { store: fleet.store, directory, trustChain: () => [fleet.trust.envelope] }
  const request = create(GetEvidenceRequestSchema, { refs, limit })
  const told = getEvidence(deps)(request, { kind: 'local' }, new AbortController().signal)
  const found = []
  for await (const { item } of told) if (item) found.push(item)
  return found
}

async function addOutcome(id: string, sign: boolean, ordered: number): Promise<void> {
  const outcome = { class: OutcomeClass.SUCCEEDED, phase: Phase.DONE }
  const row = {
    id,
    machine: SIGNER,
    host: 'olaf',
    revision: 1,
    manifest_digest: '',
    ordered,
    ordered_by: 'anna',
    expires: 9e15,
    delivered: null,
    phase: 0,
    outcome: null,
    outcome_class: 0,
    ended: null,
  }
  await fleet.store.transact(tx => insertOperations(tx, [row]))
  const signedOutcome = signOutcome(privateKey, {
    machine: SIGNER,
    operationId: id,
    revision: 1n,
    outcome,
  })
  const report = { operationId: id, revision: 1n, outcome, ...(sign && { signedOutcome }) }
  const deps = { ...fleet, operationFeed: new ChangeFeed() }
  await recordReport(deps, SIGNER, create(OperationReportSchema, report))
}

describe('evidence', () => {
  it('holds the trust sets, the machine’s key, its signed outcomes alone, and the revisions they name', async () => {
    const targets = [targetOf(fleet.fleetId, 'olaf', { machine: SIGNER })]
    const publish = publishRevision({ ...fleet, log: pino({ level: 'silent' }), onPublished: () => {} })
    const first = sampleRevision(fleet, undefined, { targets })
    for (const revision of [first, sampleRevision(fleet, first, { targets })]) {
      await publish(streamOf(revision.messages), { kind: 'local' }, new AbortController().signal)
    }
    await addMachine(fleet.store, SIGNER, { public_key: der })
    await addMachine(fleet.store, 'b'.repeat(64))
    await addOutcome('one', true, 1)
    await addOutcome('two', false, 2)
    await addOutcome('three', true, 3)
    const found = await items()
    expect(found.map(({ case: kind }) => kind)).toEqual([
      'trust',
      'machine',
      'outcome',
      'outcome',
      'revision',
    ])
    expect(found[1]).toMatchObject({ value: { host: 'olaf' } })
    expect(found.slice(2, 4)).toMatchObject([
      { value: { operationId: 'three', orderedBy: 'anna' } },
      { value: { operationId: 'one' } },
    ])
    expect(found[4]).toMatchObject({ value: { number: 1n } })
    expect((await items(['olaf'], 1)).map(({ case: kind }) => kind)).toEqual([
      ...['trust', 'machine', 'outcome', 'revision'],
    ])
    await expect(items(['nobody'])).rejects.toThrow('nobody')
    await expect(items([], 1_001)).rejects.toThrow('limit')
  })
})
