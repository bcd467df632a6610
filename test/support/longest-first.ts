import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Files that take minutes, the longest first: one that is begun last keeps a part waiting while a processor has nothing to do. */
export const LONGEST = [
  'test/lab/first-boot.test.ts',
  'test/lab/safety/faults.test.ts',
  'test/lab/safety/kills.test.ts',
  'test/e2e/rollouts/rollouts.test.ts',
  'test/e2e/apply/killed.test.ts',
  'test/lab/safety/traps.test.ts',
  'test/e2e/apply/safety.test.ts',
  'test/start/demo.test.ts',
  'test/start/start.test.ts',
]

/** The order in which files of tests are begun. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const at = LONGEST.findIndex(name => moduleId.endsWith(`/${name}`))
      return at < 0 ? LONGEST.length : at
    }
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b))
  }
}
