//! Queues of inputs with the worker threads that empty them: what the dynamic scheduler (one queue) and the static one
//! (a queue a task) have in common.

use super::task::{Task, Work, guarded, lock, wait};
use crate::error::{HarpError, Result};
use aeolian_net::NetError;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// The order in which outputs come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they become ready.
    #[default]
    Completion,
    /// That of the inputs: the same in every run. An output waits for those of all earlier inputs.
    Submission,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Paused,
    Stopped,
}

struct Queue<I> {
    inputs: VecDeque<(u64, I)>,
    submitted: u64,
    running: BTreeSet<u64>,
    /// Tasks that take from it: those that have not panicked.
    tasks: usize,
}

impl<I> Queue<I> {
    /// Nothing more will come out of it by itself.
    fn is_idle(&self) -> bool {
        self.running.is_empty() && (self.inputs.is_empty() || self.tasks == 0)
    }

    /// The lowest number that is not processed.
    fn oldest(&self) -> u64 {
        let queued = self.inputs.front().map(|(number, _)| number);
        self.running.first().into_iter().chain(queued).min().copied().unwrap_or(u64::MAX)
    }
}

struct State<I> {
    queues: Vec<Queue<I>>,
    phase: Phase,
}

impl<I> State<I> {
    fn is_idle(&self) -> bool {
        self.queues.iter().all(Queue::is_idle)
    }

    fn nothing_runs(&self) -> bool {
        self.queues.iter().all(|queue| queue.running.is_empty())
    }
}

/// The inputs' side.
pub(super) struct Queues<I> {
    state: Mutex<State<I>>,
    /// For each queue: there may be an input, or it is over.
    work: Vec<Condvar>,
    /// An input was processed.
    done: Condvar,
}

impl<I> Queues<I> {
    pub(super) fn new(queues: usize) -> Queues<I> {
        let queue = |_| Queue { inputs: VecDeque::new(), submitted: 0, running: BTreeSet::new(), tasks: 0 };
        Queues {
            state: Mutex::new(State { queues: (0..queues).map(queue).collect(), phase: Phase::Running }),
            work: (0..queues).map(|_| Condvar::new()).collect(),
            done: Condvar::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.work.len()
    }

    pub(super) fn check(&self, queue: usize) -> Result<()> {
        let tasks = self.len();
        if queue < tasks {
            return Ok(());
        }
        Err(HarpError::Usage(format!("task {queue} of a scheduler of {tasks} tasks")))
    }

    /// Puts inputs at a queue's end and returns the number of the first.
    pub(super) fn submit(&self, queue: usize, inputs: impl IntoIterator<Item = I>) -> u64 {
        // A user's iterator does not run under the lock.
        let inputs: Vec<I> = inputs.into_iter().collect();
        let many = inputs.len() > 1;
        let mut state = lock(&self.state);
        let to = &mut state.queues[queue];
        let first = to.submitted;
        to.submitted += inputs.len() as u64;
        to.inputs.extend((first..).zip(inputs));
        drop(state);
        if many {
            self.work[queue].notify_all()
        } else {
            self.work[queue].notify_one()
        }
        // Whoever waits for outputs of a queue whose tasks have all panicked looks again.
        self.done.notify_all();
        first
    }

    /// As [`Queues::submit`] of one input, from a task, which may outlive the scheduler's interest in it.
    pub(super) fn submit_from_task(&self, queue: usize, input: I) -> Result<u64> {
        self.check(queue)?;
        if lock(&self.state).phase == Phase::Stopped {
            return Err(HarpError::Usage("the scheduler has stopped".into()));
        }
        Ok(self.submit(queue, [input]))
    }

    /// The next input of a queue, once there is one and the scheduler runs; `None` when it is over.
    fn next(&self, queue: usize) -> Option<(u64, I)> {
        let mut state = lock(&self.state);
        loop {
            match state.phase {
                Phase::Stopped => return None,
                Phase::Paused => {}
                Phase::Running => {
                    let from = &mut state.queues[queue];
                    if let Some((number, input)) = from.inputs.pop_front() {
                        from.running.insert(number);
                        return Some((number, input));
                    }
                }
            }
            state = wait(&self.work[queue], state);
        }
    }

    fn end(&self, queue: usize, number: u64, broken: bool) {
        let mut state = lock(&self.state);
        let queue = &mut state.queues[queue];
        queue.running.remove(&number);
        queue.tasks -= usize::from(broken);
        drop(state);
        self.done.notify_all();
    }

    fn set(&self, phase: Phase) -> MutexGuard<'_, State<I>> {
        let mut state = lock(&self.state);
        state.phase = phase;
        self.work.iter().for_each(Condvar::notify_all);
        self.done.notify_all();
        state
    }

