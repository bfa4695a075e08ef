//! The command line as it is typed, by people and in the documentation. All in one program, which is linked once.

mod docs;
mod terminal;
