//! Point to point over MPI: owned buffers, nothing blocks, nothing moves unless [`Engine::poll`] is called.
//!
//! Requests in flight are a dense array (in the table's `ctx`), tested all at once by `MPI_Testsome`; the engine's slots run parallel
//! to it, and both fill the hole of a finished request with their last (`swap_remove`).
//!
//! A message longer than [`Mpi::chunk_limit`] goes as a header with its length, followed by pieces; both bear the bit `LARGE` in
//! their tag. MPI matches messages from one rank in the order they were sent, so nothing of that rank comes between.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Mpi;
use crate::{NetError, Result};

/// Largest tag of a user: MPI promises tags up to 32767 only, and the engine keeps one bit of that.
pub const TAG_MAX: u32 = LARGE - 1;

/// Tag bit of the header and the pieces of a message above the chunk limit.
const LARGE: u32 = 1 << 14;

/// Header of such a message: its length and the length of its pieces, u64 little endian.
const HEADER: usize = 16;

/// Messages that one [`Engine::poll`] begins to receive at most.
const RECEIVES_PER_POLL: usize = 64;

/// A message up to this length has come as a whole when it is matched: MPIs send it at once, without asking whether there is room.
const SHORT: usize = 1 << 10;

/// Polls in a row that look at no request in flight because there was a short message: it should not wait for that.
const UNTESTED_POLLS: u32 = 16;

/// How long dropping an engine waits for what is in flight, before and after asking MPI to cancel it.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// Bytes that MPI reads or writes while the engine owns them.
///
/// # Safety
/// The address and the length of the bytes must not change while the value is moved (`Vec<u8>` is right; an inline array is not), and only
/// `bytes_mut` and dropping may change or free them. `with_len(n)` must give exactly `n` initialised bytes.
pub unsafe trait Buffer: Sized {
    /// The message.
    fn bytes(&self) -> &[u8];
    /// The message, to be written.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// A buffer of `len` bytes of any value.
    fn with_len(len: usize) -> Self;
}

// SAFETY: a Vec's bytes are on the heap (or are none).
unsafe impl Buffer for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
    fn with_len(len: usize) -> Self {
        vec![0; len]
    }
}

/// What [`Engine::poll`] reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion<B> {
    /// A send is done as far as this side goes: here is its buffer again.
    Sent {
        /// Where it went.
        dst: u32,
        /// Its tag.
        tag: u32,
        /// The buffer, unchanged.
        buf: B,
    },
    /// A message has come. Messages of one source come in the order they were posted, whatever their tags and lengths.
    Received {
        /// Who sent it.
        source: u32,
        /// Its tag.
        tag: u32,
        /// The message.
        buf: B,
    },
}

/// What the request of the same index is for.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Send { index: usize },
    Receive { source: usize, sequence: u64 },
}

/// A message that is being sent.
#[derive(Debug)]
struct Outgoing<B> {
    dst: u32,
    tag: u32,
    buf: B,
    /// Kept alive for the header's request.
    header: Option<Box<[u8; HEADER]>>,
    /// Requests that are not done.
    requests: usize,
}

/// A message that is being received.
#[derive(Debug)]
struct Incoming<B> {
    tag: u32,
    buf: B,
    /// Pieces that have not arrived, begun or not.
    pieces: usize,
}

/// What comes from one rank.
#[derive(Debug)]
struct Source<B> {
    /// Sequence number of the front of `queue`.
    first: u64,
    /// Messages not yet handed out, in order.
    queue: VecDeque<Incoming<B>>,
    /// Pieces of the back of `queue` that have not been matched.
    partial: Option<Partial>,
}

/// What an arrived message is.
enum Matched {
    Nothing,
    /// Its bytes are on their way.
    Begun,
    /// All of a message of this rank is here.
    Whole(usize),
}

/// The rest of a message in pieces.
#[derive(Debug)]
struct Partial {
    /// Where the next piece goes.
    next: *mut u8,
    /// Bytes that have not been matched.
    left: usize,
    /// Length of each piece but the last.
    piece: usize,
}

/// A progress engine on one [`Mpi`].
#[derive(Debug)]
pub struct Engine<B: Buffer> {
    mpi: Mpi,
    slots: Vec<Slot>,
    outgoing: Vec<Option<Outgoing<B>>>,
    free: Vec<usize>,
    sources: Vec<Source<B>>,
    done: Vec<u64>,
    sends: usize,
    requests_done: u64,
    /// Messages to look for at once: more if there were as many last time.
    burst: usize,
    /// Polls since requests in flight were tested.
    untested: u32,
}

