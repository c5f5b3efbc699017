//! Measuring the bounds between the algorithms that collectives use for messages.
//!
//! Each bound is measured by itself: the algorithms on either side of it run in turn on tables of several sizes, and the bound is put where the sum of
//! the logarithms of the times is lowest. A default stays unless another value is clearly better where it makes a difference.

use crate::choice::Choice;
use crate::collective::allgather::allgather;
use crate::collective::allreduce::allreduce;
use crate::collective::barrier::barrier;
use crate::collective::broadcast::broadcast;
use crate::collective::regroup::regroup;
use crate::collective::slices::allreduce_slice;
use crate::combiner::{Max, Sum};
use crate::error::Result;
use crate::partitioner::Modulo;
use crate::table::Table;
use aeolian_net::World;
use aeolian_net::tuning::Values;
use std::time::{Duration, Instant};

/// A sample is about so long, of as many calls as that takes.
const SAMPLE: Duration = Duration::from_millis(2);

/// A sample has no more calls, however short they are.
const CALLS: u64 = 64;

/// More rounds make a median no better.
const ROUNDS: usize = 61;

/// How many times as fast as by its default a bound must make what it concerns.
const CLEARLY: f64 = 1.05;

/// It must be faster in clearly more than half of the rounds, of at least so many: one sample says nothing on a machine with other work.
const FEWEST: usize = 5;

/// A partition of what is measured has up to so many bytes, so that it goes inside a message with others.
const PART: usize = 16 << 10;

/// What was found of one bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Its name in a tuning file.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Whether it is a number of bytes.
    pub bytes: bool,
    /// Its value where nothing was measured.
    pub default: u64,
    /// Its value here.
    pub chosen: u64,
    /// How many times as fast as by the default the chosen value makes what it concerns, in the mean; 1 if it is the default.
    pub gain: f64,
    /// The algorithms, or values of the bound, that were compared.
    pub ways: Vec<String>,
    /// What was measured; nothing if the bound makes no difference to this number of ranks.
    pub cases: Vec<Case>,
}

/// Times of one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The operation and its size.
    pub what: String,
    /// Seconds a call of the slowest rank: by way, those of all rounds.
    pub samples: Vec<Vec<f64>>,
}

impl Case {
    /// The median time by each way, in seconds.
    pub fn times(&self) -> Vec<f64> {
        self.samples.iter().map(|samples| median(samples.clone())).collect()
    }
}

/// The numbers of a tuning file that these findings make. What was not measured is not among them.
pub fn values(findings: &[Finding]) -> Values {
    let measured = findings.iter().filter(|finding| !finding.cases.is_empty());
    measured.map(|finding| (finding.name.to_owned(), finding.chosen)).collect()
}

/// Measures all bounds, within about `limit`. All ranks must call it, and find the same. Nothing is found where collectives send no messages: of one
/// rank, and of ranks that share memory.
///
/// ```
/// use std::time::Duration;
/// aeolian_net::World::local(2, |mut world| {
///     world.use_shared_memory(false);
///     let findings = aeolian_harp::tune::measure(&mut world, Duration::from_millis(50)).unwrap();
///     assert_eq!(findings[0].name, "eager");
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn measure(world: &mut World, limit: Duration) -> Result<Vec<Finding>> {
    if world.size() == 1 || world.shares_memory() {
        return Ok(Vec::new());
    }
    let before = world.tuning();
    let found = all(world, limit);
    world.set_tuned(before);
    found
}

fn all(world: &mut World, limit: Duration) -> Result<Vec<Finding>> {
    let begin = Instant::now();
    let partners = world.nodes().map_or(world.size(), |nodes| nodes.ranks().len() as u32);
    let mut choice = Choice::DEFAULT;
    let mut findings = Vec::new();
    let until = |share: f64| begin + limit.mul_f64(share);

    let found = eager(world, choice, until(0.35))?;
    choice.eager = found.chosen as usize;
    findings.push(found);
    let found = piece(world, choice, until(0.7))?;
    choice.piece = found.chosen as usize;
    findings.push(found);
    findings.push(ring_share(world, choice, partners, until(0.85))?);
    findings.push(sparse(world, choice, partners, until(1.0))?);
    Ok(findings)
}

