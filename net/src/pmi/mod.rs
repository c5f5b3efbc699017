//! Ranks find each other through the launcher's own key-value service, without any MPI: [`pmi1`] (Hydra's `mpiexec`,
//! `srun --mpi=pmi2`) and [`pmix`] (Open MPI's `mpirun`, `srun --mpi=pmix`).
//!
//! Each rank puts what others should know, all fence, then each gets what it needs. The service belongs to the process's
//! MPI library if it uses one: open it only where no MPI will be initialised.
//!
//! ```no_run
//! # fn main() -> aeolian_net::Result<()> {
//! if let Some(mut kvs) = aeolian_net::pmi::connect()? {
//!     kvs.put("address", b"10.0.0.1:4711")?;
//!     kvs.fence()?;
//!     let address = kvs.get(0, "address")?;
//!     kvs.finalize()?;
//! }
//! # Ok(())
//! # }
//! ```

pub mod pmi1;
pub mod pmix;

use crate::{NetError, Result};

/// The launcher's key-value service, joined.
pub trait Kvs: Send {
    /// What it is: `PMI-1` or `PMIx`.
    fn protocol(&self) -> &'static str;
    /// This process's rank.
    fn rank(&self) -> u32;
    /// Number of ranks.
    fn size(&self) -> u32;
    /// Bytes that a value may have.
    fn max_value(&self) -> usize;
    /// Publishes `value` under `key` (letters, digits, `-` and `_`) for this rank. Others see it after the next fence. A key
    /// is put once.
    fn put(&mut self, key: &str, value: &[u8]) -> Result<()>;
    /// Waits until all ranks have come here; what they put before can be got after.
    fn fence(&mut self) -> Result<()>;
    /// What `rank` put under `key` before the last fence.
    fn get(&mut self, rank: u32, key: &str) -> Result<Vec<u8>>;
    /// Leaves in good order: without it some launchers take the end of this process for a failure. No call may follow.
    fn finalize(&mut self) -> Result<()>;
}

/// Joins the service that the environment names: `PMIX_*`, else `PMI_FD` or `PMI_PORT`. `None`: it names none.
///
/// # Errors
/// [`NetError::Config`] when it names one that cannot be used from here.
pub fn connect() -> Result<Option<Box<dyn Kvs>>> {
    let mut first = None;
    if pmix::offered() {
        match pmix::Pmix::connect() {
            Ok(kvs) => return Ok(Some(Box::new(kvs))),
            Err(error) => first = Some(error),
        }
    }
    if pmi1::offered() {
        return Ok(Some(Box::new(pmi1::Pmi1::connect()?)));
    }
    match first {
        Some(error) => Err(error),
        None => Ok(None),
    }
}

/// `key` and `value` must be such that every service takes them.
fn check(key: &str, value: &[u8], max_value: usize) -> Result<()> {
    let sound = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    if key.is_empty() || key.len() > 40 || !key.bytes().all(sound) {
        return Err(NetError::Internal(format!("{key:?} is not a key: 1 to 40 letters, digits, - and _")));
    }
    if value.len() > max_value {
        return Err(NetError::Internal(format!(
            "a value of {} bytes for {key}: the launcher's service takes {max_value}",
            value.len()
        )));
    }
    Ok(())
}

/// Text of any bytes, without the blanks and equal signs that the wire of PMI cannot carry. Never empty (some servers lose
/// empty values): it begins with an `x`.
fn encode(value: &[u8]) -> String {
    let digit = |v: u8| char::from_digit(v.into(), 16).unwrap_or('0');
    std::iter::once('x').chain(value.iter().flat_map(|&b| [digit(b >> 4), digit(b & 15)])).collect()
}

/// The bytes of [`encode`].
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix('x')?.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    let digit = |c: u8| char::from(c).to_digit(16);
    digits.chunks(2).map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_text() {
        for value in [&b""[..], b"a", b"key=v al\n\0", &[0, 255, 16, 1]] {
            let text = encode(value);
            assert!(text.bytes().all(|c| c.is_ascii_alphanumeric()));
            assert_eq!(decode(&text).as_deref(), Some(value));
        }
        for wrong in ["", "61", "x6", "xg0", "x 1"] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn keys_and_lengths_are_checked() {
        assert!(check("card-3_a", &[0; 10], 10).is_ok());
        for key in ["", "a b", "a=b", "ä", &"k".repeat(41)] {
            assert!(check(key, &[], 10).is_err(), "{key:?}");
        }
        assert!(check("k", &[0; 11], 10).unwrap_err().to_string().contains("takes 10"));
    }
}
