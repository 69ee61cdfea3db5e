//! A part of all sets of open ranges: some closed, at least one open of each of some groups, some with so many instances.

use std::collections::BTreeMap;

use crate::plan::budget::Sites;

/// How far a group may be from being open or closed to count as either.
const WHOLE: f64 = 0.02;

/// Ranges that are closed, and groups of which one is open. Any two groups are disjoint, or one holds the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Restriction {
    closed: Vec<bool>,
    /// Smaller groups before those that hold them.
    opened: Vec<Vec<usize>>,
    /// By range: instances it has at least where it is open, and at most.
    counts: Vec<(f64, f64)>,
}

/// What to divide plans by.
#[derive(Clone, Debug, PartialEq)]
pub enum Branch {
    /// Whether some range of a group is open.
    Open(Vec<usize>),
    /// Whether a range has more instances than these.
    More(usize, f64),
}

impl Restriction {
    /// Nothing but what all plans keep: where a floor of the mean binds, some range is as accurate as the highest one.
    pub fn none(sites: &Sites) -> Self {
        let problem = sites.problem;
        let floors = problem.floor_points.iter().zip(&problem.requests_of_job).enumerate();
        let floors = floors.filter_map(|(job, (points, &count))| Some((job, (*points)? / count.max(1) as f64)));
        let opened = floors.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(job, floor)| {
            let accurate = |&m: &usize| sites.accuracy[job][m] >= floor * (1.0 - 1e-9);
            (0..sites.ranges.count()).filter(accurate).collect()
        });
        let ranges = sites.ranges.count();
        Self {
            closed: vec![false; ranges],
            opened: opened.into_iter().collect(),
            counts: vec![(1.0, f64::INFINITY); ranges],
        }
    }

    /// The two parts that a branch divides this into.
    pub fn divide(&self, branch: &Branch) -> [Self; 2] {
        let (mut yes, mut no) = (self.clone(), self.clone());
        match branch {
            Branch::Open(group) => {
                yes.open(group);
                group.iter().for_each(|&m| no.closed[m] = true);
            }
            &Branch::More(m, count) => {
                yes.open(&[m]);
                yes.counts[m].0 = count + 1.0;
                no.counts[m].1 = count;
            }
        }
        [yes, no]
    }

    /// Whether a group is a new one, and overlaps none of the others by a part of each.
    fn may_open(&self, group: &[usize]) -> bool {
        self.opened.iter().all(|other| {
            if other == group {
                return false;
            }
            let shared = group.iter().filter(|m| other.contains(m)).count();
            shared == 0 || shared == group.len() || shared == other.len()
        })
    }

    fn open(&mut self, group: &[usize]) {
        if !self.opened.iter().any(|known| known == group) {
            self.opened.push(group.to_vec());
            self.opened.sort_by_key(Vec::len);
        }
    }

    /// Instances of a range at least where it is open, and at most.
    pub(super) fn counts(&self, range: usize) -> (f64, f64) {
        self.counts[range]
    }

    /// Closes the ranges that would raise a bound of `bound`, of which these starts are unpaid, to `most` or more.
    pub fn close_useless(&mut self, bound: f64, unpaid: &[f64], most: f64) {
        let cheapest = self.cheapest(unpaid);
        let forced: f64 =
            cheapest.iter().zip(unpaid).filter(|(open, _)| **open).map(|(_, &unpaid)| unpaid.max(0.0)).sum();
        for (closed, &unpaid) in self.closed.iter_mut().zip(unpaid) {
            *closed |= unpaid > 0.0 && bound - forced + unpaid >= most;
        }
    }

    pub fn is_closed(&self, range: usize) -> bool {
        self.closed[range]
    }

    /// The ranges open at least cost, given what nothing pays for of their starts.
    pub(super) fn cheapest(&self, unpaid: &[f64]) -> Vec<bool> {
        let mut open: Vec<bool> =
            unpaid.iter().zip(&self.closed).map(|(unpaid, closed)| !closed && *unpaid < 0.0).collect();
        for group in &self.opened {
            if group.iter().any(|&m| open[m]) {
                continue;
            }
            let left = group.iter().copied().filter(|&m| !self.closed[m]);
            left.min_by(|&a, &b| unpaid[a].total_cmp(&unpaid[b])).into_iter().for_each(|m| open[m] = true);
        }
        open
    }

    /// Whether every request has a range left, every group one too, and every floor can be reached.
    pub(super) fn leaves_all_servable(&self, sites: &Sites) -> bool {
        if self.opened.iter().any(|group| group.iter().all(|&m| self.closed[m])) {
            return false;
        }
        let mut points = vec![0.0; sites.problem.workload.jobs.len()];
        for (c, offers) in sites.offers.iter().enumerate() {
            let job = sites.job(c);
            let left = offers.iter().filter(|offer| !self.closed[offer.range as usize]);
            let best = left.map(|offer| sites.accuracy[job][offer.range as usize]).reduce(f64::max);
            let Some(best) = best else { return false };
            points[job] += sites.count(c) * best;
        }
        let mut floors = sites.problem.floor_points.iter().zip(points);
        floors.all(|(floor, points)| floor.is_none_or(|floor| points >= floor * (1.0 - 1e-9)))
    }

    /// What to branch on, where ranges are open this far and have so many instances: whether all ranges of a model, of a
    /// deployment, or one are closed, the one whose starts are dearest by how far it is from open or closed; or else how many
    /// instances a range has. `None` if nothing is divided.
    pub fn branch(&self, sites: &Sites, open: &[f64], instances: &[f64]) -> Option<Branch> {
        let (mut models, mut deployments) = (BTreeMap::new(), BTreeMap::new());
        for m in (0..open.len()).filter(|&m| !self.closed[m]) {
            let v = sites.ranges.deployment(m);
            models.entry(sites.problem.options.model[v]).or_insert_with(Vec::new).push(m);
            deployments.entry(v).or_insert_with(Vec::new).push(m);
        }
        let single = (0..open.len()).filter(|&m| !self.closed[m]).map(|m| vec![m]);
        let levels: [Vec<Vec<usize>>; 3] =
            [models.into_values().collect(), deployments.into_values().collect(), single.collect()];
        let weight = |group: &Vec<usize>| {
            let share: f64 = group.iter().map(|&m| open[m]).sum();
            let start = group.iter().map(|&m| sites.start_energy(m)).fold(f64::INFINITY, f64::min);
            let divided = (WHOLE..1.0 - WHOLE).contains(&share) && self.may_open(group);
            divided.then_some(start * share.min(1.0 - share))
        };
        let dearest = levels.into_iter().find_map(|groups| {
            let weighted = groups.into_iter().filter_map(|group| Some((weight(&group)?, group)));
            weighted.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1))).map(|(_, group)| group)
        });
        let count = || {
            let distance = |m: usize| (instances[m] - instances[m].round()).abs() * sites.start_energy(m);
            let divided = |&m: &usize| {
                let (least, most) = self.counts[m];
                instances[m] > least && instances[m] < most && (instances[m] - instances[m].round()).abs() > WHOLE
            };
            let most = (0..open.len()).filter(|&m| !self.closed[m]).filter(divided);
            let m = most.max_by(|&a, &b| distance(a).total_cmp(&distance(b)).then(b.cmp(&a)))?;
            Some(Branch::More(m, instances[m].floor()))
        };
        dearest.map(Branch::Open).or_else(count)
    }
}
