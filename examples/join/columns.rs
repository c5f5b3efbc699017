//! Which columns are read, and what a row of the output is.

use aeolian_examples::Result;
use aeolian_examples::tabular::{Table, Value};

use crate::cli::{Kind, Options};

/// A row of a side: its key, and its other values.
pub(crate) type Row = (Vec<Value>, Vec<Value>);

/// The columns of both sides: those of the key first.
pub(crate) struct Columns {
    keys: usize,
    pub(crate) left: Vec<usize>,
    pub(crate) right: Vec<usize>,
    /// Those of the output.
    pub(crate) names: Vec<String>,
    kind: Kind,
}

impl Columns {
    /// Finds the columns. All ranks alike.
    pub(crate) fn new(left: &Table, right: &Table, options: &Options) -> Result<Columns> {
        let find =
            |table: &Table| options.on.iter().map(|name| table.column(name)).collect::<Result<Vec<usize>>>();
        let (mut l, mut r) = (find(left)?, find(right)?);
        let keys = l.len();
        l.extend((0..left.names.len()).filter(|i| !l.contains(i)).collect::<Vec<_>>());
        let mut names: Vec<String> = l.iter().map(|i| left.names[*i].clone()).collect();
        if matches!(options.kind, Kind::Semi | Kind::Anti) {
            // Of the right side nothing but keys is of use.
            return Ok(Columns { keys, left: l, right: r, names, kind: options.kind });
        }
        r.extend((0..right.names.len()).filter(|i| !r.contains(i)).collect::<Vec<_>>());
        for i in &r[keys..] {
            let mut name = right.names[*i].clone();
            while names.contains(&name) {
                name.push_str("_right");
            }
            names.push(name);
        }
        Ok(Columns { keys, left: l, right: r, names, kind: options.kind })
    }

    /// Gives the columns of the key one type on both sides: what is a number on one and text on the other is compared as text.
    pub(crate) fn align(&self, left: &mut Table, right: &mut Table) {
        for (i, j) in self.left.iter().zip(&self.right).take(self.keys) {
            let kind = left.kinds[*i].max(right.kinds[*j]);
            (left.kinds[*i], right.kinds[*j]) = (kind, kind);
        }
    }

    /// A left row for the join: `None` if it gives nothing. `number` is that of the row on this rank.
    pub(crate) fn left_row(&self, values: Vec<Value>, number: u64) -> Option<Row> {
        self.side(values, number, 0, matches!(self.kind, Kind::Left | Kind::Full | Kind::Anti))
    }

    /// A right row for the join.
    pub(crate) fn right_row(&self, values: Vec<Value>, number: u64) -> Option<Row> {
        self.side(values, number, 1, matches!(self.kind, Kind::Right | Kind::Full))
    }

    /// Keys with NULL match nothing: such rows are left out, or, where rows without a match are wanted, get a longer key that the other
    /// side never has. It has their number too, so that they do not all go to one rank.
    fn side(&self, mut key: Vec<Value>, number: u64, side: i64, is_kept: bool) -> Option<Row> {
        let rest = key.split_off(self.keys);
        let mut key: Vec<Value> = key.into_iter().map(Value::as_key).collect();
        if key.iter().any(Value::is_null) {
            if !is_kept {
                return None;
            }
            key.extend([Value::Int(side), Value::Int(number as i64)]);
        }
        Some((key, rest))
    }

    /// A row of the output.
    pub(crate) fn row(
        &self,
        key: &[Value],
        left: Option<&Vec<Value>>,
        right: Option<&Vec<Value>>,
    ) -> Vec<Value> {
        let mut row = Vec::with_capacity(self.names.len());
        row.extend_from_slice(&key[..self.keys]);
        let mut side = |values: Option<&Vec<Value>>, columns: usize| match values {
            Some(values) => row.extend_from_slice(values),
            None => row.extend(std::iter::repeat_n(Value::Null, columns)),
        };
        side(left, self.left.len() - self.keys);
        if !matches!(self.kind, Kind::Semi | Kind::Anti) {
            side(right, self.right.len() - self.keys);
        }
        row
    }
}
