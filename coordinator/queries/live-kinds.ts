import type { CelInput } from '@bufbuild/cel'
import { type DescMessage, fromJson, type JsonValue, toJsonString } from '@bufbuild/protobuf'
import { durationMs } from '@bufbuild/protobuf/wkt'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import {
  DisksAnswerSchema,
  DisksProbeSchema,
  JournalAnswerSchema,
  JournalProbeSchema,
  type LiveProbe,
  PortsAnswerSchema,
  PortsProbeSchema,
  UnitsAnswerSchema,
  UnitsProbeSchema,
} from '../../shared/gen/muster/v1/probe_pb.ts'
import { factsToCel, messageToCel } from '../../shared/query/message-to-cel.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { isUnitName } from '../../shared/unit-name.ts'

/** One thing that every node is asked. */
export interface LiveQuestion {
  readonly kind: 'facts' | 'units' | 'disks' | 'ports' | 'journal'
  /** JSON text; empty: none. */
  readonly parameters: string
}

/** What a node answered to one of them. */
export interface LiveReading {
  /** The facts, or the list that `live` has under the question's name. */
  readonly value: CelInput
  readonly truncated: boolean
}

const MAX_PATTERNS = 32
const MAX_PATTERN_CHARS = 256
const MAX_PATH_CHARS = 1_024
const MAX_LINES = 500
/** What an agent reads of one question. */
const MAX_PARAMETER_CHARS = 4 * 1024

export const FACTS_QUESTION: LiveQuestion = { kind: 'facts', parameters: '' }

/** Checks what nodes are to be asked; says which field is wrong. */
export function readProbes(probes: readonly LiveProbe[]): readonly LiveQuestion[] {
  const questions = probes.map(({ probe }, at) => readProbe(`probes[${at}]`, probe))
  const long = questions.find(({ parameters }) => parameters.length > MAX_PARAMETER_CHARS)
  if (long)
    throw invalid(`probes: ${long.kind}: all it names takes more than ${MAX_PARAMETER_CHARS} characters`)
  const twice = questions.find(({ kind }, at) => questions.findIndex(other => other.kind === kind) !== at)
  if (twice) throw invalid(`probes: ${twice.kind} is asked twice; ask once for all, or ask again`)
  return questions
}

function readProbe(field: string, probe: LiveProbe['probe']): LiveQuestion {
  switch (probe.case) {
    case 'units': {
      checkTexts(`${field}.units.patterns`, probe.value.patterns, MAX_PATTERN_CHARS)
      return { kind: 'units', parameters: toJsonString(UnitsProbeSchema, probe.value) }
    }
    case 'disks': {
      checkTexts(`${field}.disks.paths`, probe.value.paths, MAX_PATH_CHARS)
      const relative = probe.value.paths.find(path => !path.startsWith('/'))
      if (relative !== undefined) throw invalid(`${field}.disks.paths: ${relative} is no absolute path`)
      return { kind: 'disks', parameters: toJsonString(DisksProbeSchema, probe.value) }
    }
    case 'ports':
      return { kind: 'ports', parameters: toJsonString(PortsProbeSchema, probe.value) }
    case 'journal': {
      const { unit, lines, since } = probe.value
      if (!isUnitName(unit)) {
        throw invalid(`${field}.journal.unit: must be the name of one unit with its suffix, as sshd.service`)
      }
      if (lines > MAX_LINES) throw invalid(`${field}.journal.lines: at most ${MAX_LINES}`)
      if (since && durationMs(since) <= 0) throw invalid(`${field}.journal.since: must be above 0`)
      return { kind: 'journal', parameters: toJsonString(JournalProbeSchema, probe.value) }
    }
    case undefined:
      throw invalid(`${field}: names no question`)
  }
}

function checkTexts(field: string, texts: readonly string[], mostChars: number): void {
  if (texts.length > MAX_PATTERNS) throw invalid(`${field}: at most ${MAX_PATTERNS}`)
  if (texts.some(text => text === '' || text.length > mostChars)) {
    throw invalid(`${field}: each must have 1 to ${mostChars} characters`)
  }
}

const LENIENT = { ignoreUnknownFields: true } as const

/** Reads what a node answered. Throws where it is not what was asked for. */
export function readAnswer(kind: LiveQuestion['kind'], text: string): LiveReading {
  const json = JSON.parse(text)
  switch (kind) {
    case 'facts':
      return { value: factsToCel(fromJson(FactsSchema, json, LENIENT)), truncated: false }
    case 'units':
      return partOf(UnitsAnswerSchema, json, 'units')
    case 'disks':
      return partOf(DisksAnswerSchema, json, 'disks')
    case 'ports':
      return partOf(PortsAnswerSchema, json, 'ports')
    case 'journal':
      return partOf(JournalAnswerSchema, json, 'lines')
  }
}

function partOf<D extends DescMessage>(schema: D, json: JsonValue, field: string): LiveReading {
  const fields = messageToCel(schema, fromJson(schema, json, LENIENT))
  return { value: fields.get(field) ?? [], truncated: fields.get('truncated') === true }
}
