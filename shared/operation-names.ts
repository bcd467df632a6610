import { OutcomeClass, OutcomeClassSchema, Phase, PhaseSchema } from './gen/muster/v1/operation_pb.ts'

const words = (name: string | undefined, prefix: string) =>
  name?.startsWith(prefix) ? name.slice(prefix.length).toLowerCase().replaceAll('_', ' ') : undefined

/** An outcome's class as people read it: "succeeded", "build failed", .... */
export function outcomeName(outcome: OutcomeClass): string {
  if (outcome === OutcomeClass.UNSPECIFIED) return 'running'
  return words(OutcomeClassSchema.value[outcome]?.name, 'OUTCOME_CLASS_') ?? `outcome ${outcome}`
}

/** A phase as people read it: "verify", "build", .... */
export function phaseName(phase: Phase): string {
  if (phase === Phase.UNSPECIFIED) return 'ordered'
  return words(PhaseSchema.value[phase]?.name, 'PHASE_') ?? `phase ${phase}`
}
