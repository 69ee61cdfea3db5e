//! How far an instance is: which requests of its shards have an answer.
//!
//! An answer names its request by the line in the shard. An engine with a command of its own answers a shard as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::RESULTS;
use crate::formats::job_scripts::InstanceScript;

/// Requests of an instance, and how many have an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardState {
    pub requests: u64,
    pub answered: u64,
}

impl ShardState {
    pub fn is_complete(&self) -> bool {
        self.answered >= self.requests
    }
}

#[derive(Deserialize)]
struct Identity {
    id: String,
}

/// How far an instance is. Files that are not there yet hold no answers.
///
/// # Errors
/// Shards or answers that cannot be read.
pub fn of(dir: &Path, instance: &InstanceScript) -> io::Result<ShardState> {
    let mut state = ShardState::default();
    for shard in &instance.shards {
        let result = result_of(dir, shard);
        let requests = lines_of(&dir.join(shard))?;
        if shard.ends_with(".jsonl") {
            state.requests += requests;
            state.answered += (answers(&result, |_, _, _| ())?.len() as u64).min(requests);
        } else {
            // The header is no request.
            let requests = requests.saturating_sub(1);
            state.requests += requests;
            state.answered += if done_mark(&result).exists() { requests } else { 0 };
        }
    }
    Ok(state)
}

/// Where the answers to a shard are.
pub fn result_of(dir: &Path, shard: &str) -> PathBuf {
    dir.join(RESULTS).join(shard.rsplit('/').next().unwrap_or(shard))
}

/// Made once a command has done a whole shard.
pub fn done_mark(result: &Path) -> PathBuf {
    let mut name = result.as_os_str().to_owned();
    name.push(".done");
    PathBuf::from(name)
}

/// Hands every whole answer to `take` with the line of its request and where it stands in the file, and returns how often
/// each line was answered.
///
/// # Errors
/// A file that is there and cannot be read.
pub fn answers(path: &Path, mut take: impl FnMut(u64, u64, &[u8])) -> io::Result<BTreeMap<u64, u64>> {
    let mut times = BTreeMap::new();
    for_each_line(path, |at, line| {
        let identity = serde_json::from_slice::<Identity>(line).ok();
        let number = identity.and_then(|identity| identity.id.rsplit('-').next()?.parse::<u64>().ok());
        if let Some(number) = number {
            *times.entry(number).or_insert(0) += 1;
            take(number, at, line);
        }
    })?;
    Ok(times)
}

fn lines_of(path: &Path) -> io::Result<u64> {
    let mut lines = 0;
    let mut read = |_, line: &[u8]| lines += u64::from(!line.trim_ascii().is_empty());
    if !path.exists() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display())));
    }
    for_each_line(path, &mut read)?;
    Ok(lines)
}

/// Every line of a file that ends with a newline, with where it begins; none of a file that is not there.
pub fn for_each_line(path: &Path, mut take: impl FnMut(u64, &[u8])) -> io::Result<()> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut lines = BufReader::with_capacity(1 << 17, file);
    let mut line = Vec::new();
    let mut at = 0;
    while lines.read_until(b'\n', &mut line)? > 0 {
        if line.last() == Some(&b'\n') {
            take(at, &line[..line.len() - 1]);
        }
        at += line.len() as u64;
        line.clear();
    }
    Ok(())
}
