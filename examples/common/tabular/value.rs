//! [`Value`]: what is in a field.

use std::cmp::Ordering;

use aeolian::ops::record::{Reader, Writer, size_of_len};
use aeolian::ops::{Key, Record};

/// What is in a field of a typed column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing. As a key it comes first.
    Null,
    /// A whole number.
    Int(i64),
    /// Another number; never in a column with whole ones.
    Float(f64),
    /// Text, which is ordered by its bytes.
    Text(String),
}

// The first byte of a record: what comes, and of whole numbers in how many bytes.
const NULL: u8 = 0;
const INT1: u8 = 1;
const INT2: u8 = 2;
const INT4: u8 = 3;
const INT8: u8 = 4;
const FLOAT: u8 = 5;
const TEXT: u8 = 6;

impl Value {
    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// As it is as a key: `-0.0` is `0.0`, so that it does not depend on chance which of the two is written.
    #[must_use]
    pub fn as_key(self) -> Value {
        match self {
            Value::Float(x) => Value::Float(x + 0.0),
            other => other,
        }
    }

    fn tag(&self) -> u8 {
        match self {
            Value::Null => NULL,
            Value::Int(n) => match n {
                n if i8::try_from(*n).is_ok() => INT1,
                n if i16::try_from(*n).is_ok() => INT2,
                n if i32::try_from(*n).is_ok() => INT4,
                _ => INT8,
            },
            Value::Float(_) => FLOAT,
            Value::Text(_) => TEXT,
        }
    }

    /// The place of its type among others, for an order of all values.
    fn class(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Int(_) => 1,
            Value::Float(_) => 2,
            Value::Text(_) => 3,
        }
    }
}

impl Record for Value {
    const SIZE: Option<usize> = None;

    #[inline]
    fn size(&self) -> usize {
        1 + match (self, self.tag()) {
            (Value::Text(text), _) => size_of_len(text.len()) + text.len(),
            (_, NULL) => 0,
            (_, INT1) => 1,
            (_, INT2) => 2,
            (_, INT4) => 4,
            _ => 8,
        }
    }

    #[inline]
    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        let tag = self.tag();
        out.bytes(&[tag])?;
        match self {
            Value::Null => Some(()),
            Value::Int(n) => match tag {
                INT1 => out.bytes(&(*n as i8).to_ne_bytes()),
                INT2 => out.bytes(&(*n as i16).to_ne_bytes()),
                INT4 => out.bytes(&(*n as i32).to_ne_bytes()),
                _ => out.bytes(&n.to_ne_bytes()),
            },
            Value::Float(x) => out.bytes(&x.to_ne_bytes()),
            Value::Text(text) => {
                out.len(text.len())?;
                out.bytes(text.as_bytes())
            }
        }
    }

    #[inline]
    fn get(input: &mut Reader<'_>) -> Option<Value> {
        let [tag] = input.array()?;
        Some(match tag {
            NULL => Value::Null,
            INT1 => Value::Int(i8::from_ne_bytes(input.array()?).into()),
            INT2 => Value::Int(i16::from_ne_bytes(input.array()?).into()),
            INT4 => Value::Int(i32::from_ne_bytes(input.array()?).into()),
            INT8 => Value::Int(i64::from_ne_bytes(input.array()?)),
            FLOAT => Value::Float(f64::from_ne_bytes(input.array()?)),
            TEXT => {
                let len = input.length()?;
                Value::Text(std::str::from_utf8(input.bytes(len)?).ok()?.to_owned())
            }
            _ => return None,
        })
    }

    #[inline]
    fn skip(input: &mut Reader<'_>) -> Option<()> {
        let [tag] = input.array()?;
        let len = match tag {
            NULL => 0,
            INT1 => 1,
            INT2 => 2,
            INT4 => 4,
            INT8 | FLOAT => 8,
            TEXT => input.length()?,
            _ => return None,
        };
        input.bytes(len).map(drop)
    }
}

impl Key for Value {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        match self {
            Value::Null => ().hash(seed),
            Value::Int(n) => n.hash(seed),
            Value::Float(x) => x.hash(seed),
            Value::Text(text) => text.hash(seed),
        }
    }

    /// By the prefix first: so it is one order also of values of several types, of which each has its own prefixes.
    #[inline]
    fn order(&self, other: &Value) -> Ordering {
        let first = self.prefix().cmp(&other.prefix());
        first.then(self.class().cmp(&other.class())).then_with(|| match (self, other) {
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.order(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            _ => Ordering::Equal,
        })
    }

    #[inline]
    fn same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            _ => self.order(other).is_eq(),
        }
    }

    /// That of what is in it, but 0 is NULL's own: it comes first.
    #[inline]
    fn prefix(&self) -> u64 {
        match self {
            Value::Null => 0,
            Value::Int(n) => n.prefix().max(1),
            Value::Float(x) => x.prefix().max(1),
            Value::Text(text) => text.prefix().max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            (-300i64..300).prop_map(Value::Int),
            any::<f64>().prop_map(Value::Float),
            Just(Value::Float(-0.0)),
            "\\PC{0,12}".prop_map(Value::Text),
            Just(Value::Text("x".repeat(300))),
        ]
    }

    fn bytes_of(value: &Value) -> Vec<u8> {
        let mut bytes = vec![0; value.size()];
        let mut out = Writer::new(&mut bytes, 0);
        value.put(&mut out).unwrap();
        assert_eq!(out.position(), value.size());
        bytes
    }

    proptest! {
        #[test]
        fn records_come_back(value in any_value()) {
            let bytes = bytes_of(&value);
            let mut input = Reader::new(&bytes);
            prop_assert!(Value::get(&mut input).unwrap().same(&value) && input.is_empty());
            let mut input = Reader::new(&bytes);
            prop_assert!(Value::skip(&mut input).is_some() && input.is_empty());
            prop_assert!(Value::get(&mut Reader::new(&bytes[..bytes.len() - 1])).is_none());
        }

        #[test]
        fn order_hash_and_prefix_agree(mut values in proptest::collection::vec(any_value(), 3)) {
            values.sort_by(Key::order);
            for (a, b) in [(0, 1), (1, 2), (0, 2)].map(|(i, j)| (&values[i], &values[j])) {
                prop_assert!(a.order(b).is_le() && b.order(a).is_ge() && a.prefix() <= b.prefix());
                prop_assert_eq!(a.same(b), a.order(b).is_eq());
                prop_assert!(!a.same(b) || a.hash(7) == b.hash(7));
                prop_assert!(!b.is_null() || a.is_null(), "NULL comes first");
            }
        }
    }
}
