//! Strings of the operating system in the order's JSON: as text where they are UTF-8, else as `{"hex": "..."}`. (serde's own
//! form is a list of numbers, four times as long and not readable.)

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What `#[serde(with = "word")]` can be put on.
pub(crate) trait Words: Sized {
    /// What is written for it.
    type Written: Serialize + DeserializeOwned;
    /// As it is written.
    fn written(&self) -> Self::Written;
    /// Back from that.
    fn read(written: Self::Written) -> Result<Self, &'static str>;
}

/// One string.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Written {
    Text(String),
    Bytes { hex: String },
}

impl Words for OsString {
    type Written = Written;

    fn written(&self) -> Written {
        match self.to_str() {
            Some(text) => Written::Text(text.into()),
            None => Written::Bytes { hex: self.as_bytes().iter().map(|b| format!("{b:02x}")).collect() },
        }
    }

    fn read(written: Written) -> Result<OsString, &'static str> {
        let hex = match written {
            Written::Text(text) => return Ok(text.into()),
            Written::Bytes { hex } => hex,
        };
        let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(pair).collect();
        bytes.map(OsString::from_vec).ok_or("no pairs of hexadecimal digits")
    }
}

impl<T: Words> Words for Vec<T> {
    type Written = Vec<T::Written>;

    fn written(&self) -> Self::Written {
        self.iter().map(T::written).collect()
    }

    fn read(written: Self::Written) -> Result<Self, &'static str> {
        written.into_iter().map(T::read).collect()
    }
}

impl<A: Words, B: Words> Words for (A, B) {
    type Written = (A::Written, B::Written);

    fn written(&self) -> Self::Written {
        (self.0.written(), self.1.written())
    }

    fn read((a, b): Self::Written) -> Result<Self, &'static str> {
        Ok((A::read(a)?, B::read(b)?))
    }
}

pub(crate) fn serialize<T: Words, S: Serializer>(words: &T, to: S) -> Result<S::Ok, S::Error> {
    words.written().serialize(to)
}

pub(crate) fn deserialize<'de, T: Words, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    T::read(T::Written::deserialize(from)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Order {
        #[serde(with = "super")]
        args: Vec<OsString>,
        #[serde(with = "super")]
        env: Vec<(OsString, OsString)>,
    }

    #[test]
    fn strings_come_back_and_are_short() {
        let odd = OsString::from_vec(vec![b'a', 0xff, 0x0f]);
        let order = Order {
            args: vec!["ö \"x\"\n".into(), odd.clone(), "".into()],
            env: vec![("A".into(), odd), ("B".into(), "c".into())],
        };
        let text = serde_json::to_string(&order).unwrap();
        assert_eq!(
            text,
            r#"{"args":["ö \"x\"\n",{"hex":"61ff0f"},""],"env":[["A",{"hex":"61ff0f"}],["B","c"]]}"#
        );
        assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
        for bad in ["abc", "0g", "ü1", "+1"] {
            let text = format!(r#"{{"args":[{{"hex":"{bad}"}}],"env":[]}}"#);
            assert!(serde_json::from_str::<Order>(&text).is_err(), "{bad}");
        }
    }
}
