//! Two tokenizers: a token a byte, or a token a short word with the space before it, as byte-pair encodings have them.

use std::collections::HashMap;
use std::sync::Mutex;

use clap::ValueEnum;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Bytes,
    /// Letters in pieces of six at most, with one space before; every other byte by itself.
    Words,
}

/// The start token; the bytes are 0..=255, pieces of words come after.
const START: u32 = 256;
const WORD_LETTERS: usize = 6;
const WORD_VOCABULARY: u32 = 32_000;

pub struct Tokenizer {
    kind: Kind,
    start_token: bool,
    pieces: Mutex<Pieces>,
}

/// Pieces of words seen; ids go from START + 1 in the order of the list.
#[derive(Default)]
struct Pieces {
    list: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
}

impl Tokenizer {
    pub fn new(kind: Kind, start_token: bool) -> Self {
        Self { kind, start_token, pieces: Mutex::default() }
    }

    pub fn encode(&self, text: &str, special: bool) -> Vec<u32> {
        let start = (special && self.start_token).then_some(START);
        let bytes = text.as_bytes();
        match self.kind {
            Kind::Bytes => start.into_iter().chain(bytes.iter().map(|byte| u32::from(*byte))).collect(),
            Kind::Words => start.into_iter().chain(pieces(bytes).map(|piece| self.id(piece))).collect(),
        }
    }

    pub fn vocabulary(&self) -> u32 {
        if self.kind == Kind::Bytes { START + 1 } else { WORD_VOCABULARY }
    }

    pub fn decode(&self, tokens: &[u32]) -> String {
        let pieces = self.pieces.lock().unwrap();
        let mut bytes = Vec::new();
        for token in tokens {
            match u8::try_from(*token) {
                Ok(byte) => bytes.push(byte),
                Err(_) => bytes.extend(
                    token.checked_sub(START + 1).and_then(|at| pieces.list.get(at as usize)).into_iter().flatten(),
                ),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn id(&self, piece: &[u8]) -> u32 {
        let Pieces { list, ids } = &mut *self.pieces.lock().unwrap();
        if let [byte] = piece {
            return u32::from(*byte);
        }
        *ids.entry(piece.to_vec()).or_insert_with(|| {
            list.push(piece.to_vec());
            START + list.len() as u32
        })
    }
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let space = usize::from(*first == b' ');
        let letters = rest[space..].iter().take(WORD_LETTERS).take_while(|byte| byte.is_ascii_alphabetic()).count();
        let (piece, after) = rest.split_at(if letters == 0 { 1 } else { space + letters });
        rest = after;
        Some(piece)
    })
}
