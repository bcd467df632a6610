/** What an envelope may carry. The type is part of what is signed, so one kind can never pass for another. */
export const MANIFEST_TYPE = 'application/vnd.muster.manifest.v1+protobuf'
export const TRUST_SET_TYPE = 'application/vnd.muster.trust-set.v1+protobuf'
export const ORDER_TYPE = 'application/vnd.muster.order+protobuf'
