//! A gated recurrent unit (Cho et al. 2014) as PyTorch has it: the gates in its order, two biases.
//!
//! One layer: a minute of one device holds no more.

use candle_core::{Error, Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::rnn::{GRU, GRUConfig, RNN, gru};

use super::model::{Body, Shape, Start, Variable};

pub(super) struct Gru(GRU);

impl Gru {
    pub fn variables(Shape { inputs, hidden, .. }: Shape) -> Vec<Variable> {
        recurrent(["gru.weight_ih_l0", "gru.weight_hh_l0", "gru.bias_ih_l0", "gru.bias_hh_l0"], 3, inputs, hidden)
    }

    pub fn new(shape: Shape, variables: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self(gru(shape.inputs, shape.hidden, GRUConfig::default(), variables.pp("gru"))?))
    }
}

impl Body for Gru {
    fn state(&self, sequences: &Tensor) -> Result<Tensor> {
        let states = self.0.seq(sequences)?;
        Ok(states.last().ok_or_else(no_steps)?.h().clone())
    }
}

/// Variables of a recurrent layer with `gates`, uniform within 1/sqrt(hidden) as PyTorch draws them.
pub(super) fn recurrent(names: [&'static str; 4], gates: usize, inputs: usize, hidden: usize) -> Vec<Variable> {
    let rows = gates * hidden;
    let start = || Start::Within(1.0 / (hidden as f32).sqrt());
    let sizes: [&[usize]; 4] = [&[rows, inputs], &[rows, hidden], &[rows], &[rows]];
    names.into_iter().zip(sizes).map(|(name, size)| Variable::new(name, size, start())).collect()
}

pub(super) fn no_steps() -> Error {
    Error::Msg("a sequence without steps".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use candle_core::{Device, Tensor};
    use serde_json::Value;

    use super::super::model::{Family, Network, Shape, pinball};
    use super::super::train::LEVELS;

    const TOLERANCE: f64 = 1e-5;

    fn numbers(of: &Value) -> Vec<f32> {
        of.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
    }

    fn compare(what: &str, ours: &Tensor, theirs: &Value) {
        let (ours, theirs) = (ours.flatten_all().unwrap().to_vec1::<f32>().unwrap(), numbers(theirs));
        assert_eq!(ours.len(), theirs.len(), "{what}");
        for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert!(f64::from((ours - theirs).abs()) <= TOLERANCE, "{what}, {at}: {ours} against {theirs}");
        }
    }

    /// Outputs, loss and every gradient equal PyTorch's (tests/vectors/gru_vectors.py).
    #[test]
    fn outputs_and_gradients_are_those_of_pytorch() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/gru.json");
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let size = |name: &str| file["shape"][name].as_u64().unwrap() as usize;
        let shape = Shape { inputs: size("inputs"), hidden: size("hidden"), outputs: size("outputs") };
        let steps = file["steps"].as_u64().unwrap() as usize;
        let seeded = Network::seeded(Family::Gru, shape, 1).unwrap();
        let mut tensors = HashMap::new();
        for (name, variable) in seeded.variables() {
            let values = numbers(&file["weights"][name]);
            tensors.insert(name.clone(), Tensor::from_vec(values, variable.dims(), &Device::Cpu).unwrap());
        }
        let network = Network::new(Family::Gru, shape, &tensors).unwrap();
        let sequences = numbers(&file["sequences"]);
        let rows = sequences.len() / steps / shape.inputs;
        let sequences = Tensor::from_vec(sequences, (rows, steps, shape.inputs), &Device::Cpu).unwrap();
        let truth = numbers(&file["truth"]);
        let truth = Tensor::from_vec(truth, (rows, shape.outputs / LEVELS.len()), &Device::Cpu).unwrap();
        let outputs = network.forward(&sequences).unwrap();
        compare("outputs", &outputs, &file["outputs"]);
        let loss = pinball(&outputs, &truth, &LEVELS).unwrap();
        assert!((f64::from(loss.to_scalar::<f32>().unwrap()) - file["loss"].as_f64().unwrap()).abs() <= TOLERANCE);
        let gradients = loss.backward().unwrap();
        let mut largest: f32 = 0.0;
        for (name, variable) in network.variables() {
            let gradient = gradients.get(variable).unwrap();
            compare(name, gradient, &file["gradients"][name]);
            largest = largest.max(gradient.abs().unwrap().max_all().unwrap().to_scalar().unwrap());
        }
        assert!(largest > 0.01, "gradients that are all small prove nothing");
    }
}
