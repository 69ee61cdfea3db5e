//! Prompts of exactly N tokens, each unlike every other from its first token on.
//!
//! The first token goes through a shuffle by the seed, the others are drawn, so two prompts of a plan share their first
//! token only once all had their turn, and prompts of two seeds share a few by chance. Three ways, best first: token ids;
//! text that the server's tokenizer counted; text of pieces of one token each. What the server adds to every prompt is found
//! with two lengths and allowed for.

use std::collections::BTreeSet;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::calibrate::Pieces;
use super::client::Client;
use super::endpoint::{Api, PromptMethod};
use super::error::LoadError;
use super::probe::{self, Tokenizer};
use super::request::{Format, Prompt};

/// How prompts for one server are made.
#[derive(Debug)]
pub struct Prompts {
    source: Source,
    /// Tokens that the server adds to each.
    pub overhead: u32,
}

#[derive(Debug)]
enum Source {
    Ids(Vec<u32>),
    Counted(Pieces, Tokenizer),
    Calibrated(Pieces),
}

/// Ids that no vocabulary gives a special meaning, from large vocabularies to those of bytes.
const IDS: [(u32, u32); 3] = [(1_000, 30_000), (300, 1_000), (33, 127)];
/// Ids of word pieces go on at least so far.
const LARGE: u32 = 2_000;
/// Fewer ids than this from a tokenizer would make prompts alike.
const LEAST_IDS: usize = 16;
/// Lengths at which the overhead is found and found again.
const LENGTHS: [u32; 2] = [5, 13];
const ROUNDS: u64 = 3;
/// Texts tried until one has the count asked for.
const TRIES: u64 = 8;

impl Prompts {
    /// # Errors
    /// Why each method tried does not work.
    pub fn find(client: &Client, format: &Format, asked: Option<PromptMethod>) -> Result<Self, LoadError> {
        let all = [PromptMethod::TokenIds, PromptMethod::Tokenize, PromptMethod::CalibratedText];
        let mut tried = Vec::new();
        for method in all.into_iter().filter(|method| asked.is_none_or(|asked| asked == *method)) {
            let found = match method {
                PromptMethod::TokenIds => ids(client, format),
                PromptMethod::Tokenize => counted(client, format),
                PromptMethod::CalibratedText => calibrated(client, format),
            };
            match found {
                Ok(prompts) => return Ok(prompts),
                Err(why) => tried.push((method, why)),
            }
        }
        Err(LoadError::Prompts { url: client.url().to_owned(), tried })
    }

    pub fn method(&self) -> PromptMethod {
        match self.source {
            Source::Ids(_) => PromptMethod::TokenIds,
            Source::Counted(..) => PromptMethod::Tokenize,
            Source::Calibrated(_) => PromptMethod::CalibratedText,
        }
    }

    /// `requests` prompts of `tokens` tokens each, the server's own included.
    ///
    /// # Errors
    /// Fewer tokens than the server adds and one, and texts that cannot be made to count.
    pub fn make(
        &self,
        client: &Client,
        model: &str,
        tokens: u32,
        requests: u32,
        seed: u64,
    ) -> Result<Vec<Prompt>, LoadError> {
        let own = tokens.checked_sub(self.overhead).filter(|own| *own > 0).ok_or(LoadError::InputTooShort {
            asked: tokens,
            overhead: self.overhead,
            least: self.overhead + 1,
        })?;
        let mut beginnings: Vec<usize> = (0..self.source.beginnings()).collect();
        beginnings.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        (0..requests)
            .map(|request| {
                let beginning = beginnings[request as usize % beginnings.len()];
                let text_of = |attempt: u64| {
                    let mut random = ChaCha8Rng::seed_from_u64(seed);
                    random.set_stream(1 + u64::from(request) * TRIES + attempt);
                    self.source.prompt(own, beginning, &mut random)
                };
                match (&self.source, text_of(0)) {
                    (Source::Counted(_, tokenizer), Prompt::Text(first)) => {
                        exactly(own, *tokenizer, client, model, first, &text_of)
                    }
                    (_, prompt) => Ok(prompt),
                }
            })
            .collect()
    }
}

impl Source {
    fn beginnings(&self) -> usize {
        match self {
            Self::Ids(ids) => ids.len(),
            Self::Counted(pieces, _) | Self::Calibrated(pieces) => pieces.beginnings(),
        }
    }

    fn prompt(&self, tokens: u32, beginning: usize, random: &mut ChaCha8Rng) -> Prompt {
        match self {
            Self::Ids(ids) => {
                let rest = (1..tokens).map(|_| ids[random.random_range(0..ids.len())]);
                Prompt::Ids(std::iter::once(ids[beginning]).chain(rest).collect())
            }
            Self::Counted(pieces, _) | Self::Calibrated(pieces) => {
                Prompt::Text(pieces.text(tokens as usize, beginning, random))
            }
        }
    }
}

