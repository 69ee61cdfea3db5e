//! Rows (2b) to (2e), (3), (4), (6) of the relaxation: instances, starts, loads, nodes and wakes, without requests.
//!
//! Shared by the class problem and by the master problem of the bound. `c` is the net loaded time that may serve
//! requests: c + y <= a, and c <= S n, where S is all the work a deployment could ever be given. The last row is implied
//! for whole instances and makes a fraction of one as useless as it is.
//!
//! Row (2b) lets load time wait for windows where nobody wants the devices. But an instance loads before it serves: one
//! that starts in a window of length l and lives a seconds of it serves at most a - A of them, which is at most
//! (1 - A / l) a, and at most l times n of the window before live from earlier on and may serve throughout. Hence (2c).
//! Its load cannot wait beyond the time it takes, either: (2e), as a limit on what is still to be loaded, which states (2b),
//! too. And it holds its devices all the while: what is alive in the window after next and started no later than now holds
//! them throughout the next, hence (2d).

use super::PlanError;
use super::held;
use super::lp::{ColId, Lp, RowId};
use super::problem::PlanProblem;

/// Units that keep coefficients between 1e-3 and 1e3: HiGHS has been seen to misjudge smaller ones.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Seconds per unit of time in the rows.
    pub time: f64,
    /// Joules, or units of the goal, per unit of the objective.
    pub energy: f64,
}

/// Smallest coefficient that enters a row, in scaled units.
const LEAST_COEFFICIENT: f64 = 1e-3;

/// How the integers are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integers {
    Relaxed,
    Required,
}

pub struct CapacityInput<'a> {
    pub problem: &'a PlanProblem<'a>,
    pub scale: Scale,
    pub integers: Integers,
    /// S by deployment: seconds of all the work it may be given.
    pub total_work: &'a [f64],
    /// Share of device-seconds that may be used, by (pool, window); below 1 where placement needs slack. The last row is of
    /// the power cap.
    pub usable: &'a [Vec<f64>],
    /// Deployments that may be used at all.
    pub offered: &'a [bool],
    pub purpose: Purpose<'a>,
}

/// What the rows are for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose<'a> {
    /// To be true of every plan.
    Bound,
    /// To be placed: an instance loads when it starts, if its window has time for it, and work counts longer than it is by
    /// the share `slack`, so that whole requests find room.
    Placement { slack: f64 },
    /// As `Placement`, and an instance holds its devices, and its share of the power cap, for the whole of each window it is
    /// alive in; of each life `reserve` seconds, by deployment, serve no request, because its slots do not end together.
    WholeWindows { slack: f64, reserve: &'a [f64] },
}

impl Purpose<'_> {
    pub fn slack(self) -> f64 {
        match self {
            Self::Bound => 0.0,
            Self::Placement { slack } | Self::WholeWindows { slack, .. } => slack,
        }
    }

    fn reserve(self, v: usize) -> f64 {
        if let Self::WholeWindows { reserve, .. } = self { reserve[v] } else { 0.0 }
    }
}

/// Columns of the block. Indexed by (deployment, window); empty for deployments that are not offered.
pub struct Capacity {
    /// c: net loaded time, scaled.
    pub net: Vec<Vec<ColId>>,
    /// n: instances alive at once.
    pub instances: Vec<Vec<ColId>>,
    /// s: starts.
    pub starts: Vec<Vec<ColId>>,
    /// a: loaded time, scaled.
    pub loaded: Vec<Vec<ColId>>,
    /// o: 1 at most, and only where a deployment is started at all; whole where n is.
    pub open: Vec<Option<ColId>>,
    pools: Vec<PoolRows>,
    /// Row (6), by window; none without a cap.
    power: Vec<RowId>,
    /// Watts per unit of power in it.
    power_unit: f64,
}

