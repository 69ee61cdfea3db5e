//! Training of a network for one kind of channel, whatever its architecture, by pinball loss.
//!
//! How long to train is what early stopping finds on groups of traces left out, one fold after the other, on the way of a
//! learning rate that always falls over the same number of epochs. A network for
//! the end of all traces and one for everything are then trained for the middle of those times. What the networks said
//! about the windows they had not seen is what everything else is decided by.

use candle_core::{Device, Result, Tensor};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::inputs::POWER_INPUTS;
use super::model::{Family, Network, Shape, pinball};
use super::scaler::Scaler;
use crate::forecast::bands::Said;
use crate::forecast::split::{Fold, in_time, inner_folds, leave_out_each};
use crate::forecast::{History, OUTPUTS, Window};
use crate::stats::quantile;

/// Quantiles that a network says.
pub const LEVELS: [f32; 3] = [0.05, 0.5, 0.95];
/// Largest norm of a gradient: one jump outweighs a thousand calm windows.
const LARGEST_GRADIENT: f32 = 1.0;
/// Share of the windows of a batch whose figures beside power are hidden, so that a network knows what to do without them.
const HIDDEN_SHARE: f64 = 0.25;

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    pub seed: u64,
    /// Even, and at least 2.
    pub hidden: usize,
    pub most_epochs: usize,
    /// Epochs without a better validation loss after which training stops.
    pub patience: usize,
    /// Windows a step, at least 1.
    pub batch: usize,
    /// At first; it falls to 0 over `most_epochs` as a cosine does (Loshchilov and Hutter 2017).
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub inputs: Inputs,
}

/// What networks are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    Power,
    /// Also those other figures that most windows of a kind know.
    All,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            seed: 1,
            hidden: 24,
            most_epochs: 24,
            patience: 8,
            batch: 128,
            learning_rate: 1e-2,
            weight_decay: 1e-3,
            inputs: Inputs::Power,
        }
    }
}

/// An epoch that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Of the networks of this kind, from 1. Some are trained at the same time.
    pub network: usize,
    pub networks: usize,
    pub epoch: usize,
    /// Pinball loss on the windows left out; absent for networks that know their number of epochs.
    pub validation: Option<f32>,
}

/// Windows, and what was said about each by a network that had not seen it.
pub(super) type Unseen<'a> = (Vec<Window<'a>>, Vec<Said>);

/// A network and what it and others like it said about windows unseen.
pub(super) struct Study<'a> {
    pub scaler: Scaler,
    pub network: Network,
    pub epochs: usize,
    /// Groups left out, as `inner_folds` has them.
    pub groups: Unseen<'a>,
    /// The end of all traces left out.
    pub later: Unseen<'a>,
}

/// Trains on windows of one kind; `None` if they are too few to leave any out.
pub(super) fn study<'a>(
    family: Family,
    windows: &[Window<'a>],
    training: &Training,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<Option<Study<'a>>> {
    let folds: Vec<Fold<'a>> = leave_out_each(inner_folds(windows)).collect();
    let time = in_time(windows);
    let Some(scaler) = Scaler::learn(windows, training.inputs) else { return Ok(None) };
    let are_enough = |fold: &Fold<'_>| !fold.train.is_empty() && !fold.test.is_empty();
    if !folds.iter().chain([&time]).all(are_enough) {
        return Ok(None);
    }
    let networks = folds.len() + 2;
    let stopped = |(at, fold): (usize, &Fold<'a>)| -> Result<(f64, Vec<Said>)> {
        let tell = |epoch, loss| tell(Progress { network: at + 1, networks, epoch, validation: Some(loss) });
        let (network, epochs) = stopped_early(family, &scaler, fold, training, &tell)?;
        Ok((epochs as f64, scaler.said(&network, &histories(&fold.test))?))
    };
    let of_folds: Vec<(f64, Vec<Said>)> = folds.par_iter().enumerate().map(stopped).collect::<Result<_>>()?;
    let epochs: Vec<f64> = of_folds.iter().map(|(epochs, _)| *epochs).collect();
    let epochs = quantile(&epochs, 0.5).map_or(1, |epochs| epochs.round() as usize);
    let whole = |network, windows: &[Window<'a>]| -> Result<Network> {
        let mut run = Run::new(family, &scaler, windows, training)?;
        for epoch in 1..=epochs {
            run.epoch()?;
            tell(Progress { network, networks, epoch, validation: None });
        }
        Ok(run.network)
    };
    let (earlier, network) = rayon::join(|| whole(networks - 1, &time.train), || whole(networks, windows));
    let later = scaler.said(&earlier?, &histories(&time.test))?;
    let groups =
        (folds.into_iter().flat_map(|fold| fold.test).collect(), of_folds.into_iter().flat_map(|of| of.1).collect());
    Ok(Some(Study { scaler, network: network?, epochs, groups, later: (time.test, later) }))
}

