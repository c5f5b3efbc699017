//! Aggregates: as SQL has them, over the values that are not NULL.

use std::str::FromStr;

use aeolian::ops::record::{Reader, Writer};
use aeolian::ops::{Key, Record};
use aeolian_examples::tabular::{Kind, Value};

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Sum,
    Count,
    Min,
    Max,
    Mean,
}

/// An aggregate as it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) what: What,
    /// Without one, rows are counted.
    pub(crate) column: Option<String>,
    /// The name of the output's column.
    pub(crate) name: String,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Wanted, String> {
        let (word, column) = match text.split_once(':') {
            Some((word, column)) => (word, Some(column.to_owned())),
            None => (text, None),
        };
        let what = match word {
            "sum" => What::Sum,
            "count" => What::Count,
            "min" => What::Min,
            "max" => What::Max,
            "mean" => What::Mean,
            _ => return Err("write count, or count, sum, min, max or mean with a column: sum:COL".into()),
        };
        let name = match &column {
            None if what != What::Count => return Err(format!("of which column? write {word}:COL")),
            None => word.to_owned(),
            Some(column) => format!("{word}_{column}"),
        };
        Ok(Wanted { what, column, name })
    }
}

/// What there is of an aggregate so far.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Count(u64),
    /// The exact sum of so many whole numbers: 128 bits hold that of any file.
    Whole(i128, u64),
    Float(f64, u64),
    Least(Value),
    Greatest(Value),
}

impl Part {
    /// Of one value of a column of this type. (Sums and means are of numbers: see [`Wanted`]'s check.)
    pub(crate) fn of(what: What, kind: Kind, value: Value) -> Part {
        match (what, value) {
            (What::Count, value) => Part::Count(u64::from(!value.is_null())),
            (What::Min, value) => Part::Least(value),
            (What::Max, value) => Part::Greatest(value),
            (_, Value::Int(n)) => Part::Whole(n.into(), 1),
            (_, Value::Float(x)) => Part::Float(x, 1),
            // NULL: every part of a column must be of one sort.
            _ if kind == Kind::Float => Part::Float(0.0, 0),
            _ => Part::Whole(0, 0),
        }
    }

    /// Takes another part of the same aggregate.
    pub(crate) fn add(&mut self, other: Part) {
        match (self, other) {
            (Part::Count(a), Part::Count(b)) => *a += b,
            (Part::Whole(a, n), Part::Whole(b, m)) => (*a, *n) = (a.wrapping_add(b), *n + m),
            (Part::Float(a, n), Part::Float(b, m)) => (*a, *n) = (*a + b, *n + m),
            (Part::Least(a), Part::Least(b)) if a.is_null() || (!b.is_null() && b.order(a).is_lt()) => *a = b,
            // NULL comes before all others.
            (Part::Greatest(a), Part::Greatest(b)) if b.order(a).is_gt() => *a = b,
            _ => {}
        }
    }

    /// The value, or what is wrong with a sum: it is beyond what 64 bits can hold.
    pub(crate) fn end(self, what: What) -> Result<Value, String> {
        Ok(match (what, self) {
            (_, Part::Count(n)) => Value::Int(i64::try_from(n).unwrap_or(i64::MAX)),
            (_, Part::Least(value) | Part::Greatest(value)) => value.as_key(),
            (_, Part::Whole(_, 0) | Part::Float(_, 0)) => Value::Null,
            // (No input has an infinite number: that is text.)
            (_, Part::Float(sum, _)) if !sum.is_finite() => {
                return Err("too large for a floating-point number of 64 bits".into());
            }
            (What::Mean, Part::Whole(sum, n)) => Value::Float(sum as f64 / n as f64),
            (What::Mean, Part::Float(sum, n)) => Value::Float(sum / n as f64),
            (_, Part::Whole(sum, _)) => {
                Value::Int(i64::try_from(sum).map_err(|_| format!("{sum}: beyond 64 bits"))?)
            }
            (_, Part::Float(sum, _)) => Value::Float(sum),
        })
    }
}

impl Record for Part {
    const SIZE: Option<usize> = None;

    #[inline]
    fn size(&self) -> usize {
        1 + match self {
            Part::Count(n) => n.size(),
            Part::Whole(sum, n) => sum.size() + n.size(),
            Part::Float(sum, n) => sum.size() + n.size(),
            Part::Least(value) | Part::Greatest(value) => value.size(),
        }
    }

    #[inline]
    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        match self {
            Part::Count(n) => {
                out.bytes(&[0])?;
                n.put(out)
            }
            Part::Whole(sum, n) => {
                out.bytes(&[1])?;
                sum.put(out)?;
                n.put(out)
            }
            Part::Float(sum, n) => {
                out.bytes(&[2])?;
                sum.put(out)?;
                n.put(out)
            }
            Part::Least(value) => {
                out.bytes(&[3])?;
                value.put(out)
            }
            Part::Greatest(value) => {
                out.bytes(&[4])?;
                value.put(out)
            }
        }
    }

    #[inline]
    fn get(input: &mut Reader<'_>) -> Option<Part> {
        Some(match input.array()? {
            [0] => Part::Count(u64::get(input)?),
            [1] => Part::Whole(i128::get(input)?, u64::get(input)?),
            [2] => Part::Float(f64::get(input)?, u64::get(input)?),
            [3] => Part::Least(Value::get(input)?),
            [4] => Part::Greatest(Value::get(input)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregates_leave_null_out() {
        let of = |what, kind, values: &[Value]| {
            let mut parts = values.iter().map(|v| Part::of(what, kind, v.clone()));
            let mut all = parts.next().unwrap();
            parts.for_each(|part| all.add(part));
            let mut bytes = vec![0; all.size()];
            all.put(&mut Writer::new(&mut bytes, 0)).unwrap();
            assert_eq!(Part::get(&mut Reader::new(&bytes)).as_ref(), Some(&all));
            all.end(what)
        };
        let ints = [Value::Null, Value::Int(i64::MAX), Value::Int(-3), Value::Null, Value::Int(3)];
        assert_eq!(of(What::Sum, Kind::Int, &ints), Ok(Value::Int(i64::MAX)));
        assert_eq!(
            of(What::Sum, Kind::Int, &[Value::Int(i64::MAX), Value::Int(1)]),
            Err("9223372036854775808: beyond 64 bits".into())
        );
        for what in [What::Sum, What::Mean] {
            let all = of(what, Kind::Float, &[1e308, 1e308, -1e308].map(Value::Float));
            assert!(all.unwrap_err().contains("too large"));
        }
        assert_eq!(of(What::Count, Kind::Int, &ints), Ok(Value::Int(3)));
        assert_eq!(of(What::Min, Kind::Int, &ints), Ok(Value::Int(-3)));
        assert_eq!(of(What::Max, Kind::Int, &ints), Ok(Value::Int(i64::MAX)));
        assert_eq!(of(What::Mean, Kind::Float, &[Value::Float(1.0), Value::Null]), Ok(Value::Float(1.0)));
        for what in [What::Sum, What::Min, What::Max, What::Mean] {
            assert_eq!(of(what, Kind::Float, &[Value::Null, Value::Null]), Ok(Value::Null));
        }
    }
}
