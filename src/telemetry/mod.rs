//! Power over time: energy of traces, traces on a fixed step, and their recording.
//!
//! Others' logs are read by `formats`. Everything here keeps to one rule: where nobody looked there is no power, and what
//! lies between two readings too far apart is a gap.

pub mod energy;
pub mod record;
pub mod resample;

pub use energy::{Gap, Summing, Totals, gap_limit, gap_limit_of, totals};
pub use record::{Recorder, record};
pub use resample::{most_steps, resample};
