//! What the processes of rusty-mom tell of themselves.
//!
//! Numbers are kept where the work is done and read when somebody asks, so there is no registry: [`metrics`] writes
//! what it is given in the text format of Prometheus, and [`process`] asks the operating system. [`logs`] gives the log its
//! form, and [`traces`] go where the environment says.

pub mod logs;
pub mod metrics;
pub mod process;
pub mod traces;
