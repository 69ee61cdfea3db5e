//! Power of the next 30 s and 60 s from the last minute of telemetry, with quantiles.
//!
//! [`Forecaster`] is what a scheduler calls; everything else makes or judges forecasters. All baselines are weighted sums
//! of the last minute (`linear`), which differ in how the weights come about: `average` and `ridge`. What is used is the
//! averages, moved towards what was learned as far as that is safe (`selected`, `select`). What a forecaster
//! says about its own error (`bands`) is learned per kind of channel from the residuals of its training windows. Nothing
//! here reads files: traces come from `telemetry`, and `evaluate` returns figures.

pub mod average;
pub mod bands;
pub mod current;
pub mod evaluate;
pub mod forecaster;
pub mod history;
pub mod learn;
pub mod linear;
#[cfg(feature = "networks")]
pub mod network;
pub mod ridge;
mod select;
mod selected;
pub mod split;

pub use evaluate::{Evaluation, Row, Score, Setting, Shown, baselines, evaluate};
pub use forecaster::{Forecast, Forecaster, HISTORY, Horizon, LONGEST, OUTPUTS, Output, Quantiles, STEP, Target};
pub use history::{FIGURES, Figure, History, Kind, Recording, Step, Window};
pub use learn::{Learned, METHODS, Method, learn};
pub use split::{Fold, Split, chronological, held_out};
