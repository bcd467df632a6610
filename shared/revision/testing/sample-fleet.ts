import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { signEnvelope } from '../../envelope/envelope.ts'
import { generateSigningKey } from '../../envelope/keys.ts'
import { MANIFEST_TYPE } from '../../envelope/payload-types.ts'
import type { Envelope } from '../../gen/muster/v1/envelope_pb.ts'
import { BindingSchema, SafetySchema, type Target, TargetSchema } from '../../gen/muster/v1/manifest_pb.ts'
import { durationFromMs } from '../../time.ts'
import { makeFirstTrustSet } from '../../trust/make-trust-set.ts'
import { type BuiltManifest, buildManifest, type ManifestInput } from '../build-manifest.ts'
import type { Hardware } from '../expand-name.ts'
import { freshMemory, type RevisionInput } from '../judge-revision.ts'
import { manifestDigest } from '../read-manifest.ts'

/** A small fleet with real keys, for tests. */
export const sampleFleetId = '0123456789abcdef0123456789abcdef'
export const sampleNow = new Date('2026-03-01T12:00:00Z')
export const sampleKey = generateSigningKey()
export const sampleRecoveryKey = generateSigningKey()
export const sampleTrust = makeFirstTrustSet({
  fleetId: sampleFleetId,
  keys: [{ key: sampleKey, comment: 'operator' }],
  threshold: 1,
  recoveryKeys: [{ key: sampleRecoveryKey, comment: 'in the safe' }],
  caPins: [],
  coordinators: [],
  created: new Date('2026-01-01T00:00:00Z'),
  signers: [sampleKey],
})

export const sampleHardware: Hardware = {
  machineId: 'ab'.repeat(32),
  serial: 'SN123',
  uuid: '11111111-2222-3333-4444-555555555555',
  macs: ['52:54:00:00:00:02', '52:54:00:00:00:01'],
  diskSerials: ['S4EVNX0M123456'],
}
export const sampleRule = "facts.system.product == 'N100'"

type TargetChange = Partial<Omit<Target, '$typeName' | '$unknown' | 'binding'>> & {
  binding?: MessageInitShape<typeof BindingSchema>
}

/** The target of host olaf, or another when told so. */
export function sampleTarget({ binding, ...change }: TargetChange = {}): Target {
  return create(TargetSchema, {
    fleetId: sampleFleetId,
    host: change.group ? '' : 'olaf',
    system: 'x86_64-linux',
    role: 'server',
    cluster: 'home',
    way: {
      case: 'source',
      value: { $typeName: 'muster.v1.SourceBuild', attribute: 'olaf', leastMemoryBytes: 0n },
    },
    binding: create(BindingSchema, binding ?? { diskSerial: 'S4EVNX0M123456' }),
    // Nobody waits in a test for what need not hold any longer than it is seen once.
    safety: create(SafetySchema, { soak: durationFromMs(0), confirmWithin: durationFromMs(10_000) }),
    ...change,
  })
}

export const sampleGroupTarget = (change: TargetChange = {}): Target =>
  sampleTarget({
    group: 'edge',
    role: 'worker',
    binding: { rule: sampleRule, nameTemplate: 'edge-{serial}' },
    ...change,
  })

export interface SampleRevision extends BuiltManifest {
  readonly envelope: Envelope
}

/** A good revision, number 5 with floor 3; `change` says what is different. */
export function sampleRevision(change: Partial<ManifestInput> = {}, key = sampleKey): SampleRevision {
  const built = buildManifest({
    fleetId: sampleFleetId,
    number: 5,
    predecessor: (change.number ?? 5) === 1 ? '' : '4'.repeat(64),
    floor: Math.min(3, change.number ?? 5),
    tree: { digest: 'd'.repeat(64), length: 2048 },
    targets: [sampleTarget(), sampleGroupTarget()],
    created: new Date(sampleNow.getTime() - 60_000),
    expires: new Date(sampleNow.getTime() + 86_400_000),
    provenance: {
      commit: 'c'.repeat(40),
      dirty: false,
      lockDigest: '',
      publisher: 'ann@desk',
      tool: 'muster 0.1.0',
    },
    trustSet: sampleTrust.envelope,
    ...change,
  })
  return { ...built, envelope: signEnvelope(built.payload, MANIFEST_TYPE, [key]) }
}

/** What a fresh machine, which is host olaf, is asked to judge; `change` says what is different. */
export function sampleInput(revision: SampleRevision, change: Partial<RevisionInput> = {}): RevisionInput {
  return {
    envelope: revision.envelope,
    targetBytes: revision.targets[0]!.bytes,
    trust: sampleTrust.trust,
    now: sampleNow,
    memory: freshMemory,
    order: { revision: revision.manifest.number, manifestDigest: revision.manifest.digest },
    hardware: sampleHardware,
    assignment: { host: 'olaf', group: '' },
    system: 'x86_64-linux',
    part: 'system',
    ...change,
  }
}

/** The input with a payload that need not be one the builder would make, signed and ordered all the same. */
export function samplePayloadInput(payload: Uint8Array): RevisionInput {
  const order = { revision: 5, manifestDigest: manifestDigest(payload) }
  const envelope = signEnvelope(payload, MANIFEST_TYPE, [sampleKey])
  return sampleInput(sampleRevision(), { envelope, order })
}
