//! What launcher and agent say to each other over the pipe of an ssh connection.
//!
//! The agent's side starts with [`GREETING`] (whatever a login script prints before it is skipped). The launcher sends
//! the order as JSON in one frame, then [`ToAgent`] frames; the agent answers with [`FromAgent`] frames. A frame is its
//! length (u32, little endian, at most [`MOST`]) and a postcard value. The end of the launcher's stream means that the
//! launcher is gone: the agent then ends its ranks.
//!
//! So that versions can tell each other apart, these stay as they are in all of them: the greeting, the frame, the
//! order's field `protocol`, and [`FromAgent::Ready`] and [`FromAgent::Refused`].

use super::spec::PROTOCOL;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// The first bytes of an agent.
pub(crate) const GREETING: &[u8] = b"\naeolian agent 1\n";
/// The longest frame: an order with a large environment, or a piece of output.
pub(crate) const MOST: usize = 4 << 20;
/// How much a login script may print before the greeting.
const MOST_NOISE: usize = 64 << 10;

/// Which of a rank's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a rank ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ended {
    /// It left with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// From the launcher to an agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToAgent {
    /// Every host is ready: start the ranks.
    Go,
    /// Pass a signal on to every rank's process group.
    Signal(i32),
    /// Data for the rank that has the standard input.
    Stdin(#[serde(with = "bytes")] Vec<u8>),
    /// The standard input has ended.
    StdinEnd,
    /// Nobody reads this stream any more.
    CloseOutput(Stream),
    /// So much output (by [`output_cost`]) has gone out: as much more may be sent.
    OutputTaken(u32),
}

/// What a piece of output costs of the credit: small ones have a price too, since each is kept by itself.
pub(crate) fn output_cost(data: &[u8]) -> usize {
    data.len() + 64
}

/// From an agent to the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromAgent {
    /// The order was read, and the program can be run here.
    Ready,
    /// The order cannot be carried out.
    Refused {
        /// Why, with what to do.
        why: String,
        /// The exit code that says it.
        code: u8,
    },
    /// A rank runs.
    Started {
        /// Which.
        rank: u32,
        /// As which process.
        pid: u32,
    },
    /// A rank wrote: whole lines where it wrote lines.
    Output {
        /// Which.
        rank: u32,
        /// Where to.
        stream: Stream,
        /// What.
        #[serde(with = "bytes")]
        data: Vec<u8>,
    },
    /// So many bytes of standard input were handed to the rank: as many more may be sent.
    StdinTaken(u32),
    /// A rank ended.
    Exited {
        /// Which.
        rank: u32,
        /// How.
        ended: Ended,
    },
    /// Every rank has ended, its process group is gone, and all output was sent.
    Done,
}

/// What this side is, in messages to people.
pub(crate) fn version() -> String {
    format!("aeolian {} (protocol {PROTOCOL})", env!("CARGO_PKG_VERSION"))
}

/// Writes one frame.
pub(crate) fn write_frame<T: Serialize>(to: &mut impl Write, value: &T) -> io::Result<()> {
    let mut frame = vec![0u8; 4];
    frame = postcard::to_extend(value, frame).map_err(io::Error::other)?;
    to.write_all(&finish_frame(frame)?)?;
    to.flush()
}

/// The order's frame (JSON, so that a person can read what went over in a debugger or a test).
pub(crate) fn json_frame<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0u8; 4];
    serde_json::to_writer(&mut frame, value)?;
    finish_frame(frame)
}

fn finish_frame(mut frame: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = frame.len() - 4;
    if length > MOST {
        return Err(io::Error::other(format!("a frame of {length} bytes, more than {MOST}")));
    }
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

/// Reads one frame; `None` at the end of the stream between frames.
pub(crate) fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    read_raw(from)?.map(|raw| postcard::from_bytes(&raw).map_err(io::Error::other)).transpose()
}

/// Reads what one frame holds; `None` at the end of the stream between frames.
pub(crate) fn read_raw(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0u8; 4];
    match from.read(&mut length[..1]) {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::Interrupted => return read_raw(from),
        Err(e) => return Err(e),
    }
    from.read_exact(&mut length[1..])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MOST {
        return Err(io::Error::other(format!("a frame of {length} bytes, more than {MOST}")));
    }
    // Grows with what arrives, not with what was promised.
    let mut raw = Vec::with_capacity(length.min(64 << 10));
    from.take(length as u64).read_to_end(&mut raw)?;
    if raw.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(raw))
}

/// Skips to behind the greeting; gives back what came instead if it does not come.
pub(crate) fn skip_to_greeting(from: &mut impl Read) -> Result<(), String> {
    let mut seen = Vec::new();
    let mut byte = [0u8; 1];
    while seen.len() < MOST_NOISE {
        match from.read(&mut byte) {
            Ok(1..) => seen.push(byte[0]),
            Ok(0) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        if seen.ends_with(GREETING) {
            return Ok(());
        }
    }
    seen.truncate(400);
    Err(String::from_utf8_lossy(&seen).trim().to_string())
}

/// Byte strings as one piece instead of element by element.
mod bytes {
    use serde::de::{Deserializer, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back() {
        let mut pipe = Vec::new();
        let data: Vec<u8> = (0..=255).collect();
        write_frame(&mut pipe, &FromAgent::Output { rank: 7, stream: Stream::Err, data: data.clone() })
            .unwrap();
        write_frame(&mut pipe, &FromAgent::Exited { rank: 1, ended: Ended::Signal(9) }).unwrap();
        let mut from = &pipe[..];
        let Some(FromAgent::Output { rank: 7, stream: Stream::Err, data: back }) =
            read_frame(&mut from).unwrap()
        else {
            panic!("not the frame that was sent")
        };
        assert_eq!(back, data);
        assert!(matches!(
            read_frame(&mut from).unwrap(),
            Some(FromAgent::Exited { rank: 1, ended: Ended::Signal(9) })
        ));
        assert!(read_frame::<FromAgent>(&mut from).unwrap().is_none());
    }

    #[test]
    fn what_tells_versions_apart_stays() {
        let mut pipe = Vec::new();
        write_frame(&mut pipe, &FromAgent::Ready).unwrap();
        write_frame(&mut pipe, &FromAgent::Refused { why: "no".into(), code: 76 }).unwrap();
        assert_eq!(pipe, *b"\x01\0\0\0\0\x05\0\0\0\x01\x02noL");
        assert_eq!(GREETING, b"\naeolian agent 1\n");
    }

    #[test]
    fn damaged_frames_are_errors() {
        let mut good = Vec::new();
        write_frame(&mut good, &ToAgent::Stdin(vec![1, 2, 3])).unwrap();
        for cut in 1..good.len() {
            assert!(read_frame::<ToAgent>(&mut &good[..cut]).is_err(), "cut at {cut}");
        }
        assert!(read_frame::<ToAgent>(&mut &[255u8; 8][..]).unwrap_err().to_string().contains("more than"));
        assert!(read_frame::<ToAgent>(&mut &[1u8, 0, 0, 0, 99][..]).is_err(), "no such message");
    }

    #[test]
    fn login_noise_is_skipped() {
        let mut text = b"Welcome to n1!\n\x1b[31m aeolian agent 2\n".to_vec();
        text.extend_from_slice(GREETING);
        text.push(42);
        let mut from = &text[..];
        skip_to_greeting(&mut from).unwrap();
        assert_eq!(from, [42]);
        assert_eq!(skip_to_greeting(&mut &b"command not found\n"[..]).unwrap_err(), "command not found");
    }
}
