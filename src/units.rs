//! Physical quantities as types, with the arithmetic that makes physical sense and no other.
//!
//! `Watts * Seconds = Joules` compiles; `Joules + Seconds` does not. Raw numbers enter with `Joules(1.0)` and leave with
//! `.0`; outside the library the unit is in the name of the field (`energy_j`). Inner loops over coefficients work on
//! plain `f64`, where the formula says the unit.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
        pub struct $name(pub f64);

        impl $name {
            pub const ZERO: Self = Self(0.0);

            pub fn min(self, other: Self) -> Self {
                Self(self.0.min(other.0))
            }

            pub fn max(self, other: Self) -> Self {
                Self(self.0.max(other.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)?;
                f.write_str(concat!(" ", $unit))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }

        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                self.0 -= other.0;
            }
        }

        impl Neg for $name {
            type Output = Self;
            fn neg(self) -> Self {
                Self(-self.0)
            }
        }

        impl Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }
        }

        impl Div<f64> for $name {
            type Output = Self;
            fn div(self, divisor: f64) -> Self {
                Self(self.0 / divisor)
            }
        }

        impl Div for $name {
            type Output = f64;
            fn div(self, other: Self) -> f64 {
                self.0 / other.0
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
                Self(values.map(|value| value.0).sum())
            }
        }
    };
}

quantity!(
    /// Energy in joules.
    Joules,
    "J"
);
quantity!(
    /// Power in watts.
    Watts,
    "W"
);
quantity!(
    /// Time in seconds; points in time count from the start of the plan.
    Seconds,
    "s"
);
quantity!(
    /// Memory in bytes.
    Bytes,
    "B"
);

impl Bytes {
    pub fn from_gib(gib: f64) -> Self {
        Self(gib * f64::from(1 << 30))
    }
}

impl Mul<Seconds> for Watts {
    type Output = Joules;
    fn mul(self, time: Seconds) -> Joules {
        Joules(self.0 * time.0)
    }
}

impl Mul<Watts> for Seconds {
    type Output = Joules;
    fn mul(self, power: Watts) -> Joules {
        Joules(self.0 * power.0)
    }
}

impl Div<Seconds> for Joules {
    type Output = Watts;
    fn div(self, time: Seconds) -> Watts {
        Watts(self.0 / time.0)
    }
}

impl Div<Watts> for Joules {
    type Output = Seconds;
    fn div(self, power: Watts) -> Seconds {
        Seconds(self.0 / power.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_times_time_is_energy_and_back() {
        let energy = Watts(350.0) * Seconds(2.0);
        assert_eq!(energy, Joules(700.0));
        assert_eq!(energy / Seconds(2.0), Watts(350.0));
        assert_eq!(energy / Watts(350.0), Seconds(2.0));
        assert_eq!(energy / Joules(350.0), 2.0);
    }

    #[test]
    fn display_names_the_unit_and_keeps_the_precision() {
        assert_eq!(format!("{:.1}", Joules(1.25)), "1.2 J");
    }
}
