//! The price of a class's rows, divided among its members so that the least of what each then pays sums to the most.
//!
//! A member pays what being served by v saves it, up to a level: sigma_rv = (level_r - cost_rv)+. Where the sum exceeds the
//! row's price all are cut alike. The levels come from shares y_v, as if y_v of v were open to everybody: a member fills its
//! cheapest offers with them, and the one that completes it sets its level. The best shares are those at which each row's
//! price is spent, so they grow where more is spent than there is and shrink where less is.

/// What a request may be served for by the deployment of a row, before the charge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Offer {
    pub row: usize,
    pub cost: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    request: u32,
    /// Its cost where nothing is charged; infinite if there is no such option.
    base: f64,
    /// Those below the base, cheapest first.
    offers: Vec<Offer>,
}

impl Member {
    /// `base` is infinite where all that may serve it is charged.
    pub fn new(request: u32, base: f64, mut offers: Vec<Offer>) -> Self {
        offers.retain(|offer| offer.cost < base);
        offers.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.row.cmp(&b.row)));
        Self { request, base: if offers.is_empty() && base == f64::INFINITY { 0.0 } else { base }, offers }
    }

    /// Where all that may serve it is charged, it pays `most` at its dearest offer at most.
    fn bounded(&self, most: f64) -> Self {
        let dearest = self.offers.last().map_or(0.0, |offer| offer.cost);
        let base = if self.base < f64::INFINITY { self.base } else { dearest + most };
        let offers = self.offers.iter().copied().filter(|offer| offer.cost < base).collect();
        Self { request: self.request, base, offers }
    }

    fn level(&self, shares: &[f64]) -> f64 {
        let mut given = 0.0;
        for offer in &self.offers {
            if given >= 1.0 {
                return offer.cost;
            }
            given += shares[offer.row];
        }
        self.base
    }
}

const ROUNDS: usize = 12;
const LEAST_SHARE: f64 = 1e-3;

/// (request, row, charge) of a class with these row prices. `started`: shares to begin with.
///
/// Members that have nowhere else to go may pay for a whole start; where they share it with others, they may also do
/// better with their dearest offer free.
pub(super) fn share_out(members: &[Member], prices: &[f64], started: &[f64]) -> Vec<(u32, usize, f64)> {
    let captive = members.iter().any(|member| member.base == f64::INFINITY);
    let most: f64 = prices.iter().sum();
    let ways = if captive { vec![most, 0.0] } else { vec![0.0] };
    let divided = ways.into_iter().map(|most| {
        let members: Vec<Member> = members.iter().map(|member| member.bounded(most)).collect();
        divide(&members, prices, started)
    });
    divided.max_by(|a, b| a.0.total_cmp(&b.0)).map_or_else(Vec::new, |(_, charges)| charges)
}

/// What members pay at least, and the charges.
fn divide(members: &[Member], prices: &[f64], started: &[f64]) -> (f64, Vec<(u32, usize, f64)>) {
    let mut shares: Vec<f64> = started.iter().map(|share| share.clamp(0.02, 1.0)).collect();
    let mut best: Option<(f64, Vec<f64>, Vec<f64>)> = None;
    for _ in 0..ROUNDS {
        let levels: Vec<f64> = members.iter().map(|member| member.level(&shares)).collect();
        let mut spent = vec![0.0; prices.len()];
        for (member, level) in members.iter().zip(&levels) {
            member.offers.iter().for_each(|offer| spent[offer.row] += (level - offer.cost).max(0.0));
        }
        let cut: Vec<f64> =
            prices.iter().zip(&spent).map(|(price, spent)| (price / spent.max(1e-300)).min(1.0)).collect();
        let paid = |(member, level): (&Member, &f64)| {
            let least = |offer: &Offer| offer.cost + cut[offer.row] * (level - offer.cost).max(0.0);
            member.offers.iter().map(least).fold(member.base, f64::min)
        };
        let total: f64 = members.iter().zip(&levels).map(paid).sum();
        if best.as_ref().is_none_or(|(most, ..)| total > *most) {
            best = Some((total, levels, cut));
        }
        for ((share, price), spent) in shares.iter_mut().zip(prices).zip(spent) {
            let factor = (spent / price.max(1e-300)).sqrt().clamp(0.5, 2.0);
            *share = (*share * factor).clamp(LEAST_SHARE, 1.0);
        }
    }
    let Some((total, levels, cut)) = best else { return (0.0, Vec::new()) };
    let mut charges = Vec::new();
    for (member, level) in members.iter().zip(levels) {
        let paying = member.offers.iter().filter(|offer| offer.cost < level);
        charges.extend(paying.map(|offer| (member.request, offer.row, cut[offer.row] * (level - offer.cost))));
    }
    (total, charges)
}

