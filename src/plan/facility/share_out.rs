//! Given instances, for as long as they cost least: a linear programme over cells.
//!
//! With x of each cell and range, y the seconds each instance serves, tau those the node is on, and A, k, T as in `facility`:
//!
//! ```text
//! min  B tau + sum e x    s.t.  sum_m x = 1 of each cell,
//!      sum T x <= sum y of the instances of each range, which serve no fewer and no more requests than it has,
//!      sum (A + y) <= tau of instances that follow each other, sum k (A + y) <= D tau,   floors
//! ```
//!
//! Where instances do not fit side by side, it is solved first as if any device-seconds did; then some follow each other.

use super::{Choice, Instances};
use crate::plan::PlanError;
use crate::plan::assign::next_in_turn;
use crate::plan::budget::{Offer, Sites};
use crate::plan::lp::{ColId, Lp, Outcome, RowId};

/// Shares below this are the solver's tolerance.
const LEAST_SHARE: f64 = 1e-6;

/// Requests shared out among instances.
#[derive(Clone, Debug)]
pub struct Shared {
    pub instances: Instances,
    /// Joules of being on, of starts and of requests.
    pub cost: f64,
    /// How long the node is on.
    pub seconds: f64,
    /// How long each instance is there.
    lives: Vec<f64>,
    /// By cell: (range, share).
    shares: Vec<Vec<(usize, f64)>>,
    /// What a request of each cell costs more, a device-second, and a percent point, by job.
    pub(super) levels: Vec<f64>,
    pub(super) device_second: f64,
    pub(super) points: Vec<f64>,
}

/// Instances that follow each other, by number.
type Lane = Vec<usize>;

/// The least cost within the budget of `sites`; `power`: of being on. `None` if the instances have no room for all, or
/// `time` seconds do not do.
pub fn share_out(
    sites: &Sites,
    instances: &[(usize, usize)],
    power: f64,
    time: f64,
) -> Result<Option<Shared>, PlanError> {
    let each: Vec<usize> = instances.iter().flat_map(|&(m, count)| vec![m; count]).collect();
    let side_by_side: Vec<Lane> = (0..each.len()).map(|j| vec![j]).collect();
    let Some(shared) = over_lanes(sites, instances, &each, &side_by_side, power, time)? else { return Ok(None) };
    let wanted: f64 = each.iter().map(|&m| sites.devices(m)).sum();
    if wanted <= sites.all_devices() {
        return Ok(Some(shared));
    }
    over_lanes(sites, instances, &each, &lanes(sites, &each, &shared.lives), power, time)
}

/// What follows what on each device: the widest first and of these the longest, each on devices that have least to do.
fn lanes(sites: &Sites, each: &[usize], lives: &[f64]) -> Vec<Lane> {
    let mut order: Vec<usize> = (0..each.len()).collect();
    let devices = |j: usize| sites.devices(each[j]) as usize;
    order.sort_by(|&a, &b| devices(b).cmp(&devices(a)).then(lives[b].total_cmp(&lives[a])).then(a.cmp(&b)));
    let mut busy = vec![0.0f64; sites.all_devices() as usize];
    let mut lanes: Vec<Lane> = vec![Vec::new(); busy.len()];
    for j in order {
        let blocks = (0..busy.len()).step_by(devices(j)).filter(|first| first + devices(j) <= busy.len());
        let starts = blocks.map(|first| (busy[first..first + devices(j)].iter().copied().fold(0.0, f64::max), first));
        let Some((start, first)) = starts.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))) else { continue };
        for device in first..first + devices(j) {
            busy[device] = start + lives[j];
            lanes[device].push(j);
        }
    }
    lanes.sort_unstable();
    lanes.dedup();
    lanes
}