impl Capacity {
    /// Adds the block. `serve[v][w]`, if given, are rows `work - c <= 0` whose duals are the prices.
    pub fn add(lp: &mut Lp, input: &CapacityInput, serve: Option<&[Vec<RowId>]>) -> Result<Self, PlanError> {
        let problem = input.problem;
        let deployments = problem.deployments().len();
        let mut capacity = Self {
            net: vec![Vec::new(); deployments],
            instances: vec![Vec::new(); deployments],
            starts: vec![Vec::new(); deployments],
            loaded: vec![Vec::new(); deployments],
            open: vec![None; deployments],
            pools: Vec::new(),
            power: Vec::new(),
            power_unit: power_unit(problem),
        };
        capacity.power = power_rows(lp, input)?;
        capacity.pools = (0..problem.cluster.pools.len())
            .map(|pool| PoolRows::add(lp, input, pool, &capacity.power))
            .collect::<Result<Vec<_>, _>>()?;
        for v in (0..deployments).filter(|&v| input.offered[v]) {
            capacity.add_deployment(lp, input, v, serve.map(|serve| &serve[v][..]))?;
        }
        Ok(capacity)
    }

    /// What a loaded second of deployment `v` costs in window `w` at the duals of its rows, in the units of the problem.
    pub fn loaded_second(&self, problem: &PlanProblem, v: usize, w: usize, row_duals: &[f64]) -> f64 {
        let deployment = &problem.deployments()[v];
        let mut entries = self.pools[deployment.pool].loaded_entries(w, deployment.devices);
        entries.extend(self.power_entry(problem, v, w));
        entries.into_iter().map(|(row, coefficient)| (-row_duals[row.0]).max(0.0) * coefficient).sum()
    }

    /// What a loaded second of `v` takes of the power cap.
    fn power_entry(&self, problem: &PlanProblem, v: usize, w: usize) -> Option<(RowId, f64)> {
        let row = *self.power.get(w)?;
        Some((row, problem.deployments()[v].net_peak_power() / self.power_unit))
    }

