//! The memory behind the rings: a `memfd` that its owner makes and its node-mates map.

use super::ShmCard;
use super::ring::{self, Consumer, Producer};
use crate::error::{NetError, Result};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const MAGIC: u64 = u64::from_le_bytes(*b"aeolshm1");

/// First page of a segment.
#[repr(C, align(128))]
struct SegmentHeader {
    magic: u64,
    rings: u32,
    ring_bytes: u32,
    token: [u8; 16],
    pad: [u8; 96],
    /// On a line of its own: the owner sleeps and wants its bell rung.
    asleep: AtomicU32,
}

const HEADER: usize = 4096;
const _: () = assert!(size_of::<SegmentHeader>() <= HEADER);

pub(super) struct Segment {
    file: File,
    map: Arc<MmapRaw>,
    rings: u32,
    ring_bytes: u32,
}

fn total(rings: u32, ring_bytes: u32) -> usize {
    HEADER + rings as usize * (ring::CONTROL + ring_bytes as usize)
}

impl Segment {
    pub(super) fn create(rings: u32, ring_bytes: u32, token: &[u8; 16]) -> Result<Segment> {
        let what = || format!("making a shared segment of {} bytes", total(rings, ring_bytes));
        let fd = rustix::fs::memfd_create("aeolian", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|e| NetError::os(what())(e.into()))?;
        let file = File::from(fd);
        file.set_len(total(rings, ring_bytes) as u64).map_err(NetError::os(what()))?;
        let map = MmapOptions::new().map_raw(&file).map_err(NetError::os(what()))?;
        let header = map.as_mut_ptr().cast::<SegmentHeader>();
        // SAFETY: the map is page-aligned, zeroed, longer than the header, and nobody else knows of it yet.
        unsafe {
            (*header).token = *token;
            (*header).rings = rings;
            (*header).ring_bytes = ring_bytes;
            (*header).magic = MAGIC;
        }
        Ok(Segment { file, map: Arc::new(map), rings, ring_bytes })
    }

    pub(super) fn open(pid: u32, card: &ShmCard) -> std::io::Result<Segment> {
        let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_string());
        if !card.ring_bytes.is_power_of_two() {
            return Err(bad("rings of a size that is no power of two"));
        }
        let file =
            File::options().read(true).write(true).open(format!("/proc/{pid}/fd/{}", card.segment_fd))?;
        if file.metadata()?.len() != total(card.rings, card.ring_bytes) as u64 {
            return Err(bad("the segment does not have the size that its owner told"));
        }
        let map = MmapOptions::new().map_raw(&file)?;
        let header = map.as_mut_ptr().cast::<SegmentHeader>();
        // SAFETY: page-aligned and longer than the header; these fields are written once, before the card is sent.
        let (magic, rings, bytes, token) =
            unsafe { ((*header).magic, (*header).rings, (*header).ring_bytes, (*header).token) };
        if magic != MAGIC || rings != card.rings || bytes != card.ring_bytes || token != card.token {
            return Err(bad("what was opened is not the segment of that rank"));
        }
        Ok(Segment { file, map: Arc::new(map), rings, ring_bytes: bytes })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The owner's sleep flag.
    pub(super) fn asleep(&self) -> &AtomicU32 {
        let header = self.map.as_mut_ptr().cast::<SegmentHeader>();
        // SAFETY: inside the map, aligned, and only ever touched as an atomic; the map lives as long as `self`.
        unsafe { &(*header).asleep }
    }

    fn ring(&self, slot: u32) -> *mut u8 {
        assert!(slot < self.rings, "ring {slot} of {}", self.rings);
        let at = HEADER + slot as usize * (ring::CONTROL + self.ring_bytes as usize);
        // SAFETY: `at` plus a ring lies inside the map, by `total`.
        unsafe { self.map.as_mut_ptr().add(at) }
    }

    /// The writing end of ring `slot`. There must be one writer a slot: the rank whose slot it is.
    pub(super) fn producer(&self, slot: u32) -> Producer {
        // SAFETY: the ring is inside the map, which the producer keeps alive; one writer a slot by the protocol.
        unsafe { Producer::new(self.ring(slot), self.ring_bytes, self.map.clone()) }
    }

    /// The reading end of ring `slot`: the owner's alone.
    pub(super) fn consumer(&self, slot: u32) -> Consumer {
        self.asleep().store(0, Ordering::Relaxed);
        // SAFETY: as above; one reader a segment, its owner.
        unsafe { Consumer::new(self.ring(slot), self.ring_bytes, self.map.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn only_rings_of_a_power_of_two_are_opened() {
        // The size and the header agree with the card each time: it is the number that is refused.
        for (ring_bytes, fine) in [(0, false), (1000, false), (1 << 10, true), (3 << 10, false)] {
            let token = [3; 16];
            let segment = Segment::create(2, ring_bytes, &token).unwrap();
            let card =
                ShmCard { segment_fd: segment.fd().as_raw_fd(), bell_fd: 0, rings: 2, ring_bytes, token };
            assert_eq!(Segment::open(std::process::id(), &card).is_ok(), fine, "{ring_bytes}");
        }
    }
}