/// `each`: the range of each instance.
fn over_lanes(
    sites: &Sites,
    instances: &[(usize, usize)],
    each: &[usize],
    lanes: &[Lane],
    power: f64,
    time: f64,
) -> Result<Option<Shared>, PlanError> {
    let Sites { problem, ranges, offers, budget, .. } = sites;
    let mut place: Vec<Option<usize>> = vec![None; ranges.count()];
    instances.iter().enumerate().for_each(|(index, &(m, _))| place[m] = Some(index));
    let open = |c: usize| offers[c].iter().filter_map(|offer| Some((place[offer.range as usize]?, offer)));
    let least = |c: usize| open(c).map(|(_, offer)| offer.energy).fold(f64::INFINITY, f64::min);
    let all_least: f64 = (0..offers.len()).map(|c| sites.count(c) * least(c)).sum();
    if !all_least.is_finite() {
        return Ok(None);
    }
    // Joules in units of what a cell costs.
    let unit = (all_least / offers.len().max(1) as f64).abs().max(1.0);
    let free = (f64::NEG_INFINITY, f64::INFINITY);
    let mut lp = Lp::new();
    let mut work = Vec::new();
    let mut served = Vec::new();
    for &(m, count) in instances {
        let most = ranges.most(m).map_or(free.1, |most| (count * most) as f64);
        work.push(lp.add_row(free.0, 0.0, &[])?);
        served.push(lp.add_row((count * ranges.fewest(m)) as f64, most, &[])?);
    }
    let loads = |lane: &Lane| lane.iter().map(|&j| sites.load(each[j])).sum::<f64>();
    let ends = lanes.iter().map(|lane| lp.add_row(free.0, -loads(lane), &[])).collect::<Result<Vec<RowId>, _>>()?;
    let loaded: f64 = each.iter().map(|&m| sites.devices(m) * sites.load(m)).sum();
    let all = lp.add_row(free.0, -loaded, &[])?;
    let floors = problem.floor_points.iter();
    let floors = floors.map(|floor| floor.map(|floor| lp.add_row(floor, free.1, &[])).transpose());
    let floors = floors.collect::<Result<Vec<Option<RowId>>, _>>()?;
    let on = if power > 0.0 { (0.0, *budget) } else { (*budget, *budget) };
    let of_all: Vec<(RowId, f64)> = ends.iter().map(|&end| (end, -1.0)).chain([(all, -sites.all_devices())]).collect();
    let seconds = lp.add_column(power / unit, on, false, &of_all)?;
    let mut serving = Vec::with_capacity(each.len());
    for (j, &m) in each.iter().enumerate() {
        let own = lanes.iter().zip(&ends).filter(|(lane, _)| lane.contains(&j)).map(|(_, &end)| (end, 1.0));
        let work = place[m].map(|index| (work[index], -1.0));
        let entries: Vec<(RowId, f64)> = own.chain([(all, sites.devices(m))]).chain(work).collect();
        serving.push(lp.add_column(0.0, (0.0, free.1), false, &entries)?);
    }
    let mut cells: Vec<RowId> = Vec::with_capacity(offers.len());
    let mut columns: Vec<Vec<(usize, ColId)>> = Vec::with_capacity(offers.len());
    for c in 0..offers.len() {
        let whole = lp.add_row(1.0, 1.0, &[])?;
        let (count, job) = (sites.count(c), sites.job(c));
        let mut of_cell = Vec::new();
        for (index, offer) in open(c) {
            let m = offer.range as usize;
            let floor = floors[job].map(|floor| (floor, count * sites.accuracy[job][m]));
            let entries = [(whole, 1.0), (work[index], count * offer.seconds), (served[index], count)];
            let entries: Vec<(RowId, f64)> = entries.into_iter().chain(floor).collect();
            of_cell.push((m, lp.add_column(count * offer.energy / unit, (0.0, 1.0), false, &entries)?));
        }
        cells.push(whole);
        columns.push(of_cell);
    }
    let solution = lp.solve(time, 0.0)?;
    if solution.outcome != Outcome::Optimal {
        return Ok(None);
    }
    let value = |column: ColId| solution.columns[column.0];
    let share = |&(m, column): &(usize, ColId)| Some((m, value(column))).filter(|(_, share)| *share > LEAST_SHARE);
    let shares = columns.iter().map(|columns| columns.iter().filter_map(share).collect()).collect();
    let dual = |row: RowId| solution.row_duals[row.0] * unit;
    let starts: f64 = each.iter().map(|&m| sites.start_energy(m)).sum();
    // What a second of all lanes costs, spread over all devices.
    let lane_seconds: f64 = ends.iter().map(|&end| -dual(end)).sum();
    Ok(Some(Shared {
        instances: instances.to_vec(),
        cost: solution.objective * unit + starts,
        seconds: value(seconds),
        lives: each.iter().zip(serving).map(|(&m, column)| sites.load(m) + value(column)).collect(),
        shares,
        levels: cells.iter().enumerate().map(|(c, &row)| dual(row) / sites.count(c)).collect(),
        device_second: -dual(all) + lane_seconds / sites.all_devices(),
        points: floors.iter().map(|floor| floor.map_or(0.0, dual)).collect(),
    }))
}

impl Shared {
    /// A deployment for each request, in these shares; `None` if some request is too long for all instances.
    pub fn choice(&self, sites: &Sites) -> Option<Choice> {
        let mut assignment = vec![0; sites.problem.workload.requests.len()];
        for (c, shares) in self.shares.iter().enumerate() {
            let mut owed: Vec<(usize, f64, f64)> = shares.iter().map(|&(m, share)| (m, share, 0.0)).collect();
            for &request in sites.members(c) {
                let offer = |m: usize| sites.offer(m, request as usize);
                let range = match next_in_turn(&mut owed, |m| offer(m).is_some()) {
                    Some(range) => range,
                    // Too long for where others of its cell go.
                    None => {
                        let offers = self.instances.iter().filter_map(|&(m, _)| offer(m));
                        let cheapest: Offer = offers.min_by(|a, b| a.energy.total_cmp(&b.energy))?;
                        cheapest.range as usize
                    }
                };
                assignment[request as usize] = sites.ranges.deployment(range) as u16;
            }
        }
        Some(Choice { instances: self.instances.clone(), assignment })
    }
}
