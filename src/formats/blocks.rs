//! Text cut into blocks of whole lines that are parsed side by side and taken in order.
//!
//! Whether a line break ends a row cannot be told from a block alone (a quoted cell may hold one), and whatever is wrong
//! must be found in order. So a parser declines a block that it cannot take as it stands, and from there on the caller
//! reads the rest one row after the other: the result is that of reading everything so, and only sound text is fast.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use rayon::prelude::*;

use super::table::Place;
use super::text::Source;

/// Enough to make the cost of starting a parser small, little enough for a hundred in memory.
pub const BLOCK_BYTES: usize = 1 << 18;

/// Blocks read ahead per thread.
const AHEAD: usize = 4;

/// Whole lines from `place` on.
pub struct Block {
    pub bytes: Vec<u8>,
    pub place: Place,
}

/// What was not taken, from `place` on.
pub struct Rest {
    pub source: Source,
    pub place: Place,
}

/// Cuts `source`, which stands at `place`, into blocks of about `block_bytes`; `parse` runs in parallel, `take` in the
/// order of the text. The first block that `parse` or `take` declines (`None`, `false`) ends it.
///
/// # Errors
/// The source, once all before the defect has been taken.
pub fn in_order<T: Send>(
    source: Source,
    place: Place,
    block_bytes: usize,
    parse: impl Fn(&Block) -> Option<T> + Sync,
    mut take: impl FnMut(&Block, T) -> bool,
) -> io::Result<Option<Rest>> {
    let mut blocks = Blocks { source, place, block_bytes: block_bytes as u64, failed: None };
    let mut batch = blocks.batch();
    while !batch.is_empty() {
        let (next, parsed) =
            rayon::join(|| blocks.batch(), || batch.par_iter().map(&parse).collect::<Vec<Option<T>>>());
        let mut taken =
            batch.iter().zip(parsed).map(|(block, parsed)| parsed.is_some_and(|parsed| take(block, parsed)));
        let declined = taken.position(|taken| !taken);
        drop(taken);
        if let Some(declined) = declined {
            let ahead: Vec<Block> = batch.into_iter().skip(declined).chain(next).collect();
            return Ok(Some(blocks.rest(ahead)));
        }
        batch = next;
    }
    blocks.failed.map_or(Ok(None), Err)
}

struct Blocks {
    source: Source,
    place: Place,
    block_bytes: u64,
    /// Ends the source.
    failed: Option<io::Error>,
}

impl Blocks {
    /// The next few blocks; none at the end or at an error, which is kept.
    fn batch(&mut self) -> Vec<Block> {
        let mut batch = Vec::new();
        while batch.len() < AHEAD * rayon::current_num_threads() && self.failed.is_none() {
            match self.block() {
                Ok(Some(block)) => batch.push(block),
                Ok(None) => break,
                Err(error) => self.failed = Some(error),
            }
        }
        batch
    }

    fn block(&mut self) -> io::Result<Option<Block>> {
        let mut bytes = Vec::with_capacity(self.block_bytes as usize + 256);
        self.source.by_ref().take(self.block_bytes).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.last() != Some(&b'\n') {
            self.source.read_until(b'\n', &mut bytes)?;
        }
        let place = self.place;
        self.place.offset += bytes.len() as u64;
        self.place.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(Some(Block { bytes, place }))
    }

    /// The text of `ahead` and all that follows.
    fn rest(self, ahead: Vec<Block>) -> Rest {
        let place = ahead.first().map_or(self.place, |block| block.place);
        let read: Vec<u8> = ahead.into_iter().flat_map(|block| block.bytes).collect();
        let behind: Source = match self.failed {
            Some(error) => Box::new(BufReader::new(Failed(Some(error)))),
            None => self.source,
        };
        Rest { source: Box::new(Cursor::new(read).chain(behind)), place }
    }
}

/// A source that fails where the real one did.
struct Failed(Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Source {
        Box::new(text.as_bytes())
    }

    #[test]
    fn blocks_are_whole_lines_and_come_in_order() {
        for size in 1..9 {
            let mut seen = String::new();
            let mut places = Vec::new();
            let parse = |block: &Block| Some((String::from_utf8(block.bytes.clone()).unwrap(), block.place));
            let rest =
                in_order(text("a\n\nbb\nccc\r\nd"), Place { offset: 7, lines: 2 }, size, parse, |_, (text, place)| {
                    assert!(text.ends_with('\n') || text == "d" || text.ends_with("\nd"));
                    assert_eq!(place.offset, 7 + seen.len() as u64);
                    assert_eq!(place.lines, 2 + seen.matches('\n').count() as u64);
                    seen.push_str(&text);
                    places.push(place);
                    true
                });
            assert!(rest.unwrap().is_none());
            assert_eq!(seen, "a\n\nbb\nccc\r\nd");
        }
    }

    #[test]
    fn the_rest_begins_with_the_block_that_was_declined() {
        let mut taken = Vec::new();
        let parse = |block: &Block| (block.bytes != b"3\n").then(|| block.bytes.clone());
        let rest = in_order(text("1\n2\n3\n4\n5\n"), Place::default(), 2, parse, |_, bytes| {
            taken.extend(bytes);
            true
        });
        let Rest { mut source, place } = rest.unwrap().unwrap();
        let mut left = String::new();
        source.read_to_string(&mut left).unwrap();
        assert_eq!((taken.as_slice(), left.as_str()), (&b"1\n2\n"[..], "3\n4\n5\n"));
        assert_eq!(place, Place { offset: 4, lines: 2 });
    }

    #[test]
    fn an_error_of_the_source_comes_after_all_that_was_read() {
        let failing = || -> Source {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            Box::new(BufReader::with_capacity(2, (&b"1\n2\n"[..]).chain(Failed(Some(error)))))
        };
        let mut taken = 0;
        let all = in_order(
            failing(),
            Place::default(),
            2,
            |_| Some(()),
            |_, ()| {
                taken += 1;
                true
            },
        );
        assert!(all.is_err() && taken == 2);
        let mut rest = in_order(failing(), Place::default(), 2, |_| None::<()>, |_, ()| true).unwrap().unwrap();
        let mut left = Vec::new();
        assert!(rest.source.read_to_end(&mut left).is_err() && left == b"1\n2\n");
    }
}
