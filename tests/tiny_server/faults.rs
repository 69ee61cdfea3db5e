//! Faults of a server, each for a share of the requests, drawn from a seed in the order in which requests arrive.

use std::sync::Mutex;

use clap::Args;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Args, Clone, Copy)]
pub struct Shares {
    /// Connections that break off somewhere in the answer.
    #[arg(long, default_value_t = 0.0)]
    drop_share: f64,
    /// Requests whose first token takes `--slow-first-s` longer.
    #[arg(long, default_value_t = 0.0)]
    slow_first_share: f64,
    #[arg(long, default_value_t = 1.0)]
    pub slow_first_s: f64,
    /// Answers that end a token early, and say so.
    #[arg(long, default_value_t = 0.0)]
    short_output_share: f64,
    /// Answers that count a prompt token too many.
    #[arg(long, default_value_t = 0.0)]
    wrong_input_share: f64,
    /// Answers whose tokens show no text, as halves of characters do: one chunk, which ends them.
    #[arg(long, default_value_t = 0.0)]
    unseen_share: f64,
    #[arg(long, default_value_t = 0.0)]
    status_429_share: f64,
    #[arg(long, default_value_t = 0.0)]
    status_500_share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// After this share of the tokens.
    Drop(f64),
    SlowFirst,
    ShortOutput,
    WrongInput,
    Unseen,
    Status(u16),
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Drop(_) => "drop",
            Self::SlowFirst => "slow_first",
            Self::ShortOutput => "short_output",
            Self::WrongInput => "wrong_input",
            Self::Unseen => "unseen",
            Self::Status(429) => "status_429",
            Self::Status(_) => "status_500",
        }
    }
}

impl Shares {
    fn list(self, at: f64) -> [(f64, Fault); 7] {
        [
            (self.drop_share, Fault::Drop(at)),
            (self.slow_first_share, Fault::SlowFirst),
            (self.short_output_share, Fault::ShortOutput),
            (self.wrong_input_share, Fault::WrongInput),
            (self.unseen_share, Fault::Unseen),
            (self.status_429_share, Fault::Status(429)),
            (self.status_500_share, Fault::Status(500)),
        ]
    }

    pub fn check(self) -> Result<(), &'static str> {
        let shares = self.list(0.0).map(|(share, _)| share);
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || shares.iter().sum::<f64>() > 1.0 + 1e-9 {
            return Err("shares of faults lie in 0..1, and so does their sum");
        }
        Ok(())
    }
}

pub struct Faults {
    shares: Shares,
    draws: Mutex<ChaCha8Rng>,
}

impl Faults {
    pub fn new(shares: Shares, seed: u64) -> Self {
        Self { shares, draws: Mutex::new(ChaCha8Rng::seed_from_u64(seed)) }
    }

    /// The next request's.
    pub fn draw(&self) -> Fault {
        let mut draws = self.draws.lock().unwrap();
        let (mut left, at) = (draws.random::<f64>(), draws.random::<f64>());
        for (share, fault) in self.shares.list(at) {
            if left < share {
                return fault;
            }
            left -= share;
        }
        Fault::None
    }

    /// Tokens until a model that may end does.
    pub fn natural_end(&self, end_share: f64) -> u32 {
        let mut draws = self.draws.lock().unwrap();
        let mut tokens = 1;
        while tokens < 100_000 && draws.random::<f64>() >= end_share {
            tokens += 1;
        }
        tokens
    }
}
