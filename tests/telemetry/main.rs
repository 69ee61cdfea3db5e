//! Power traces from outside: a real Prometheus, broken logs, and a recording of scripted hardware.

mod commands;
mod mutations;
mod prometheus;
mod recording;
