//! The command line: the real binary on small data, each test in a folder of its own.

mod case;
mod check;
mod collect;
mod confidence;
mod current_power;
mod exit_codes;
mod fit;
mod import;
mod large;
mod limits;
mod names;
mod plan;
mod replan;
mod site;
mod transfer;
mod verbs;
mod zeta;
