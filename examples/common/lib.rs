//! What the example programs share: readers of real files in which every rank reads only its part, writers that leave
//! either the whole file or none, progress lines, and small SVG and HTML pages.
//!
//! Promises:
//! - bad input never panics; every error names the file, the place in it, and what to do about it ([`Error`]);
//! - a rank reads only its part, and the raw text of a file is never held in memory as a whole;
//! - nothing half-written is ever seen under an output's name ([`output`]).

pub mod agree;
pub mod csv;
pub mod descriptor;
pub mod draft;
pub mod error;
pub mod flights;
pub mod flow;
pub mod gathered;
pub mod h5;
pub mod html;
pub mod input;
pub mod intern;
pub mod lines;
pub mod matrix;
pub mod names;
pub mod npy;
pub mod output;
pub mod program;
pub mod progress;
pub mod random;
pub mod readat;
pub mod rss;
pub mod sigbus;
pub mod sorted;
pub mod stop;
pub mod summary;
pub mod svg;
pub mod tabular;
#[path = "../terasort/shared/mod.rs"]
pub mod tera;
pub mod whole;
pub mod wires;
pub mod workers;

pub use error::{Error, Result};
pub use matrix::{Element, Matrix};
