//! Text of a known token count, for servers that take no token ids: pieces that cost one token each, wherever they stand.
//!
//! Found by asking (`count` is the server's tokenizer, or the `usage` of a one-token request). A piece costs one token at
//! least, so a text that costs as many tokens as it has pieces shows each of them to cost one; where it costs more, halves
//! are asked about. Words for vocabularies of word pieces, single characters for those of bytes.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Text made of pieces of one token each.
#[derive(Clone, Debug)]
pub struct Pieces {
    /// Between pieces: a space between words, nothing between characters.
    separator: &'static str,
    /// One token at the beginning of a text.
    first: Vec<&'static str>,
    /// One token after another piece.
    following: Vec<&'static str>,
}

/// Fewer would make prompts alike.
const LEAST_PIECES: usize = 8;
/// Pieces in the texts that a set of them must pass together.
const PROOF: usize = 96;

const WORDS: [&str; 64] = [
    "the", "of", "and", "to", "in", "is", "it", "for", "on", "was", "with", "as", "at", "by", "be", "this", "from",
    "or", "one", "had", "not", "but", "what", "all", "were", "when", "we", "there", "can", "an", "your", "which",
    "said", "if", "do", "will", "each", "about", "how", "up", "out", "them", "then", "she", "many", "some", "so",
    "these", "would", "other", "into", "has", "more", "her", "two", "like", "him", "see", "time", "could", "no",
    "make", "than", "first",
];
const RARE: &str = "photosynthesis zeitgeist kaleidoscope bureaucracy archipelago quixotic chrysanthemum";
const CHARACTERS: [&str; 62] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w",
    "x", "y", "z", "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S", "T",
    "U", "V", "W", "X", "Y", "Z", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9",
];

/// Tokens of a text, by the server; its own start tokens and template may be in it, as long as they are always the same.
pub type Count<'a> = dyn FnMut(&str) -> Result<u32, String> + 'a;

impl Pieces {
    /// # Errors
    /// What the server said, or that neither words nor characters cost one token each.
    pub fn find(count: &mut Count) -> Result<Self, String> {
        match Self::among(" ", &WORDS, count)? {
            Some(words) => Ok(words),
            None => Self::among("", &CHARACTERS, count)?
                .ok_or_else(|| "neither words nor characters cost one token each".to_owned()),
        }
    }

    /// How many pieces a text may begin with.
    pub fn beginnings(&self) -> usize {
        self.first.len()
    }

    /// A text of so many pieces (one at least) that begins with one of the `beginnings`, counted round.
    pub fn text(&self, pieces: usize, beginning: usize, choices: &mut impl Rng) -> String {
        let mut text = String::from(self.first[beginning % self.first.len()]);
        for _ in 1..pieces {
            text.push_str(self.separator);
            text.push_str(self.following[choices.random_range(0..self.following.len())]);
        }
        text
    }

    /// Words common and rare, for their token ids: vocabularies are ordered by how common a piece is.
    pub fn all_words() -> String {
        format!("{} {RARE}", WORDS.join(" "))
    }

    fn among(separator: &'static str, candidates: &[&'static str], count: &mut Count) -> Result<Option<Self>, String> {
        // A glance first, so that a vocabulary of another kind costs two questions and not two hundred.
        let glance = &candidates[..LEAST_PIECES];
        let rest = count(&glance.join(separator))?.saturating_sub(count(glance[0])?);
        if (rest as usize) < LEAST_PIECES - 1 || rest as usize > 2 * (LEAST_PIECES - 1) {
            return Ok(None);
        }
        let costs = candidates.iter().map(|piece| count(piece)).collect::<Result<Vec<u32>, String>>()?;
        let Some(&least) = costs.iter().min() else { return Ok(None) };
        let first: Vec<&str> =
            candidates.iter().zip(&costs).filter(|(_, cost)| **cost == least).map(|(piece, _)| *piece).collect();
        let mut following = Vec::new();
        one_token_each(first[0], least, separator, candidates, count, &mut following)?;
        let pieces = Self { separator, first, following };
        if pieces.first.len() < LEAST_PIECES || pieces.following.len() < LEAST_PIECES {
            return Ok(None);
        }
        // Neighbours must not merge into one token.
        let mut random = ChaCha8Rng::seed_from_u64(0);
        for beginning in 0..2 {
            let text = pieces.text(PROOF, beginning, &mut random);
            if count(&text)? != least + PROOF as u32 - 1 {
                return Ok(None);
            }
        }
        Ok(Some(pieces))
    }
}

/// Gathers those of `pieces` that cost one token after `anchor`, which costs `of_anchor` alone.
fn one_token_each(
    anchor: &str,
    of_anchor: u32,
    separator: &str,
    pieces: &[&'static str],
    count: &mut Count,
    found: &mut Vec<&'static str>,
) -> Result<(), String> {
    if pieces.is_empty() {
        return Ok(());
    }
    let text = format!("{anchor}{separator}{}", pieces.join(separator));
    if count(&text)?.checked_sub(of_anchor) == Some(pieces.len() as u32) {
        found.extend(pieces);
    } else if pieces.len() > 1 {
        let (left, right) = pieces.split_at(pieces.len() / 2);
        one_token_each(anchor, of_anchor, separator, left, count, found)?;
        one_token_each(anchor, of_anchor, separator, right, count, found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts_cost(pieces: &Pieces, count: &dyn Fn(&str) -> u32, overhead: u32) {
        for length in [1, 2, 50, 777] {
            let mut random = ChaCha8Rng::seed_from_u64(length);
            let text = pieces.text(length as usize, 3, &mut random);
            assert_eq!(u64::from(count(&text) - overhead), length, "{text}");
        }
    }

    #[test]
    fn characters_serve_where_every_byte_is_a_token() {
        let count = |text: &str| text.len() as u32 + 9;
        let mut asked = 0;
        let pieces = Pieces::find(&mut |text| {
            asked += 1;
            Ok(count(text))
        });
        texts_cost(&pieces.unwrap(), &count, 9);
        assert!(asked < 80, "{asked} questions");
    }

    /// As byte-pair encodings: short words are one token, longer ones two, and the first has no space before it.
    #[test]
    fn words_of_several_tokens_are_sorted_out() {
        let count = |text: &str| {
            let cost = |(place, word): (usize, &str)| match (word.len(), place) {
                (5.., _) => 2,
                (4, 0) => 2,
                _ => 1,
            };
            1 + text.split(' ').enumerate().map(cost).sum::<u32>()
        };
        let pieces = Pieces::find(&mut |text| Ok(count(text))).unwrap();
        assert!(pieces.first.iter().all(|word| word.len() < 4) && pieces.following.contains(&"many"));
        texts_cost(&pieces, &count, 1);
    }

    #[test]
    fn a_tokenizer_that_fits_no_pieces_is_refused() {
        assert!(Pieces::find(&mut |text| Ok(text.len() as u32 * 3)).unwrap_err().contains("neither"));
        assert!(Pieces::find(&mut |text| Ok(text.len() as u32 / 2 + 1)).unwrap_err().contains("neither"));
        assert_eq!(Pieces::find(&mut |_| Err("no".to_owned())).unwrap_err(), "no");
    }
}
