//! Everything that touches Slurm, against a real one on the loopback interface.
mod bed;
mod inventory;
