import type { ChannelOptions } from '@grpc/grpc-js'

/** For every channel to a coordinator. */
export const CHANNEL_OPTIONS: ChannelOptions = {
  // A connection whose other end vanished is noticed even while nothing is sent.
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  // A proxy from the environment could not be reached by the check of the pin, and DNS has no say in how to connect.
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.max_receive_message_length': 4 * 1024 * 1024,
}
