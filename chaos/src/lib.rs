//! `rmom-chaos`: breaks a whole system in every way that it claims to survive, while clients push and subscribe, and
//! judges afterwards by what the clients have seen and what the tables hold whether anything was lost, made up, doubled
//! or put out of order.
//!
//! A run is a [`schedule`] of faults, which the [`nemesis`] carries out against a cluster of real processes under the
//! [`workload`]. Everything goes into a [`history`], which the [`checker`] judges. That the checker would find what it
//! looks for is shown by [`mutants`]: systems with a known defect. That a run had a chance to find anything is what
//! [`report`] looks at before it calls it passed.

pub mod checker;
pub mod clock;
mod facts;
pub mod fault;
pub mod history;
pub mod mutants;
pub mod nemesis;
mod pushers;
pub mod random;
pub mod report;
pub mod run;
pub mod schedule;
mod subscribers;
pub mod tables;
pub mod workload;
