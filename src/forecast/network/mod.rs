//! Networks that say what the averages miss, for each kind of channel they were trained on.
//!
//! `train` knows no architecture: a network is a body, one of the families, that turns the last minute into some numbers,
//! and a linear head that turns those into quantiles (`model`). How much of what a network says is believed is decided as
//! for everything else that is learned, on groups of traces left out (`trained`, `super::select`). `file` keeps the result.
//! All runs on the processor: the sequences are short, and a GPU would wait for kernels.

pub mod file;
mod gru;
mod inputs;
mod lstm;
pub mod model;
mod scaler;
mod spiking;
mod state_space;
mod train;
mod trained;
mod transformer;

pub use file::FileError;
pub use model::{Family, Network, pinball};
pub use train::{Inputs, LEVELS, Progress, Training};
pub use trained::{Errors, Studied, Trained, Validation, train};

/// Trained on eight H200 of MLPerf's runs: what it says of other kinds is nothing.
const BUNDLED: &[u8] = include_bytes!("../../../profiles/forecaster.safetensors");

/// The forecaster that comes with the program, and its bytes.
///
/// # Errors
/// None that a released program has.
pub fn bundled() -> Result<(Trained, &'static [u8]), FileError> {
    Ok((file::from_bytes(BUNDLED)?.0, BUNDLED))
}

/// Why a network could not be computed; nothing that input can bring about is known to.
#[derive(Debug, thiserror::Error)]
#[error("the network: {0}")]
pub struct NetworkError(#[from] candle_core::Error);
