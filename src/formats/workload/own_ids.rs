//! The ids that a file gives its requests: held in memory, or left in the file and read again where they are needed.
//!
//! Either way a 64-bit hash of each is kept until it is known that no two are the same. Of ids left in the file only
//! every few thousandth place is remembered; from there rows are parsed as they were at first.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::openai_batch;
use crate::domain::{IdsUnavailable, Names};
use crate::formats::table::{Place, Table};

/// Ids between two places that are remembered.
const STRIDE: usize = 4096;

#[derive(Debug)]
pub(super) struct OwnIds {
    pub hashes: Vec<u64>,
    pub kept: Kept,
}

#[derive(Debug)]
pub(super) enum Kept {
    Held(Names),
    /// (index, offset in the file) of some of them, the first included.
    Stored(Vec<(usize, u64)>),
}

impl OwnIds {
    pub fn held() -> Self {
        Self { hashes: Vec::new(), kept: Kept::Held(Names::default()) }
    }

    pub fn stored() -> Self {
        Self { hashes: Vec::new(), kept: Kept::Stored(Vec::new()) }
    }

    /// Nothing yet, kept in the same way.
    pub fn part(&self) -> Self {
        match self.kept {
            Kept::Held(_) => Self::held(),
            Kept::Stored(_) => Self::stored(),
        }
    }

    /// `offset`: from where in the file its row is the next.
    pub fn push(&mut self, id: &str, offset: u64) {
        match &mut self.kept {
            Kept::Held(names) => names.push(id),
            Kept::Stored(places) if self.hashes.len().is_multiple_of(STRIDE) => {
                places.push((self.hashes.len(), offset));
            }
            Kept::Stored(_) => {}
        }
        self.hashes.push(hash(id));
    }

    pub fn append(&mut self, part: Self) {
        let before = self.hashes.len();
        match (&mut self.kept, part.kept) {
            (Kept::Held(names), Kept::Held(more)) => names.append(more),
            (Kept::Stored(places), Kept::Stored(more)) => {
                places.extend(more.into_iter().map(|(index, offset)| (before + index, offset)));
            }
            _ => {} // a part is kept as the whole is
        }
        self.hashes.extend(part.hashes);
    }
}

/// The same in every run.
pub(super) fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(id.as_bytes());
    hasher.finish()
}

/// How rows hold their id.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    Csv { header: Vec<String>, column: usize },
    OpenaiBatch,
}

/// Ids that are left in their file.
#[derive(Debug)]
pub(super) struct StoredIds {
    path: PathBuf,
    layout: Layout,
    places: Vec<(usize, u64)>,
    /// Of the file when it was read: ids of another are no longer these.
    stamp: Option<Stamp>,
}

type Stamp = (u64, SystemTime);

impl StoredIds {
    pub fn new(path: &Path, layout: Layout, places: Vec<(usize, u64)>) -> Self {
        Self { path: path.to_owned(), layout, places, stamp: stamp(path).ok() }
    }

    /// As `IdSource::visit`, counted from the file's first request.
    pub fn visit(&self, range: Range<usize>, visit: &mut dyn FnMut(usize, &str)) -> Result<(), IdsUnavailable> {
        let unavailable = |error: &dyn std::fmt::Display| IdsUnavailable(format!("{}: {error}", self.path.display()));
        let changed = || unavailable(&"it changed since it was read");
        if range.is_empty() {
            return Ok(());
        }
        if stamp(&self.path).ok() != self.stamp {
            return Err(changed());
        }
        let nearest = self.places.partition_point(|(first, _)| *first <= range.start).saturating_sub(1);
        let (first, offset) = self.places.get(nearest).copied().ok_or_else(changed)?;
        let source = self.open_at(offset).map_err(|error| unavailable(&error))?;
        let mut index = first;
        let mut next = |id: &str| {
            if index >= range.start {
                visit(index, id);
            }
            index += 1;
            index < range.end
        };
        match &self.layout {
            Layout::Csv { header, column } => {
                let mut table = Table::part(&self.path, header, source, Place { offset, lines: 1 });
                while let Some(mut row) = table.next_row()
                    && row.str(Some(*column)).is_some_and(&mut next)
                {}
            }
            Layout::OpenaiBatch => openai_batch::ids(source, offset == 0, &mut next).map_err(|e| unavailable(&e))?,
        }
        if index < range.end { Err(changed()) } else { Ok(()) }
    }

    fn open_at(&self, offset: u64) -> io::Result<impl BufRead + use<>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(BufReader::with_capacity(1 << 16, file))
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.len(), metadata.modified()?))
}
