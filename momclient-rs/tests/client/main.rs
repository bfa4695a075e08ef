//! The library against whole systems. All in one program, which is built and linked once.

mod administration;
mod delivery;
mod failover;
mod starts;
mod support;
