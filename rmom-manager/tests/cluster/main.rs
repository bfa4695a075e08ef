//! The manager in a real cluster: real PostgreSQL, real MoMs, real processes and sockets.

mod database;
mod failover;
mod leading;
mod operations;
mod process;
mod rest;
mod support;
mod watching;