// SAFETY: the raw pointers point into buffers that the engine owns; all else is Send.
unsafe impl<B: Buffer + Send> Send for Engine<B> {}

impl<B: Buffer> Engine<B> {
    /// An engine that owns `mpi`.
    pub fn new(mpi: Mpi) -> Engine<B> {
        let source = || Source { first: 0, queue: VecDeque::new(), partial: None };
        let sources = (0..mpi.size()).map(|_| source()).collect();
        Engine {
            mpi,
            slots: Vec::new(),
            outgoing: Vec::new(),
            free: Vec::new(),
            sources,
            done: Vec::new(),
            sends: 0,
            requests_done: 0,
            burst: 1,
            untested: 0,
        }
    }

    /// The world, for its collectives.
    pub fn mpi(&self) -> &Mpi {
        &self.mpi
    }

    /// The world, to be set up.
    pub fn mpi_mut(&mut self) -> &mut Mpi {
        &mut self.mpi
    }

    /// Messages posted whose [`Completion::Sent`] has not been reported. Back-pressure is the caller's: bound this.
    pub fn sends_in_flight(&self) -> usize {
        self.sends
    }

    /// Requests that MPI works on (a message in pieces counts several times).
    pub fn requests_in_flight(&self) -> usize {
        self.slots.len()
    }

    /// Requests that MPI has finished so far: it grows with every piece of a long message.
    pub fn requests_done(&self) -> u64 {
        self.requests_done
    }

    /// Starts to send `buf` to `dst` (oneself included). `tag` is at most [`TAG_MAX`]; any length goes, also none.
    ///
    /// # Errors
    /// [`NetError::Usage`] for a tag out of range, [`NetError::Mpi`] with MPI's words otherwise, as for a rank that does not exist.
    pub fn post_send(&mut self, dst: u32, tag: u32, buf: B) -> Result<()> {
        if tag > TAG_MAX {
            return Err(NetError::Usage(format!("message tag {tag} is above {TAG_MAX}")));
        }
        let chunk = self.mpi.chunk;
        let len = buf.bytes().len();
        let large = len > chunk;
        let header = large.then(|| {
            let mut header = Box::new([0; HEADER]);
            header[..8].copy_from_slice(&(len as u64).to_le_bytes());
            header[8..].copy_from_slice(&(chunk as u64).to_le_bytes());
            header
        });
        let index = self.free.pop().unwrap_or_else(|| {
            self.outgoing.push(None);
            self.outgoing.len() - 1
        });
        let message = self.outgoing[index].insert(Outgoing { dst, tag, buf, header, requests: 0 });
        self.sends += 1;
        let dst = i32::try_from(dst).unwrap_or(i32::MAX);
        let tag = (tag | if large { LARGE } else { 0 }) as i32;
        let mut result = Ok(());
        {
            let Outgoing { buf, header, requests, .. } = message;
            let bytes = buf.bytes();
            // One piece of no bytes for an empty message.
            let pieces = bytes.chunks(chunk).chain(bytes.is_empty().then_some(bytes));
            for piece in header.iter().map(|h| &h[..]).chain(pieces) {
                result = self.mpi.call("MPI_Isend", |ops, ctx| {
                    // SAFETY: the bytes live in `outgoing[index]` until testsome reports the last request of it (or are leaked).
                    unsafe { (ops.isend)(ctx, piece.as_ptr().cast(), piece.len() as u64, dst, tag) }
                });
                if result.is_err() {
                    break;
                }
                *requests += 1;
                self.slots.push(Slot::Send { index });
            }
        }
        if result.is_err() && self.outgoing[index].as_ref().is_some_and(|m| m.requests == 0) {
            self.outgoing[index] = None;
            self.free.push(index);
            self.sends -= 1;
        }
        result
    }

    /// Makes progress without blocking: begins to receive what has arrived, and hands `on` all that is finished.
    /// Gives the number of completions.
    pub fn poll(&mut self, on: &mut impl FnMut(Completion<B>)) -> Result<usize> {
        self.poll_receiving(RECEIVES_PER_POLL, on)
    }