fn eager(world: &mut World, choice: Choice, until: Instant) -> Result<Finding> {
    let ways = [Choice { eager: usize::MAX, ..choice }, Choice { eager: 0, ..choice }];
    let bounds: Vec<u64> = (10..=18).map(|bits| 1 << bits).collect();
    let mut trials = Vec::new();
    for &bound in &bounds {
        // With what describes it in the message, a table of three quarters is below the bound.
        let bytes = bound as usize * 3 / 4;
        let mut first = zeros(bytes, PART);
        let mut second = first.clone();
        trials.push(Trial::new("allreduce", bytes, move |world| allreduce(world, &mut first)));
        trials.push(Trial::new("allgather", bytes, move |world| allgather(world, &mut second)));
    }
    let cases = race(world, &ways, trials, until)?;
    let sizes: Vec<u64> = bounds.iter().flat_map(|&bound| [bound, bound]).take(cases.len()).collect();
    let candidates = std::iter::once(0).chain(bounds);
    let (chosen, gain) = best(Choice::DEFAULT.eager as u64, candidates, &cases, |bound, case| {
        usize::from(sizes[case] > bound)
    });
    Ok(Finding {
        name: "eager",
        about: "tables of up to so many bytes go with the first messages of allreduce and allgather",
        bytes: true,
        default: Choice::DEFAULT.eager as u64,
        chosen,
        gain,
        ways: vec!["at once".into(), "after a word".into()],
        cases,
    })
}

fn piece(world: &mut World, choice: Choice, until: Instant) -> Result<Finding> {
    let pieces: Vec<u64> = (15..=22).map(|bits| 1 << bits).collect();
    let ways: Vec<Choice> = pieces.iter().map(|&piece| Choice { piece: piece as usize, ..choice }).collect();
    let mut trials = Vec::new();
    for bytes in [1 << 20, 4 << 20] {
        let mut first = zeros(bytes, bytes);
        let mut second = first.clone();
        trials.push(Trial::new("allreduce", bytes, move |world| allreduce(world, &mut first)));
        trials.push(Trial::new("broadcast", bytes, move |world| broadcast(world, &mut second, 0)));
    }
    let cases = race(world, &ways, trials, until)?;
    let way = |piece: u64| pieces.iter().position(|&p| p == piece).unwrap_or(0);
    let default = Choice::DEFAULT.piece as u64;
    let (chosen, gain) = best(default, pieces.iter().copied(), &cases, |piece, _| way(piece));
    Ok(Finding {
        name: "piece",
        about: "long data is sent in pieces of so many bytes",
        bytes: true,
        default,
        chosen,
        gain,
        ways: pieces.iter().map(|&piece| aeolian_net::bytes::Bytes(piece).to_string()).collect(),
        cases,
    })
}

fn ring_share(world: &mut World, choice: Choice, partners: u32, until: Instant) -> Result<Finding> {
    let default = Choice::DEFAULT.ring_share as u64;
    let mut finding = Finding {
        name: "ring_share",
        about: "long allreduce goes around a ring from shares of so many bytes on, unless the number of partners is a power of two",
        bytes: true,
        default,
        chosen: default,
        gain: 1.0,
        ways: vec!["halving".into(), "ring".into()],
        cases: Vec::new(),
    };
    if partners.is_power_of_two() {
        return Ok(finding);
    }
    let ways = [usize::MAX, 0].map(|ring_share| Choice { ring_share, eager: 0, ..choice });
    let shares: Vec<u64> = (12..=20).step_by(2).map(|bits| 1 << bits).collect();
    let trials = shares.iter().map(|&share| {
        let bytes = share as usize * partners as usize;
        let mut table = zeros(bytes, bytes);
        Trial::new("allreduce", bytes, move |world| allreduce(world, &mut table))
    });
    finding.cases = race(world, &ways, trials.collect(), until)?;
    let candidates = shares.iter().copied().chain([4 << 20]);
    (finding.chosen, finding.gain) =
        best(default, candidates, &finding.cases, |bound, case| usize::from(shares[case] >= bound));
    Ok(finding)
}

fn sparse(world: &mut World, choice: Choice, partners: u32, until: Instant) -> Result<Finding> {
    let default = u64::from(Choice::DEFAULT.sparse);
    let ways = [u32::MAX, 1].map(|sparse| Choice { sparse, ..choice });
    let (rank, size) = (u64::from(world.rank()), u64::from(world.size()));
    let mut of_all = Table::<f64, Sum>::new(Sum);
    for id in 0..size {
        of_all.add(id, vec![0.0; 64])?;
    }
    // For a rank of the next node, where there are several.
    let mut of_one = Table::<f64, Sum>::new(Sum);
    of_one.add((rank + (size / u64::from(partners)).max(1)) % size, vec![0.0; 64])?;
    let trial = |what: &str, table: Table<f64, Sum>| Trial {
        what: what.into(),
        run: Box::new(move |world| regroup(world, &mut table.clone(), &Modulo)),
    };
    let trials = vec![trial("regroup, all to all", of_all), trial("regroup, each to one", of_one)];
    let cases = race(world, &ways, trials, until)?;
    // Only this number of partners was measured: the bound is moved to one side of it.
    let here = u64::from(partners);
    let candidates = [default.min(here), default.max(here + 1)];
    let (chosen, gain) = best(default, candidates, &cases, |bound, _| usize::from(here >= bound));
    Ok(Finding {
        name: "sparse",
        about: "from so many partners on, ranks first say to whom they have something to send",
        bytes: false,
        default,
        chosen,
        gain,
        ways: vec!["at once".into(), "after a word".into()],
        cases,
    })
}

