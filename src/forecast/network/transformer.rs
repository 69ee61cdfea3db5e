//! A small Transformer encoder (Vaswani et al. 2017): one block of two heads, normalised first, with learned places.
//!
//! Only the last step is asked for, so that only it attends to the others, which is all that a single block needs. A place
//! each is learned, since all sequences are equally long.

use candle_core::{D, Result, Tensor};
use candle_nn::{LayerNorm, Linear, Module, VarBuilder, layer_norm, linear, ops};

use super::gru::no_steps;
use super::inputs::STEPS;
use super::model::{Body, Shape, Start, Variable};

const HEADS: usize = 2;
/// Width of the feed-forward layer, in widths of the block.
const WIDER: usize = 2;
const EPSILON: f64 = 1e-5;

pub(super) struct Transformer {
    hidden: usize,
    embedding: Linear,
    places: Tensor,
    before_attention: LayerNorm,
    query: Linear,
    keys_values: Linear,
    attended: Linear,
    before_feed_forward: LayerNorm,
    wide: Linear,
    narrow: Linear,
}

impl Transformer {
    pub fn variables(Shape { inputs, hidden, .. }: Shape) -> Vec<Variable> {
        let wide = WIDER * hidden;
        let within = |from: usize| Start::Within(1.0 / (from as f32).sqrt());
        vec![
            Variable::new("embedding.weight", &[hidden, inputs], within(inputs)),
            Variable::new("embedding.bias", &[hidden], Start::Is(0.0)),
            Variable::new("places", &[STEPS, hidden], Start::Within(0.1)),
            Variable::new("before_attention.weight", &[hidden], Start::Is(1.0)),
            Variable::new("before_attention.bias", &[hidden], Start::Is(0.0)),
            Variable::new("query.weight", &[hidden, hidden], within(hidden)),
            Variable::new("query.bias", &[hidden], Start::Is(0.0)),
            Variable::new("keys_values.weight", &[2 * hidden, hidden], within(hidden)),
            Variable::new("keys_values.bias", &[2 * hidden], Start::Is(0.0)),
            Variable::new("attended.weight", &[hidden, hidden], within(hidden)),
            Variable::new("attended.bias", &[hidden], Start::Is(0.0)),
            Variable::new("before_feed_forward.weight", &[hidden], Start::Is(1.0)),
            Variable::new("before_feed_forward.bias", &[hidden], Start::Is(0.0)),
            Variable::new("wide.weight", &[wide, hidden], within(hidden)),
            Variable::new("wide.bias", &[wide], Start::Is(0.0)),
            Variable::new("narrow.weight", &[hidden, wide], within(wide)),
            Variable::new("narrow.bias", &[hidden], Start::Is(0.0)),
        ]
    }

    pub fn new(shape: Shape, variables: &VarBuilder<'_>) -> Result<Self> {
        let hidden = shape.hidden;
        Ok(Self {
            hidden,
            embedding: linear(shape.inputs, hidden, variables.pp("embedding"))?,
            places: variables.get((STEPS, hidden), "places")?,
            before_attention: layer_norm(hidden, EPSILON, variables.pp("before_attention"))?,
            query: linear(hidden, hidden, variables.pp("query"))?,
            keys_values: linear(hidden, 2 * hidden, variables.pp("keys_values"))?,
            attended: linear(hidden, hidden, variables.pp("attended"))?,
            before_feed_forward: layer_norm(hidden, EPSILON, variables.pp("before_feed_forward"))?,
            wide: linear(hidden, WIDER * hidden, variables.pp("wide"))?,
            narrow: linear(WIDER * hidden, hidden, variables.pp("narrow"))?,
        })
    }

    /// (rows, steps, hidden) to (rows, heads, steps, hidden / heads).
    fn heads(&self, of: &Tensor) -> Result<Tensor> {
        let (rows, steps, _) = of.dims3()?;
        of.reshape((rows, steps, HEADS, self.hidden / HEADS))?.transpose(1, 2)?.contiguous()
    }
}

impl Body for Transformer {
    fn state(&self, sequences: &Tensor) -> Result<Tensor> {
        let (rows, steps, _) = sequences.dims3()?;
        let last = steps.checked_sub(1).ok_or_else(no_steps)?;
        let places = self.places.narrow(0, STEPS.saturating_sub(steps), steps)?;
        let embedded = self.embedding.forward(sequences)?.broadcast_add(&places)?;
        let normal = self.before_attention.forward(&embedded)?;
        let query = self.heads(&self.query.forward(&normal.narrow(1, last, 1)?.contiguous()?)?)?;
        let keys_values = self.keys_values.forward(&normal)?;
        let keys = self.heads(&keys_values.narrow(2, 0, self.hidden)?)?;
        let values = self.heads(&keys_values.narrow(2, self.hidden, self.hidden)?)?;
        let scores = (query.matmul(&keys.transpose(2, 3)?.contiguous()?)? / ((self.hidden / HEADS) as f64).sqrt())?;
        let mixed = ops::softmax(&scores, D::Minus1)?.matmul(&values)?;
        let mixed = mixed.transpose(1, 2)?.reshape((rows, self.hidden))?;
        let now = embedded.narrow(1, last, 1)?.squeeze(1)?;
        let attended = (now + self.attended.forward(&mixed)?)?;
        let normal = self.before_feed_forward.forward(&attended)?;
        attended + self.narrow.forward(&self.wide.forward(&normal)?.gelu()?)?
    }
}
