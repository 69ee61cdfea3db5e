//! How many instances of a deployment its requests need, and how long each must live.
//!
//! Work is a staircase: seconds due by each deadline. Full instances run to the last deadline; what is left over becomes
//! one shorter piece, which packs into gaps that equal shares would not fit.

use super::windows::Window;
use crate::domain::Steps;

/// An instance to be placed: `devices` devices of one node for `duration` seconds, starting in `earliest..=latest`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    pub deployment: usize,
    pub devices: u32,
    pub earliest: f64,
    pub latest: f64,
    pub duration: f64,
    /// Load time inside the duration: what a second part of a split piece pays again.
    pub load: f64,
    /// Shortest duration that is of use: load and the longest request.
    pub minimum: f64,
    /// What it draws on average and at most, beyond the idle power of its devices.
    pub watts: f64,
    pub peak: f64,
}

/// Seconds of work due by a deadline (cumulative), deadlines ascending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due {
    pub deadline: f64,
    pub work: f64,
    /// Earliest release among the work that falls due here.
    pub release: f64,
}

/// What the pieces are for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Need<'a> {
    pub deployment: usize,
    pub devices: u32,
    /// Wake of the pool.
    pub earliest: f64,
    /// Seconds of each instance that serve no request.
    pub load: f64,
    /// Longest time one of the requests holds its slot.
    pub longest: f64,
    /// Instances that can exist at once.
    pub most: usize,
    /// If given, at least this many instances of equal length, to be done sooner.
    pub least: Option<usize>,
    /// Mean and peak draw of an instance, as in `Piece`.
    pub watts: f64,
    pub peak: f64,
    /// Whether a second is dearer at one time than at another, so that sooner is not as good.
    pub weights: Option<&'a Steps>,
}

/// `dues` by ascending deadline with cumulative work. `None` if even `most` instances are not enough.
pub fn pieces(need: &Need, dues: &[Due]) -> Option<Vec<Piece>> {
    let &Need { deployment, devices, earliest, load, longest, most, least, watts, peak, .. } = need;
    let last = dues.last()?;
    let release = dues.iter().map(|due| due.release).fold(f64::INFINITY, f64::min);
    let start = earliest.max(release - load);
    let open = start + load;
    let mut count = 1usize;
    for (index, due) in dues.iter().enumerate() {
        let room = due.deadline - open;
        if room <= 0.0 {
            return None;
        }
        count = count.max(needed(due.work, room));
        // Work released later has less room: what falls due here and was released after `open`.
        let before = if index == 0 { 0.0 } else { dues[index - 1].work };
        let late_room = due.deadline - due.release.max(open);
        if late_room <= 0.0 {
            return None;
        }
        count = count.max(needed(due.work - before, late_room));
    }
    if count > most {
        return None;
    }
    if let Some(least) = least {
        count = count.max(least.min(most));
        let busy_until = dues.iter().map(|due| due.release).fold(open, f64::max);
        let duration = (last.work / count as f64).max(busy_until - open).max(longest) + open - start;
        let latest = latest_of_equals(start, load, duration, count, dues);
        let minimum = load + longest;
        let piece = Piece { deployment, devices, earliest: start, latest, duration, load, minimum, watts, peak };
        return Some(vec![piece; count]);
    }
    // Shorten instances from the last one while every deadline still holds.
    let mut ends = vec![last.deadline; count];
    for shortened in (0..count).rev() {
        let others = |d: f64| -> f64 {
            ends.iter().enumerate().filter(|(j, _)| *j != shortened).map(|(_, end)| (end.min(d) - open).max(0.0)).sum()
        };
        let need = dues.iter().map(|due| (due.work - others(due.deadline)).max(0.0)).fold(0.0, f64::max);
        let busy_until = dues.iter().map(|due| due.release).fold(open, f64::max);
        let end = if need > 0.0 { open + need.max(longest).max(busy_until - open) } else { open };
        if end >= ends[shortened] {
            break;
        }
        ends[shortened] = end;
    }
    ends.retain(|&end| end > open);
    let pieces = (0..ends.len()).map(|j| Piece {
        deployment,
        devices,
        earliest: start,
        latest: if j + 1 == ends.len() { latest_start(start, load, j, &ends, dues) } else { start },
        duration: ends[j] - start,
        load,
        minimum: load + longest,
        watts,
        peak,
    });
    Some(pieces.collect())
}

/// Pieces that follow what the relaxation loads in each window: `loaded[w]` seconds of instances in `windows[w]`, raised
/// where the work due by then is more. Levels of the staircase become instances; one that fills only part of its first
/// or last window starts late or ends early.
pub fn staircase(need: &Need, windows: &[Window], loaded: &[f64], dues: &[Due]) -> Vec<Piece> {
    let loaded = raised(need, windows, loaded, dues);
    let heights: Vec<f64> = windows
        .iter()
        .zip(&loaded)
        .map(|(window, seconds)| {
            let room = (window.end - window.start.max(need.earliest)).max(1e-9);
            (seconds / room).min(need.most as f64)
        })
        .collect();
    runs(windows, need.earliest, &heights).iter().map(|run| run.piece(need)).collect()
}

