import { checkBindings } from './check-bindings.ts'
import { checkClusters } from './check-clusters.ts'
import { checkConfigurations } from './check-configurations.ts'
import { type CheckFile, checkGates } from './check-gates.ts'
import { type CheckRule, checkGroups } from './check-groups.ts'
import { checkMembership } from './check-membership.ts'
import { checkNetwork } from './check-network.ts'
import { checkRollout } from './check-rollout.ts'
import { checkSafety } from './check-safety.ts'
import type { Fleet } from './fleet.ts'
import { type Problem, ProblemList } from './problem.ts'
import { readSections } from './read-sections.ts'
import { reportSecrets } from './report-secrets.ts'
import { resolveFleet } from './resolve-fleet.ts'
import { readToml } from './toml-document.ts'

export interface FleetFileOptions {
  /** Reads a CEL rule and says what is wrong with it. Passed in, so that this module stays free of CEL. */
  readonly checkRule?: CheckRule
  /** Looks at a script that a gate names. Passed in, because only some who read the file have the directory. */
  readonly checkScript?: CheckFile
  /** The same for a Job of a gate. */
  readonly checkJob?: CheckFile
}

/** What a fleet file says, or why it says nothing. With `ok` the problems are warnings only. */
export type FleetFileResult =
  | { readonly ok: true; readonly fleet: Fleet; readonly problems: readonly Problem[] }
  | { readonly ok: false; readonly problems: readonly Problem[] }

/** Reads and checks `fleet.toml` completely: every problem is found in one run. `path` is only shown. */
export function readFleetFile(text: string, path: string, options: FleetFileOptions = {}): FleetFileResult {
  const problems = new ProblemList(path)
  const root = readToml(text, problems.report)
  reportSecrets(text, root, problems.report)
  if (root === undefined) return { ok: false, problems: problems.list() }
  const sections = readSections(root, problems.report)
  checkMembership(sections, problems.report)
  checkGroups(sections, problems.report, options.checkRule)
  checkNetwork(sections, problems.report)
  checkClusters(sections, problems.report)
  checkBindings(sections, problems.report)
  checkConfigurations(sections, problems.report)
  checkGates(sections, problems.report, options)
  checkSafety(sections, problems.report)
  checkRollout(sections, problems.report)
  const fleet = problems.hasErrors ? undefined : resolveFleet(sections)
  return fleet === undefined
    ? { ok: false, problems: problems.list() }
    : { ok: true, fleet, problems: problems.list() }
}
