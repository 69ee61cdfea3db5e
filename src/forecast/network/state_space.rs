//! A diagonal state-space model, S4D-Lin with zero-order hold (Gu, Gupta, Goel, Ré 2022), in one layer.
//!
//! Each channel u of a linear embedding goes through its own state: x' = A x + u, y = Re(C x) + D u, with A = -exp(a) + i w
//! per state. Over whole steps of length dt that is a convolution whose kernel is K(k) = 2 Re(C (exp(dt A) - 1) / A exp(k dt A)),
//! of which only the last value is needed: no recurrence at all. Complex numbers are pairs of real ones here. Steps of the
//! sequence count alike, though the older ones are longer.

use candle_core::{Device, Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear};

use super::model::{Body, Shape, Start, Variable};

/// States of a channel, each with its conjugate.
const STATES: usize = 8;

pub(super) struct StateSpace {
    embedding: Linear,
    log_step: Tensor,
    log_decay: Tensor,
    frequency: Tensor,
    readout_real: Tensor,
    readout_imaginary: Tensor,
    direct: Tensor,
    mixing: Linear,
}

impl StateSpace {
    pub fn variables(Shape { inputs, hidden, .. }: Shape) -> Vec<Variable> {
        let within = |from: usize| Start::Within(1.0 / (from as f32).sqrt());
        vec![
            Variable::new("embedding.weight", &[hidden, inputs], within(inputs)),
            Variable::new("embedding.bias", &[hidden], Start::Is(0.0)),
            // Steps from 0.01 to 0.3, in turn.
            Variable::new("log_step", &[hidden, 1], Start::Of(|at| (0.01 * 1.6_f32.powi((at % 8) as i32)).ln())),
            // S4D-Lin: decay 1/2 and frequencies pi n.
            Variable::new("log_decay", &[hidden, STATES], Start::Is(0.5_f32.ln())),
            Variable::new("frequency", &[hidden, STATES], Start::Of(|at| std::f32::consts::PI * (at % STATES) as f32)),
            Variable::new("readout_real", &[hidden, STATES], Start::Within(1.0)),
            Variable::new("readout_imaginary", &[hidden, STATES], Start::Within(1.0)),
            Variable::new("direct", &[hidden], Start::Is(1.0)),
            Variable::new("mixing.weight", &[hidden, hidden], within(hidden)),
            Variable::new("mixing.bias", &[hidden], Start::Is(0.0)),
        ]
    }

    pub fn new(shape: Shape, variables: &VarBuilder<'_>) -> Result<Self> {
        let hidden = shape.hidden;
        Ok(Self {
            embedding: linear(shape.inputs, hidden, variables.pp("embedding"))?,
            log_step: variables.get((hidden, 1), "log_step")?,
            log_decay: variables.get((hidden, STATES), "log_decay")?,
            frequency: variables.get((hidden, STATES), "frequency")?,
            readout_real: variables.get((hidden, STATES), "readout_real")?,
            readout_imaginary: variables.get((hidden, STATES), "readout_imaginary")?,
            direct: variables.get(hidden, "direct")?,
            mixing: linear(hidden, hidden, variables.pp("mixing"))?,
        })
    }

    /// What each of the last `steps` inputs adds to the last output, the latest last: (steps, hidden).
    fn kernel(&self, steps: usize) -> Result<Tensor> {
        let step = self.log_step.exp()?;
        let decay = self.log_decay.exp()?;
        let (real, imaginary) = (decay.neg()?.broadcast_mul(&step)?, self.frequency.broadcast_mul(&step)?);
        let size = real.exp()?;
        // C (exp(dt A) - 1) / A, where 1 / A = conj(A) / |A|^2.
        let (e_real, e_imaginary) = (((&size * imaginary.cos()?)? - 1.0)?, (&size * imaginary.sin()?)?);
        let square = (decay.sqr()? + self.frequency.sqr()?)?;
        let held_real = (((&e_imaginary * &self.frequency)? - (&e_real * &decay)?)? / &square)?;
        let held_imaginary = (((&e_real * &self.frequency)? + (&e_imaginary * &decay)?)?.neg()? / &square)?;
        let c_real = ((&self.readout_real * &held_real)? - (&self.readout_imaginary * &held_imaginary)?)?;
        let c_imaginary = ((&self.readout_real * &held_imaginary)? + (&self.readout_imaginary * &held_real)?)?;
        let ages: Vec<f32> = (0..steps).rev().map(|age| age as f32).collect();
        let ages = Tensor::from_vec(ages, (steps, 1, 1), &Device::Cpu)?;
        let size = ages.broadcast_mul(&real)?.exp()?;
        let angle = ages.broadcast_mul(&imaginary)?;
        let turned = (angle.cos()?.broadcast_mul(&c_real)? - angle.sin()?.broadcast_mul(&c_imaginary)?)?;
        (size * turned)?.sum(2)? * 2.0
    }
}

impl Body for StateSpace {
    fn state(&self, sequences: &Tensor) -> Result<Tensor> {
        let steps = sequences.dim(1)?;
        let embedded = self.embedding.forward(sequences)?;
        let convolved = embedded.broadcast_mul(&self.kernel(steps)?)?.sum(1)?;
        let now = embedded.narrow(1, steps.saturating_sub(1), 1)?.squeeze(1)?;
        let output = (convolved + now.broadcast_mul(&self.direct)?)?.gelu()?;
        self.mixing.forward(&output)? + output
    }
}
