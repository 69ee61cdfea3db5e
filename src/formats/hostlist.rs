//! Slurm host lists: `h100n[1-2,05-08],gpu3` to names, with the zero padding as written.
//!
//! The number of names is computed before any is made, so a list that means a billion hosts is refused at once. Slurm's
//! nested brackets and stepped ranges do not occur in what its tools print and are left out.

use std::collections::BTreeSet;

/// No cluster file means more hosts than this; a longer list is a mistake or an attack.
pub const MAX_NAMES: u64 = 100_000;

/// What is wrong with a host list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostlistError {
    #[error("a host name is empty")]
    Empty,
    #[error("`{0}` has a bracket that is not closed, not opened or inside another")]
    Brackets(String),
    #[error("`{0}` is no number or range like `3` or `01-16`")]
    Range(String),
    #[error("`{0}` runs backwards")]
    Backwards(String),
    #[error("it means more than {MAX_NAMES} hosts")]
    TooMany,
    #[error("`{0}` occurs twice")]
    Duplicate(String),
    #[error("`{0}` is no host name (letters, digits, `-`, `_` and `.`)")]
    Name(String),
}

/// Names of a host list, in the order written. Every name occurs once.
pub fn expand(list: &str) -> Result<Vec<String>, HostlistError> {
    let hosts: Vec<Vec<Part>> = split(list)?.into_iter().map(parts).collect::<Result<_, _>>()?;
    let total = hosts.iter().map(|host| count(host)).fold(0_u64, u64::saturating_add);
    if total > MAX_NAMES {
        return Err(HostlistError::TooMany);
    }
    let mut names = Vec::new();
    for host in &hosts {
        combine(host, String::new(), &mut names);
    }
    let mut seen = BTreeSet::new();
    for name in &names {
        if !seen.insert(name) {
            return Err(HostlistError::Duplicate(name.clone()));
        }
    }
    Ok(names)
}

/// The list that means these names: numbers behind equal text become ranges. Names keep the order of their first.
pub fn compress(names: &[String]) -> String {
    // (text before the last number, text behind it) and its numbers, in order of appearance.
    let mut groups: Vec<((&str, &str), Digits)> = Vec::new();
    for name in names {
        let end = name.rfind(|c: char| c.is_ascii_digit()).map_or(0, |at| at + 1);
        let start = name[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
        let digits = &name[start..end];
        let number = digits.parse::<u64>().ok().filter(|_| digits.len() <= 18);
        // A name without a number that can be counted stands for itself.
        let (key, number) = match number {
            Some(number) => ((&name[..start], &name[end..]), Some((digits.len(), number))),
            None => ((name.as_str(), ""), None),
        };
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, numbers)) => numbers.extend(number),
            None => groups.push((key, number.into_iter().collect())),
        }
    }
    let lists: Vec<String> =
        groups.into_iter().map(|((before, behind), numbers)| list(before, behind, &numbers)).collect();
    lists.join(",")
}

/// Numbers with how many digits each is written.
type Digits = BTreeSet<(usize, u64)>;

fn list(before: &str, behind: &str, numbers: &Digits) -> String {
    let mut ranges: Vec<(usize, u64, u64)> = Vec::new();
    for &(width, number) in numbers {
        match ranges.last_mut() {
            // `9` and `10` follow each other although the one has fewer digits; `09` and `010` do not.
            Some((first_width, first, last))
                if *last + 1 == number
                    && (*first_width == width || (is_plain(*first, *first_width) && is_plain(number, width))) =>
            {
                *last = number;
            }
            _ => ranges.push((width, number, number)),
        }
    }
    let text = |&(width, first, last): &(usize, u64, u64)| match first == last {
        true => format!("{first:0width$}"),
        false => format!("{first:0width$}-{last:0width$}"),
    };
    match &ranges[..] {
        [] => before.to_owned(),
        [one] if one.1 == one.2 => format!("{before}{}{behind}", text(one)),
        _ => format!("{before}[{}]{behind}", ranges.iter().map(text).collect::<Vec<_>>().join(",")),
    }
}

/// Whether a number of `width` digits is written without zeros in front.
fn is_plain(number: u64, width: usize) -> bool {
    number.to_string().len() == width
}

/// A piece of a host: fixed text, or the numbers of one bracket.
enum Part<'a> {
    Text(&'a str),
    Numbers(Vec<Numbers>),
}

struct Numbers {
    first: u64,
    last: u64,
    /// Digits of the first number as written: `01-10` pads to two.
    width: usize,
}

