/** Who calls, as the listener proved it. */
export type Caller =
  /** root on the coordinator's own machine, by the socket only root may open. */
  | { readonly kind: 'local' }
  | {
      readonly kind: 'operator'
      readonly id: string
      readonly name: string
      /** End of the certificate it came with; its calls end then. */
      readonly notAfter?: Date
      /** Pin of the authority that made that certificate; its calls end when that is dropped. */
      readonly issuer?: string
    }
  | {
      readonly kind: 'machine'
      readonly id: string
      /** End of the certificate it came with. */
      readonly notAfter: Date
      /** Pin of the authority that made that certificate. */
      readonly issuer: string
    }
  | { readonly kind: 'stranger' }

/** A caller's name for records: "local", an operator's name, a machine's id. */
export function actorOf(caller: Caller): string {
  switch (caller.kind) {
    case 'local':
      return 'local'
    case 'operator':
      return caller.name
    case 'machine':
      return caller.id
    case 'stranger':
      return 'stranger'
  }
}
