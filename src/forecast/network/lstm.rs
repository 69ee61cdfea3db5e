//! Long short-term memory (Hochreiter and Schmidhuber 1997) as PyTorch has it, in one layer.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::rnn::{LSTM, LSTMConfig, RNN, lstm};

use super::gru::{no_steps, recurrent};
use super::model::{Body, Shape, Variable};

pub(super) struct Lstm(LSTM);

impl Lstm {
    pub fn variables(Shape { inputs, hidden, .. }: Shape) -> Vec<Variable> {
        recurrent(["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.bias_ih_l0", "lstm.bias_hh_l0"], 4, inputs, hidden)
    }

    pub fn new(shape: Shape, variables: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self(lstm(shape.inputs, shape.hidden, LSTMConfig::default(), variables.pp("lstm"))?))
    }
}

impl Body for Lstm {
    fn state(&self, sequences: &Tensor) -> Result<Tensor> {
        let states = self.0.seq(sequences)?;
        Ok(states.last().ok_or_else(no_steps)?.h().clone())
    }
}