/// One piece for each run of windows in which an instance is alive; where that is only for part of a window, the run begins
/// or ends within it. Left out is what is too short to be of use.
pub fn whole(need: &Need, windows: &[Window], instances: &[f64]) -> Vec<Piece> {
    let runs = runs(windows, need.earliest, instances);
    runs.iter().filter(|run| run.seconds >= need.load + need.longest).map(|run| run.piece(need)).collect()
}

/// Windows that one level of a staircase fills, of the first and the last perhaps only a part.
struct Run {
    begin: f64,
    end: f64,
    seconds: f64,
    /// Latest start that fills the first window as far as it should be.
    latest: f64,
}

/// The runs of all levels of `heights`, by window.
fn runs(windows: &[Window], earliest: f64, heights: &[f64]) -> Vec<Run> {
    let levels = (heights.iter().copied().fold(0.0, f64::max) - LEAST_SHARE).ceil().max(0.0) as usize;
    let mut runs = Vec::new();
    for level in 0..levels {
        let share = |w: usize| match (heights[w] - level as f64).clamp(0.0, 1.0) {
            share if share < LEAST_SHARE => 0.0,
            share if share > 1.0 - LEAST_SHARE => 1.0,
            share => share,
        };
        let mut w = 0;
        while w < windows.len() {
            if share(w) == 0.0 {
                w += 1;
                continue;
            }
            let first = w;
            // A window that is filled only in part ends the run, unless it is the one it begins in.
            while w + 1 < windows.len() && share(w + 1) > 0.0 && (w == first || share(w) == 1.0) {
                w += 1;
            }
            let (begin, end) = (windows[first].start.max(earliest), windows[w].end);
            let in_first = share(first) * (windows[first].end - begin);
            let (latest, seconds) = if first == w {
                (end, in_first)
            } else {
                let start = windows[first].end - in_first;
                (start, windows[w].start + share(w) * windows[w].length() - start)
            };
            runs.push(Run { begin, end, seconds, latest });
            w += 1;
        }
    }
    runs
}

impl Run {
    /// The run as a piece, which is long enough to be of use where its windows are.
    fn piece(&self, need: &Need) -> Piece {
        let &Need { deployment, devices, load, watts, peak, .. } = need;
        let minimum = load + need.longest;
        let duration = self.seconds.max(minimum).min((self.end - self.begin).max(minimum));
        // Sooner is as good: the same seconds, and more of them before each deadline.
        let latest = self.latest.min(self.end - duration).max(self.begin);
        Piece { deployment, devices, earliest: self.begin, latest, duration, load, minimum, watts, peak }
    }
}

/// `loaded`, in proportion more up to each deadline by which the work due and the loads would not fit.
fn raised(need: &Need, windows: &[Window], loaded: &[f64], dues: &[Due]) -> Vec<f64> {
    let mut loaded = loaded.to_vec();
    for due in dues {
        let until = windows.partition_point(|window| window.end <= due.deadline * (1.0 + 1e-12));
        let have: f64 = loaded[..until].iter().sum();
        let instances = loaded[..until].iter().zip(windows).map(|(seconds, window)| seconds / window.length());
        let needed = due.work + need.load * instances.fold(0.0, f64::max).ceil().max(1.0);
        let have = if need.weights.is_some() && needed > have {
            have + filled(need, windows, &mut loaded[..until], needed - have)
        } else {
            have
        };
        if needed > have {
            if have > 0.0 {
                loaded[..until].iter_mut().for_each(|seconds| *seconds *= needed / have);
            } else if let Some(last) = until.checked_sub(1) {
                loaded[last] = needed;
            }
        }
    }
    loaded
}

/// Fills up instances that the relaxation uses in part, where a second is cheapest first, by up to `seconds`; returns how
/// many that gave.
fn filled(need: &Need, windows: &[Window], loaded: &mut [f64], seconds: f64) -> f64 {
    let mut order: Vec<usize> = (0..loaded.len()).filter(|&w| loaded[w] > 0.0).collect();
    let weight = |w: usize| need.weights.map_or(1.0, |weights| weights.least(windows[w].start, windows[w].end));
    order.sort_by(|&a, &b| weight(a).total_cmp(&weight(b)).then(a.cmp(&b)));
    let mut missing = seconds;
    for w in order {
        let room = (windows[w].end - windows[w].start.max(need.earliest)).max(1e-9);
        let whole = (loaded[w] / room - 1e-6).ceil() * room;
        let more = (whole - loaded[w]).clamp(0.0, missing);
        loaded[w] += more;
        missing -= more;
    }
    seconds - missing
}

/// Shares of a window below this are not worth an instance.
const LEAST_SHARE: f64 = 1e-3;

fn needed(work: f64, room: f64) -> usize {
    // Rounding must not ask for another instance.
    (work / room - 1e-9).ceil().max(1.0) as usize
}

