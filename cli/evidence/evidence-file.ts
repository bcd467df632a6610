import { readFile, stat } from 'node:fs/promises'
import { create, fromJsonString, toJson } from '@bufbuild/protobuf'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { type Evidence, EvidenceSchema } from '../../shared/gen/muster/v1/evidence_pb.ts'
import type { Connection } from '../connect.ts'
import { CliError } from '../exit-codes.ts'

/** A machine signs some kilobytes an operation; this is far more than any fleet gives in one file. */
const MAX_FILE_BYTES = 512 * 1024 * 1024

/** Fetches the evidence of some machines, or of all. */
export async function fetchEvidence(
  { client, call }: Connection,
  refs: readonly string[],
  limit: number,
): Promise<Evidence> {
  const evidence = create(EvidenceSchema)
  for await (const { item } of client.getEvidence({ refs: [...refs], limit }, call)) {
    switch (item.case) {
      case 'trust':
        evidence.trust = item.value
        break
      case 'machine':
        evidence.machines.push(item.value)
        break
      case 'outcome':
        evidence.outcomes.push(item.value)
        break
      case 'revision':
        evidence.revisions.push(item.value)
        break
      case undefined:
        break // of a newer coordinator: a kind of evidence this version does not check
    }
  }
  return evidence
}

/** The text of an evidence file: JSON as the protocol defines it, bytes in base64. */
export function encodeEvidence(evidence: Evidence): string {
  return `${JSON.stringify(toJson(EvidenceSchema, evidence), undefined, 1)}\n`
}

export async function readEvidence(path: string): Promise<Evidence> {
  return decodeEvidence(await readText(path), path)
}

function decodeEvidence(text: string, path: string): Evidence {
  try {
    return fromJsonString(EvidenceSchema, text, { ignoreUnknownFields: true })
  } catch (error) {
    throw new CliError('error', `${path}: is no file of \`muster evidence\`: ${reasonOf(error)}`, {
      cause: error,
    })
  }
}

async function readText(path: string): Promise<string> {
  try {
    const { size } = await stat(path)
    if (size > MAX_FILE_BYTES)
      throw new CliError('error', `${path}: ${size} bytes, at most ${MAX_FILE_BYTES}`)
    return await readFile(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw new CliError('notFound', `${path}: no such file`)
    throw error
  }
}
