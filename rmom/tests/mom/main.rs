//! One MoM as a whole: real processes, a real database, and clients that speak gRPC as any other would. All in one program,
//! which is built and linked once.

mod faults;
mod headers;
mod ownership;
mod repeats;
mod starts;
mod statistics;
mod streams;
mod support;
mod surface;
mod watched;
