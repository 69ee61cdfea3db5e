//! The load generator against a real server that makes tokens by a clock (`tests/tiny_server`): counts, latency, faults.

mod counts;
mod faults;
mod latency;
mod restart;
mod server;
