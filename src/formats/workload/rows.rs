//! The rows of one workload file as they stand, before jobs and flags are applied.
//!
//! What requests share besides lengths is interned by the raw bytes of its cells, so a million rows of three jobs hold
//! three keys, and a row costs no allocation beyond its id.

use std::collections::HashMap;

use crate::domain::Provenance;
use crate::units::Seconds;

/// Requests in file order, as columns.
#[derive(Debug)]
pub(super) struct Rows {
    pub input_tokens: Vec<u32>,
    pub output_tokens: Vec<u32>,
    /// Index into `keys`.
    pub key: Vec<u32>,
    pub keys: Vec<RowKey>,
    /// Only where the file has an id column.
    pub ids: Option<Vec<String>>,
    pub input_provenance: Provenance,
    pub output_provenance: Provenance,
    pub warnings: Vec<String>,
}

/// What a request says about itself besides lengths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RowKey {
    pub job: Option<String>,
    pub model: Option<String>,
    /// Percent.
    pub min_accuracy: Option<f64>,
    pub deadline: Option<Seconds>,
    pub release: Option<Seconds>,
    /// Line of the first request that says so.
    pub line: u64,
}

impl Rows {
    pub fn new(named: bool) -> Self {
        Self {
            input_tokens: Vec::new(),
            output_tokens: Vec::new(),
            key: Vec::new(),
            keys: Vec::new(),
            ids: named.then(Vec::new),
            input_provenance: Provenance::Imported,
            output_provenance: Provenance::Imported,
            warnings: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.input_tokens.len()
    }

    pub fn push(&mut self, input_tokens: u32, output_tokens: u32, key: u32) {
        self.input_tokens.push(input_tokens);
        self.output_tokens.push(output_tokens);
        self.key.push(key);
    }
}

/// Turns the cells that make up a key into its index.
#[derive(Debug, Default)]
pub(super) struct Interner {
    /// The key being looked up: cells, each behind its length.
    cells: Vec<u8>,
    last: Option<(Vec<u8>, u32)>,
    known: HashMap<Vec<u8>, u32>,
}

impl Interner {
    pub fn start(&mut self) {
        self.cells.clear();
    }

    pub fn add(&mut self, cell: &[u8]) {
        self.cells.extend_from_slice(&(cell.len() as u32).to_le_bytes()); // no cell is longer than 4 GiB
        self.cells.extend_from_slice(cell);
    }

    /// The index of the key added since `start`; `make` builds it if it is new.
    pub fn index(&mut self, keys: &mut Vec<RowKey>, make: impl FnOnce() -> RowKey) -> u32 {
        if let Some((last, index)) = &self.last
            && *last == self.cells
        {
            return *index;
        }
        let index = self.known.get(&self.cells).copied().unwrap_or_else(|| {
            let index = keys.len() as u32; // at most MAX_REQUESTS
            keys.push(make());
            self.known.insert(self.cells.clone(), index);
            index
        });
        let (last, last_index) = self.last.get_or_insert_default();
        last.clone_from(&self.cells);
        *last_index = index;
        index
    }
}