/// Pieces may merge where two of them meet by chance: then another text is taken.
fn exactly(
    tokens: u32,
    tokenizer: Tokenizer,
    client: &Client,
    model: &str,
    first: String,
    text_of: &dyn Fn(u64) -> Prompt,
) -> Result<Prompt, LoadError> {
    let others = (1..TRIES).map(text_of);
    let mut count = 0;
    for prompt in std::iter::once(Prompt::Text(first)).chain(others) {
        let Prompt::Text(text) = &prompt else { break };
        count = tokenizer.ids(client, model, text).map_err(LoadError::Preparing)?.len();
        if count == tokens as usize {
            return Ok(prompt);
        }
    }
    Err(LoadError::Preparing(format!("{TRIES} texts for {tokens} tokens, none of them so long (the last has {count})")))
}

fn ids(client: &Client, format: &Format) -> Result<Prompts, String> {
    if format.api == Api::Chat {
        return Err("chat takes text only".to_owned());
    }
    let pools = match Tokenizer::find(client, &format.model) {
        Ok(tokenizer) => known_ids(&tokenizer.ids(client, &format.model, &Pieces::all_words())?),
        Err(_) => IDS.map(|(from, to)| (from..to).collect()).to_vec(),
    };
    let mut why = "the server's tokenizer has too few tokens".to_owned();
    for pool in pools {
        // The ends of the range are tried: if they are in the vocabulary, so is what lies between.
        let ends: Vec<u32> = pool.first().into_iter().chain(pool.last()).copied().collect();
        let source = Source::Ids(pool);
        let found =
            probe::prompt_tokens(client, format, &Prompt::Ids(ends)).and_then(|_| overhead(client, format, &source));
        match found {
            Ok(overhead) => return Ok(Prompts { source, overhead }),
            Err(said) => why = said,
        }
    }
    Err(why)
}

/// Ids below one that the tokenizer returned are in the vocabulary, which not every server sees to; the few ids of a small
/// vocabulary are taken as they are.
fn known_ids(seen: &[u32]) -> Vec<Vec<u32>> {
    let seen: BTreeSet<u32> = seen.iter().copied().collect();
    let below = seen.last().filter(|last| **last >= LARGE).map(|last| (IDS[1].0..=*last).collect());
    let few = (seen.len() >= LEAST_IDS).then(|| seen.into_iter().collect());
    below.into_iter().chain(few).collect()
}

fn counted(client: &Client, format: &Format) -> Result<Prompts, String> {
    let tokenizer = Tokenizer::find(client, &format.model)?;
    let pieces = Pieces::find(&mut |text| Ok(tokenizer.ids(client, &format.model, text)?.len() as u32))?;
    let source = Source::Counted(pieces, tokenizer);
    Ok(Prompts { overhead: overhead(client, format, &source)?, source })
}

fn calibrated(client: &Client, format: &Format) -> Result<Prompts, String> {
    let pieces = Pieces::find(&mut |text| probe::prompt_tokens(client, format, &Prompt::Text(text.to_owned())))?;
    let source = Source::Calibrated(pieces);
    Ok(Prompts { overhead: overhead(client, format, &source)?, source })
}

/// What the server adds, the same at two lengths. A server that miscounts now and then is asked again.
fn overhead(client: &Client, format: &Format, source: &Source) -> Result<u32, String> {
    let mut why = String::new();
    for round in 0..ROUNDS {
        let mut found = Vec::new();
        for (beginning, tokens) in LENGTHS.into_iter().enumerate() {
            let prompt = source.prompt(tokens, beginning, &mut ChaCha8Rng::seed_from_u64(round));
            found.push(i64::from(probe::prompt_tokens(client, format, &prompt)?) - i64::from(tokens));
        }
        match (found[0], u32::try_from(found[0])) {
            (one, Ok(overhead)) if found.iter().all(|other| *other == one) => return Ok(overhead),
            _ => why = format!("the server counts {found:?} more tokens than prompts of {LENGTHS:?} have"),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_from_what_the_tokenizer_is_known_to_have() {
        let bytes: Vec<u32> = (97..123).collect();
        assert_eq!(known_ids(&[&bytes[..], &bytes[..]].concat())[..], [(97..123).collect::<Vec<u32>>()]);
        let large = known_ids(&[&bytes[..], &[2_500]].concat());
        assert_eq!((large.len(), large[0][0], large[0].last()), (2, 300, Some(&2_500)));
        assert_eq!(known_ids(&[1, 2]), Vec::<Vec<u32>>::new());
    }
}
