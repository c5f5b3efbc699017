//! [`Carrier`]: the edge of an operator, on which batches go from the ranks of its sources to those of its targets, whatever records are in them.
//!
//! # On the wire
//!
//! A message is a batch for one *slot*, which is a target or a part of one, and nothing else, or a *mark*, as its [tag](crate::tags) says. When all
//! sources of a rank have finished, or are at a barrier, it sends a mark to each rank that has targets, after all its batches: so a rank gets
//! a mark from each rank that has sources, not from each source. Messages of a rank come in order; from a rank whose mark has come
//! nothing more is taken until the marks of all others are there. That aligns barriers, and keeps the rounds apart.
//!
//! Where there are many ranks, messages between nodes go by one rank of each ([`relay`](crate::relay)).
//!
//! # Room
//!
//! For each slot one batch is being filled. If it is full and the window of the edge is so too, it stays, and nothing more is taken
//! for that slot.

use crate::dataflow::Dataflow;
use crate::error::{OpsError, Result, Whose};
use crate::filling::Free;
use crate::memory::Reservation;
use crate::operator::not_a_stream;
use crate::plan::LogicalPlan;
use crate::record::{Reader, Record, Writer};
use crate::relay::{Frames, Relay, Trouble};
use crate::stream::{Stream, Told};
use crate::tags::{Kind, Tags};
use crate::windows::Time;
use aeolian_net::{Buf, Edge, Message, NetError, OpName, TrySendError, World};
use std::hash::{Hash, Hasher};
use std::time::Instant;

/// Where records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    /// Each to all targets: all by slot 0.
    ToAll,
    /// Each to one part of one target, with the same number of parts each: `target * parts + part` is its slot.
    ToOne { parts: u32 },
}

/// Of a target's parts there are many, and what is filled for all of them should stay in the cache.
const BATCH_OF_PART: usize = 32 << 10;

/// Sources with what they gave to their barrier, ascending.
pub(crate) type Marks = Vec<(u32, Vec<u8>)>;

/// What has come.
pub(crate) enum Incoming {
    /// Records for a slot whose target is on this rank, and the rank that they are from.
    Batch { slot: u32, from: u32, bytes: Buf },
    /// Records for all targets of this rank.
    ForAll(Buf),
    /// A barrier has come from all sources, with their marks.
    Barrier(Marks),
    /// The watermark of all sources is this now.
    Watermark(Time),
}

/// How far a source, or a rank that has some, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    AtBarrier,
    /// At a barrier, after which nothing comes any more.
    AtLastBarrier,
    Finished,
}

impl State {
    /// Of a rank from which this mark has come.
    pub(crate) fn of(mark: Kind) -> State {
        if mark == Kind::End { State::Finished } else { State::AtBarrier }
    }

    /// The barrier is over.
    pub(crate) fn reopen(&mut self) {
        *self = match *self {
            State::AtBarrier => State::Open,
            State::AtLastBarrier => State::Finished,
            state => state,
        };
    }
}

/// A batch that is being filled.
#[derive(Default)]
struct Outgoing {
    bytes: Buf,
    /// Bytes of the budget that it has.
    room: u64,
    /// Ranks that it has been sent to.
    sent: usize,
}

/// Marks that are going out, or a watermark.
struct Closing {
    kind: Kind,
    number: u32,
    body: Buf,
    /// Ranks that have theirs.
    sent: usize,
    /// The relay has its own.
    is_relayed: bool,
}

