//! The pages of the book whose code is compiled, and run where it is not marked `no_run`: `cargo test --doc -p aeolian`.
//! `tests/book.rs` sees to it that no page with Rust code is forgotten here.

#[doc = include_str!("../docs/src/programs.md")]
struct Programs;

#[doc = include_str!("../docs/src/operators.md")]
struct Operators;

#[doc = include_str!("../docs/src/from-harp.md")]
struct FromHarp;

#[doc = include_str!("../docs/src/from-mpi.md")]
struct FromMpi;

#[doc = include_str!("../docs/src/wordcount.md")]
struct Wordcount;

#[doc = include_str!("../docs/src/from-twister2.md")]
struct FromTwister2;
