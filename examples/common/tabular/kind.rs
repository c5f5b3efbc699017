//! [`Kind`]: the types of columns.

use super::Value;

/// The type of a column: the first one that all of its values have. (The order is from special to general.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// There is only NULL.
    Null,
    /// Whole numbers of 64 bits. With zeros in front (`007`) or more digits it is text, of which nothing gets lost.
    Int,
    /// Numbers. (`inf` and `nan` are text.)
    Float,
    /// Anything.
    Text,
}

impl Kind {
    /// The type of a field that is not NULL.
    pub fn of(field: &[u8]) -> Kind {
        let number = field.trim_ascii();
        let digits = match number {
            [b'-' | b'+', rest @ ..] => rest,
            all => all,
        };
        match digits {
            // What looks like a number and is a name rather: 007, 01.5
            [b'0', b'0'..=b'9', ..] => Kind::Text,
            [b'0'..=b'9', ..] if digits.iter().all(u8::is_ascii_digit) => {
                if int(number).is_some() {
                    Kind::Int
                } else {
                    Kind::Text
                }
            }
            [b'0'..=b'9' | b'.', ..] if float(number).is_some() => Kind::Float,
            _ => Kind::Text,
        }
    }

    /// Why a field is [`Kind::Text`], for messages.
    pub(super) fn why_text(field: &[u8]) -> &'static str {
        let number = field.trim_ascii();
        let digits = match number {
            [b'-' | b'+', rest @ ..] => rest,
            all => all,
        };
        match digits {
            [b'0', b'0'..=b'9', ..] if float(number).is_some() => {
                "has zeros in front and is taken for a name"
            }
            [b'0'..=b'9', ..] if digits.iter().all(u8::is_ascii_digit) => "has more than 64 bits",
            _ => "is not a number",
        }
    }

    /// The value of a field that is not NULL in a column of this type. `None` if it is none of this type, or no UTF-8.
    pub fn value(self, field: &[u8]) -> Option<Value> {
        match self {
            Kind::Int => int(field.trim_ascii()).map(Value::Int),
            Kind::Float => float(field.trim_ascii()).map(Value::Float),
            Kind::Text | Kind::Null => Some(Value::Text(std::str::from_utf8(field).ok()?.to_owned())),
        }
    }

    /// The one with this number: `kind as u64`.
    pub(super) fn from_number(number: u64) -> Kind {
        match number {
            0 => Kind::Null,
            1 => Kind::Int,
            2 => Kind::Float,
            _ => Kind::Text,
        }
    }

    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Int => "int",
            Kind::Float => "float",
            Kind::Text => "text",
        }
    }
}

fn int(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn float(text: &[u8]) -> Option<f64> {
    fast_float2::parse::<f64, _>(text).ok().filter(|x| x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_what_only_looks_like_them() {
        for (field, kind) in [
            ("0", Kind::Int),
            ("-12", Kind::Int),
            ("+5", Kind::Int),
            (" 5 ", Kind::Int),
            ("-9223372036854775808", Kind::Int),
            ("9223372036854775808", Kind::Text),
            ("007", Kind::Text),
            ("0.5", Kind::Float),
            ("-.5", Kind::Float),
            ("5.", Kind::Float),
            ("1e3", Kind::Float),
            ("1e999", Kind::Text),
            ("nan", Kind::Text),
            ("-inf", Kind::Text),
            ("", Kind::Text),
            ("-", Kind::Text),
            (".", Kind::Text),
            ("1 2", Kind::Text),
            ("2013-01-01", Kind::Text),
        ] {
            assert_eq!(Kind::of(field.as_bytes()), kind, "{field:?}");
            assert!(Kind::of(field.as_bytes()).value(field.as_bytes()).is_some(), "{field:?}");
        }
        for (field, why) in
            [("-007", "zeros in front"), ("9223372036854775808", "64 bits"), ("1 2", "not a number")]
        {
            assert!(Kind::why_text(field.as_bytes()).contains(why), "{field:?}");
        }
    }
}
