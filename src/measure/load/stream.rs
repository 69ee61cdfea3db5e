//! One request and its answer, read as server-sent events: when each chunk came, how many tokens it carried, what `usage`
//! says in the end.
//!
//! A chunk may carry several tokens. Where the server counts them in each chunk, or sends as many chunks as tokens, every
//! gap is known; else only the mean is. Tokens that show no text (halves of characters) come unseen: llama.cpp sends no
//! chunk for them, and an answer of nothing else is whole without a time of its first token.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use super::client::{Client, Failure, in_answer};
use super::outcome::{Arrival, FailureKind, Gap};
use super::seconds_between;
use crate::formats::completion_api::{Completion, Usage};

/// More than any chunk: a server that never ends its line must not fill the memory.
const LINE: u64 = 1 << 20;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub usage: Usage,
    pub ended_at: Instant,
    /// `None` where no token showed.
    pub arrival: Option<Arrival>,
}

/// Sends a streaming request and reads its answer to the end.
pub fn request(client: &Client, path: &str, body: &str, timeout: Duration) -> Result<Answer, Failure> {
    read(client.open(path, body, timeout)?)
}

/// A chunk with choices.
#[derive(Clone, Copy)]
struct Chunk {
    at: Instant,
    shows_tokens: bool,
    so_far: Option<u32>,
}

fn read(stream: impl Read) -> Result<Answer, Failure> {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut usage = None;
    let mut done = false;
    let mut ends = false;
    loop {
        line.clear();
        let length = lines.by_ref().take(LINE).read_until(b'\n', &mut line).map_err(|error| in_answer(&error))?;
        let at = Instant::now();
        if length == 0 {
            break;
        }
        let text = str::from_utf8(&line).map_err(|error| malformed(&error.to_string()))?.trim();
        // llama.cpp names its errors in the field's place.
        let Some(data) = text.strip_prefix("data:").or_else(|| text.strip_prefix("error:")).map(str::trim_start) else {
            continue;
        };
        if data == "[DONE]" {
            done = true;
            continue;
        }
        let completion = Completion::parse(data).map_err(|error| malformed(&error))?;
        if let Some(error) = completion.error() {
            return Err(Failure { kind: FailureKind::BrokenStream, detail: error });
        }
        usage = completion.usage.or(usage);
        ends |= completion.ends();
        chunks.push(Chunk { at, shows_tokens: completion.carries_tokens(), so_far: completion.tokens_so_far() });
    }
    if !done {
        let detail = "the stream ended without [DONE]".to_owned();
        return Err(Failure { kind: FailureKind::BrokenStream, detail });
    }
    let usage = usage.ok_or_else(|| Failure { kind: FailureKind::NoUsage, detail: String::new() })?;
    let ended_at = Instant::now();
    let arrival = arrival(&chunks, usage.completion_tokens);
    if arrival.is_none() && !ends {
        return Err(malformed("an answer that shows no tokens and does not end"));
    }
    Ok(Answer { usage, ended_at, arrival })
}

fn arrival(chunks: &[Chunk], output_tokens: u32) -> Option<Arrival> {
    let counted = counted(chunks, output_tokens);
    let arrivals: Vec<(Instant, u32)> = match &counted {
        Some(counted) => counted.clone(),
        None => chunks.iter().filter(|chunk| chunk.shows_tokens).map(|chunk| (chunk.at, 0)).collect(),
    };
    let (first, last) = (arrivals.first()?, arrivals.last()?);
    // Tokens of the first chunk are no gap's; where unknown, all chunks are taken for alike.
    let in_first = match counted {
        Some(_) => f64::from(first.1),
        None => f64::from(output_tokens) / arrivals.len() as f64,
    };
    let after_first = f64::from(output_tokens) - in_first;
    let between = seconds_between(first.0, last.0);
    Some(Arrival {
        first_token_at: first.0,
        last_token_at: last.0,
        tbt_mean: (arrivals.len() > 1 && after_first > 0.0).then(|| between / after_first),
        gaps: counted.map(|counted| counted.windows(2).map(gap).collect()),
    })
}

