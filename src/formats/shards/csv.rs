//! Rows of CSV files and class tables on their way to shards: read in blocks side by side, handed out in order.

use std::io;

use super::sink::Sink;
use super::{COUNT, Planned, ShardError, changed};
use crate::formats::blocks::{self, BLOCK_BYTES, Block};
use crate::formats::problems::Problems;
use crate::formats::table::{Row, Table};
use crate::formats::text::{open_text, reading_failed};
use crate::formats::workload::{Format, WorkloadFile};

/// Hands the rows of a file to the shards of its requests, cells in order of `header`. `count`: the column that says for
/// how many requests a row stands.
///
/// # Errors
/// Rows that are not those of the requests; what cannot be read or written.
pub fn split(
    mut planned: Planned<'_>,
    count: Option<&str>,
    header: &[String],
    shards: &mut Sink<'_>,
) -> Result<(), ShardError> {
    let path = planned.path;
    let mut table = Table::open(path)?;
    let mut columns = Columns::of(&table, header);
    if let Some(count) = count {
        columns.count = table.require(count);
        return row_by_row(table, &columns, planned, shards);
    }
    let failed = |error| reading_failed(path, error);
    let place = table.place();
    let mut source = open_text(path)?;
    io::copy(&mut io::Read::take(&mut source, place.offset), &mut io::sink()).map_err(failed)?;
    let names = table.into_header();
    let parse = |block: &Block| {
        let mut table = Table::part(path, &names, &block.bytes[..], block.place);
        let mut records = Records::default();
        while let Some(row) = table.next_row() {
            columns.append(&row, &mut records.bytes);
            records.ends.push(records.bytes.len());
        }
        table.problems.is_empty().then_some(records)
    };
    let mut served = Ok(());
    let take = |_: &Block, records: Records| {
        if records.ends.len() > planned.left() {
            return false;
        }
        served = records.iter().try_for_each(|record| planned.serve(shards, |shard, _| shard.extend(record)));
        served.is_ok()
    };
    let rest = blocks::in_order(source, place, BLOCK_BYTES, parse, take).map_err(failed)?;
    served?;
    let rest = match rest {
        Some(rest) => Table::part(path, &names, rest.source, rest.place),
        None => Table::part(path, &names, io::empty(), place),
    };
    row_by_row(rest, &columns, planned, shards)
}

fn row_by_row(
    mut table: Table<'_>,
    columns: &Columns,
    mut planned: Planned<'_>,
    shards: &mut Sink<'_>,
) -> Result<(), ShardError> {
    let mut surplus = false;
    while let Some(mut row) = table.next_row() {
        let times = columns.count.map_or(1, |count| row.whole(Some(count), 0, u32::MAX).unwrap_or(0)) as usize;
        surplus |= times > planned.left();
        for _ in 0..times.min(planned.left()) {
            planned.serve(shards, |shard, _| columns.append(&row, shard))?;
        }
    }
    if surplus || planned.left() > 0 {
        changed(&mut table.problems);
    }
    Ok(table.finish(())?)
}

/// The rows of a workload's file as they stand in shards, in order, one for each request.
///
/// # Errors
/// What cannot be read.
pub fn for_each_row(file: &WorkloadFile, header: &[String], mut take: impl FnMut(&[u8])) -> Result<(), Problems> {
    let mut table = Table::open(&file.path)?;
    let mut columns = Columns::of(&table, header);
    if file.format == Format::ClassTable {
        columns.count = table.require(COUNT);
    }
    let mut record = Vec::new();
    while let Some(mut row) = table.next_row() {
        let times = columns.count.map_or(1, |count| row.whole(Some(count), 0, u32::MAX).unwrap_or(0));
        record.clear();
        columns.append(&row, &mut record);
        (0..times).for_each(|_| take(&record));
    }
    table.finish(())
}

/// Where the columns of a shard stand in a file.
pub struct Columns {
    /// Where each cell of a shard's row stands in the file's, if there.
    cells: Vec<Option<usize>>,
    count: Option<usize>,
}

impl Columns {
    pub fn of(table: &Table<'_>, header: &[String]) -> Self {
        Self { cells: header.iter().map(|name| table.column(name)).collect(), count: None }
    }

    /// Appends a row of the file as a row of a shard.
    pub fn append(&self, row: &Row<'_>, buffer: &mut Vec<u8>) {
        append_record(buffer, || self.cells.iter().map(|column| column.map_or(&[][..], |column| row.raw(column))));
    }
}

/// Rows as they are to be written, one behind the other.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Records {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }
}

/// Appends cells as a row of CSV.
pub fn append_record<'a, I: Iterator<Item = &'a [u8]>>(buffer: &mut Vec<u8>, cells: impl Fn() -> I) {
    let before = buffer.len();
    for (index, cell) in cells().enumerate() {
        if index > 0 {
            buffer.push(b',');
        }
        buffer.extend_from_slice(cell);
    }
    // The usual cells need no quotes; everything else takes the careful way.
    let simple = |byte: &u8| byte.is_ascii_alphanumeric() || b",.-_:+".contains(byte);
    let commas = buffer[before..].iter().filter(|byte| **byte == b',').count();
    if buffer.len() > before && commas < cells().count() && buffer[before..].iter().all(simple) {
        buffer.push(b'\n');
        return;
    }
    buffer.truncate(before);
    let mut writer = csv::WriterBuilder::new().buffer_capacity(256).from_writer(buffer);
    // Writing to memory does not fail, and records of one header are equally long.
    let _ = writer.write_record(cells());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_quoted_as_the_csv_crate_does() {
        for cells in [&["1", "a"][..], &[""], &["", ""], &["a,b", "c"], &["x y", "\"", "\r"], &["é", "1.5"], &["a"]] {
            let mut expected = csv::Writer::from_writer(Vec::new());
            expected.write_record(cells).unwrap();
            let mut buffer = b"before\n".to_vec();
            append_record(&mut buffer, || cells.iter().map(|cell| cell.as_bytes()));
            assert_eq!(buffer[7..], expected.into_inner().unwrap(), "{cells:?}");
        }
    }
}
