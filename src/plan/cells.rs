//! Requests sorted into cells: one cohort, lengths within a narrow box.
//!
//! Passes over the requests read them in this order, for what holds on a whole box (which deployments can be the cheapest
//! of any of its requests) is then found once a cell. Classes are unions of cells.

use rayon::prelude::*;

use crate::domain::Features;

/// Width of a cell as a ratio of lengths, where passes over the requests read them.
pub const RATIO: f64 = 1.4;
/// Bits of the key for each length; 32-bit lengths have 22,200 bins at a ratio of 1.001.
const BITS: u32 = 16;

/// A run of `Cells::requests`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub key: Key,
    pub first: usize,
    pub count: usize,
    /// Least and greatest lengths of its requests.
    pub input: (u32, u32),
    pub output: (u32, u32),
}

impl Cell {
    /// The features of the nine control points of degree (2, 2) over its box; the fifth is the middle one. A polynomial is
    /// nowhere below the least of its values there.
    pub fn control_points(&self) -> [Features; 9] {
        let powers = |(low, high): (u32, u32)| {
            let (low, high) = (f64::from(low), f64::from(high));
            [(low, low * low), (0.5 * (low + high), low * high), (high, high * high)]
        };
        let (inputs, outputs) = (powers(self.input), powers(self.output));
        std::array::from_fn(|index| {
            let ((i, ii), (o, oo)) = (inputs[index / 3], outputs[index % 3]);
            [1.0, i, o, i * o, ii, oo]
        })
    }
}

/// Cohort and bins of the lengths; ordered by cohort, then input, then output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(u64);

impl Key {
    fn new(cohort: usize, input: u32, output: u32, ratio: f64) -> Self {
        Self(((cohort as u64) << (2 * BITS)) | (bin(input, ratio) << BITS) | bin(output, ratio))
    }

    pub fn cohort(self) -> usize {
        (self.0 >> (2 * BITS)) as usize
    }

    /// The key of the box that is wider by `2^merges` bins on each side.
    pub fn merged(self, merges: u32) -> Self {
        let mask = (1 << BITS) - 1;
        let (input, output) = ((self.0 >> BITS) & mask, self.0 & mask);
        Self((self.0 >> (2 * BITS) << (2 * BITS)) | (input >> merges << BITS) | (output >> merges))
    }
}

#[derive(Clone, Debug, Default)]
pub struct Cells {
    pub list: Vec<Cell>,
    /// Request indices, contiguous by cell and ascending in it.
    pub requests: Vec<u32>,
    /// Input and output tokens of `requests`.
    pub lengths: Vec<(u32, u32)>,
}

impl Cells {
    /// `cohort_of` and `lengths_of` tell of each of `requests` requests; `ratio` is that of a cell's lengths at most.
    pub fn new(
        ratio: f64,
        requests: usize,
        cohort_of: impl Fn(usize) -> usize + Sync,
        lengths_of: impl Fn(usize) -> (u32, u32) + Sync,
    ) -> Self {
        let mut keyed: Vec<(Key, u32)> = (0..requests)
            .into_par_iter()
            .map(|request| {
                let (input, output) = lengths_of(request);
                (Key::new(cohort_of(request), input, output, ratio), request as u32)
            })
            .collect();
        keyed.par_sort_unstable();
        let sorted: Vec<u32> = keyed.iter().map(|&(_, request)| request).collect();
        let lengths: Vec<(u32, u32)> = sorted.par_iter().map(|&request| lengths_of(request as usize)).collect();
        let mut list = Vec::new();
        let mut first = 0;
        for run in keyed.chunk_by(|a, b| a.0 == b.0) {
            let members = &lengths[first..first + run.len()];
            let range = |side: fn(&(u32, u32)) -> u32| {
                members.iter().map(side).fold((u32::MAX, 0), |(low, high), length| (low.min(length), high.max(length)))
            };
            let (input, output) = (range(|lengths| lengths.0), range(|lengths| lengths.1));
            list.push(Cell { key: run[0].0, first, count: run.len(), input, output });
            first += run.len();
        }
        Self { list, requests: sorted, lengths }
    }
}

fn bin(tokens: u32, ratio: f64) -> u64 {
    (f64::from(tokens.max(1)).ln() / ratio.ln()) as u64
}
