//! Which device a row is of when no column says so. nvidia-smi writes one row a device, in order, milliseconds apart, and
//! then waits for the interval: a pause starts a new sample, and the place in the sample is the device.
//!
//! A stalled machine pauses inside a sample too: short samples that together make a whole one are one. Rows of a sample that
//! stays short belong to nobody, except at the end of the log, where the later devices are what was cut off.

use crate::domain::Timestamp;
use crate::units::Seconds;

/// The samples cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

/// The share of rows in samples that may be short or long before nothing is sure any more.
const TOLERATED: f64 = 0.1;

/// Asking a device takes milliseconds, and no loop of nvidia-smi is that fast: rows nearer than this are of one sample.
const FASTEST_LOOP: Seconds = Seconds(0.02);

/// As many devices as one node has at most, with room.
const MOST_DEVICES: usize = 32;

/// The place in its sample of each row.
pub fn places(times: &[Timestamp]) -> Result<Vec<Option<u32>>, Unclear> {
    let distances: Vec<f64> = times.windows(2).map(|pair| pair[1].since(pair[0]).0.abs()).collect();
    if times.len() <= MOST_DEVICES && distances.iter().all(|distance| *distance < FASTEST_LOOP.0) {
        return Ok((0..times.len()).map(|place| u32::try_from(place).ok()).collect());
    }
    let mut sorted = distances.clone();
    sorted.sort_by(f64::total_cmp);
    // One device last: rows of many devices look like quick rows of one.
    let lengths = |devices| lengths(&distances, &sorted, devices).map(|lengths| (devices, lengths));
    let (devices, lengths) = (2..=MOST_DEVICES).find_map(lengths).or_else(|| lengths(1)).ok_or(Unclear)?;
    let mut places = vec![None; times.len()];
    let mut name = |from: usize, to: usize| {
        for (at, place) in places[from..to].iter_mut().enumerate() {
            *place = u32::try_from(at % devices).ok();
        }
    };
    // Rows since the last whole sample.
    let (mut from, mut to) = (0, 0);
    for length in lengths {
        let before = to;
        to += length;
        if length % devices == 0 || to - from == devices {
            name(if length % devices == 0 { before } else { from }, to);
            from = to;
        } else if to - from > devices {
            from = before;
        }
    }
    if to - from < devices {
        name(from, to);
    }
    Ok(places)
}

/// Rows in each sample, if there are so many devices: then every so many rows comes the loop's pause, and what is longer
/// than half of it starts a sample. `None` if the samples found that way are not mostly of that many rows.
fn lengths(distances: &[f64], sorted: &[f64], devices: usize) -> Option<Vec<usize>> {
    let pauses = (sorted.len() / devices).max(1);
    let pause = 0.5 * sorted.get(sorted.len().checked_sub(1 + pauses / 2)?)?;
    let mut lengths = Vec::new();
    let mut length = 1;
    for distance in distances {
        if *distance > pause {
            lengths.push(length);
            length = 0;
        }
        length += 1;
    }
    lengths.push(length);
    let odd: usize = lengths.iter().filter(|length| **length != devices).sum();
    // The last sample may be cut, which says nothing about the others.
    let last = lengths.last().filter(|length| **length < devices).copied().unwrap_or(0);
    let inside = &sorted[..sorted.partition_point(|distance| *distance <= pause)];
    let is_quick = devices == 1 || inside.get(inside.len() / 2).is_some_and(|middle| *middle < FASTEST_LOOP.0);
    let rows = (distances.len() + 1) as f64;
    (most_frequent(&lengths) == devices && is_quick && (odd - last) as f64 <= TOLERATED * rows).then_some(lengths)
}

/// The length of most samples; of equally many, the larger.
fn most_frequent(lengths: &[usize]) -> usize {
    let mut counts = std::collections::BTreeMap::new();
    for length in lengths {
        *counts.entry(*length).or_insert(0) += 1;
    }
    counts.into_iter().max_by_key(|(length, count)| (*count, *length)).map_or(1, |(length, _)| length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: &[i64]) -> Vec<Timestamp> {
        millis.iter().map(|millis| Timestamp::from_micros(millis * 1000).unwrap()).collect()
    }

    /// Place of each row as a digit, `-` for none.
    fn read(millis: &[i64]) -> String {
        let digit = |place: Option<u32>| place.map_or('-', |place| char::from_digit(place, 36).unwrap());
        places(&at(millis)).map_or_else(|_| "?".to_owned(), |places| places.into_iter().map(digit).collect())
    }

    /// `samples` samples of three devices, 100 ms apart.
    fn three(samples: i64) -> Vec<i64> {
        (0..samples).flat_map(|sample| [0, 5, 9].map(|offset| sample * 110 + offset)).collect()
    }

    #[test]
    fn rows_a_pause_apart_are_samples() {
        assert_eq!(read(&three(3)), "012012012");
        assert_eq!(read(&[0, 104, 210, 318, 700, 803]), "000000");
        assert_eq!(read(&[0, 4, 8, 12]), "0123", "one sample");
        assert_eq!((read(&[]), read(&[7])), (String::new(), "0".to_owned()));
    }

    #[test]
    fn stalls_inside_a_sample_and_a_cut_end_are_seen() {
        let mut rows = three(20);
        rows.extend([2200, 2270, 2275, 2390, 2395]);
        assert_eq!(&read(&rows)[60..], "01201");
    }

    #[test]
    fn rows_of_a_short_sample_are_nobodys() {
        let mut rows = three(41);
        rows.remove(31); // in the middle of sample 10
        let read = read(&rows);
        assert_eq!((&read[..30], &read[30..32], &read[32..35]), ("012".repeat(10).as_str(), "--", "012"));
    }

    #[test]
    fn what_has_no_order_is_refused() {
        let millis: Vec<i64> = (0..100).map(|row| row * 100 + (row * row * 7919) % 49).collect();
        assert_eq!(read(&millis), "0".repeat(100), "uneven, yet one device");
        let pauses = [three(2), three(2).into_iter().map(|at| at + 9000).collect()].concat();
        assert_eq!(read(&pauses), "012".repeat(4), "a long pause between samples");
        let mut mixed = three(20);
        mixed.extend((0..30).map(|row| 5000 + row * 110));
        assert_eq!(read(&mixed), "?");
    }
}
