//! A small OpenAI-compatible inference server for tests: no model, but token counts, batching and latency as a real one
//! has them, and faults on demand.
//!
//! Tokens come from a step clock (`engine.rs`) that batches continuously, so what a client measures can be held against
//! known figures. Faults are drawn from a seed; `/stats` says what was done, `/stats/reset` begins anew. Loopback only,
//! ends on SIGTERM. No sampling, no prefix cache, one prompt a request.

mod api;
mod engine;
mod faults;
mod stats;
mod stream;
mod tokenizer;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::serve::ListenerExt;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use self::engine::{Clock, Engine};
use self::faults::{Faults, Shares};
use self::stats::Stats;
use self::tokenizer::{Kind, Tokenizer};

#[derive(Parser)]
#[command(name = "tiny_server", about = "OpenAI-compatible inference server for tests", version)]
pub struct Arguments {
    /// 0 takes a free one; it is printed as the one line on stdout.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Written, whole, once the server listens.
    #[arg(long)]
    port_file: Option<PathBuf>,
    #[arg(long, default_value = "tiny")]
    model: String,
    #[arg(long, default_value_t = 8192)]
    max_model_len: u32,
    /// Requests that run at a time; others wait.
    #[arg(long, default_value_t = 256)]
    max_num_seqs: usize,
    /// Seconds of a step, whatever the batch (a in a + b * batch).
    #[arg(long, default_value_t = 0.002)]
    step_s: f64,
    /// Seconds of a step per running request (b).
    #[arg(long, default_value_t = 0.0)]
    step_per_request_s: f64,
    /// Added to a step for each prompt token that enters in it.
    #[arg(long, default_value_t = 0.0)]
    prefill_token_s: f64,
    /// `/health` answers 503, and everything else too, for so long.
    #[arg(long, default_value_t = 0.0)]
    startup_s: f64,
    #[arg(long, value_enum, default_value_t = Kind::Bytes)]
    tokenizer: Kind,
    /// One start token before each text prompt.
    #[arg(long)]
    start_token: bool,
    /// What `/tokenize` looks like.
    #[arg(long, value_enum, default_value_t = TokenizeShape::Vllm)]
    tokenize: TokenizeShape,
    /// Token ids as prompts are refused.
    #[arg(long)]
    no_token_ids: bool,
    /// Fields that OpenAI does not have are refused.
    #[arg(long)]
    strict: bool,
    /// Tokens in a chunk of a stream.
    #[arg(long, default_value_t = 1)]
    chunk_tokens: u32,
    /// `usage` only at the end of a stream, even where it is asked for in every chunk.
    #[arg(long)]
    no_continuous_usage: bool,
    /// No `usage` at all.
    #[arg(long)]
    no_usage: bool,
    /// Without `ignore_eos`, the chance of an end after each token.
    #[arg(long, default_value_t = 0.05)]
    end_share: f64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    shares: Shares,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenizeShape {
    Vllm,
    #[value(name = "llama.cpp")]
    LlamaCpp,
    Tgi,
    None,
}

/// What the handlers share.
pub struct Server {
    arguments: Arguments,
    tokenizer: Tokenizer,
    engine: Engine,
    faults: Faults,
    stats: Arc<Stats>,
    started: Instant,
}

impl Server {
    fn is_ready(&self) -> bool {
        self.started.elapsed().as_secs_f64() >= self.arguments.startup_s
    }
}

fn main() {
    let arguments = Arguments::parse();
    if let Err(why) = arguments.shares.check() {
        eprintln!("tiny_server: {why}");
        std::process::exit(2);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if let Err(error) = runtime.block_on(serve(arguments)) {
        eprintln!("tiny_server: {error}");
        std::process::exit(1);
    }
    // Answers under way break off, as they do when a real server is stopped.
    runtime.shutdown_timeout(Duration::ZERO);
}

async fn serve(arguments: Arguments) -> std::io::Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
    let port = listener.local_addr()?.port();
    if let Some(file) = &arguments.port_file {
        let unfinished = file.with_extension("unfinished");
        std::fs::write(&unfinished, format!("{port}\n"))?;
        std::fs::rename(&unfinished, file)?;
    }
    println!("{port}");

    let stats = Arc::new(Stats::default());
    let clock = Clock {
        step: arguments.step_s,
        per_request: arguments.step_per_request_s,
        per_prompt_token: arguments.prefill_token_s,
    };
    let server = Arc::new(Server {
        tokenizer: Tokenizer::new(arguments.tokenizer, arguments.start_token),
        engine: Engine::start(clock, arguments.max_num_seqs, stats.clone()),
        faults: Faults::new(arguments.shares, arguments.seed),
        stats,
        started: Instant::now(),
        arguments,
    });
    // Each token is a segment of its own: without this the kernel gathers them.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    tokio::select! {
        result = async { axum::serve(listener, api::routes(server)).await } => result,
        _ = stop.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
