//! What brings power to the numbers of a network and back: the residual to the averages, in multiples of what it usually is.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::inputs::{Extra, FIGURE_INPUTS, POWER_INPUTS, STEPS, sequence};
use super::model::Network;
use super::train::{Inputs, LEVELS};
use crate::forecast::bands::Said;
use crate::forecast::linear::Linear;
use crate::forecast::selected::averages;
use crate::forecast::{Figure, History, OUTPUTS, Window};
use crate::stats::{mean, quantile};

/// No meter resolves less, in watts.
const LEAST_SCALE_W: f64 = 1e-3;
/// Histories that a network is given at once: so few that what it computes with them stays in the caches of a core.
const AT_ONCE: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scaler {
    /// What residuals are to.
    pub averages: Linear,
    /// What power usually changes by, in watts.
    pub scale_w: f64,
    /// Watts of 1 in each output.
    pub units_w: [f64; OUTPUTS],
    /// Figures beside power that the network is given.
    pub extras: Vec<Extra>,
}

impl Scaler {
    /// From the windows to train on; `None` without any.
    pub fn learn(windows: &[Window<'_>], inputs: Inputs) -> Option<Self> {
        let averages = averages(windows)?;
        let mut residuals = [const { Vec::new() }; OUTPUTS];
        for window in windows {
            let centre = averages.centre(&window.history);
            for output in 0..OUTPUTS {
                residuals[output].push((window.truth[output] - centre[output]).abs());
            }
        }
        let mut units_w = [0.0; OUTPUTS];
        for (unit, residuals) in units_w.iter_mut().zip(&residuals) {
            *unit = mean(residuals)?.max(LEAST_SCALE_W);
        }
        let scale_w = quantile(&residuals[1], 0.5)?.max(LEAST_SCALE_W);
        let extras = match inputs {
            Inputs::Power => Vec::new(),
            Inputs::All => Figure::ALL.into_iter().filter_map(|figure| extra(figure, windows)).collect(),
        };
        Some(Self { averages, scale_w, units_w, extras })
    }

    /// Numbers in each step of a sequence.
    pub fn inputs(&self) -> usize {
        POWER_INPUTS + FIGURE_INPUTS * self.extras.len()
    }

    /// (histories, steps, inputs).
    pub fn sequences<'a>(&self, histories: impl ExactSizeIterator<Item = History<'a>>) -> Result<Tensor> {
        let count = histories.len();
        let values: Vec<f32> = histories.flat_map(|history| sequence(&history, self.scale_w, &self.extras)).collect();
        Tensor::from_vec(values, (count, STEPS, self.inputs()), &Device::Cpu)
    }

    /// (windows, outputs).
    pub fn targets(&self, windows: &[Window<'_>]) -> Result<Tensor> {
        let of = |window: &Window<'_>| {
            let centre = self.averages.centre(&window.history);
            std::array::from_fn::<f32, OUTPUTS, _>(|at| ((window.truth[at] - centre[at]) / self.units_w[at]) as f32)
        };
        let values: Vec<f32> = windows.iter().flat_map(of).collect();
        Tensor::from_vec(values, (windows.len(), OUTPUTS), &Device::Cpu)
    }

    /// What a network says about histories, in watts.
    pub fn said(&self, network: &Network, histories: &[History<'_>]) -> Result<Vec<Said>> {
        let some = |histories: &[History<'_>]| -> Result<Vec<Said>> {
            let rows: Vec<Vec<f32>> = network.forward(&self.sequences(histories.iter().copied())?)?.to_vec2()?;
            Ok(histories.iter().zip(&rows).map(|(history, row)| self.watts(history, row)).collect())
        };
        let all: Vec<Vec<Said>> = histories.par_chunks(AT_ONCE).map(some).collect::<Result<_>>()?;
        Ok(all.into_iter().flatten().collect())
    }

    /// What one row of a network's outputs means for a history.
    fn watts(&self, history: &History<'_>, row: &[f32]) -> Said {
        let centre = self.averages.centre(history);
        let mut said = [[0.0; LEVELS.len()]; OUTPUTS];
        for (output, (said, values)) in said.iter_mut().zip(row.chunks(LEVELS.len())).enumerate() {
            for (watts, value) in said.iter_mut().zip(values) {
                *watts = centre[output] + self.units_w[output] * f64::from(*value);
            }
        }
        said
    }
}

/// A figure that most windows know the latest value of and that is not always the same.
fn extra(figure: Figure, windows: &[Window<'_>]) -> Option<Extra> {
    let latest: Vec<f64> = windows.iter().filter_map(|window| window.history.figures(figure).last()?).collect();
    let mean = mean(&latest).filter(|_| 2 * latest.len() >= windows.len())?;
    let deviation = (latest.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / latest.len() as f64).sqrt();
    (deviation > 0.0).then_some(Extra { figure, mean, deviation })
}