#[cfg(test)]
mod tests {
    use rand::prelude::*;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// What members pay at least, given charges.
    fn paid(members: &[Member], charges: &[(u32, usize, f64)]) -> f64 {
        let charge = |request: u32, row: usize| {
            let own = charges.iter().filter(|(charged, of, _)| (*charged, *of) == (request, row));
            own.map(|(_, _, charge)| charge).sum::<f64>()
        };
        let least = |member: &Member| {
            let offers = member.offers.iter().map(|offer| offer.cost + charge(member.request, offer.row));
            offers.fold(member.base, f64::min)
        };
        members.iter().map(least).sum()
    }

    fn random(rng: &mut ChaCha8Rng) -> (Vec<Member>, Vec<f64>) {
        let rows = rng.random_range(1..5);
        let member = |request: u32, rng: &mut ChaCha8Rng| {
            let offers = (0..rows).map(|row| Offer { row, cost: rng.random_range(0.0..2.0) }).collect();
            let base = if rng.random_range(0..9) == 0 { f64::INFINITY } else { rng.random_range(1.0..3.0) };
            Member::new(request, base, offers)
        };
        let members = (0..rng.random_range(1..40)).map(|request| member(request, rng)).collect();
        (members, (0..rows).map(|_| rng.random_range(0.0..20.0)).collect())
    }

    #[test]
    fn no_row_charges_more_than_its_price_and_equal_shares_bring_less() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mut ours, mut equal) = (0.0, 0.0);
        for case in 0..300 {
            let (members, prices) = random(&mut rng);
            let charges = share_out(&members, &prices, &vec![0.3; prices.len()]);
            for (row, price) in prices.iter().enumerate() {
                let sum: f64 = charges.iter().filter(|(_, of, _)| *of == row).map(|(_, _, charge)| charge).sum();
                assert!(sum <= price * (1.0 + 1e-9), "case {case}: {sum} of {price}");
            }
            assert!(charges.iter().all(|(_, _, charge)| *charge >= 0.0), "case {case}");
            let share = |row: usize| prices[row] / members.len() as f64;
            let all =
                |member: &Member| (0..prices.len()).map(|row| (member.request, row, share(row))).collect::<Vec<_>>();
            ours += paid(&members, &charges);
            equal += paid(&members, &members.iter().flat_map(all).collect::<Vec<_>>());
        }
        assert!(ours > equal, "{ours} {equal}");
    }

    #[test]
    fn who_has_nowhere_else_to_go_pays_for_the_start() {
        let captive = |request: u32| Member::new(request, f64::INFINITY, vec![Offer { row: 0, cost: 1.0 }]);
        let free = Member::new(2, 3.0, vec![Offer { row: 0, cost: 1.0 }]);
        let members = [captive(0), captive(1), free];
        let charges = share_out(&members, &[50.0], &[0.5]);
        assert!((paid(&members, &charges) - 53.0).abs() < 1e-6, "{charges:?}");
    }

    #[test]
    fn one_row_is_spent_to_the_last() {
        let member = |request: u32, cost: f64| Member::new(request, 3.0, vec![Offer { row: 0, cost }]);
        let members = [member(0, 1.0), member(1, 2.5)];
        let none = paid(&members, &[]);
        // What both save together is 2.5.
        for price in [1.0, 2.5, 9.0] {
            let charges = share_out(&members, &[price], &[0.5]);
            assert!((paid(&members, &charges) - none - price.min(2.5)).abs() < 1e-9, "{price}: {charges:?}");
        }
    }
}
