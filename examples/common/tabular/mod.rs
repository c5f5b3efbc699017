//! Tables in CSV files with a header line, whose columns have types.
//!
//! What is understood:
//! - a header line, then one row a line, `\n` or `\r\n`; a UTF-8 byte order mark at the start is skipped;
//! - a field may stand in double quotes, in which delimiters and line ends are text and `""` is one quote. A quote anywhere else is an
//!   error: only so does the number of quotes before a byte tell whether it is inside of some;
//! - a row with another number of fields than the header is an error. A blank line is no row, unless there is only one column;
//! - an unquoted field that is the text for NULL (nothing, unless told) is NULL.
//!
//! A row belongs to the rank in whose byte range it begins. To find out where that is, ranks count the quotes in their ranges first.
//! Ranks read their ranges three times, a piece at a time: for quotes, for the types of columns, for the values.

mod chain;
mod fields;
mod kind;
mod rows;
mod sink;
mod table;
mod value;

pub use chain::{Chain, complete, unless_wires};
pub use fields::Fields;
pub use kind::Kind;
pub use rows::{Rows, quotes};
pub use sink::{Lines, check, write};
pub use table::{Dialect, Table, TableArgs};
pub use value::Value;
