//! Slurm's lists of generic resources: `gpu:h100:4(S:0-1),shard:8`, and what of them is used: `gpu:h100:2(IDX:0-1)`.
//!
//! Seen in the wild without type, without count, with `(null)` and `N/A` for none, and with `gres:` or `gres/` in front.

use crate::domain::Gres;

/// The resources of a list. Nothing here is an error: a name alone is one resource of that name, as Slurm takes it.
pub fn parse(list: &str) -> Vec<Gres> {
    split(list).into_iter().filter_map(one).collect()
}

/// Cuts at commas outside parentheses.
fn split(list: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth <= 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts
}

fn one(part: &str) -> Option<Gres> {
    let (plain, notes) = part.trim().split_once('(').unwrap_or((part.trim(), ""));
    let plain = plain.strip_prefix("gres/").or_else(|| plain.strip_prefix("gres:")).unwrap_or(plain);
    if plain.is_empty() || plain == "N/A" {
        return None;
    }
    // `gres/gpu:h100=4`, as lists of trackable resources have it.
    let plain = plain.replace('=', ":");
    let mut words: Vec<&str> = plain.split(':').collect();
    let count = words.last().filter(|_| words.len() > 1).and_then(|last| count(last));
    if count.is_some() {
        words.pop();
    }
    let name = words.first().filter(|name| !name.is_empty())?;
    let kind = words.get(1..).map(|rest| rest.join(":")).filter(|kind| !kind.is_empty());
    Some(Gres { name: (*name).to_owned(), kind, count: count.unwrap_or(1), indices: indices(notes) })
}

/// `8`, or `2K` as Slurm writes counts of 1,024.
fn count(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Of `IDX:0-1,3)`; `N/A` says nothing.
fn indices(notes: &str) -> Option<Vec<u32>> {
    /// No node has more devices of a kind; a longer range is damage.
    const MOST: u32 = 4_096;
    let list = notes.split_once("IDX:")?.1.split(')').next()?;
    let mut found = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if last >= MOST {
            return None;
        }
        found.extend(first..=last);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_as_sites_have_them() {
        let read = |list: &str| -> Vec<String> {
            let text = |g: Gres| format!("{} {} {} {:?}", g.name, g.kind.unwrap_or_default(), g.count, g.indices);
            parse(list).into_iter().map(text).collect()
        };
        assert_eq!(read("gpu:h100:4(S:0-1),shard:8"), ["gpu h100 4 None", "shard  8 None"]);
        assert_eq!(read("gpu:4"), ["gpu  4 None"]);
        assert_eq!(read("gres:gpu:h100:2"), ["gpu h100 2 None"]);
        assert_eq!(read("gres/gpu:a100=2,gres/gpu=2"), ["gpu a100 2 None", "gpu  2 None"]);
        assert_eq!(
            read("gpu:h100:3(IDX:0-1,3),gpu:h200:0(IDX:N/A)"),
            ["gpu h100 3 Some([0, 1, 3])", "gpu h200 0 None"]
        );
        assert_eq!(read("gpu:3g.40gb:4(S:0-3),gpu:1g.10gb:8(S:0-3)"), ["gpu 3g.40gb 4 None", "gpu 1g.10gb 8 None"]);
        assert_eq!(
            read("craynetwork,bandwidth:lustre:2K,gpu:v100"),
            ["craynetwork  1 None", "bandwidth lustre 2048 None", "gpu v100 1 None"]
        );
        for none in ["", "(null)", "N/A", ",", ":", "(", "gpu:1(IDX:0-99999999)"] {
            assert!(parse(none).iter().all(|gres| gres.indices.is_none() && gres.name == "gpu"), "{none}");
        }
    }
}