    fn add_deployment(
        &mut self,
        lp: &mut Lp,
        input: &CapacityInput,
        v: usize,
        serve: Option<&[RowId]>,
    ) -> Result<(), PlanError> {
        let problem = input.problem;
        let deployment = &problem.deployments()[v];
        let pool = &self.pools[deployment.pool];
        let most = problem.most_instances(v) as f64;
        let load = (deployment.load_time.0 + input.purpose.reserve(v)) / input.scale.time;
        let start_cost = |w: usize| problem.start_cost(v, w) / input.scale.energy;
        let infinity = f64::INFINITY;
        let windows = problem.windows.len();
        let integer = input.integers == Integers::Required;

        // On nodes that can sleep: the first instance lives no longer than its node, a <= u - h + l (n - o), and o is 1
        // where there is one, n <= N o.
        let mut together = Vec::new();
        for powered in pool.powered.iter().flatten() {
            let alone = lp.add_row(-infinity, 0.0, &[(powered.on, -1.0), (powered.waking, 1.0)])?;
            together.push((alone, lp.add_row(-infinity, 0.0, &[])?));
        }
        let used = lp.add_row(-infinity, 0.0, &[])?; // o - sum of s <= 0
        let mut entries = vec![(used, 1.0)];
        if let Some(powered) = &pool.powered {
            // ... and no node is on for less than a load and a request: (A + least) o <= sum of u - h.
            let on = powered.iter().flat_map(|powered| [(powered.on, -1.0), (powered.waking, 1.0)]);
            let row = lp.add_row(-infinity, 0.0, &on.collect::<Vec<_>>())?;
            let least = problem.shortest_use(v) / input.scale.time;
            if least >= LEAST_COEFFICIENT {
                entries.push((row, least));
            }
        }
        // One o does for all windows as long as n may be 1 before the start and after the end for nothing: not where the cap
        // forbids it, nor where a start is cheaper later.
        let by_window = problem.is_weighted() || !self.power.is_empty();
        for (window, &(alone, any)) in problem.windows.iter().zip(&together) {
            let of_window = [(alone, window.length() / input.scale.time), (any, -most)];
            if by_window {
                lp.add_column(0.0, (0.0, 1.0), integer, &of_window)?;
            } else {
                entries.extend(of_window);
            }
        }
        let open = lp.add_column(0.0, (0.0, 1.0), integer && !together.is_empty(), &entries)?;
        self.open[v] = Some(open);
        // An instance that holds its devices for whole windows does so in between, too.
        let whole_windows = matches!(input.purpose, Purpose::WholeWindows { .. });
        let seconds = |w: usize| problem.windows[w].length() / input.scale.time;
        // Load still to come after a window: none where instances load as they start.
        let waits = |w: usize| w + 1 < windows && (input.purpose == Purpose::Bound || load > seconds(w));
        let mut rows = Vec::with_capacity(windows);
        for w in 0..windows {
            rows.push(DeploymentRows {
                net: lp.add_row(-infinity, 0.0, &[])?,
                load: lp.add_row(-infinity, 0.0, &[])?,
                load_due: waits(w).then(|| lp.add_row(-infinity, 0.0, &[])).transpose()?,
                held: (!whole_windows).then(|| lp.add_row(-infinity, 0.0, &[])).transpose()?,
                alive: lp.add_row(-infinity, 0.0, &[])?,
                starts: lp.add_row(-infinity, 0.0, &[])?,
                useful: lp.add_row(-infinity, 0.0, &[])?,
                opening: lp.add_row(-infinity, 0.0, &[])?,
            });
        }
        // Of (2c), below which a coefficient would be dropped and the row no longer hold.
        let opens = input.purpose == Purpose::Bound && load >= LEAST_COEFFICIENT;
        for w in 0..windows {
            let length = seconds(w);
            // Raised where it is too small for the solver, which only weakens the row.
            let work = (input.total_work[v] / input.scale.time).min(length).max(LEAST_COEFFICIENT);
            let mut entries = vec![(rows[w].net, 1.0), (rows[w].useful, 1.0)];
            if let Some(serve) = serve {
                entries.push((serve[w], -1.0));
            }
            if opens {
                entries.push((rows[w].opening, 1.0));
            }
            self.net[v].push(lp.add_column(0.0, (0.0, infinity), false, &entries)?);

            let mut entries = vec![(rows[w].net, -1.0), (rows[w].alive, 1.0)];
            if opens {
                let served = (1.0 - load.min(length) / length).max(LEAST_COEFFICIENT);
                entries.push((rows[w].opening, -served));
            }
            let mut held = pool.loaded_entries(w, deployment.devices);
            held.extend(self.power_entry(problem, v, w));
            if !whole_windows {
                entries.append(&mut held);
            }
            entries.extend(together.get(w).map(|&(alone, _)| (alone, 1.0)));
            entries.extend(rows[w].held.map(|row| (row, -1.0)));
            self.loaded[v].push(lp.add_column(0.0, (0.0, infinity), false, &entries)?);

            // y: load time; r: load still to come.
            lp.add_column(0.0, (0.0, infinity), false, &[(rows[w].net, 1.0), (rows[w].load, -1.0)])?;
            if let (Some(due), Some(next)) = (rows[w].load_due, rows.get(w + 1)) {
                lp.add_column(0.0, (0.0, infinity), false, &[(rows[w].load, -1.0), (next.load, 1.0), (due, 1.0)])?;
            }

            // s: starts.
            let before = w.checked_sub(1).and_then(|before| Some((rows[before].held?, seconds(before))));
            let mut entries = vec![(rows[w].starts, -1.0), (used, -1.0)];
            entries.extend(rows[w].held.map(|row| (row, -length)));
            entries.extend(before.map(|(row, seconds)| (row, -seconds)));
            if load > 0.0 {
                entries.push((rows[w].load, load));
                let end = |w: usize| problem.windows[w].end / input.scale.time;
                let waiting = (w..windows).take_while(|&later| end(later) < end(w) + load);
                entries.extend(waiting.filter_map(|later| Some((rows[later].load_due?, -load.max(LEAST_COEFFICIENT)))));
            }
            self.starts[v].push(lp.add_column(start_cost(w), (0.0, most), integer, &entries)?);
            let alive = problem.most_alive(v, w) as f64;

            // n: alive at once.
            let mut entries = vec![(rows[w].alive, -length), (rows[w].useful, -work), (rows[w].starts, 1.0)];
            entries.extend(before);
            if let Some(next) = rows.get(w + 1) {
                entries.push((next.starts, -1.0));
                if opens {
                    entries.push((next.opening, -load.min(seconds(w + 1))));
                }
            }
            entries.extend(together.get(w).into_iter().flat_map(|&(alone, any)| [(alone, -length), (any, 1.0)]));
            entries.extend(held.into_iter().map(|(row, seconds)| (row, seconds * length)));
            self.instances[v].push(lp.add_column(0.0, (0.0, alive), integer, &entries)?);
        }
        Ok(())
    }
}