    pub(super) fn start(&self) {
        drop(self.set(Phase::Running));
    }

    pub(super) fn pause(&self) {
        let mut state = lock(&self.state);
        while state.phase == Phase::Running && !state.is_idle() {
            state = wait(&self.done, state);
        }
        state.phase = Phase::Paused;
    }

    pub(super) fn pause_now(&self) {
        let mut state = self.set(Phase::Paused);
        while !state.nothing_runs() {
            state = wait(&self.done, state);
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        lock(&self.state).phase == Phase::Paused
    }

    pub(super) fn clear(&self, queue: usize) -> Vec<I> {
        let inputs = std::mem::take(&mut lock(&self.state).queues[queue].inputs);
        self.done.notify_all();
        inputs.into_iter().map(|(_, input)| input).collect()
    }

    pub(super) fn outstanding(&self) -> usize {
        lock(&self.state).queues.iter().map(|queue| queue.inputs.len() + queue.running.len()).sum()
    }
}

/// The outputs of one queue by the key that they come out by.
type Ready<O> = BTreeMap<u64, (u64, Result<O>)>;

/// The outputs' side. Where both are locked, the inputs' side is first.
struct Outputs<O> {
    order: Order,
    /// of each queue, and how many there were
    ready: Mutex<Vec<(Ready<O>, u64)>>,
}

impl<O> Outputs<O> {
    fn put(&self, queue: usize, number: u64, outcome: Result<O>) {
        let mut ready = lock(&self.ready);
        let (ready, count) = &mut ready[queue];
        let key = match self.order {
            Order::Completion => *count,
            Order::Submission => number,
        };
        *count += 1;
        ready.insert(key, (number, outcome));
    }

    /// The next one to come out, if it is ready; `oldest` is the lowest number that is not processed.
    fn take(&self, queue: usize, oldest: u64) -> Option<(u64, Result<O>)> {
        let ready = &mut lock(&self.ready)[queue].0;
        let first = ready.first_entry()?;
        (self.order == Order::Completion || *first.key() < oldest).then(|| first.remove())
    }

    fn has(&self, queue: usize, oldest: u64) -> bool {
        let ready = &lock(&self.ready)[queue].0;
        ready.first_key_value().is_some_and(|(key, _)| self.order == Order::Completion || *key < oldest)
    }
}

/// Queues with the threads that empty them.
pub(super) struct Pool<'scope, I, T: Task<I>> {
    pub(super) queues: Arc<Queues<I>>,
    outputs: Arc<Outputs<T::Output>>,
    threads: Vec<ScopedJoinHandle<'scope, Option<T>>>,
    name: fn(usize, u64) -> Work,
}

