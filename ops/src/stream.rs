//! [`Stream`]: what an edge of a stream knows more than one of a batch job: when its batches go, and how far event time is.

use crate::plan::LogicalPlan;
use crate::windows::Time;
use aeolian_net::World;
use std::time::{Duration, Instant};

/// What a source says of its next records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// None has a time before this.
    Time(Time),
    /// None is to be expected for now: the others need not wait for it.
    Idle,
}

/// What sources have told. None may go back behind what was concluded from all.
struct Times {
    /// Who, and what last; as time goes on the time never becomes less.
    of: Vec<(u32, Time, bool)>,
    concluded: Told,
}

impl Times {
    fn new(who: impl Iterator<Item = u32>) -> Times {
        Times { of: who.map(|who| (who, Time::MIN, false)).collect(), concluded: Told::Time(Time::MIN) }
    }

    /// False if there is no such source.
    fn tell(&mut self, who: u32, told: Told) -> bool {
        let Ok(at) = self.of.binary_search_by_key(&who, |of| of.0) else { return false };
        let (_, time, idle) = &mut self.of[at];
        *idle = told == Told::Idle;
        if let Told::Time(new) = told {
            *time = new.max(*time);
        }
        true
    }

    /// What is so for all together, of those that `count`. (Who expects nothing more, ever, holds nobody up, but does not speak for those that are idle.)
    fn all(&self, counts: impl Fn(u32) -> bool) -> Told {
        let of = || self.of.iter().filter(|of| counts(of.0) && of.1 < Time::MAX);
        match of().filter(|of| !of.2).map(|of| of.1).min() {
            Some(time) => Told::Time(time),
            None if of().next().is_some() => Told::Idle,
            None => Told::Time(Time::MAX),
        }
    }
}

pub(crate) struct Stream {
    latency: Duration,
    /// slot -> when a batch went last
    went: Vec<Option<Instant>>,
    watermark_went: Option<Instant>,
    /// Of this rank's sources, and what was told of them last.
    mine: Times,
    /// Of all ranks with sources, as this one has heard.
    ranks: Times,
    watermark: Time,
    /// Something was heard since it was looked at.
    heard: bool,
    my_sources: Vec<u32>,
    givers: Vec<u32>,
}

impl Stream {
    pub(crate) fn new(latency: Duration, plan: &LogicalPlan, world: &World) -> Stream {
        let my_sources: Vec<u32> = plan.sources_of(world.rank()).collect();
        let givers = plan.source_ranks();
        Stream {
            latency,
            went: Vec::new(),
            watermark_went: None,
            mine: Times::new(my_sources.iter().copied()),
            ranks: Times::new(givers.iter().copied()),
            watermark: Time::MIN,
            heard: false,
            my_sources,
            givers,
        }
    }

    /// All is as at the beginning of a round.
    pub(crate) fn open(&mut self) {
        self.mine = Times::new(self.my_sources.iter().copied());
        self.ranks = Times::new(self.givers.iter().copied());
        self.watermark = Time::MIN;
    }

    /// Whether what is filled for a slot goes now.
    pub(crate) fn is_due(&self, slot: usize, now: Instant) -> bool {
        match self.went.get(slot) {
            Some(Some(went)) => now.saturating_duration_since(*went) >= self.latency,
            _ => true,
        }
    }

    pub(crate) fn went(&mut self, slot: usize, now: Instant) {
        if self.went.len() <= slot {
            self.went.resize(slot + 1, None);
        }
        self.went[slot] = Some(now);
    }

    pub(crate) fn tell(&mut self, source: u32, told: Told) {
        self.mine.tell(source, told);
    }

    /// What has changed of this rank's sources together, if it is to be told now.
    pub(crate) fn untold(&mut self, finished: impl Fn(u32) -> bool, at_once: bool) -> Option<Told> {
        let all = self.mine.all(|source| !finished(source));
        let is_news = match (self.mine.concluded, all) {
            (Told::Time(before), Told::Time(now)) => now > before,
            (before, now) => before != now,
        };
        // (That all have finished is told by the end.)
        if !is_news || self.my_sources.iter().all(|source| finished(*source)) {
            return None;
        }
        let now = Instant::now();
        let waited = self.watermark_went.map(|went| now.saturating_duration_since(went));
        if !at_once && waited.is_some_and(|waited| waited < self.latency) {
            return None;
        }
        self.watermark_went = Some(now);
        self.mine.concluded = all;
        Some(all)
    }

    /// What a rank has told of its sources; false if it has none.
    pub(crate) fn hear(&mut self, rank: u32, told: Told) -> bool {
        self.heard = true;
        self.ranks.tell(rank, told)
    }

    /// The watermark, if it is another than the last time.
    pub(crate) fn watermark(&mut self) -> Option<Time> {
        if !std::mem::take(&mut self.heard) {
            return None;
        }
        match self.ranks.all(|_| true) {
            Told::Time(time) if time > self.watermark => {
                self.watermark = time;
                Some(time)
            }
            _ => None,
        }
    }
}
