/** Version of the programs of this tree; a test compares it with package.json. */
export const VERSION = '0.1.0'

/** Versions of the wire protocol this program speaks. Coordinator and agent one version apart work together. */
export const PROTOCOL_MIN = 1
export const PROTOCOL_MAX = 1

/** The highest protocol both sides speak, or undefined. */
export function commonProtocol(peerMin: number, peerMax: number): number | undefined {
  const highest = Math.min(PROTOCOL_MAX, peerMax)
  return highest >= Math.max(PROTOCOL_MIN, peerMin) ? highest : undefined
}