/// Row (6), by window; none without a cap.
fn power_rows(lp: &mut Lp, input: &CapacityInput) -> Result<Vec<RowId>, PlanError> {
    let problem = input.problem;
    let usable = input.usable.last();
    let mut rows = Vec::new();
    for (w, window) in problem.windows.iter().enumerate() {
        let Some(room) = problem.window_room(w) else { break };
        let share = usable.map_or(1.0, |usable| usable[w]);
        let most = share * room.max(0.0) / power_unit(problem) * window.length() / input.scale.time;
        rows.push(lp.add_row(f64::NEG_INFINITY, most, &[])?);
    }
    Ok(rows)
}

/// Watts per unit of power in row (6): coefficients are then at most 1.
fn power_unit(problem: &PlanProblem) -> f64 {
    let peaks = problem.deployments().iter().map(|deployment| deployment.net_peak_power());
    let nodes = (0..problem.cluster.pools.len()).map(|pool| problem.billed_power(pool));
    peaks.chain(nodes).fold(1.0, f64::max)
}

struct DeploymentRows {
    /// c + y - a <= 0
    net: RowId,
    /// r_{w-1} + A s_w - y_w - r_w <= 0
    load: RowId,
    /// (2e) r_w - A * starts whose load may last beyond this window <= 0
    load_due: Option<RowId>,
    /// (2d) l (n_{w+1} - s_{w+1} - s_w) - a_w <= 0
    held: Option<RowId>,
    /// a - l n <= 0
    alive: RowId,
    /// n_w - n_{w-1} - s_w <= 0
    starts: RowId,
    /// c - S n <= 0
    useful: RowId,
    /// (2c) c_w - (1 - A / l) a_w - A n_{w-1} <= 0, with A at most l
    opening: RowId,
}

/// Row (4) of one pool, by window, with the columns of its nodes.
struct PoolRows {
    /// For each width kappa: sum over k >= kappa of floor(k / kappa) a <= room.
    by_width: Vec<(u32, Vec<RowId>)>,
    /// Where nodes can sleep, by window.
    powered: Option<Vec<Powered>>,
}

#[derive(Clone, Copy)]
struct Powered {
    /// sum of k a + D h - D u <= 0
    row: RowId,
    /// u and h
    on: ColId,
    waking: ColId,
}

impl PoolRows {
    fn add(lp: &mut Lp, input: &CapacityInput, pool_index: usize, power: &[RowId]) -> Result<Self, PlanError> {
        let problem = input.problem;
        let pool = &problem.cluster.pools[pool_index];
        let mut widths: Vec<u32> = problem
            .deployments()
            .iter()
            .zip(input.offered)
            .filter(|(deployment, offered)| **offered && deployment.pool == pool_index)
            .map(|(deployment, _)| deployment.devices)
            .collect();
        widths.push(1);
        widths.sort_unstable();
        widths.dedup();
        let length = |w: usize| problem.windows[w].length() / input.scale.time;
        let mut by_width = Vec::new();
        for width in widths {
            let room = |w: usize| held::mean(pool, width, &problem.windows[w]);
            let rows = (0..problem.windows.len())
                .map(|w| lp.add_row(f64::NEG_INFINITY, room(w) * length(w) * input.usable[pool_index][w], &[]))
                .collect::<Result<Vec<_>, _>>()?;
            by_width.push((width, rows));
        }
        let powered = if pool.suspend { Some(Self::add_nodes(lp, input, pool_index, power)?) } else { None };
        Ok(Self { by_width, powered })
    }