/// The value with the lowest sum of logarithms of times; `way` says by which way it goes in which case. With it how many times as fast as by the
/// default that makes the cases in which it goes another way. The default, if that is not clearly so.
fn best(
    default: u64,
    candidates: impl IntoIterator<Item = u64>,
    cases: &[Case],
    way: impl Fn(u64, usize) -> usize,
) -> (u64, f64) {
    let times: Vec<Vec<f64>> = cases.iter().map(Case::times).collect();
    let changed = |value: u64| -> Vec<usize> {
        (0..cases.len()).filter(|&case| way(value, case) != way(default, case)).collect()
    };
    let gain = |value: u64| -> f64 {
        let faster = |case: usize| (times[case][way(default, case)] / times[case][way(value, case)]).ln();
        changed(value).into_iter().map(faster).sum()
    };
    let gains = candidates.into_iter().map(|value| (value, gain(value)));
    let Some((value, gain)) = gains.max_by(|(_, a), (_, b)| a.total_cmp(b)) else { return (default, 1.0) };
    let changed = changed(value);
    let rounds = changed.iter().map(|&case| cases[case].samples[0].len()).min().unwrap_or(0);
    let wins = |round: &usize| {
        let faster = |&case: &usize| {
            let samples = &cases[case].samples;
            (samples[way(default, case)][*round] / samples[way(value, case)][*round]).ln()
        };
        changed.iter().map(faster).sum::<f64>() > 0.0
    };
    let mean = gain / changed.len().max(1) as f64;
    let won = (0..rounds).filter(wins).count();
    // A sign test: more than half by two standard deviations.
    let often = rounds >= FEWEST && 2 * won > rounds && (2 * won - rounds).pow(2) >= 4 * rounds;
    if often && mean >= CLEARLY.ln() { (value, mean.exp()) } else { (default, 1.0) }
}

/// An operation that is measured.
struct Trial {
    what: String,
    run: Box<Operation>,
}

type Operation = dyn FnMut(&mut World) -> Result<()>;

impl Trial {
    fn new(what: &str, bytes: usize, run: impl FnMut(&mut World) -> Result<()> + 'static) -> Trial {
        Trial { what: format!("{what} {}", aeolian_net::bytes::Bytes(bytes as u64)), run: Box::new(run) }
    }
}