/// When tokens came and how many, where that is known of each chunk.
fn counted(chunks: &[Chunk], output_tokens: u32) -> Option<Vec<(Instant, u32)>> {
    let showing = || chunks.iter().filter(|chunk| chunk.shows_tokens);
    if showing().count() == 0 {
        return None;
    }
    if showing().all(|chunk| chunk.so_far.is_some()) {
        let mut before = 0;
        let mut arrivals = Vec::new();
        for chunk in chunks {
            let so_far = chunk.so_far.unwrap_or(before);
            if so_far > before {
                arrivals.push((chunk.at, so_far - before));
                before = so_far;
            }
        }
        // More than were made in the end: these counts are not of tokens.
        return (before <= output_tokens).then_some(arrivals);
    }
    let arrivals: Vec<(Instant, u32)> = showing().map(|chunk| (chunk.at, 1)).collect();
    (arrivals.len() == output_tokens as usize).then_some(arrivals)
}

fn gap(pair: &[(Instant, u32)]) -> Gap {
    Gap { seconds: seconds_between(pair[0].0, pair[1].0), tokens: pair[1].1 }
}

fn malformed(detail: &str) -> Failure {
    Failure { kind: FailureKind::Malformed, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(events: &[&str]) -> Result<Answer, Failure> {
        let text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        read(text.as_bytes())
    }

    fn kind(events: &[&str]) -> FailureKind {
        answer(events).unwrap_err().kind
    }

    const A: &str = r#"{"choices":[{"text":"a","finish_reason":null}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;

    #[test]
    fn chunks_that_carry_unknown_numbers_of_tokens_leave_gaps_unknown() {
        let arrival = |events: &[&str]| answer(events).unwrap().arrival.unwrap();
        let some = arrival(&[A, A, USAGE, "[DONE]"]);
        assert_eq!((some.gaps.is_none(), some.tbt_mean.is_some()), (true, true));
        assert_eq!(arrival(&[A, A, A, A, USAGE, "[DONE]"]).gaps.unwrap().len(), 3);
        let one = arrival(&[A, USAGE, "[DONE]"]);
        assert_eq!((one.tbt_mean, one.gaps), (None, None));
    }

    /// As llama.cpp ends an answer whose bytes are no characters.
    #[test]
    fn tokens_that_show_no_text_have_no_time() {
        let last = r#"{"choices":[{"text":"","finish_reason":"length"}],"timings":{"predicted_n":4}}"#;
        let unseen = answer(&[last, USAGE, "[DONE]"]).unwrap();
        assert_eq!((unseen.usage.completion_tokens, unseen.arrival), (4, None));
        assert!(answer(&[A, last, USAGE, "[DONE]"]).unwrap().arrival.is_some());
    }

    #[test]
    fn counts_in_every_chunk_say_how_many_tokens_each_carries() {
        let chunk = |so_far: u32| {
            format!(r#"{{"choices":[{{"text":"ab"}}],"usage":{{"prompt_tokens":3,"completion_tokens":{so_far}}}}}"#)
        };
        let got = answer(&[&chunk(1), &chunk(3), &chunk(3), &chunk(4), USAGE, "[DONE]"]).unwrap();
        let tokens: Vec<u32> = got.arrival.unwrap().gaps.unwrap().iter().map(|gap| gap.tokens).collect();
        assert_eq!(tokens, [2, 1]);
        let beyond = answer(&[&chunk(1), &chunk(u32::MAX), USAGE, "[DONE]"]).unwrap();
        assert_eq!((beyond.usage.completion_tokens, beyond.arrival.unwrap().gaps), (4, None));
    }

    #[test]
    fn an_answer_that_is_not_whole_is_told_by_its_kind() {
        assert_eq!(kind(&[A, USAGE]), FailureKind::BrokenStream);
        assert_eq!(kind(&[A, r#"{"error":{"message":"died"}}"#, "[DONE]"]), FailureKind::BrokenStream);
        assert_eq!(kind(&[A, "[DONE]"]), FailureKind::NoUsage);
        assert_eq!(kind(&["{", "[DONE]"]), FailureKind::Malformed);
        assert_eq!(kind(&[USAGE, "[DONE]"]), FailureKind::Malformed, "nothing came");
        assert_eq!(kind(&[r#"{"choices":[{"text":7}]}"#]), FailureKind::Malformed);
        assert_eq!(read(&b"data: \xff\n"[..]).unwrap_err().kind, FailureKind::Malformed);
    }
}