    /// [`Engine::poll`] that begins at most `receives` messages: 0 stops the inflow where there is no room for more. (Senders then
    /// wait inside their MPI, whose own buffering is bounded by its eager limits.)
    pub fn poll_receiving(&mut self, receives: usize, on: &mut impl FnMut(Completion<B>)) -> Result<usize> {
        let (limit, mut begun, mut reported) = (receives.min(self.burst), 0, 0);
        while begun < limit {
            match self.begin_receive()? {
                Matched::Nothing => break,
                Matched::Begun => {}
                Matched::Whole(source) => {
                    self.requests_done += 1;
                    reported += self.deliver(source, on);
                }
            }
            begun += 1;
        }
        self.burst = if begun == limit { self.burst * 2 } else { begun }.clamp(1, RECEIVES_PER_POLL);
        self.untested += 1;
        if self.slots.is_empty() || (reported > 0 && self.untested < UNTESTED_POLLS) {
            return Ok(reported);
        }
        self.untested = 0;
        let n = self.slots.len();
        self.done.resize(self.done.len().max(n), 0);
        let (done, mut count) = (&mut self.done, 0);
        self.mpi.call("MPI_Testsome", |ops, ctx| {
            // SAFETY: done is at least as long as the list of requests, which is as long as slots.
            unsafe { (ops.testsome)(ctx, done.as_mut_ptr(), done.len() as u64, &mut count) }
        })?;
        self.requests_done += count;
        for k in 0..count as usize {
            match self.slots.swap_remove(self.done[k] as usize) {
                Slot::Send { index } => reported += self.sent(index, on),
                Slot::Receive { source, sequence } => {
                    let from = &mut self.sources[source];
                    if let Some(message) = from.queue.get_mut((sequence - from.first) as usize) {
                        message.pieces -= 1;
                    }
                    reported += self.deliver(source, on);
                }
            }
        }
        Ok(reported)
    }

    /// Hands out what has come from one rank, in order.
    fn deliver(&mut self, source: usize, on: &mut impl FnMut(Completion<B>)) -> usize {
        let (from, mut reported) = (&mut self.sources[source], 0);
        while from.queue.front().is_some_and(|m| m.pieces == 0) {
            let Some(Incoming { tag, buf, .. }) = from.queue.pop_front() else { break };
            from.first += 1;
            reported += 1;
            on(Completion::Received { source: source as u32, tag, buf });
        }
        reported
    }

    /// A request of `outgoing[index]` is done.
    fn sent(&mut self, index: usize, on: &mut impl FnMut(Completion<B>)) -> usize {
        let Some(message) = &mut self.outgoing[index] else { return 0 };
        message.requests -= 1;
        if message.requests > 0 {
            return 0;
        }
        let Some(Outgoing { dst, tag, buf, .. }) = self.outgoing[index].take() else { return 0 };
        self.free.push(index);
        self.sends -= 1;
        on(Completion::Sent { dst, tag, buf });
        1
    }

    /// Matches one arrived message and begins to receive it.
    fn begin_receive(&mut self) -> Result<Matched> {
        let (mut found, mut source, mut tag, mut len) = (0, 0, 0, 0);
        self.mpi.call("MPI_Improbe", |ops, ctx| {
            // SAFETY: pointers to locals.
            unsafe { (ops.improbe)(ctx, &mut found, &mut source, &mut tag, &mut len) }
        })?;
        if found == 0 {
            return Ok(Matched::Nothing);
        }
        let protocol = |what: String| Err(NetError::Protocol { peer: format!("rank {source} (MPI)"), what });
        let (index, tag, len) = (source as usize, tag as u32, len as usize);
        let Some(from) = self.sources.get_mut(index) else {
            return protocol(format!("it is not a rank of {}", self.mpi.size()));
        };
        let address = match (tag & LARGE != 0, &mut from.partial) {
            (false, None) => {
                let mut buf = B::with_len(len);
                let address = writable(&mut buf, len)?;
                if len <= SHORT {
                    self.mpi.call("MPI_Mrecv", |ops, ctx| {
                        // SAFETY: so many bytes of `buf`.
                        unsafe { (ops.mrecv)(ctx, address.cast(), len as u64) }
                    })?;
                    from.queue.push_back(Incoming { tag, buf, pieces: 0 });
                    return Ok(Matched::Whole(index));
                }
                from.queue.push_back(Incoming { tag, buf, pieces: 1 });
                address
            }
            (true, None) => {
                let (total, piece) = match header(&self.mpi, len)? {
                    Ok(lengths) => lengths,
                    Err(what) => return protocol(what),
                };
                let mut buf = B::with_len(total);
                from.partial = Some(Partial { next: writable(&mut buf, total)?, left: total, piece });
                from.queue.push_back(Incoming { tag: tag & !LARGE, buf, pieces: total.div_ceil(piece) });
                return Ok(Matched::Begun);
            }
            (true, Some(partial)) => {
                let due = partial.piece.min(partial.left);
                if len != due {
                    return protocol(format!("a piece of {len} bytes where {due} were due"));
                }
                let address = partial.next;
                partial.next = address.wrapping_add(len);
                partial.left -= len;
                if partial.left == 0 {
                    from.partial = None;
                }
                address
            }
            (false, Some(_)) => return protocol("another message amid the pieces of one".into()),
        };
        let sequence = from.first + from.queue.len() as u64 - 1;
        self.mpi.call("MPI_Imrecv", |ops, ctx| {
            // SAFETY: the bytes live in the queue of the source until testsome reports the request (or are leaked); nobody
            // touches them before.
            unsafe { (ops.imrecv)(ctx, address.cast(), len as u64) }
        })?;
        self.slots.push(Slot::Receive { source: index, sequence });
        Ok(Matched::Begun)
    }

