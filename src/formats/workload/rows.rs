//! The rows of one workload file as they stand, before jobs and flags are applied.
//!
//! What requests share besides lengths is interned by the raw bytes of its cells, so a million rows of three jobs hold
//! three keys. Rows of a block are read apart and appended; a table that cannot be read in blocks throughout is read row
//! by row from the first block on that cannot.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::MAX_REQUESTS;
use super::own_ids::OwnIds;
use crate::domain::Provenance;
use crate::formats::blocks::{self, BLOCK_BYTES};
use crate::formats::problems::Problems;
use crate::formats::table::Table;
use crate::formats::text::{open_text, plain_bytes, reading_failed};
use crate::units::Seconds;

/// How a file is read; only tests choose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// 0: row by row.
    pub block_bytes: usize,
    /// Ids of plain files up to this size are held in memory.
    pub held_bytes: u64,
}

impl Default for Reading {
    fn default() -> Self {
        Self { block_bytes: BLOCK_BYTES, held_bytes: 16 << 20 }
    }
}

impl Reading {
    /// Where the ids of a file are to be kept: a packed one cannot be read again from within.
    pub fn ids(&self, path: &Path) -> OwnIds {
        let stored = plain_bytes(path).is_some_and(|bytes| bytes > self.held_bytes);
        if stored { OwnIds::stored() } else { OwnIds::held() }
    }
}

/// Requests in file order, as columns.
#[derive(Debug)]
pub(super) struct Rows {
    pub input_tokens: Vec<u32>,
    pub output_tokens: Vec<u32>,
    /// Index into `keys`.
    pub key: Vec<u32>,
    pub keys: Vec<RowKey>,
    interner: Interner,
    /// Only where the file has an id column.
    pub ids: Option<OwnIds>,
    /// Rows whose output tokens are only bounded, ascending, and how many input tokens were counted from text.
    pub bounded: Vec<u32>,
    pub counted: usize,
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
    /// When it came, in a trace whose releases count from its first request.
    pub instant: Option<SystemTime>,
    /// Line of the first request that says so.
    pub line: u64,
}

impl Rows {
    pub fn new(ids: Option<OwnIds>) -> Self {
        Self {
            input_tokens: Vec::new(),
            output_tokens: Vec::new(),
            key: Vec::new(),
            keys: Vec::new(),
            interner: Interner::default(),
            ids,
            bounded: Vec::new(),
            counted: 0,
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

    /// The index of the key that these cells make up; `make` builds it if it is new.
    pub fn intern<'c>(&mut self, cells: impl IntoIterator<Item = &'c [u8]>, make: impl FnOnce() -> RowKey) -> u32 {
        self.interner.index(cells, &mut self.keys, make)
    }

    /// Nothing yet, for rows that are to be appended to these.
    pub fn part(&self) -> Self {
        Self::new(self.ids.as_ref().map(OwnIds::part))
    }

    /// Adds the rows of the next part; refuses to grow beyond `MAX_REQUESTS`.
    pub fn append(&mut self, part: Self) -> bool {
        if self.len() + part.len() > MAX_REQUESTS {
            return false;
        }
        let first = self.len() as u32; // at most MAX_REQUESTS
        let indices: Vec<u32> = part
            .interner
            .into_cells()
            .into_iter()
            .zip(part.keys)
            .map(|(cells, key)| self.interner.index_of(cells, &mut self.keys, || key))
            .collect();
        self.input_tokens.extend(part.input_tokens);
        self.output_tokens.extend(part.output_tokens);
        self.key.extend(part.key.into_iter().map(|key| indices[key as usize])); // a part's rows have keys of the part
        if let (Some(ids), Some(more)) = (&mut self.ids, part.ids) {
            ids.append(more);
        }
        self.bounded.extend(part.bounded.into_iter().map(|row| first + row));
        self.counted += part.counted;
        true
    }

    /// Reads all rows of `table` behind these, by `read`.
    ///
    /// # Errors
    /// Everything wrong with the file, as if it had been read row by row.
    pub fn read(
        mut self,
        path: &Path,
        mut table: Table<'_>,
        reading: Reading,
        read: impl Fn(&mut Table<'_>, &mut Self) + Sync,
    ) -> Result<Self, Problems> {
        if reading.block_bytes == 0 || !table.problems.is_empty() {
            read(&mut table, &mut self);
            return table.finish(self);
        }
        let failed = |error| reading_failed(path, error);
        let place = table.place();
        let mut source = open_text(path)?;
        io::copy(&mut io::Read::take(&mut source, place.offset), &mut io::sink()).map_err(failed)?;
        let header = table.into_header();
        let empty = self.part();
        let parse = |block: &blocks::Block| {
            let mut part = empty.part();
            let mut table = Table::part(path, &header, &block.bytes[..], block.place);
            read(&mut table, &mut part);
            table.problems.is_empty().then_some(part)
        };
        let rest = blocks::in_order(source, place, reading.block_bytes, parse, |_, part| self.append(part));
        if let Some(rest) = rest.map_err(failed)? {
            let mut table = Table::part(path, &header, rest.source, rest.place);
            read(&mut table, &mut self);
            return table.finish(self);
        }
        Ok(self)
    }
}

/// Turns the cells that make up a key into its index.
#[derive(Debug, Default)]
struct Interner {
    /// The key being looked up: cells, each behind its length.
    cells: Vec<u8>,
    last: Option<(Vec<u8>, u32)>,
    known: HashMap<Vec<u8>, u32>,
}

impl Interner {
    fn index<'c>(
        &mut self,
        cells: impl IntoIterator<Item = &'c [u8]>,
        keys: &mut Vec<RowKey>,
        make: impl FnOnce() -> RowKey,
    ) -> u32 {
        self.cells.clear();
        for cell in cells {
            self.cells.extend_from_slice(&(cell.len() as u32).to_le_bytes()); // no cell is longer than 4 GiB
            self.cells.extend_from_slice(cell);
        }
        if let Some((last, index)) = &self.last
            && *last == self.cells
        {
            return *index;
        }
        let index = match self.known.get(&self.cells) {
            Some(index) => *index,
            None => self.index_of(self.cells.clone(), keys, make),
        };
        let (last, last_index) = self.last.get_or_insert_default();
        last.clone_from(&self.cells);
        *last_index = index;
        index
    }

    fn index_of(&mut self, cells: Vec<u8>, keys: &mut Vec<RowKey>, make: impl FnOnce() -> RowKey) -> u32 {
        *self.known.entry(cells).or_insert_with(|| {
            keys.push(make());
            keys.len() as u32 - 1 // at most MAX_REQUESTS
        })
    }

    /// The cells of each key, in order.
    fn into_cells(self) -> Vec<Vec<u8>> {
        let mut known: Vec<(Vec<u8>, u32)> = self.known.into_iter().collect();
        known.sort_unstable_by_key(|(_, index)| *index);
        known.into_iter().map(|(cells, _)| cells).collect()
    }
}
