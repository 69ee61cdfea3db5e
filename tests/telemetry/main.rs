//! Power traces from outside: a real Prometheus, broken logs, a recording of scripted hardware, and of a real board.

mod commands;
mod h200;
mod mutations;
mod prometheus;
mod recording;