/// The network of the epoch with the least loss on what `fold` leaves out, and that epoch.
fn stopped_early(
    family: Family,
    scaler: &Scaler,
    fold: &Fold<'_>,
    training: &Training,
    tell: &dyn Fn(usize, f32),
) -> Result<(Network, usize)> {
    let mut run = Run::new(family, scaler, &fold.train, training)?;
    let sequences = scaler.sequences(fold.test.iter().map(|window| window.history))?;
    let targets = scaler.targets(&fold.test)?;
    let mut best = (f32::INFINITY, run.network.snapshot()?, 1);
    for epoch in 1..=training.most_epochs {
        run.epoch()?;
        let loss = pinball(&run.network.forward(&sequences)?, &targets, &LEVELS)?.to_scalar::<f32>()?;
        tell(epoch, loss);
        if loss < best.0 {
            best = (loss, run.network.snapshot()?, epoch);
        } else if epoch - best.2 >= training.patience {
            break;
        }
    }
    Ok((best.1, best.2))
}

/// A network in training.
struct Run<'t> {
    training: &'t Training,
    network: Network,
    optimiser: AdamW,
    /// Done.
    steps: usize,
    random: ChaCha8Rng,
    sequences: Tensor,
    targets: Tensor,
}

impl<'t> Run<'t> {
    fn new(family: Family, scaler: &Scaler, windows: &[Window<'_>], training: &'t Training) -> Result<Self> {
        let shape = Shape { inputs: scaler.inputs(), hidden: training.hidden, outputs: OUTPUTS * LEVELS.len() };
        let network = Network::seeded(family, shape, training.seed)?;
        let parameters =
            ParamsAdamW { lr: training.learning_rate, weight_decay: training.weight_decay, ..ParamsAdamW::default() };
        let variables = network.variables().values().cloned().collect();
        Ok(Self {
            training,
            optimiser: AdamW::new(variables, parameters)?,
            steps: 0,
            network,
            random: ChaCha8Rng::seed_from_u64(training.seed),
            sequences: scaler.sequences(windows.iter().map(|window| window.history))?,
            targets: scaler.targets(windows)?,
        })
    }

    /// All windows once, in an order drawn anew.
    fn epoch(&mut self) -> Result<()> {
        let mut order: Vec<u32> = (0..self.targets.dim(0)? as u32).collect();
        order.shuffle(&mut self.random);
        let batch = self.training.batch.max(1);
        let most_steps = order.len().div_ceil(batch) * self.training.most_epochs;
        for batch in order.chunks(batch) {
            let rows = Tensor::new(batch, &Device::Cpu)?;
            let sequences = self.partly_hidden(self.sequences.index_select(&rows, 0)?)?;
            let predicted = self.network.forward(&sequences)?;
            let loss = pinball(&predicted, &self.targets.index_select(&rows, 0)?, &LEVELS)?;
            let mut gradients = loss.backward()?;
            let mut square = 0.0;
            for variable in self.network.variables().values() {
                if let Some(gradient) = gradients.get(variable) {
                    square += gradient.sqr()?.sum_all()?.to_scalar::<f32>()?;
                }
            }
            let norm = square.sqrt();
            if norm > LARGEST_GRADIENT {
                for variable in self.network.variables().values() {
                    if let Some(gradient) = gradients.remove(variable) {
                        gradients.insert(variable, (gradient * f64::from(LARGEST_GRADIENT / norm))?);
                    }
                }
            }
            let done = self.steps as f64 / most_steps as f64;
            let share = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
            self.optimiser.set_learning_rate(self.training.learning_rate * share);
            self.steps += 1;
            self.optimiser.step(&gradients)?;
        }
        Ok(())
    }

    /// Sequences, some of them with power alone.
    fn partly_hidden(&mut self, sequences: Tensor) -> Result<Tensor> {
        let (rows, _, inputs) = sequences.dims3()?;
        if inputs == POWER_INPUTS {
            return Ok(sequences);
        }
        let mut shown = Vec::with_capacity(rows * inputs);
        for _ in 0..rows {
            let others = if self.random.random_bool(HIDDEN_SHARE) { 0.0 } else { 1.0 };
            shown.extend((0..inputs).map(|input| if input < POWER_INPUTS { 1.0_f32 } else { others }));
        }
        sequences.broadcast_mul(&Tensor::from_vec(shown, (rows, 1, inputs), &Device::Cpu)?)
    }
}

fn histories<'a>(windows: &[Window<'a>]) -> Vec<History<'a>> {
    windows.iter().map(|window| window.history).collect()
}