pub(crate) struct Carrier {
    world: World,
    edge: Edge,
    name: &'static OpName,
    number: u64,
    /// What goes on this edge, if the operator has others.
    what: &'static str,
    plan: LogicalPlan,
    round: u32,
    tags: Tags,
    route: Route,
    /// slot -> the rank of its target
    ranks: Vec<u32>,
    /// slot -> what is being filled for it
    out: Vec<Outgoing>,
    /// slot -> what is free of that
    pub(crate) free: Vec<Free>,
    batch_bytes: usize,
    room: Reservation,
    /// Full batches for other ranks are not sent but kept.
    keeps: bool,
    kept: Option<(u32, Buf)>,
    /// source -> how far it is; of other ranks' sources nothing is known
    sources: Vec<State>,
    my_sources: Vec<u32>,
    marks: Marks,
    closing: Option<Closing>,
    /// The end of this rank's sources is told, or being told.
    told: bool,
    /// By the nodes, if there are many ranks.
    relay: Option<Relay>,
    /// It needs no end.
    stream: Option<Stream>,
    /// Ranks to which batches for all go from here, and marks.
    all_to: Vec<u32>,
    marks_to: Vec<u32>,
    /// Ranks from which a rank with targets gets marks: those with sources, or with a relay those that pass on what they send.
    givers: Vec<u32>,
    /// rank -> how far its sources are, as this rank has heard
    peers: Vec<State>,
    /// Givers that are not open.
    held: usize,
    /// Batches that have come in one message.
    frames: Option<(u32, Frames)>,
    /// rank -> the one that its next batch is from, if it is another
    origin: Vec<Option<u32>>,
    came: Marks,
    /// This rank has no targets, or has heard the end of all sources.
    ended: bool,
    /// The type of the records.
    record: &'static str,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.world.close_edge(self.edge);
    }
}

impl Carrier {
    /// An edge of the operator with this number; if it has several, errors name it by what goes on it.
    pub(crate) fn new(
        flow: &Dataflow,
        name: &'static OpName,
        number: u64,
        what: &'static str,
        plan: &LogicalPlan,
        route: Route,
        record: &'static str,
    ) -> Result<Carrier> {
        let world = flow.world().handle();
        if plan.ranks() != world.size() {
            return Err(OpsError::Plan(format!(
                "a plan for {} ranks on a world of {}",
                plan.ranks(),
                world.size()
            )));
        }
        let stream = flow.streams().map(|streaming| Stream::new(streaming.latency, plan, &world));
        // (What goes by other ranks takes longer.)
        let is_relayed = stream.is_none() && flow.is_by_node(plan, route == Route::ToAll);
        let (ranks, batch_bytes) = match route {
            Route::ToAll => (Vec::new(), flow.batch_bytes(1)),
            Route::ToOne { parts } => {
                let of = |rank: &u32| std::iter::repeat_n(*rank, parts as usize);
                let ranks: Vec<u32> = plan.targets().iter().flat_map(of).collect();
                let most = if parts > 1 { BATCH_OF_PART } else { usize::MAX };
                let of_slots = if is_relayed { Dataflow::frame_bytes } else { Dataflow::batch_bytes };
                let batch_bytes = of_slots(flow, ranks.len()).min(most);
                (ranks, batch_bytes)
            }
        };
        let slots = if route == Route::ToAll { 1 } else { ranks.len() };
        let edge = world.open_edge()?;
        let relay = is_relayed.then(|| Relay::new(flow, edge, plan));
        let (all_to, marks_to, givers) = match &relay {
            Some(relay) => {
                (relay.away().chain(relay.near()).collect(), relay.away().collect(), relay.givers())
            }
            None => (plan.target_ranks(), plan.target_ranks(), plan.source_ranks()),
        };
        let mut carrier = Carrier {
            route,
            ranks,
            edge,
            name,
            number,
            what,
            round: 0,
            tags: Tags::default(),
            out: Vec::new(),
            free: Vec::new(),
            batch_bytes,
            room: flow.memory().reserve(),
            keeps: false,
            kept: None,
            sources: Vec::new(),
            my_sources: plan.sources_of(world.rank()).collect(),
            marks: Vec::new(),
            closing: None,
            told: false,
            relay,
            stream,
            all_to,
            marks_to,
            givers,
            peers: Vec::new(),
            held: 0,
            frames: None,
            origin: Vec::new(),
            came: Vec::new(),
            ended: false,
            record,
            plan: plan.clone(),
            world,
        };
        carrier.out.resize_with(slots, Outgoing::default);
        carrier.free.resize_with(slots, || Free::NONE);
        carrier.open();
        Ok(carrier)
    }

