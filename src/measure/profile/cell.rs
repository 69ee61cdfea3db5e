//! What one trial is asked to do: a cell of the grid input x output x batch x clock.

use std::fmt;

use crate::domain::{Moments, Sample};

/// Equal requests, `batch` of them in flight at a time, at a clock or at the device's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub batch: u32,
    /// `None`: the device decides.
    pub sm_clock_mhz: Option<u32>,
}

impl Cell {
    /// The cell a row was measured in, if it is of one: whole lengths, and the batch that was asked for in `max_num_seqs`.
    pub fn of(sample: &Sample) -> Option<Self> {
        let whole = |value: f64| (value.fract() == 0.0 && (1.0..=1e9).contains(&value)).then_some(value as u32);
        Some(Self {
            input_tokens: whole(sample.tokens.input?)?,
            output_tokens: whole(sample.tokens.output)?,
            batch: sample.max_num_seqs?,
            sm_clock_mhz: sample.sm_clock_mhz,
        })
    }

    /// Writes into a row that it is of this cell.
    pub fn name_in(&self, sample: &mut Sample) {
        sample.tokens = Moments::constant(f64::from(self.input_tokens), f64::from(self.output_tokens));
        sample.max_num_seqs = Some(self.batch);
        sample.sm_clock_mhz = self.sm_clock_mhz;
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input_tokens, output_tokens, batch, sm_clock_mhz } = self;
        write!(f, "{input_tokens} in, {output_tokens} out, batch {batch}")?;
        match sm_clock_mhz {
            Some(clock) => write!(f, ", {clock} MHz"),
            None => Ok(()),
        }
    }
}

/// Cells one may measure: every combination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    pub input_tokens: Vec<u32>,
    pub output_tokens: Vec<u32>,
    pub batch: Vec<u32>,
    /// Empty: the device's own clock only.
    pub sm_clock_mhz: Vec<u32>,
}

impl Grid {
    /// In ascending order, each once.
    pub fn cells(&self) -> Vec<Cell> {
        let clocks: Vec<Option<u32>> = match self.sm_clock_mhz.as_slice() {
            [] => vec![None],
            clocks => clocks.iter().copied().map(Some).collect(),
        };
        let mut cells = Vec::new();
        for &input_tokens in &self.input_tokens {
            for &output_tokens in &self.output_tokens {
                for &batch in &self.batch {
                    let at = |&sm_clock_mhz: &Option<u32>| Cell { input_tokens, output_tokens, batch, sm_clock_mhz };
                    cells.extend(clocks.iter().map(at));
                }
            }
        }
        cells.sort_unstable();
        cells.dedup();
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Measurement;

    #[test]
    fn a_row_knows_its_cell() {
        let grid = Grid {
            input_tokens: vec![64, 8, 8],
            output_tokens: vec![32],
            batch: vec![1, 4],
            sm_clock_mhz: vec![1410, 900],
        };
        let cells = grid.cells();
        assert_eq!(cells.len(), 8);
        let cell = cells[3];
        assert_eq!(cell.to_string(), "8 in, 32 out, batch 4, 1410 MHz");
        let mut sample = Sample { batch_size: 3.9, ..Sample::empty(Measurement::Trial) };
        cell.name_in(&mut sample);
        assert_eq!((sample.tokens, sample.max_num_seqs), (Moments::constant(8.0, 32.0), Some(4)));
        assert_eq!(Cell::of(&sample), Some(cell));
        assert_eq!(Cell::of(&Sample { tokens: Moments::constant(8.5, 32.0), ..sample.clone() }), None);
        assert_eq!(Cell::of(&Sample { max_num_seqs: None, ..sample }), None);
    }
}