    /// Polls until no send is in flight, or `timeout` has passed ([`NetError::TimedOut`]).
    pub fn drain(&mut self, timeout: Duration, on: &mut impl FnMut(Completion<B>)) -> Result<()> {
        let end = Instant::now() + timeout;
        while self.sends > 0 {
            if self.poll(on)? == 0 {
                if Instant::now() > end {
                    return Err(NetError::TimedOut {
                        what: format!("the delivery of the last {} messages over MPI", self.sends),
                        seconds: timeout.as_secs(),
                        help: "a rank has stopped receiving: look for the first error of the job".into(),
                    });
                }
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Orderly end: finishes what is in flight (dropping what still arrives), waits for all ranks to do so too and ends MPI.
    ///
    /// # Errors
    /// [`NetError::TimedOut`] if messages are not taken within `timeout`; MPI is not ended then.
    pub fn finalize(mut self, timeout: Duration) -> Result<()> {
        self.drain(timeout, &mut |_| {})?;
        let end = Instant::now() + timeout;
        while !self.slots.is_empty() && Instant::now() < end {
            self.poll(&mut |_| {})?;
        }
        self.mpi.finalize()
    }
}

/// Where MPI may write `len` bytes of `buf`.
fn writable<B: Buffer>(buf: &mut B, len: usize) -> Result<*mut u8> {
    let bytes = buf.bytes_mut();
    if bytes.len() != len {
        return Err(NetError::Usage(format!("Buffer::with_len({len}) gave {} bytes", bytes.len())));
    }
    Ok(bytes.as_mut_ptr())
}

/// Receives the matched header: the length of the message and of its pieces, or what is wrong with them. These are a few
/// bytes that have come already, so this does not wait.
fn header(mpi: &Mpi, len: usize) -> Result<std::result::Result<(usize, usize), String>> {
    if len != HEADER {
        return Ok(Err(format!("a header of {len} bytes where {HEADER} were due")));
    }
    let mut halves = [0u64; 2];
    mpi.call("MPI_Mrecv", |ops, ctx| {
        // SAFETY: HEADER bytes.
        unsafe { (ops.mrecv)(ctx, halves.as_mut_ptr().cast(), HEADER as u64) }
    })?;
    let [total, piece] = halves.map(u64::from_le);
    let sound = piece > 0 && piece <= super::CHUNK as u64 && total > piece && total <= isize::MAX as u64;
    Ok(if sound {
        Ok((total as usize, piece as usize))
    } else {
        Err(format!("a message of {total} bytes in pieces of {piece}"))
    })
}

impl<B: Buffer> Drop for Engine<B> {
    /// Waits shortly for what is in flight, cancels, waits again, and leaks the rest: MPI may still read and write it.
    fn drop(&mut self) {
        for cancel in [false, true] {
            if self.slots.is_empty() || self.mpi.finalized {
                break;
            }
            if cancel {
                // SAFETY: ctx is live.
                let _ = self.mpi.call("MPI_Cancel", |ops, ctx| unsafe { (ops.cancel)(ctx) });
            }
            let end = Instant::now() + LAST_WAIT;
            while !self.slots.is_empty() && Instant::now() < end {
                if self.poll_receiving(0, &mut |_| {}).is_err() {
                    break;
                }
                std::thread::yield_now();
            }
        }
        if !self.slots.is_empty() {
            std::mem::forget(std::mem::take(&mut self.outgoing));
            std::mem::forget(std::mem::take(&mut self.sources));
        }
    }
}
