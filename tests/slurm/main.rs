//! Everything that touches Slurm, against a real one on the loopback interface.
mod bed;
mod end_to_end;
mod faults;
mod inventory;
mod names;
mod night;
mod scale;