/// Latest start of `count` equal pieces together that keeps every deadline.
fn latest_of_equals(start: f64, load: f64, duration: f64, count: usize, dues: &[Due]) -> f64 {
    let feasible = |shift: f64| {
        dues.iter().all(|due| {
            let opening = start + shift + load;
            let each = ((start + shift + duration).min(due.deadline) - opening).max(0.0);
            each * count as f64 >= due.work * (1.0 - 1e-12)
        })
    };
    start + largest_shift(dues.last().map_or(0.0, |due| due.deadline) - start - duration, feasible)
}

/// Latest start of piece `j` that keeps its duration and every deadline.
fn latest_start(start: f64, load: f64, j: usize, ends: &[f64], dues: &[Due]) -> f64 {
    let duration = ends[j] - start;
    let feasible = |shift: f64| {
        dues.iter().all(|due| {
            let others: f64 = ends
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != j)
                .map(|(_, end)| (end.min(due.deadline) - start - load).max(0.0))
                .sum();
            let opening = start + shift + load;
            let mine = ((start + shift + duration).min(due.deadline) - opening).max(0.0);
            others + mine >= due.work * (1.0 - 1e-12)
        })
    };
    start + largest_shift(dues.last().map_or(0.0, |due| due.deadline) - start - duration, feasible)
}

/// The largest shift up to `most` that is feasible, given that every smaller one is, too.
fn largest_shift(most: f64, feasible: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, most);
    if high <= 0.0 {
        return 0.0;
    }
    if feasible(high) {
        return high;
    }
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if feasible(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(most: usize) -> Need<'static> {
        let (watts, peak) = (100.0, 200.0);
        let (least, weights) = (None, None);
        Need { deployment: 0, devices: 1, earliest: 0.0, load: 10.0, longest: 1.0, most, least, watts, peak, weights }
    }

    #[test]
    fn work_beyond_whole_instances_becomes_one_shorter_piece_that_may_start_later() {
        let dues = [Due { deadline: 100.0, work: 225.0, release: 0.0 }];
        let pieces = pieces(&need(8), &dues).unwrap();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[0].duration, 100.0);
        assert!((pieces[2].duration - 55.0).abs() < 1e-6);
        assert!((pieces[2].latest - 45.0).abs() < 1e-6);
    }

    #[test]
    fn an_early_deadline_needs_more_instances_for_a_shorter_time() {
        let dues =
            [Due { deadline: 50.0, work: 75.0, release: 0.0 }, Due { deadline: 200.0, work: 100.0, release: 0.0 }];
        let pieces = pieces(&need(8), &dues).unwrap();
        assert_eq!(pieces.len(), 2);
        assert!(pieces[1].duration <= 50.0);
    }

    #[test]
    fn equal_instances_may_wait_for_cheaper_hours() {
        let weights = Steps::new(&[(0.0, 2.0), (60.0, 1.0)], 100.0).unwrap();
        let need = Need { least: Some(2), weights: Some(&weights), ..need(8) };
        let dues = [Due { deadline: 100.0, work: 40.0, release: 0.0 }];
        let pieces = pieces(&need, &dues).unwrap();
        assert_eq!((pieces.len(), pieces[0].earliest, pieces[0].latest, pieces[0].duration), (2, 0.0, 70.0, 30.0));
    }

    #[test]
    fn missing_seconds_fill_the_cheapest_windows_first() {
        let weights = Steps::new(&[(0.0, 3.0), (50.0, 1.0), (100.0, 2.0)], 150.0).unwrap();
        let windows = [0.0, 50.0, 100.0].map(|start| Window { start, end: start + 50.0 });
        let need = Need { weights: Some(&weights), ..need(8) };
        let mut loaded = [30.0, 40.0, 45.0];
        assert_eq!(filled(&need, &windows, &mut loaded, 12.0), 12.0);
        assert_eq!(loaded, [30.0, 50.0, 47.0]);
    }

    #[test]
    fn too_much_work_is_refused() {
        let dues = [Due { deadline: 50.0, work: 75.0, release: 0.0 }];
        assert_eq!(pieces(&need(1), &dues), None);
    }

    #[test]
    fn instances_for_part_of_a_window_begin_late_or_end_early() {
        let windows = [0.0, 100.0, 200.0].map(|start| Window { start, end: start + 100.0 });
        let need = need(8);
        let spans = |instances: &[f64]| -> Vec<(f64, f64, f64)> {
            whole(&need, &windows, instances)
                .iter()
                .map(|piece| (piece.earliest, piece.latest, piece.duration))
                .collect()
        };
        // Whole ones hold their devices for all their windows.
        assert_eq!(spans(&[2.0, 1.0, 0.0]), [(0.0, 0.0, 200.0), (0.0, 0.0, 100.0)]);
        // 0.4 of the first window until 0.5 of the second; 0.5 of one window whenever there is room in it.
        assert_eq!(spans(&[0.4, 0.5, 0.0]), [(0.0, 60.0, 90.0)]);
        assert_eq!(spans(&[0.0, 1.5, 1.0]), [(100.0, 100.0, 200.0), (100.0, 150.0, 50.0)]);
        // Not even a load and a request.
        assert!(spans(&[0.0, 0.1, 0.0]).is_empty());
        // Solvers are never exact.
        assert_eq!(spans(&[0.9999999, 1e-7, 0.0]), [(0.0, 0.0, 100.0)]);
    }
}
