//! Families whose samples have times and no energy: measured where nothing meters, or by tools that do not.
//!
//! Energy and time are fitted together, and at a constant power the one says what the other does. So such a family is
//! fitted at one: at the power that the user says its devices draw, and its energy is an estimate of the user's; or at any,
//! and its energy is missing, which leaves times to evaluate and nothing to plan with.

use super::attempt::{Pair, idle_power};
use super::hardware::Machine;
use super::outliers::Outlier;
use super::quality::FittedTarget;
use crate::domain::{FamilyKey, Figure, Provenance, Quality};
use crate::units::Watts;

/// Where the energies of a family come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Energies {
    Metered,
    /// From a power that the user states.
    Assumed,
    /// With the idle power that is known all the same.
    Missing {
        idle: Figure<Watts>,
    },
}

impl Energies {
    /// Gives rows without energy the joules of a constant power where none of the family has any. `assumed` is the power
    /// of one device while it serves, by device type.
    pub fn of(
        pairs: &mut [Pair<'_>],
        key: &FamilyKey,
        machine: &Machine<'_>,
        assumed: &[(String, Watts)],
        notes: &mut Vec<String>,
    ) -> Self {
        if pairs.iter().any(|(_, row)| row.energy.is_some()) {
            return Self::Metered;
        }
        let stated = assumed.iter().find(|(device, _)| machine.is_named(device, key)).map(|(_, power)| *power);
        let (energies, watts) = match stated {
            Some(power) => {
                notes.push(format!(
                    "its energy was not measured: estimated from the {power} that a device is said to draw"
                ));
                (Self::Assumed, power.0 * f64::from(key.devices))
            }
            None => {
                notes.push(format!(
                    "its energy was not measured and is missing: no plan can use it; --assume-power {}=WATTS states a power",
                    key.device
                ));
                let rows: Vec<_> = pairs.iter().map(|(_, row)| row).collect();
                let idle = idle_power(&rows, machine, &mut Vec::new());
                (Self::Missing { idle }, machine.tdp().unwrap_or(idle.value * 2.0).0.max(1.0))
            }
        };
        for (_, row) in pairs {
            row.energy = row.runtime.map(|seconds| watts * seconds);
        }
        energies
    }

    pub fn are_missing(self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// What was fitted with, unless it came from a power that stands for none.
    pub fn idle_power(self, fitted_with: Figure<Watts>) -> Figure<Watts> {
        if let Self::Missing { idle } = self { idle } else { fitted_with }
    }

    /// Takes back what the fit at a constant power says of energy: all of it, or that it is a measurement.
    pub fn own_up(self, energy: &mut FittedTarget, runtime: &mut FittedTarget) {
        match self {
            Self::Metered => return,
            Self::Missing { .. } => energy.terms.clear(),
            Self::Assumed => {
                for term in &mut energy.terms {
                    (term.standard_error, term.interval) = (None, None);
                }
                // Times too: a plan's joules are energy less idle power times time, of terms of one provenance.
                energy
                    .terms
                    .iter_mut()
                    .chain(&mut runtime.terms)
                    .for_each(|term| term.provenance = Provenance::Estimated);
            }
        }
        energy.out_of_fold = None;
        energy.quality = Quality {
            samples: 0,
            r2: None,
            r2_uncentred: None,
            cv_mape: None,
            error_factors: None,
            negative_predictions: 0,
        };
    }

    /// The same for trials that were not used.
    pub fn own_up_outliers(self, outliers: &mut [Outlier]) {
        if self != Self::Metered {
            outliers.iter_mut().for_each(|outlier| outlier.energy = None);
        }
    }
}
