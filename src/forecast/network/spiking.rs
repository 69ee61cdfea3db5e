//! A spiking network: leaky integrate-and-fire neurons with recurrent connections, read out by leaky membranes.
//!
//! A membrane leaks, takes in currents and is lowered by 1 when it fires at 1. Firing has no slope, so that backwards it has
//! that of a fast sigmoid (surrogate gradient: Neftci, Mostafa, Zenke 2019). Leaks are learned, a neuron each. Simulated in
//! whole numbers of steps; energy of neuromorphic hardware is no subject here.

use candle_core::{Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear, linear_no_bias, ops};

use super::model::{Body, Shape, Start, Variable};

/// Steepness of the surrogate.
const SLOPE: f64 = 5.0;

pub(super) struct Spiking {
    currents: Linear,
    recurrent: Linear,
    leak: Tensor,
    readout_leak: Tensor,
}

impl Spiking {
    pub fn variables(Shape { inputs, hidden, .. }: Shape) -> Vec<Variable> {
        let within = |from: usize| Start::Within(1.0 / (from as f32).sqrt());
        // Leaks of 0.5 to 0.98 a step, in turn, as logits.
        let leak = |at: usize| 0.5 * (at % 8) as f32;
        vec![
            Variable::new("currents.weight", &[hidden, inputs], within(inputs)),
            Variable::new("currents.bias", &[hidden], Start::Within(0.5)),
            Variable::new("recurrent.weight", &[hidden, hidden], within(hidden)),
            Variable::new("leak", &[hidden], Start::Of(leak)),
            Variable::new("readout_leak", &[hidden], Start::Of(leak)),
        ]
    }

    pub fn new(shape: Shape, variables: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            currents: linear(shape.inputs, shape.hidden, variables.pp("currents"))?,
            recurrent: linear_no_bias(shape.hidden, shape.hidden, variables.pp("recurrent"))?,
            leak: variables.get(shape.hidden, "leak")?,
            readout_leak: variables.get(shape.hidden, "readout_leak")?,
        })
    }
}

impl Body for Spiking {
    fn state(&self, sequences: &Tensor) -> Result<Tensor> {
        let currents = self.currents.forward(sequences)?;
        let (leak, readout_leak) = (ops::sigmoid(&self.leak)?, ops::sigmoid(&self.readout_leak)?);
        let nothing = currents.narrow(1, 0, 1)?.squeeze(1)?.zeros_like()?;
        let (mut membrane, mut spikes, mut readout) = (nothing.clone(), nothing.clone(), nothing);
        for step in 0..sequences.dim(1)? {
            let current = (currents.narrow(1, step, 1)?.squeeze(1)? + self.recurrent.forward(&spikes)?)?;
            membrane = ((membrane.broadcast_mul(&leak)? + current)? - &spikes)?;
            spikes = fire(&membrane)?;
            // What the membrane holds below the threshold is read too, or small differences were lost.
            readout = (readout.broadcast_mul(&readout_leak)? + &spikes)?;
        }
        readout + membrane
    }
}

/// 1 where a membrane is at 1 or above, else 0; backwards as a sigmoid.
fn fire(membrane: &Tensor) -> Result<Tensor> {
    let above = (membrane - 1.0)?;
    let smooth = ops::sigmoid(&(&above * SLOPE)?)?;
    let fired = above.ge(0.0)?.to_dtype(above.dtype())?;
    (fired.detach() - smooth.detach())? + smooth
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn firing_is_all_or_nothing_and_has_a_slope() {
        let membrane = Var::new(&[0.2_f32, 1.0, 1.4], &Device::Cpu).unwrap();
        let spikes = fire(&membrane).unwrap();
        let values: Vec<f32> = spikes.to_vec1().unwrap();
        assert!(values.iter().zip([0.0, 1.0, 1.0]).all(|(value, fired)| (value - fired).abs() < 1e-6), "{values:?}");
        let gradients = spikes.sum_all().unwrap().backward().unwrap();
        let slopes: Vec<f32> = gradients.get(&membrane).unwrap().to_vec1().unwrap();
        assert!((slopes[1] - SLOPE as f32 / 4.0).abs() < 1e-5 && slopes[0] < slopes[2], "{slopes:?}");
    }
}
