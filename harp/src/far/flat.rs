//! [`Flat`]: the arrays of a table one behind the other, to be combined in pieces wherever these begin.

use super::team::Team;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::join::both;
use crate::table::Table;
use aeolian_net::Buf;
use std::marker::PhantomData;
use std::ops::Range;

/// The elements of all partitions.
pub(crate) struct Flat<D: Data> {
    data: Buf,
    /// Bytes of an element.
    width: usize,
    /// Ids and bytes of the partitions.
    parts: Vec<(u64, usize)>,
    of: PhantomData<D>,
}

/// What becomes of bytes that arrive.
#[derive(Clone, Copy)]
pub(crate) enum Arriving {
    /// They take the place of those that are here.
    Replace,
    /// They are behind those that are here in the order of the ranks.
    Above,
    /// They are before them.
    Below,
}

impl<D: Data> Flat<D> {
    /// Takes the partitions out of a table of arrays.
    pub(crate) fn of<C: Combiner<D::Unit>>(table: &mut Table<D, C>) -> Result<Flat<D>> {
        let width = D::element().unwrap_or(1);
        let parts: Vec<_> = table.iter().map(|(id, part)| (id, D::len(part) * width)).collect();
        let mut taken = table.take();
        // One moves as it lies.
        let data = match taken.pop() {
            Some((id, part)) if taken.is_empty() => {
                D::into_buf(part).map_err(|what| HarpError::Encode { id, what })?
            }
            last => {
                let mut data = Buf::stale(parts.iter().map(|(_, len)| len).sum());
                let mut at = 0;
                for (_, part) in taken.iter().chain(&last) {
                    let bytes = D::bytes(part);
                    data[at..at + bytes.len()].copy_from_slice(bytes);
                    at += bytes.len();
                }
                data
            }
        };
        Ok(Flat { data, width, parts, of: PhantomData })
    }

    /// Puts them back.
    pub(crate) fn back<C: Combiner<D::Unit>>(self, table: &mut Table<D, C>) -> Result<()> {
        if let [(id, _)] = self.parts[..] {
            let part = D::from_buf(self.data).map_err(|what| HarpError::Encode { id, what })?;
            table.insert(id, part);
            return Ok(());
        }
        let mut at = 0;
        for (id, len) in self.parts {
            let part =
                D::from_bytes(&self.data[at..at + len]).map_err(|what| HarpError::Encode { id, what })?;
            table.insert(id, part);
            at += len;
        }
        Ok(())
    }

    /// Elements.
    pub(crate) fn len(&self) -> usize {
        self.data.len() / self.width
    }

    /// Bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Sends the elements `out` to one and receives `come` from another at the same time; both know the lengths.
    ///
    /// In pieces, so that what has come is combined while the rest is under way.
    pub(crate) async fn swap<C: Combiner<D::Unit>>(
        &mut self,
        team: &Team<'_>,
        (to, out): (u32, Range<usize>),
        (from, come): (u32, Range<usize>),
        how: Arriving,
        combiner: &C,
    ) -> Result<()> {
        let width = self.width;
        let piece = (team.choice().piece / width).max(1) * width;
        let bytes = |range: Range<usize>| range.start * width..range.end * width;
        let Some((out, come)) = apart(&mut self.data, bytes(out), bytes(come)) else {
            return Err(HarpError::Usage("shares of one table overlap".into()));
        };
        let send = async {
            for piece in out.chunks(piece) {
                team.send(to, Buf::from_slice(piece)).await?;
            }
            Ok(())
        };
        let receive = async {
            for here in come.chunks_mut(piece) {
                let mut came = team.recv(from).await?;
                if came.len() != here.len() {
                    let what = format!("{} bytes where {} were due", came.len(), here.len());
                    return Err(team.broken(from, what));
                }
                match how {
                    Arriving::Replace => here.copy_from_slice(&came),
                    Arriving::Above => D::with_pieces(here, &came, |a, b| combiner.combine(a, b)),
                    Arriving::Below => {
                        D::with_pieces(&mut came, here, |a, b| combiner.combine(a, b));
                        here.copy_from_slice(&came);
                    }
                }
            }
            Ok(())
        };
        both(send, receive).await.map(drop)
    }
}

/// Two ranges of the bytes that have nothing in common, the first to be read, the second to be written.
fn apart(data: &mut [u8], out: Range<usize>, come: Range<usize>) -> Option<(&[u8], &mut [u8])> {
    if out.end > data.len() || come.end > data.len() || out.start > out.end || come.start > come.end {
        return None;
    }
    if out.is_empty() {
        return Some((&[], &mut data[come]));
    }
    if out.end <= come.start || come.is_empty() {
        let (low, high) = data.split_at_mut(if come.is_empty() { data.len() } else { come.start });
        let come = if come.is_empty() { &mut [][..] } else { &mut high[..come.len()] };
        return Some((&low[out], come));
    }
    if come.end <= out.start {
        let (low, high) = data.split_at_mut(out.start);
        return Some((&high[..out.len()], &mut low[come]));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::apart;

    #[test]
    fn ranges_are_given_only_if_they_have_nothing_in_common() {
        let mut data: Vec<u8> = (0..10).collect();
        for (a, b) in (0..=10).flat_map(|a| (a..=10).map(move |b| (a, b))) {
            for (c, d) in (0..=10).flat_map(|c| (c..=10).map(move |d| (c, d))) {
                let meet = (a..b).any(|x| (c..d).contains(&x));
                let want = (!meet).then(|| ((a..b).collect::<Vec<_>>(), (c..d).collect::<Vec<_>>()));
                let numbers = |bytes: &[u8]| bytes.iter().map(|x| usize::from(*x)).collect::<Vec<_>>();
                let got = apart(&mut data, a..b, c..d).map(|(x, y)| (numbers(x), numbers(y)));
                assert_eq!(got, want, "{a}..{b} and {c}..{d}");
            }
        }
        assert!(apart(&mut data, 0..11, 0..0).is_none() && apart(&mut data, 0..0, 11..12).is_none());
    }
}
