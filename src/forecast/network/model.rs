//! A network: a body of one of the families, and a linear head that says all quantiles of all outputs.
//!
//! The variables are made here and not by candle, which has no seed for the processor. Their names and shapes are PyTorch's
//! where PyTorch has such a layer, so that either reads what the other has trained.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Error, Result, Tensor, Var};
use candle_nn::{Linear, Module, VarBuilder, linear};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::gru::Gru;
use super::lstm::Lstm;
use super::spiking::Spiking;
use super::state_space::StateSpace;
use super::transformer::Transformer;

/// An architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Gru,
    Lstm,
    Transformer,
    /// Diagonal state-space model (S4D).
    StateSpace,
    /// Leaky integrate-and-fire neurons.
    Spiking,
}

impl Family {
    pub const ALL: [Self; 5] = [Self::Gru, Self::Lstm, Self::Transformer, Self::StateSpace, Self::Spiking];

    /// As tables and files call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gru => "gru",
            Self::Lstm => "lstm",
            Self::Transformer => "transformer",
            Self::StateSpace => "s4d",
            Self::Spiking => "spiking",
        }
    }

    fn variables(self, shape: Shape) -> Vec<Variable> {
        match self {
            Self::Gru => Gru::variables(shape),
            Self::Lstm => Lstm::variables(shape),
            Self::Transformer => Transformer::variables(shape),
            Self::StateSpace => StateSpace::variables(shape),
            Self::Spiking => Spiking::variables(shape),
        }
    }

    fn body(self, shape: Shape, variables: &VarBuilder<'_>) -> Result<Box<dyn Body>> {
        Ok(match self {
            Self::Gru => Box::new(Gru::new(shape, variables)?),
            Self::Lstm => Box::new(Lstm::new(shape, variables)?),
            Self::Transformer => Box::new(Transformer::new(shape, variables)?),
            Self::StateSpace => Box::new(StateSpace::new(shape, variables)?),
            Self::Spiking => Box::new(Spiking::new(shape, variables)?),
        })
    }
}

/// Widths of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Numbers at each step of the sequence.
    pub inputs: usize,
    /// Even, and at least 2.
    pub hidden: usize,
    pub outputs: usize,
}

/// What a family is made of.
pub(super) struct Variable {
    pub name: &'static str,
    pub size: Vec<usize>,
    pub start: Start,
}

/// What a variable begins with.
pub(super) enum Start {
    Is(f32),
    /// Uniform within so much of 0.
    Within(f32),
    /// By the place of each number.
    Of(fn(usize) -> f32),
}

impl Variable {
    pub fn new(name: &'static str, size: &[usize], start: Start) -> Self {
        Self { name, size: size.to_vec(), start }
    }
}

/// All of a network but its head.
pub(super) trait Body: Send + Sync {
    /// From (sequences, steps, inputs) to (sequences, hidden).
    fn state(&self, sequences: &Tensor) -> Result<Tensor>;
}

/// A network with its variables.
pub struct Network {
    family: Family,
    shape: Shape,
    variables: BTreeMap<String, Var>,
    body: Box<dyn Body>,
    head: Linear,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("family", &self.family).field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl Network {
    /// With random weights, and a head of zeros: at first nothing is added to the averages.
    ///
    /// # Errors
    /// None are known to occur.
    pub fn seeded(family: Family, shape: Shape, seed: u64) -> Result<Self> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = HashMap::new();
        for variable in variables(family, shape) {
            let count: usize = variable.size.iter().product();
            let values: Vec<f32> = match variable.start {
                Start::Is(value) => vec![value; count],
                Start::Within(bound) => (0..count).map(|_| random.random_range(-bound..=bound)).collect(),
                Start::Of(value) => (0..count).map(value).collect(),
            };
            tensors.insert(variable.name.to_owned(), Tensor::from_vec(values, variable.size, &Device::Cpu)?);
        }
        Self::new(family, shape, &tensors)
    }

    /// With given weights.
    ///
    /// # Errors
    /// A variable that is missing or of another size.
    pub fn new(family: Family, shape: Shape, tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let mut own = BTreeMap::new();
        for Variable { name, size, .. } in variables(family, shape) {
            let tensor = tensors.get(name).ok_or_else(|| Error::Msg(format!("there is no tensor `{name}`")))?;
            if tensor.dims() != size {
                return Err(Error::Msg(format!("tensor `{name}` is {:?}, not {size:?}", tensor.dims())));
            }
            own.insert(name.to_owned(), Var::from_tensor(&tensor.to_dtype(DType::F32)?)?);
        }
        let named = own.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let builder = VarBuilder::from_tensors(named, DType::F32, &Device::Cpu);
        let body = family.body(shape, &builder)?;
        let head = linear(shape.hidden, shape.outputs, builder.pp("head"))?;
        Ok(Self { family, shape, variables: own, body, head })
    }

