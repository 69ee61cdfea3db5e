//! Rows on their way to the shards of one kind: collected per instance, appended when there are many, and at last put
//! into service order. One file is open at a time however many instances there are.

use std::fs::{self, File};
use std::io::{self, BufWriter, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::super::plan_dir::instance_id;
use super::super::problems::{Collector, Problems};
use super::super::write::WriteError;
use super::FOLDER;

/// Bytes that wait in memory.
const SPILL_AT: usize = 128 << 20;

/// A shard up to this size is put in order in memory, a larger one by seeking in its file.
const SORT_IN_MEMORY: u64 = 16 << 20;

pub struct Sink<'a> {
    folder: PathBuf,
    extension: &'static str,
    header: Vec<u8>,
    rank: Option<&'a [u32]>,
    shards: Vec<Shard>,
    /// Bytes waiting in all shards.
    waiting: usize,
    /// The row being appended: instance, request, length of the shard's buffer before it.
    current: (usize, usize, usize),
}

#[derive(Clone, Default)]
struct Shard {
    started: bool,
    /// Part of it is in its file.
    spilled: bool,
    waiting: Vec<u8>,
    /// (rank, bytes) of each row, where ranks are given.
    rows: Vec<(u32, u32)>,
}

impl<'a> Sink<'a> {
    /// `header` opens each file; `rank` is the place of each request in its shard, if not in order of requests.
    pub fn new(
        folder: &Path,
        extension: &'static str,
        instances: usize,
        header: Vec<u8>,
        rank: Option<&'a [u32]>,
    ) -> Self {
        let folder = folder.to_owned();
        Self {
            folder,
            extension,
            header,
            rank,
            shards: vec![Shard::default(); instances],
            waiting: 0,
            current: (0, 0, 0),
        }
    }

    /// Where to append the row of `request`; `row_is_whole` follows.
    ///
    /// # Errors
    /// An instance that is not there.
    pub fn row(&mut self, request: usize, instance: u32, source: &Path) -> Result<&mut Vec<u8>, Problems> {
        let Some(shard) = self.shards.get_mut(instance as usize) else {
            let mut problems = Collector::new(source);
            problems.add("", format!("a request is assigned to instance {instance}, which is not there"), "");
            return problems.fail();
        };
        if !shard.started {
            shard.started = true;
            shard.waiting.extend_from_slice(&self.header);
            self.waiting += self.header.len();
        }
        self.current = (instance as usize, request, shard.waiting.len());
        Ok(&mut shard.waiting)
    }

    pub fn row_is_whole(&mut self) -> Result<(), WriteError> {
        let (instance, request, before) = self.current;
        let shard = &mut self.shards[instance];
        let bytes = shard.waiting.len() - before;
        if let Some(rank) = self.rank {
            // Requests without a rank come last; a row of 4 GiB has been refused as text long before.
            let rank = rank.get(request).copied().unwrap_or(u32::MAX);
            shard.rows.push((rank, u32::try_from(bytes).unwrap_or(u32::MAX)));
        }
        self.waiting += bytes;
        if self.waiting >= SPILL_AT { self.spill() } else { Ok(()) }
    }

    /// The name of each instance's file, if it has rows.
    pub fn finish(mut self) -> Result<Vec<Option<String>>, WriteError> {
        let shards = std::mem::take(&mut self.shards);
        let finish = |(instance, shard): (usize, Shard)| {
            let started = shard.started;
            let path = self.path(instance);
            self.finish_shard(shard, &path).map_err(|source| WriteError::Cannot { path, source })?;
            Ok(started.then(|| format!("{FOLDER}/{}.{}", instance_id(instance), self.extension)))
        };
        shards.into_par_iter().enumerate().map(finish).collect()
    }

    fn finish_shard(&self, shard: Shard, path: &Path) -> io::Result<()> {
        let in_order = shard.rows.is_sorted_by_key(|(rank, _)| *rank);
        if !shard.waiting.is_empty() {
            if !shard.spilled && !in_order {
                return sort(path, &mut Cursor::new(shard.waiting), self.header.len(), &shard.rows);
            }
            append(path, &shard.waiting)?;
        }
        if in_order {
            return Ok(());
        }
        let mut source: Box<dyn ReadSeek> = match fs::metadata(path)?.len() {
            ..=SORT_IN_MEMORY => Box::new(Cursor::new(fs::read(path)?)),
            _ => Box::new(File::open(path)?),
        };
        let sorted = path.with_extension("sorted");
        sort(&sorted, &mut source, self.header.len(), &shard.rows)?;
        fs::rename(&sorted, path)
    }

    fn spill(&mut self) -> Result<(), WriteError> {
        for instance in 0..self.shards.len() {
            let rows = std::mem::take(&mut self.shards[instance].waiting);
            if !rows.is_empty() {
                let path = self.path(instance);
                append(&path, &rows).map_err(|source| WriteError::Cannot { path, source })?;
                self.shards[instance].spilled = true;
            }
        }
        self.waiting = 0;
        Ok(())
    }

    fn path(&self, instance: usize) -> PathBuf {
        self.folder.join(format!("{}.{}", instance_id(instance), self.extension))
    }
}

trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

fn append(path: &Path, rows: &[u8]) -> io::Result<()> {
    File::options().create(true).append(true).open(path)?.write_all(rows)
}

/// Writes to `path` the rows of `source` in order of rank; `rows` are (rank, bytes) as they stand there, behind the
/// header.
fn sort(path: &Path, source: &mut dyn ReadSeek, header: usize, rows: &[(u32, u32)]) -> io::Result<()> {
    let mut at = header as u64;
    let mut places: Vec<(u32, u64, u32)> = Vec::with_capacity(rows.len());
    for &(rank, bytes) in rows {
        places.push((rank, at, bytes));
        at += u64::from(bytes);
    }
    places.sort_unstable();
    let mut out = BufWriter::with_capacity(1 << 17, File::create(path)?);
    let mut row = vec![0; header];
    source.read_exact(&mut row)?;
    out.write_all(&row)?;
    for (_, start, bytes) in places {
        row.resize(bytes as usize, 0);
        source.seek(SeekFrom::Start(start))?;
        source.read_exact(&mut row)?;
        out.write_all(&row)?;
    }
    out.flush()
}