    /// u, h, z, q of a pool whose nodes can sleep.
    fn add_nodes(
        lp: &mut Lp,
        input: &CapacityInput,
        pool_index: usize,
        power: &[RowId],
    ) -> Result<Vec<Powered>, PlanError> {
        let problem = input.problem;
        let pool = &problem.cluster.pools[pool_index];
        let windows = problem.windows.len();
        let integer = input.integers == Integers::Required;
        let (nodes, devices) = (pool.nodes.len() as f64, f64::from(pool.devices_per_node));
        let wake = pool.wake_time.0 / input.scale.time;
        let second = problem.billed_power(pool_index) * input.scale.time / input.scale.energy;
        let infinity = f64::INFINITY;
        let mut rows = Vec::new();
        for _ in 0..windows {
            let powered = lp.add_row(-infinity, 0.0, &[])?;
            let wake_after = lp.add_row(-infinity, 0.0, &[])?; // omega * wakes from here on - h from here on <= 0
            let on = lp.add_row(-infinity, 0.0, &[])?; // u - l z <= 0
            let wakes = lp.add_row(-infinity, 0.0, &[])?; // z_w - z_{w-1} - q_w <= 0
            let held = lp.add_row(-infinity, 0.0, &[])?; // (2d) of nodes: l (z_{w+1} - q_{w+1} - q_w) - u_w <= 0
            rows.push((powered, wake_after, on, wakes, held));
        }
        let mut by_window = Vec::with_capacity(windows);
        for w in 0..windows {
            let (powered, _, on, wakes, held) = rows[w];
            let seconds = |w: usize| problem.windows[w].length() / input.scale.time;
            let length = seconds(w);
            let before = w.checked_sub(1).map(|before| (rows[before].4, seconds(before)));
            let mut entries = vec![(powered, -devices), (on, 1.0), (held, -1.0)];
            if let Some(&row) = power.get(w) {
                entries.push((row, problem.billed_power(pool_index) / power_unit(problem)));
            }
            let on_time = lp.add_column(second * problem.weight(w), (0.0, infinity), false, &entries)?;
            let mut entries = vec![(powered, devices)];
            entries.extend(rows[..=w].iter().map(|row| (row.1, -1.0)));
            let waking = lp.add_column(0.0, (0.0, infinity), false, &entries)?;
            by_window.push(Powered { row: powered, on: on_time, waking });
            let mut entries = vec![(on, -length), (wakes, 1.0)];
            entries.extend(before);
            if let Some(next) = rows.get(w + 1) {
                entries.push((next.3, -1.0));
            }
            lp.add_column(0.0, (0.0, nodes), integer, &entries)?;
            let mut entries = vec![(wakes, -1.0), (held, -length)];
            entries.extend(before.map(|(row, seconds)| (row, -seconds)));
            if wake > 0.0 {
                entries.extend(rows[..=w].iter().map(|row| (row.1, wake)));
            }
            let wake_cost = problem.wake_cost(pool_index, w) / input.scale.energy;
            lp.add_column(wake_cost, (0.0, nodes), integer, &entries)?;
        }
        Ok(by_window)
    }

    fn loaded_entries(&self, w: usize, devices: u32) -> Vec<(RowId, f64)> {
        let mut entries: Vec<(RowId, f64)> = self
            .by_width
            .iter()
            .filter(|(width, _)| *width <= devices)
            .map(|(width, rows)| (rows[w], f64::from(devices / width)))
            .collect();
        if let Some(powered) = &self.powered {
            entries.push((powered[w].row, f64::from(devices)));
        }
        entries
    }
}