/// Cuts at commas outside brackets.
fn split(list: &str) -> Result<Vec<&str>, HostlistError> {
    let (mut hosts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'[' | b']' if inside == (byte == b'[') => return Err(HostlistError::Brackets(list.to_owned())),
            b'[' | b']' => inside = !inside,
            b',' if !inside => {
                hosts.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(HostlistError::Brackets(list.to_owned()));
    }
    hosts.push(list[start..].trim());
    if hosts.contains(&"") { Err(HostlistError::Empty) } else { Ok(hosts) }
}

fn parts(host: &str) -> Result<Vec<Part<'_>>, HostlistError> {
    // Brackets are balanced and not nested here, so pieces alternate: text, numbers, text, ...
    let mut parts = Vec::new();
    for (index, piece) in host.split(['[', ']']).enumerate() {
        if index % 2 == 1 {
            parts.push(Part::Numbers(piece.split(',').map(numbers).collect::<Result<_, _>>()?));
        } else if piece.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            parts.push(Part::Text(piece));
        } else {
            return Err(HostlistError::Name(host.to_owned()));
        }
    }
    // A leading `-` would read as an option on a command line.
    if host.starts_with('-') { Err(HostlistError::Name(host.to_owned())) } else { Ok(parts) }
}

fn numbers(text: &str) -> Result<Numbers, HostlistError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| plain).ok_or_else(|| HostlistError::Range(text.to_owned()))
    };
    let numbers = Numbers { first: number(first)?, last: number(last)?, width: first.len() };
    if numbers.width > 18 {
        return Err(HostlistError::Range(text.to_owned()));
    }
    if numbers.first > numbers.last { Err(HostlistError::Backwards(text.to_owned())) } else { Ok(numbers) }
}

fn count(host: &[Part]) -> u64 {
    host.iter().fold(1, |total: u64, part| match part {
        Part::Text(_) => total,
        Part::Numbers(ranges) => {
            let sum = ranges.iter().map(|range| (range.last - range.first).saturating_add(1));
            total.saturating_mul(sum.fold(0, u64::saturating_add))
        }
    })
}

fn combine(parts: &[Part], prefix: String, names: &mut Vec<String>) {
    match parts.split_first() {
        None => names.push(prefix),
        Some((Part::Text(text), rest)) => combine(rest, prefix + text, names),
        Some((Part::Numbers(ranges), rest)) => {
            for range in ranges {
                for number in range.first..=range.last {
                    combine(rest, format!("{prefix}{number:0width$}", width = range.width), names);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_padding_and_several_brackets() {
        assert_eq!(
            expand("h100n[1-2,05-08],gpu3").unwrap().join(" "),
            "h100n1 h100n2 h100n05 h100n06 h100n07 h100n08 gpu3"
        );
        assert_eq!(expand("r[1-2]n[09-10]").unwrap().join(" "), "r1n09 r1n10 r2n09 r2n10");
        assert_eq!(expand("n[098-101]").unwrap().join(" "), "n098 n099 n100 n101");
        assert_eq!(expand("a-1.site_x, b").unwrap(), ["a-1.site_x", "b"]);
    }

    #[test]
    fn compressed_lists_mean_the_same_names() {
        for (names, list) in [
            (vec!["n1", "n2", "n3", "n7"], "n[1-3,7]"),
            (vec!["n08", "n09", "n10"], "n[08-10]"),
            (vec!["n9", "n10", "n11"], "n[9-11]"),
            (vec!["login", "r1n1", "r1n2", "r2n1", "gpu3"], "login,r1n[1-2],r2n1,gpu3"),
            (vec!["n1.site", "n2.site"], "n[1-2].site"),
            (vec!["7", "8"], "[7-8]"),
            (vec![], ""),
        ] {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            assert_eq!(compress(&names), list);
            assert!(names.is_empty() || expand(list).unwrap() == names, "{list}");
        }
    }

    #[test]
    fn bombs_are_refused_without_being_expanded() {
        for bomb in
            ["a[1-999999999]", "a[0-9][0-9][0-9][0-9][0-9][0-9]", "a[0-18446744073709551615]", "a[1-99999],b[1-2]"]
        {
            assert!(expand(bomb).is_err(), "{bomb}");
        }
        assert_eq!(expand("a[1-999999999]"), Err(HostlistError::TooMany));
        assert_eq!(expand("a[1-100000]").unwrap().len(), 100_000);
    }

    #[test]
    fn malformed_lists_say_what_is_wrong() {
        for bad in [
            "", ",", "a,", "a[", "a]", "a[1", "a[[1]]", "a[1]]", "a[]", "a[x]", "a[1-]", "a[-1]", "a[1-2-3]", "a b",
            "$(x)", "-a",
        ] {
            assert!(expand(bad).is_err(), "{bad}");
        }
        assert_eq!(expand("a[3-1]"), Err(HostlistError::Backwards("3-1".into())));
        assert_eq!(expand("a[1-3],a2"), Err(HostlistError::Duplicate("a2".into())));
    }
}