    pub fn family(&self) -> Family {
        self.family
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// By name.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// From (sequences, steps, inputs) to (sequences, outputs).
    ///
    /// # Errors
    /// Sequences without steps or of other inputs.
    pub fn forward(&self, sequences: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.body.state(sequences)?)
    }

    /// A copy that training does not change.
    pub(super) fn snapshot(&self) -> Result<Self> {
        let copy = |(name, var): (&String, &Var)| Ok((name.clone(), var.as_tensor().copy()?.detach()));
        let tensors: Result<HashMap<String, Tensor>> = self.variables.iter().map(copy).collect();
        Self::new(self.family, self.shape, &tensors?)
    }
}

fn variables(family: Family, shape: Shape) -> Vec<Variable> {
    let mut variables = family.variables(shape);
    variables.push(Variable::new("head.weight", &[shape.outputs, shape.hidden], Start::Is(0.0)));
    variables.push(Variable::new("head.bias", &[shape.outputs], Start::Is(0.0)));
    variables
}

/// Mean pinball loss of (rows, outputs * quantiles) against (rows, outputs); quantiles are those of `levels`, an output's
/// side by side (Koenker and Bassett 1978).
///
/// # Errors
/// Other shapes.
pub fn pinball(predicted: &Tensor, truth: &Tensor, levels: &[f32]) -> Result<Tensor> {
    let (rows, outputs) = truth.dims2()?;
    let predicted = predicted.reshape((rows, outputs, levels.len()))?;
    let error = truth.unsqueeze(2)?.broadcast_sub(&predicted)?;
    let levels = Tensor::new(levels, &Device::Cpu)?;
    // max(q e, (q - 1) e) = q e + max(-e, 0)
    error.broadcast_mul(&levels)?.add(&error.neg()?.relu()?)?.mean_all()
}

#[cfg(test)]
mod tests {
    use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};

    use super::*;

    const SHAPE: Shape = Shape { inputs: 3, hidden: 8, outputs: 3 };

    /// A mix of the first and the last step of an input, which every family can learn.
    #[test]
    fn every_family_learns_and_is_the_same_twice() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let values: Vec<f32> = (0..64 * 6 * 3).map(|_| random.random_range(-1.0..1.0)).collect();
        let truth: Vec<f32> = values.chunks(18).map(|of| of[15] - 0.5 * of[0]).collect();
        let sequences = Tensor::from_vec(values, (64, 6, 3), &Device::Cpu).unwrap();
        let truth = Tensor::from_vec(truth, (64, 1), &Device::Cpu).unwrap();
        for family in Family::ALL {
            let learn = || {
                let network = Network::seeded(family, SHAPE, 1).unwrap();
                let loss = || pinball(&network.forward(&sequences).unwrap(), &truth, &[0.05, 0.5, 0.95]).unwrap();
                let first = loss().to_scalar::<f32>().unwrap();
                let variables = network.variables().values().cloned().collect();
                let parameters = ParamsAdamW { lr: 0.02, ..ParamsAdamW::default() };
                let mut optimiser = AdamW::new(variables, parameters).unwrap();
                for _ in 0..60 {
                    optimiser.backward_step(&loss()).unwrap();
                }
                (first, loss().to_scalar::<f32>().unwrap())
            };
            let (first, last) = learn();
            assert!(last < 0.6 * first, "{}: {first} {last}", family.name());
            assert_eq!(learn(), (first, last), "{}", family.name());
            let network = Network::seeded(family, SHAPE, 1).unwrap();
            let loss = pinball(&network.forward(&sequences).unwrap(), &truth, &[0.05, 0.5, 0.95]).unwrap();
            let gradients = loss.backward().unwrap();
            assert!(gradients.get(&network.variables()["head.bias"]).is_some());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let network = Network::seeded(Family::Gru, SHAPE, 1).unwrap();
        let mut tensors: HashMap<String, Tensor> =
            network.variables().iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let wide = Shape { hidden: 10, ..SHAPE };
        assert!(Network::new(Family::Gru, wide, &tensors).unwrap_err().to_string().contains("not [30, 3]"));
        tensors.remove("head.bias");
        assert!(Network::new(Family::Gru, SHAPE, &tensors).unwrap_err().to_string().contains("no tensor `head.bias`"));
    }
}