/// Times each trial in each way, in turn, until time is over or there are rounds enough. Trials that time did not suffice for are left out. The times
/// are the same on all ranks.
fn race(world: &mut World, ways: &[Choice], mut trials: Vec<Trial>, until: Instant) -> Result<Vec<Case>> {
    let ways: Vec<Values> = ways.iter().map(Choice::values).collect();
    let mut samples: Vec<Vec<Vec<f64>>> = trials.iter().map(|_| vec![Vec::new(); ways.len()]).collect();
    // The first round is to warm up, and begins to tell how many calls a sample is.
    let mut calls = vec![1u64; trials.len()];
    'rounds: for round in 0..=ROUNDS {
        for (index, trial) in trials.iter_mut().enumerate() {
            let (samples, calls) = (&mut samples[index], &mut calls[index]);
            let mut took = vec![0; ways.len()];
            for turn in 0..ways.len() {
                let way = (round + turn) % ways.len();
                world.set_tuned(ways[way].clone());
                barrier(world)?;
                let begin = Instant::now();
                for _ in 0..*calls {
                    (trial.run)(world)?;
                }
                // All must take the same decisions.
                let mut of_all = [begin.elapsed().as_nanos() as u64, u64::from(Instant::now() >= until)];
                allreduce_slice(world, &mut of_all, Max)?;
                took[way] = of_all[0].div_ceil(*calls).max(1);
                // The first trial is measured once in any case.
                let over = of_all[1] == 1;
                if over && (round > 0 || index > 0) {
                    break 'rounds;
                }
            }
            if round == 1 {
                samples.iter_mut().for_each(Vec::clear);
            }
            samples.iter_mut().zip(&took).for_each(|(samples, took)| samples.push(*took as f64 * 1e-9));
            // Step by step: on a machine with other work a call may take a hundred times as long as the last one.
            let slowest = took.into_iter().max().unwrap_or(1);
            *calls = (SAMPLE.as_nanos() as u64 / slowest).clamp(1, 4 * *calls).min(CALLS);
        }
    }
    let measured = trials.into_iter().zip(samples).filter(|(_, samples)| !samples[0].is_empty());
    Ok(measured.map(|(trial, samples)| Case { what: trial.what, samples }).collect())
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// A table of so many bytes, in partitions of up to `part`: of zeros, which sums leave as they are.
fn zeros(bytes: usize, part: usize) -> Table<f64, Sum> {
    let mut table = Table::new(Sum);
    let mut left = bytes;
    for id in 0.. {
        let len = left.min(part) / 8;
        table.insert(id, vec![0.0; len]);
        left -= left.min(part);
        if left == 0 {
            break;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(times: &[[f64; 2]]) -> Vec<Case> {
        let samples = |times: &[f64; 2]| times.map(|time| vec![time; FEWEST]).to_vec();
        times.iter().map(|times| Case { what: String::new(), samples: samples(times) }).collect()
    }

    #[test]
    fn a_bound_goes_where_the_other_way_becomes_faster() {
        let sizes = [1, 2, 4, 8, 16];
        let chosen = |times: &[[f64; 2]], default| {
            best(default, [0, 1, 2, 4, 8, 16], &cases(times), |bound, case| usize::from(sizes[case] > bound))
        };
        let crossing = [[1.0, 2.0], [1.0, 2.0], [1.5, 2.0], [3.0, 2.0], [9.0, 2.0]];
        assert_eq!(chosen(&crossing, 4), (4, 1.0));
        let (bound, gain) = chosen(&crossing, 16);
        assert_eq!(bound, 4);
        assert!((gain - (1.5f64 * 4.5).sqrt()).abs() < 1e-9, "{gain}");
        assert_eq!(chosen(&[[1.0, 2.0]; 5], 2).0, 16);
        assert_eq!(chosen(&[[2.0, 1.0]; 5], 2).0, 0);
        // One that stands out for once does not move it, and what is hardly better does not either.
        let noisy = [[1.0, 2.0], [2.2, 2.0], [1.0, 2.0], [3.0, 2.0], [9.0, 2.0]];
        assert_eq!(chosen(&noisy, 0).0, 4);
        assert_eq!(chosen(&[[1.0, 1.03]; 5], 2), (2, 1.0));
        assert_eq!(chosen(&[], 2), (2, 1.0));
    }

    #[test]
    fn what_won_by_chance_is_not_chosen() {
        let case = |samples: [&[f64]; 2]| {
            [Case { what: String::new(), samples: samples.map(<[f64]>::to_vec).into() }]
        };
        let chosen =
            |samples: [&[f64]; 2]| best(8, [8, 3], &case(samples), |bound, _| usize::from(bound < 8));
        assert_eq!(chosen([&[2.0; 5], &[1.0; 5]]), (3, 2.0));
        assert_eq!(chosen([&[2.0; 4], &[1.0; 4]]), (8, 1.0), "too few rounds");
        let wild = [&[9.0, 9.0, 9.0, 1.0, 1.0][..], &[1.0, 1.0, 1.0, 2.0, 2.0]];
        assert_eq!(chosen(wild), (8, 1.0), "three of five");
        let chosen = |won: usize| chosen([&[vec![3.0; won], vec![1.0; 64 - won]].concat(), &[2.0; 64]]);
        assert_eq!((chosen(39), chosen(40)), ((8, 1.0), (3, 1.5)), "by two standard deviations");
    }

    #[test]
    fn all_ranks_find_the_same_within_the_time() {
        for nodes in [&[0, 0][..], &[0, 0, 0], &[0, 1, 2, 2, 1, 0]] {
            let found = World::local_nodes(nodes, |mut world| {
                world.use_shared_memory(nodes.len() > 3);
                let found = measure(&mut world, Duration::from_secs(1)).unwrap();
                assert_eq!(Choice::of(&world), Choice::DEFAULT, "as before");
                world.finish()?;
                Ok(found)
            })
            .unwrap();
            assert!(found.iter().all(|other| *other == found[0]));
            let ring = if nodes.len() == 2 { None } else { Some("ring_share") };
            let names = ["eager", "piece"].into_iter().chain(ring).chain(["sparse"]);
            assert!(values(&found[0]).keys().eq(names));
            assert!(
                found[0]
                    .iter()
                    .all(|f| f.gain >= 1.0 && f.cases.iter().all(|c| c.times().len() == f.ways.len()))
            );
            assert!(!found[0][0].cases.is_empty());
        }
    }

    #[test]
    fn ranks_that_share_memory_have_nothing_to_choose() {
        for n in [1, 3] {
            World::local(n, |mut world| {
                assert_eq!(measure(&mut world, Duration::from_secs(60)).unwrap(), []);
                world.finish()
            })
            .unwrap();
        }
    }
}