    /// All is as at the beginning of a round.
    fn open(&mut self) {
        self.sources = vec![State::Open; self.plan.sources().len()];
        self.peers = vec![State::Open; self.world.size() as usize];
        self.origin = vec![None; self.world.size() as usize];
        self.held = 0;
        self.told = false;
        self.tags = self.fold();
        if let Some(relay) = &mut self.relay {
            relay.open(self.tags);
        }
        if let Some(stream) = &mut self.stream {
            stream.open();
        }
        self.ended = self.givers.is_empty() || !self.plan.targets().contains(&self.world.rank());
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    pub(crate) fn name(&self) -> (&'static OpName, u64) {
        (self.name, self.number)
    }

    /// Bytes of a batch.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// For errors.
    pub(crate) fn whose(&self) -> Whose {
        let rank = self.world.job_rank(self.world.rank()).unwrap_or(self.world.rank());
        Whose { operator: format!("{} #{}", self.name.0, self.number), rank }
    }

    /// The same, with this edge of the operator.
    pub(crate) fn whose_edge(&self) -> Whose {
        let Whose { operator, rank } = self.whose();
        match self.what {
            "" => Whose { operator, rank },
            what => Whose { operator: format!("{operator} ({what})"), rank },
        }
    }

    pub(crate) fn usage(&self, what: String) -> OpsError {
        self.whose_edge().usage(what)
    }

    /// What all ranks must have in common, folded.
    fn fold(&self) -> Tags {
        use std::hash::BuildHasher;
        let mut hasher = foldhash::quality::FixedState::default().build_hasher();
        (self.name.0, self.record, self.round).hash(&mut hasher);
        (self.route, self.relay.is_some(), self.stream.is_some(), self.plan.sources(), self.plan.targets())
            .hash(&mut hasher);
        Tags::new(hasher.finish())
    }

    /// Whether a source may insert now; an error if it never may again, or is not here.
    #[inline]
    pub(crate) fn may_insert(&self, source: u32) -> Result<bool> {
        match self.sources.get(source as usize) {
            Some(State::Open) if self.is_here(source) => Ok(self.closing.is_none()),
            _ => self.may_not(source, "insert"),
        }
    }

    #[inline]
    fn is_here(&self, source: u32) -> bool {
        self.plan.sources().get(source as usize) == Some(&self.world.rank())
    }

    #[cold]
    fn may_not(&self, source: u32, what: &str) -> Result<bool> {
        match (self.plan.sources().get(source as usize), self.sources.get(source as usize)) {
            (Some(rank), Some(state)) if *rank == self.world.rank() => match state {
                State::Finished | State::AtLastBarrier => {
                    Err(self.usage(format!("source {source} cannot {what}: it has finished")))
                }
                _ => Ok(false),
            },
            (Some(rank), _) => {
                Err(self.usage(format!("source {source} cannot {what} here: it is on rank {rank}")))
            }
            (None, _) => {
                let sources = self.plan.sources().len();
                Err(self.usage(format!("there is no source {source}, only {sources}")))
            }
        }
    }

    /// Sends a whole batch of records for a slot, or gives it back.
    pub(crate) fn put_batch(&mut self, slot: u32, bytes: Buf) -> Result<Option<Buf>> {
        if !self.flush(slot)? {
            return Ok(Some(bytes));
        }
        let (filled, room) = (bytes.len(), bytes.len() as u64);
        self.room.take(room);
        self.fill(slot, bytes, filled, room);
        self.flush(slot)?;
        Ok(None)
    }

    /// Makes room for another batch of a slot, whose own is full, or which has none; false if there is no room now.
    pub(crate) fn make_room(&mut self, slot: u32) -> Result<bool> {
        if slot as usize >= self.out.len() {
            let targets = self.out.len();
            return Err(self.usage(format!("the selector chose target {slot}, but there are {targets}")));
        }
        Ok(self.keep(slot) || self.flush(slot)?)
    }

    /// The first record of a batch, of `filled` bytes, is in it.
    pub(crate) fn begin(&mut self, slot: u32, bytes: Buf, filled: usize) -> Result<()> {
        let room = bytes.len() as u64;
        self.room.take(room);
        self.fill(slot, bytes, filled, room);
        // What is longer than a batch is under way already.
        if filled > self.batch_bytes {
            self.flush(slot)?;
        }
        Ok(())
    }

    /// There is none: what was [kept](Carrier::kept) for it stays.
    pub(crate) fn do_not_begin(&mut self) {
        if let Some((slot, bytes)) = self.kept.take() {
            let (filled, room) = (bytes.len(), bytes.len() as u64);
            self.room.take(room);
            self.fill(slot, bytes, filled, room);
        }
    }

    /// From now on, full batches for other ranks are [kept](Carrier::kept), or sent.
    pub(crate) fn keep_full_ones(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    /// The batch that was kept by the last `put`, with its slot.
    pub(crate) fn kept(&mut self) -> Option<(u32, Buf)> {
        self.kept.take()
    }

    /// Keeps a full batch, if that is wanted; false if not.
    fn keep(&mut self, slot: u32) -> bool {
        let out = &mut self.out[slot as usize];
        let is_wanted = self.keeps
            && self.kept.is_none()
            && !out.bytes.is_empty()
            && self.ranks.get(slot as usize).is_some_and(|rank| *rank != self.world.rank());
        if is_wanted {
            let free = std::mem::replace(&mut self.free[slot as usize], Free::NONE);
            let mut out = std::mem::take(out);
            out.bytes.truncate(out.bytes.len() - free.left());
            self.room.shrink(out.room);
            self.kept = Some((slot, out.bytes));
        }
        is_wanted
    }

    /// This batch is being filled for a slot that has none.
    fn fill(&mut self, slot: u32, bytes: Buf, filled: usize, room: u64) {
        let out = &mut self.out[slot as usize];
        *out = Outgoing { bytes, room, sent: 0 };
        // SAFETY: only `flush` looks at the batch or takes it, and takes it away from `free` first.
        self.free[slot as usize] = unsafe { Free::of(&mut out.bytes, filled) };
    }

    /// Sends what is being filled for a slot; false if there is no room.
    fn flush(&mut self, slot: u32) -> Result<bool> {
        let out = &mut self.out[slot as usize];
        if out.bytes.is_empty() {
            return Ok(true);
        }
        let mut bytes = std::mem::take(&mut out.bytes);
        // Nothing more goes into a batch that some have already.
        let free = std::mem::replace(&mut self.free[slot as usize], Free::NONE);
        bytes.truncate(bytes.len() - free.left());
        let (ranks, kind, number) = match self.route {
            Route::ToAll => (&self.all_to[..], Kind::ForAll, 0),
            Route::ToOne { .. } => (&self.ranks[slot as usize..=slot as usize], Kind::Batch, slot),
        };
        let tag = self.tags.tag(kind, number);
        while let Some(rank) = ranks.get(out.sent) {
            let is_last = out.sent + 1 == ranks.len();
            let one = if is_last { std::mem::take(&mut bytes) } else { bytes.clone() };
            let left = match &mut self.relay {
                Some(relay) if kind == Kind::Batch && !relay.is_near(*rank) => {
                    match relay.send(*rank, slot, one) {
                        Ok(left) => left,
                        Err(trouble) => return Err(self.trouble(trouble)?),
                    }
                }
                // The next batch that it gets is not this rank's, as it has been told.
                Some(relay) if relay.has_announced_to(*rank) => Some(one),
                _ => match self.world.try_send(self.edge, *rank, tag, one) {
                    Ok(()) => None,
                    Err(TrySendError::Full(one)) => Some(one),
                    Err(TrySendError::Failed(e)) => return Err(e.into()),
                },
            };
            if let Some(one) = left {
                out.bytes = if is_last { one } else { bytes };
                return Ok(false);
            }
            out.sent += 1;
        }
        self.room.shrink(out.room);
        *out = Outgoing::default();
        Ok(true)
    }

    /// Whether a source of this rank has finished.
    pub(crate) fn has_finished(&self, source: u32) -> bool {
        matches!(self.sources.get(source as usize), Some(State::Finished | State::AtLastBarrier))
    }

    /// Whether a source of this rank is at a barrier that is not told yet.
    pub(crate) fn is_at_barrier(&self, source: u32) -> bool {
        matches!(self.sources.get(source as usize), Some(State::AtBarrier | State::AtLastBarrier))
    }

    pub(crate) fn finish(&mut self, source: u32) -> Result<()> {
        self.may_finish(source)?;
        let state = &mut self.sources[source as usize];
        *state = if *state == State::AtBarrier { State::AtLastBarrier } else { State::Finished };
        Ok(())
    }

    pub(crate) fn barrier(&mut self, source: u32, mark: Vec<u8>) -> Result<()> {
        self.may_come_to_barrier(source)?;
        self.sources[source as usize] = State::AtBarrier;
        self.marks.push((source, mark));
        Ok(())
    }

    /// That a source may finish: who has several edges asks all of them first, and stops on all or none.
    pub(crate) fn may_finish(&self, source: u32) -> Result<()> {
        match self.sources.get(source as usize) {
            Some(State::Open | State::AtBarrier) if self.is_here(source) => Ok(()),
            _ => self.may_not(source, "finish").map(drop),
        }
    }

    /// The same of a barrier.
    pub(crate) fn may_come_to_barrier(&self, source: u32) -> Result<()> {
        let what = "come to a barrier";
        match self.sources.get(source as usize) {
            Some(State::Open) if self.is_here(source) => Ok(()),
            Some(State::AtBarrier) if self.is_here(source) => {
                Err(self.usage(format!("source {source} cannot {what}: it is at one, which is not told yet")))
            }
            _ => self.may_not(source, what).map(drop),
        }
    }

    /// Moves on what goes out, up to one mark for all: who keeps records back puts them before the next. True if anything moved.
    pub(crate) fn progress(&mut self) -> Result<bool> {
        let mut moved = self.pass_on()?;
        if self.closing.is_none() && !self.begin_closing()? && !self.begin_watermark(false) {
            return Ok(self.flush_stream(false)? || moved);
        }
        for slot in 0..self.out.len() as u32 {
            let had = !self.out[slot as usize].bytes.is_empty();
            if !self.flush(slot)? {
                return Ok(moved);
            }
            moved |= had;
        }
        if let Some(relay) = &mut self.relay {
            match relay.flush() {
                Ok(true) => {}
                Ok(false) => return Ok(moved),
                Err(trouble) => return Err(self.trouble(trouble)?),
            }
        }
        while let Some(closing) = &mut self.closing
            && let Some(rank) = self.marks_to.get(closing.sent)
        {
            let tag = self.tags.tag(closing.kind, closing.number);
            match self.world.try_send(self.edge, *rank, tag, closing.body.clone()) {
                Ok(()) => closing.sent += 1,
                Err(TrySendError::Full(_)) => return Ok(moved),
                Err(TrySendError::Failed(e)) => return Err(e.into()),
            }
            moved = true;
        }
        if let (Some(relay), Some(closing)) = (&mut self.relay, &mut self.closing)
            && !std::mem::replace(&mut closing.is_relayed, true)
        {
            if let Err(trouble) = relay.close(closing.kind, &closing.body) {
                return Err(self.trouble(trouble)?);
            }
            moved |= self.pass_on()?;
        }
        if self.relay.as_ref().is_some_and(Relay::is_closing) {
            return Ok(moved);
        }
        self.closing = None;
        Ok(true)
    }

    /// Nothing more is inserted for now: what has been goes, and need not wait for more. True if anything moved.
    pub(crate) fn hurry(&mut self) -> Result<bool> {
        if self.closing.is_some() || self.begin_watermark(true) {
            return self.progress();
        }
        self.flush_stream(true)
    }

    /// Sends what has been filled of batches of a stream, if it has waited long enough, or (`all`) anyway. True if anything went.
    fn flush_stream(&mut self, all: bool) -> Result<bool> {
        let Some(mut stream) = self.stream.take() else { return Ok(false) };
        let mut moved = Ok(false);
        let mut now = None;
        for slot in 0..self.out.len() {
            if self.out[slot].bytes.is_empty() {
                continue;
            }
            let now = *now.get_or_insert_with(Instant::now);
            if all || stream.is_due(slot, now) {
                match self.flush(slot as u32) {
                    Ok(false) => {}
                    Ok(true) => {
                        stream.went(slot, now);
                        moved = Ok(true);
                    }
                    Err(e) => moved = Err(e),
                }
                if moved.is_err() {
                    break;
                }
            }
        }
        self.stream = Some(stream);
        moved
    }

    /// Of a source of a stream, which is on this rank: the time of its next records, or that none are to be expected for now.
    pub(crate) fn tell_time(&mut self, source: u32, told: Told) -> Result<()> {
        if self.stream.is_none() {
            return Err(not_a_stream(self.name(), &self.world));
        }
        match self.sources.get(source as usize) {
            Some(State::Open | State::AtBarrier) if self.is_here(source) => {}
            _ => return self.may_not(source, "have a watermark").map(drop),
        }
        if let Some(stream) = &mut self.stream {
            stream.tell(source, told);
        }
        Ok(())
    }

    /// If the watermark of this rank's sources is another now: begins to tell it, after what has been filled (which therefore is not done for each record).
    fn begin_watermark(&mut self, at_once: bool) -> bool {
        let finished = |source: u32| self.sources[source as usize] == State::Finished;
        let waits = |source: u32| self.sources[source as usize] != State::Open;
        // A source at a barrier: what it has told is for after it.
        let Some(stream) = &mut self.stream else { return false };
        if self.told || self.my_sources.iter().any(|s| waits(*s) && !finished(*s)) {
            return false;
        }
        let Some(told) = stream.untold(finished, at_once) else { return false };
        let (number, body) = match told {
            Told::Time(time) => (0, Buf::from_pod(&[time])),
            Told::Idle => (1, Buf::empty()),
        };
        self.closing = Some(Closing { kind: Kind::Watermark, number, body, sent: 0, is_relayed: false });
        true
    }

    /// Passes on what other ranks send by this one.
    fn pass_on(&mut self) -> Result<bool> {
        match &mut self.relay {
            None => Ok(false),
            Some(relay) => match relay.progress(&self.ranks) {
                Ok(moved) => Ok(moved),
                Err(trouble) => Err(self.trouble(trouble)?),
            },
        }
    }

    fn trouble(&self, trouble: Trouble) -> Result<OpsError> {
        match trouble {
            Trouble::Odd(from) => self.mismatch(from),
            Trouble::Net(e) => Ok(e.into()),
        }
    }

    /// All sources of this rank are at a barrier or have finished, and [`Carrier::progress`] is about to begin to tell it: who keeps
    /// records back puts them first.
    pub(crate) fn is_about_to_close(&self) -> bool {
        let open = |source: &u32| self.sources[*source as usize] == State::Open;
        self.closing.is_none()
            && !self.told
            && !self.my_sources.is_empty()
            && !self.my_sources.iter().any(open)
    }

    /// The same, and what is about to be told is the end.
    pub(crate) fn is_about_to_end(&self) -> bool {
        self.is_about_to_close() && self.have_finished()
    }

    /// All sources of this rank have finished.
    pub(crate) fn have_finished(&self) -> bool {
        self.my_sources.iter().all(|s| self.sources[*s as usize] == State::Finished)
    }

    /// If all sources of this rank are at a barrier or have finished, and that is not told yet: begins to tell it.
    fn begin_closing(&mut self) -> Result<bool> {
        if !self.is_about_to_close() {
            return Ok(false);
        }
        let end = self.have_finished();
        self.marks.sort_by_key(|mark| mark.0);
        let marks = std::mem::take(&mut self.marks);
        let mut body = Buf::zeroed(if end { 0 } else { marks.size() });
        if end {
            self.told = true;
        } else if marks.put(&mut Writer::new(&mut body, 0)).is_none() {
            return Err(NetError::Internal("marks longer than their size".into()).into());
        } else {
            for source in &self.my_sources {
                self.sources[*source as usize].reopen();
            }
        }
        let kind = if end { Kind::End } else { Kind::Barrier };
        self.closing = Some(Closing { kind, number: 0, body, sent: 0, is_relayed: false });
        Ok(true)
    }

    /// The next thing that has come, if anything has.
    pub(crate) fn receive(&mut self) -> Result<Option<Incoming>> {
        self.pass_on()?;
        loop {
            if let Some(time) = self.stream.as_mut().and_then(Stream::watermark) {
                return Ok(Some(Incoming::Watermark(time)));
            }
            if self.ended {
                return Ok(None);
            }
            if let Some((from, mut frames)) = self.frames.take() {
                match frames.next() {
                    Ok(None) => {}
                    Ok(Some(frame)) if self.ranks.get(frame.slot as usize) == Some(&self.world.rank()) => {
                        let mut bytes = Buf::private(frame.bytes.len());
                        bytes.copy_from_slice(frames.bytes(&frame));
                        self.frames = Some((from, frames));
                        return Ok(Some(Incoming::Batch { slot: frame.slot, from: frame.origin, bytes }));
                    }
                    _ => return Err(self.mismatch(from)?),
                }
            }
            let peers = &self.peers;
            let open = |from: u32| peers[from as usize] == State::Open;
            let next = match &self.relay {
                // (What is from other nodes is the relay's.)
                Some(relay) => {
                    self.world.try_recv_among(self.edge, |from| relay.is_near(from) && open(from))?
                }
                None if self.held == 0 => self.world.try_recv(self.edge)?,
                None => self.world.try_recv_among(self.edge, open)?,
            };
            let Some(Message { from, tag, body }) = next else { return Ok(None) };
            match self.tags.read(tag) {
                Some((Kind::Batch, slot)) if self.ranks.get(slot as usize) == Some(&self.world.rank()) => {
                    let from = self.origin[from as usize].take().unwrap_or(from);
                    return Ok(Some(Incoming::Batch { slot, from, bytes: body }));
                }
                Some((Kind::ForAll, _)) if self.route == Route::ToAll => {
                    return Ok(Some(Incoming::ForAll(body)));
                }
                Some((Kind::Bundle, _)) if self.relay.is_some() => {
                    self.frames = Some((from, Frames::of(body)));
                }
                Some((Kind::Origin, origin)) if self.relay.is_some() => {
                    self.origin[from as usize] = Some(origin);
                }
                Some((Kind::Watermark, idle)) if self.stream.is_some() => {
                    let told = match idle {
                        0 if body.len() == size_of::<Time>() => {
                            Time::get(&mut Reader::new(&body)).map(Told::Time)
                        }
                        0 => None,
                        _ => Some(Told::Idle),
                    };
                    let (Some(told), Some(stream)) = (told, &mut self.stream) else {
                        return Err(self.mismatch(from)?);
                    };
                    if !stream.hear(from, told) {
                        return Err(self.mismatch(from)?);
                    }
                }
                Some((kind @ (Kind::Barrier | Kind::End), _)) if self.givers.binary_search(&from).is_ok() => {
                    self.peers[from as usize] = State::of(kind);
                    self.held += 1;
                    if let (Kind::End, Some(stream)) = (kind, &mut self.stream) {
                        stream.hear(from, Told::Time(Time::MAX));
                    }
                    if kind == Kind::Barrier {
                        let Some(marks) = Vec::get(&mut Reader::new(&body)) else {
                            return Err(self.mismatch(from)?);
                        };
                        self.came.extend::<Vec<_>>(marks);
                    }
                    if let Some(marks) = self.aligned() {
                        return Ok(Some(Incoming::Barrier(marks)));
                    }
                }
                _ => return Err(self.mismatch(from)?),
            }
        }
    }

    /// If all givers are at a barrier, or have finished: goes on from there.
    fn aligned(&mut self) -> Option<Marks> {
        if self.held < self.givers.len() {
            return None;
        }
        self.held = 0;
        for rank in &self.givers {
            let state = &mut self.peers[*rank as usize];
            state.reopen();
            self.held += usize::from(*state == State::Finished);
        }
        if self.held == self.givers.len() {
            self.ended = true;
            return None;
        }
        let mut marks = std::mem::take(&mut self.came);
        marks.sort_by_key(|mark| mark.0);
        Some(marks)
    }

    fn mismatch(&self, from: u32) -> Result<OpsError> {
        let Whose { operator, rank } = self.whose_edge();
        Ok(OpsError::Net(NetError::Mismatch {
            rank,
            ours: format!(
                "{operator} of {} from {} sources to {} targets, round {}",
                self.record,
                self.plan.sources().len(),
                self.plan.targets().len(),
                self.round
            ),
            peer: self.world.job_rank(from)?,
            theirs: "another operator, record type, plan or round on the same edge".into(),
        }))
    }

    /// Whether it needs no end.
    pub(crate) fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// All that is to come has come.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// All that is to go out has gone, and all that is to come has come.
    pub(crate) fn is_over(&self) -> bool {
        self.ended
            && self.closing.is_none()
            && (self.told || self.my_sources.is_empty())
            && self.relay.as_ref().is_none_or(Relay::is_over)
    }

    /// Ready for another round, if the operator `is_complete`.
    pub(crate) fn reset(&mut self, is_complete: bool) -> Result<()> {
        if !is_complete {
            // (Of the operator, whichever edge is not.)
            return Err(self.whose().usage("reset before it was complete".into()));
        }
        self.another_round();
        Ok(())
    }

    /// The same, of an operator's other edges.
    pub(crate) fn another_round(&mut self) {
        self.round += 1;
        self.open();
    }
}