impl<'scope, I: Send + 'scope, T: Task<I, Output: 'scope> + 'scope> Pool<'scope, I, T> {
    /// A thread for each task, which takes from the queue of its number, or from the last one.
    pub(super) fn new<'env>(
        scope: &'scope Scope<'scope, 'env>,
        queues: Arc<Queues<I>>,
        tasks: Vec<T>,
        order: Order,
        name: fn(usize, u64) -> Work,
    ) -> Result<Self> {
        if tasks.is_empty() {
            return Err(HarpError::Usage("a scheduler without tasks".into()));
        }
        let ready = (0..queues.len()).map(|_| (BTreeMap::new(), 0)).collect();
        let outputs = Arc::new(Outputs { order, ready: Mutex::new(ready) });
        let mut pool = Pool { queues, outputs, threads: Vec::with_capacity(tasks.len()), name };
        let count = tasks.len();
        for (i, task) in tasks.into_iter().enumerate() {
            let queue = i.min(pool.queues.len() - 1);
            let (queues, outputs) = (pool.queues.clone(), pool.outputs.clone());
            lock(&queues.state).queues[queue].tasks += 1;
            // If one cannot be made, dropping the pool ends the others.
            let thread = Builder::new()
                .name(format!("task-{i}"))
                .spawn_scoped(scope, move || work(queue, &queues, &outputs, task, name))
                .map_err(NetError::os(format!("cannot start {count} threads")))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }
}

impl<I, T: Task<I>> Pool<'_, I, T> {
    /// The next output of a queue. `None` if nothing is ready, queued or being processed anywhere: a task elsewhere may still
    /// submit something here.
    pub(super) fn take(&self, queue: usize) -> Result<Option<(u64, T::Output)>> {
        let mut state = lock(&self.queues.state);
        loop {
            if let Some((number, outcome)) = self.outputs.take(queue, state.queues[queue].oldest()) {
                return outcome.map(|output| Some((number, output)));
            }
            let from = &mut state.queues[queue];
            if from.tasks == 0
                && let Some((number, input)) = from.inputs.pop_front()
            {
                drop(state);
                drop(input);
                let source = "it was not processed, because all tasks that could have panicked".into();
                return Err(HarpError::Task { work: (self.name)(queue, number), source });
            }
            if state.is_idle() {
                return Ok(None);
            }
            if state.phase != Phase::Running && state.nothing_runs() {
                return Err(HarpError::Usage(
                    "waits for an output while the scheduler is paused: start it before".into(),
                ));
            }
            state = wait(&self.queues.done, state);
        }
    }

    pub(super) fn has_output(&self, queue: usize) -> bool {
        let state = lock(&self.queues.state);
        let from = &state.queues[queue];
        self.outputs.has(queue, from.oldest()) || (from.tasks == 0 && !from.inputs.is_empty())
    }

    pub(super) fn stop(mut self) -> Result<Vec<T>> {
        drop(self.queues.set(Phase::Stopped));
        let mut tasks = Vec::with_capacity(self.threads.len());
        for thread in std::mem::take(&mut self.threads) {
            // A thread of this module catches all panics of users.
            tasks.extend(thread.join().ok().flatten());
        }
        let mut ready = lock(&self.outputs.ready);
        let untaken = ready.iter_mut().flat_map(|(ready, _)| std::mem::take(ready).into_values());
        // An error that nobody has heard of is not lost.
        match untaken.into_iter().find_map(|(_, outcome)| outcome.err()) {
            Some(error) => Err(error),
            None => Ok(tasks),
        }
    }
}

impl<I, T: Task<I>> Drop for Pool<'_, I, T> {
    fn drop(&mut self) {
        drop(self.queues.set(Phase::Stopped));
    }
}

/// A worker thread. Returns its task, unless that has panicked: its state cannot be trusted any more.
fn work<I, T: Task<I>>(
    queue: usize,
    queues: &Queues<I>,
    outputs: &Outputs<T::Output>,
    mut task: T,
    name: fn(usize, u64) -> Work,
) -> Option<T> {
    while let Some((number, input)) = queues.next(queue) {
        let outcome = guarded(name(queue, number), || task.run(input));
        let broken = matches!(outcome, Err(HarpError::Panicked { .. }));
        outputs.put(queue, number, outcome);
        queues.end(queue, number, broken);
        if broken {
            // The same holds for its destructor.
            let _ = guarded(name(queue, number), || {
                drop(task);
                Ok(())
            });
            return None;
        }
    }
    Some(task)
}
